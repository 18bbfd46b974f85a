//! [`semantic_search`], which finds the nearest rows of a corpus by exact search on the host.

use super::best::{Best, SearchHit};
use super::queries::{check_rows, prepare};
use super::sums::{length, score};
use crate::embedder::{Embeddings, check_widths};
use crate::error::Error;
use crate::similarity::SimilarityFunction;
use crate::threads;

/// The maximum number of threads in a search.
const MAX_THREADS: usize = 64;

/// The number of rows that a thread compares at a time.
const ROWS_AT_ONCE: usize = 4096;

/// Returns for each query the `top_k` most similar rows of the corpus, best first, like
/// sentence-transformers' `semantic_search`. The search is exact, in f32. If two scores are equal, the
/// earlier row comes first.
///
/// This function searches on the host. [`Embedder::semantic_search`](crate::Embedder::semantic_search) searches on the
/// adapter of a loaded model.
///
/// ```
/// use vectile::{Embeddings, SimilarityFunction, semantic_search};
///
/// let rows = |values: &[f32]| Embeddings { dim: 2, values: values.to_vec(), ..Embeddings::default() };
/// let corpus = rows(&[0.0, 1.0, 1.0, 0.0, 3.0, 3.0]);
/// let hits = semantic_search(&rows(&[1.0, 0.5]), &corpus, 2, SimilarityFunction::Dot)?;
/// assert_eq!(hits[0].iter().map(|hit| hit.index).collect::<Vec<_>>(), [2, 1]);
/// # Ok::<(), vectile::Error>(())
/// ```
///
/// # Errors
/// Returns [`Error::Option`] if queries and corpus differ in width, a value is not finite, or the sum of squares of a
/// row exceeds the range of f32.
pub fn semantic_search(
    queries: &Embeddings,
    corpus: &Embeddings,
    top_k: usize,
    similarity: SimilarityFunction,
) -> Result<Vec<Vec<SearchHit>>, Error> {
    if queries.is_empty() || corpus.is_empty() || top_k == 0 {
        return Ok(vec![Vec::new(); queries.len()]);
    }
    check_widths(queries, corpus)?;
    check_rows("corpus", &corpus.values, corpus.dim, 0)?;
    let prepared = prepare(queries, similarity)?;
    let mut best = vec![Best::new(top_k); queries.len()];
    search_rows(&prepared, queries.dim, &corpus.values, similarity, &mut best);
    Ok(best.into_iter().map(Best::into_hits).collect())
}

/// Compares every row with every query, and adds the hits to the best hits of each query. `queries` are the values that
/// `prepare` returns.
fn search_rows(
    queries: &[f32],
    dim: usize,
    rows: &[f32],
    similarity: SimilarityFunction,
    best: &mut [Best],
) {
    let Some(top_k) = best.first().map(Best::top_k) else { return };
    let pieces: Vec<(usize, &[f32])> = rows.chunks(ROWS_AT_ONCE * dim).enumerate().collect();
    let found = threads::each(&pieces, MAX_THREADS, |(piece, rows)| {
        let mut best = vec![Best::new(top_k); queries.len() / dim];
        for (at, row) in rows.chunks_exact(dim).enumerate() {
            let length = match similarity {
                SimilarityFunction::Cosine => length(row),
                _ => 1.0,
            };
            let index = piece * ROWS_AT_ONCE + at;
            for (query, best) in queries.chunks_exact(dim).zip(&mut best) {
                best.offer(SearchHit { index, score: score(similarity, query, row) / length });
            }
        }
        best
    });
    for piece in found {
        best.iter_mut().zip(piece).for_each(|(best, piece)| best.append(piece));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(dim: usize, values: Vec<f32>) -> Embeddings {
        Embeddings { dim, values, ..Embeddings::default() }
    }

    fn noise(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        std::iter::repeat_with(next).take(count).collect()
    }

    #[test]
    fn hits_are_those_of_a_full_sort_by_every_function() {
        let (queries, corpus) = (rows(12, noise(12 * 5, 1)), rows(12, noise(12 * 300, 2)));
        for function in SimilarityFunction::ALL {
            let hits = semantic_search(&queries, &corpus, 7, function).unwrap();
            assert_eq!(hits.len(), 5);
            for (query, hits) in queries.rows().zip(&hits) {
                let mut all: Vec<(usize, f64)> =
                    corpus.rows().map(|row| function.score(query, row)).enumerate().collect();
                all.sort_by(|a, b| b.1.total_cmp(&a.1));
                for (hit, (index, score)) in hits.iter().zip(&all) {
                    assert_eq!(hit.index, *index, "{function}");
                    assert!((f64::from(hit.score) - score).abs() < 1e-5, "{function}");
                }
            }
        }
    }

    #[test]
    fn of_equal_scores_the_earlier_row_comes_first_and_stays() {
        let corpus = rows(2, [[1.0, 0.0], [0.0, 1.0], [2.0, 0.0], [1.0, 0.0]].concat());
        let query = rows(2, vec![1.0, 0.0]);
        let found = |top_k, function| -> Vec<usize> {
            let hits = semantic_search(&query, &corpus, top_k, function).unwrap();
            hits[0].iter().map(|hit| hit.index).collect()
        };
        assert_eq!(found(2, SimilarityFunction::Cosine), [0, 2]);
        assert_eq!(found(9, SimilarityFunction::Cosine), [0, 2, 3, 1]);
        assert_eq!(found(2, SimilarityFunction::Dot), [2, 0]);
        assert_eq!(found(3, SimilarityFunction::Euclidean), [0, 3, 2]);
    }

    #[test]
    fn empty_inputs_have_no_hits_and_impossible_ones_are_refused() {
        let query = rows(2, vec![1.0, 0.0]);
        let none = semantic_search(&query, &Embeddings::default(), 3, SimilarityFunction::Dot);
        assert_eq!(none.unwrap(), [Vec::new()]);
        assert_eq!(semantic_search(&query, &query, 0, SimilarityFunction::Dot).unwrap().len(), 1);
        let wide = rows(3, vec![0.0; 3]);
        let error = semantic_search(&query, &wide, 1, SimilarityFunction::Dot).unwrap_err();
        assert!(error.to_string().contains('3'), "{error}");
        let bad = rows(2, vec![0.0, 1.0, f32::NAN, 0.0]);
        let error = semantic_search(&query, &bad, 1, SimilarityFunction::Dot).unwrap_err();
        assert!(error.to_string().contains("row 1"), "{error}");
    }
}
