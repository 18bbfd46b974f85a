//! Checks rows, and prepares queries for a similarity function.

use super::sums::{normalized, squares};
use crate::embedder::Embeddings;
use crate::error::Error;
use crate::similarity::SimilarityFunction;

/// The maximum sum of the squares of a row. For two such rows, the squared distance does not exceed the range of f32.
const MAX_SQUARES: f32 = f32::MAX / 4.0;

/// Checks that rows can be compared in f32. `name` tells the user which rows an error is about (`queries` or `corpus`),
/// and `first` is the number of the first row.
///
/// # Errors
/// Returns [`Error::Option`], which names the row that cannot be compared.
pub(super) fn check_rows(
    name: &str,
    values: &[f32],
    dim: usize,
    first: usize,
) -> Result<(), Error> {
    // If a value is NaN or infinite, the sum of squares is NaN or infinite too.
    let wrong = |row: &[f32]| {
        let sum = squares(row);
        sum.is_nan() || sum > MAX_SQUARES
    };
    let Some(at) = values.chunks_exact(dim).position(wrong) else { return Ok(()) };
    let row = &values[at * dim..(at + 1) * dim];
    let problem = match row.iter().find(|value| !value.is_finite()) {
        Some(value) => format!("row {} holds {value}; every value must be finite", first + at),
        None => format!(
            "row {} is too long: the sum of its squares exceeds {MAX_SQUARES:.0e}; scale the rows down",
            first + at
        ),
    };
    Err(Error::option(name, problem))
}

/// Returns the values of queries in the format that kernels read. For the cosine, each query is scaled to length one.
///
/// # Errors
/// Returns [`Error::Option`] for a query that cannot be compared in f32.
pub(super) fn prepare(
    queries: &Embeddings,
    similarity: SimilarityFunction,
) -> Result<Vec<f32>, Error> {
    if queries.is_empty() {
        return Ok(Vec::new());
    }
    check_rows("queries", &queries.values, queries.dim, 0)?;
    Ok(match similarity {
        SimilarityFunction::Cosine => normalized(&queries.values, queries.dim),
        _ => queries.values.clone(),
    })
}
