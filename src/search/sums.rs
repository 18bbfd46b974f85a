//! Sums over the values of rows, in f32 and in a fixed order.

use crate::similarity::SimilarityFunction;

/// The minimum norm by which a vector is divided, as in torch's `normalize`.
const MIN_LENGTH: f32 = 1e-12;

/// The number of partial sums of a row. With several partial sums, the compiler can use vector registers. The order of
/// additions is fixed, so a score always has the same bits.
const LANES: usize = 8;

/// Returns the rows, each scaled to length one. A row of zeros stays zeros.
pub(super) fn normalized(values: &[f32], dim: usize) -> Vec<f32> {
    let mut normalized = Vec::with_capacity(values.len());
    for row in values.chunks_exact(dim) {
        let length = length(row);
        normalized.extend(row.iter().map(|value| value / length));
    }
    normalized
}

/// Returns the norm by which a row is divided for the cosine. The result is at least the minimum norm.
pub(super) fn length(row: &[f32]) -> f32 {
    squares(row).sqrt().max(MIN_LENGTH)
}

/// Returns the sum of the squares of a row.
pub(super) fn squares(row: &[f32]) -> f32 {
    sum(row, row, |a, b| a * b)
}

/// Returns the similarity of a prepared query and a row. For the cosine, the caller divides the result by the row's
/// norm.
pub(super) fn score(similarity: SimilarityFunction, query: &[f32], row: &[f32]) -> f32 {
    match similarity {
        SimilarityFunction::Cosine | SimilarityFunction::Dot => sum(query, row, |a, b| a * b),
        SimilarityFunction::Euclidean => -sum(query, row, |a, b| (a - b) * (a - b)).sqrt(),
        SimilarityFunction::Manhattan => -sum(query, row, |a, b| (a - b).abs()),
    }
}

fn sum(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (a, b) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut add = |a: &[f32], b: &[f32]| {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += term(*a, *b);
        }
    };
    // The length of each full chunk is known at compile time, so this loop becomes vector instructions.
    a.0.iter().zip(b.0).for_each(|(a, b)| add(a, b));
    add(a.1, b.1);
    lanes.iter().sum()
}
