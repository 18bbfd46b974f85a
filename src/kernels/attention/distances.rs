//! Terms of an attention score that depend on the distance between key and query: a bias, or relative keys and queries.

use crate::gpu::graph::TensorId;
use crate::kernels::{Activations, Builder};

/// A bias that is added to the scores: f32 `[heads, 2 · reach + 1]`. The table is indexed by head and by key − query,
/// starting at key − query = −reach.
#[derive(Debug, Clone, Copy)]
pub struct DistanceBias {
    /// The tensor with the biases.
    pub table: TensorId,
    /// The largest distance in the table.
    pub reach: usize,
}

/// Relative keys and queries: vectors that stand for distances between key and query. A table of rows (see
/// [`relative_rows`]) names the row of the vectors for each distance. The vectors are heads side by side in the rows of
/// one f32 tensor. Each head is padded to a multiple of four values.
#[derive(Debug, Clone, Copy)]
pub struct Relative {
    /// The tensor with the vectors.
    pub of: Activations,
    /// The table of rows, f32 `[2 · reach + 1]`, indexed by key − query and starting at key − query = −reach.
    pub rows: TensorId,
    /// The largest distance for which the table has a row.
    pub reach: usize,
    /// The number of heads before the first relative key; `None` if there are no relative keys.
    pub keys: Option<usize>,
    /// The number of heads before the first relative query; `None` if there are no relative queries.
    pub queries: Option<usize>,
}

/// The terms that attention adds to its scores by the distance between key and query.
#[derive(Debug, Clone, Copy)]
pub(super) enum Distances<'a> {
    Nothing,
    Bias(DistanceBias),
    Relative(&'a Relative),
}

impl Distances<'_> {
    /// Returns how many floating point operations the distances add to the score of one query and one key.
    pub fn flops_a_pair(self, head4: usize) -> usize {
        match self {
            Distances::Relative(Relative { keys, queries, .. }) => {
                let terms = usize::from(keys.is_some()) + usize::from(queries.is_some());
                8 * head4 * terms
            }
            Distances::Nothing | Distances::Bias(_) => 0,
        }
    }
}

/// Returns the table of rows and its reach, for a batch whose longest text has `longest` tokens. `row` returns the row
/// for a distance, key − query. The table stores row numbers as f32, which represents every row number of a tensor
/// exactly.
pub fn relative_rows(
    builder: &mut Builder,
    longest: usize,
    row: impl Fn(i64) -> u32,
) -> (TensorId, usize) {
    let table = distance_bias(builder, 1, longest, |_, distance| row(distance) as f32);
    (table.table, table.reach)
}

/// Returns the bias table of a batch whose longest text has `longest` tokens. `bias` returns the bias of a head for a
/// distance, key − query. The bucketed biases of T5 and MPNet also depend only on head and distance, so this table
/// holds them too.
pub fn distance_bias(
    builder: &mut Builder,
    heads: usize,
    longest: usize,
    bias: impl Fn(usize, i64) -> f32,
) -> DistanceBias {
    let reach = longest.max(1) - 1;
    let distances = -(reach as i64)..=reach as i64;
    let table: Vec<f32> = (0..heads)
        .flat_map(|h| distances.clone().map(move |d| (h, d)))
        .map(|(h, d)| bias(h, d))
        .collect();
    DistanceBias { table: builder.input("distance bias", &table), reach }
}
