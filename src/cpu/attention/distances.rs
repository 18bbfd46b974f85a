//! Terms of an attention score that depend on the distance between key and query. A term is a bias, or a product with a
//! vector that belongs to the distance (a relative key or a relative query).

use rten_simd::Isa;

use super::product::{Left, Right, multiply};
use super::{Block, Heads, Scratch};
use crate::cpu::call::Call;
use crate::error::Error;
use crate::kernels::attention::AttentionParams;

/// The terms that attention adds to its scores.
pub(super) enum Distances<'a> {
    Nothing,
    /// A bias for each head and each distance from −`reach` to `reach`: `[heads, 2 · reach + 1]`.
    Bias {
        table: &'a [f32],
        reach: usize,
    },
    Relative(Relative<'a>),
}

/// Relative keys and relative queries. For each distance from −`reach` to `reach`, `rows` holds the number of the row
/// with the relative key and the relative query.
pub(super) struct Relative<'a> {
    rows: &'a [f32],
    reach: usize,
    keys: Option<Heads<'a>>,
    queries: Option<Heads<'a>>,
}

impl<'a> Distances<'a> {
    /// Returns the terms that a dispatch adds to scores.
    pub fn new(call: &Call<'a>, params: &AttentionParams) -> Result<Self, Error> {
        let reach = params.reach as usize;
        if call.setting("HAS_BIAS") == 1 {
            return Ok(Distances::Bias { table: call.f32s(4)?, reach });
        }
        let terms = call.setting("RELATIVE");
        if terms == 0 {
            return Ok(Distances::Nothing);
        }
        let of = call.f32s(5)?;
        let heads = |term: u32, first4| {
            (terms & term != 0).then(|| Heads::new(of, params.r_stride4, first4))
        };
        Ok(Distances::Relative(Relative {
            rows: call.f32s(4)?,
            reach,
            keys: heads(1, params.rk_first4),
            queries: heads(2, params.rq_first4),
        }))
    }

    /// Adds the terms to the scores of a head.
    #[inline(always)]
    pub fn add<I: Isa>(&self, isa: I, block: &Block<'_, '_>, at: usize, scratch: &mut Scratch) {
        match self {
            Distances::Nothing => {}
            Distances::Bias { table, reach } => {
                let table = &table[at * (2 * reach + 1)..];
                let queries = block.tile.queries;
                let rows = scratch.scores.chunks_exact_mut(block.width);
                for (key, row) in block.keys().zip(rows) {
                    // For one key, the index in the table falls as the query's index grows, so the biases are read in
                    // reverse.
                    let last = reach + key - (block.tile.first_query + queries - 1);
                    let biases = table[last..last + queries].iter().rev();
                    row.iter_mut().zip(biases).for_each(|(score, bias)| *score += bias);
                }
            }
            Distances::Relative(relative) => {
                relative.add_keys(isa, block, at, scratch);
                relative.add_queries(isa, block, at, scratch);
            }
        }
    }
}

impl Relative<'_> {
    /// Returns the row number of the relative key and the relative query for the distance between `key` and `query`.
    #[inline(always)]
    fn row(&self, key: usize, query: usize) -> usize {
        self.rows[self.reach + key - query] as usize
    }

    /// Returns the smallest range of rows that holds the relative vectors for every pair of these keys and queries.
    #[inline(always)]
    fn rows_of(
        &self,
        keys: std::ops::Range<usize>,
        queries: std::ops::Range<usize>,
    ) -> std::ops::Range<usize> {
        let first = self.reach + keys.start - (queries.end - 1);
        let last = self.reach + (keys.end - 1) - queries.start;
        let rows = self.rows[first..=last].iter().map(|row| *row as usize);
        let (low, high) =
            rows.fold((usize::MAX, 0), |(low, high), row| (low.min(row), high.max(row)));
        low..high + 1
    }

    /// Adds the products of queries and relative keys to the scores.
    #[inline(always)]
    fn add_keys<I: Isa>(&self, isa: I, block: &Block<'_, '_>, at: usize, scratch: &mut Scratch) {
        let Some(relative) = self.keys else { return };
        let (head, width) = (block.attention.head, block.width);
        let first = block.tile.first_query;
        let queries = first..first + block.tile.queries;
        let rows = self.rows_of(block.keys(), queries.clone());
        scratch.relative.resize((rows.len() * width).max(scratch.relative.len()), 0.0);
        let left =
            Left { values: relative.from(rows.start, at * head), row: relative.stride, column: 1 };
        let right = Right { values: &scratch.queries, stride: width };
        multiply(isa, left, rows.len(), right, width, head, &mut scratch.relative);
        for (key, scores) in block.keys().zip(scratch.scores.chunks_exact_mut(width)) {
            for (lane, query) in queries.clone().enumerate() {
                let row = self.row(key, query) - rows.start;
                scores[lane] += scratch.relative[row * width + lane];
            }
        }
    }

    /// Adds the products of keys and relative queries to the scores. In these products, each lane of a SIMD vector
    /// belongs to a key, not to a query.
    #[inline(always)]
    fn add_queries<I: Isa>(&self, isa: I, block: &Block<'_, '_>, at: usize, scratch: &mut Scratch) {
        let Some(relative) = self.queries else { return };
        let attention = block.attention;
        let (head, width) = (attention.head, block.width);
        let first = block.tile.first_query;
        let queries = first..first + block.tile.queries;
        let all = block.keys();
        for start in all.clone().step_by(width) {
            let keys = start..all.end.min(start + width);
            let Scratch { keys: transposed, relative: products, scores, .. } = scratch;
            let of_keys = at / attention.group * head;
            block.transpose(attention.k, of_keys, keys.start, keys.len(), transposed);
            let rows = self.rows_of(keys.clone(), queries.clone());
            products.resize((rows.len() * width).max(products.len()), 0.0);
            let values = relative.from(rows.start, at * head);
            let left = Left { values, row: relative.stride, column: 1 };
            let right = Right { values: transposed, stride: width };
            multiply(isa, left, rows.len(), right, width, head, products);
            for (lane_of_key, key) in keys.enumerate() {
                let scores = &mut scores[(key - all.start) * width..][..width];
                for (lane, query) in queries.clone().enumerate() {
                    let row = self.row(key, query) - rows.start;
                    scores[lane] += products[row * width + lane_of_key];
                }
            }
        }
    }
}
