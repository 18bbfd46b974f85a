//! [`semantic_search`], which finds the nearest rows of a corpus by exact search on the host.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::embedder::{Embeddings, check_widths};
use crate::error::Error;
use crate::similarity::SimilarityFunction;
use crate::threads;

/// The minimum length by which a vector is divided, as in torch's `normalize`.
const MIN_LENGTH: f32 = 1e-12;

/// The number of partial sums of a row. With several sums, a compiler can use vector registers. The order of
/// additions is fixed, so a score always has the same bits.
const LANES: usize = 8;

/// The maximum number of threads in a search.
const MAX_THREADS: usize = 64;

/// A row of the corpus, and its similarity to a query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SearchHit {
    /// The index of the row in the corpus.
    pub index: usize,
    /// The row's similarity to the query; a larger score is more similar.
    pub score: f32,
}

impl Eq for SearchHit {}

impl Ord for SearchHit {
    /// Orders hits so that a better hit is smaller, and the top of a max-heap is the worst hit. If two scores
    /// are equal, the earlier row is better.
    fn cmp(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then(self.index.cmp(&other.index))
    }
}

impl PartialOrd for SearchHit {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Returns for each query the `top_k` most similar rows of the corpus, best first, like
/// sentence-transformers' `semantic_search`. The search is exact, in f32. If two scores are equal, the
/// earlier row comes first.
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
/// [`Error::Option`] if queries and corpus differ in width, or if a value is not finite.
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
    check_finite("queries", queries)?;
    check_finite("corpus", corpus)?;
    let prepared = |rows: &Embeddings| match similarity {
        SimilarityFunction::Cosine => normalized(&rows.values, rows.dim),
        _ => rows.values.clone(),
    };
    let (queries, dim) = (prepared(queries), queries.dim);
    let corpus = prepared(corpus);
    let queries: Vec<&[f32]> = queries.chunks_exact(dim).collect();
    Ok(threads::each(&queries, MAX_THREADS, |query| {
        let mut best = BinaryHeap::new();
        for (index, row) in corpus.chunks_exact(dim).enumerate() {
            offer(&mut best, top_k, SearchHit { index, score: score(similarity, query, row) });
        }
        best.into_sorted_vec()
    }))
}

fn check_finite(name: &str, rows: &Embeddings) -> Result<(), Error> {
    match rows.values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => {
            let (row, value) = (at / rows.dim, rows.values[at]);
            Err(Error::option(name, format!("row {row} holds {value}; every value must be finite")))
        }
    }
}

fn offer(best: &mut BinaryHeap<SearchHit>, top_k: usize, hit: SearchHit) {
    if best.len() < top_k {
        best.push(hit);
        return;
    }
    if let Some(mut worst) = best.peek_mut()
        && hit < *worst
    {
        *worst = hit;
    }
}

fn normalized(values: &[f32], dim: usize) -> Vec<f32> {
    let mut normalized = Vec::with_capacity(values.len());
    for row in values.chunks_exact(dim) {
        let length = sum(row, row, |a, b| a * b).sqrt().max(MIN_LENGTH);
        normalized.extend(row.iter().map(|value| value / length));
    }
    normalized
}

/// Returns the similarity of two rows. For the cosine, the rows must be normalized already.
fn score(similarity: SimilarityFunction, a: &[f32], b: &[f32]) -> f32 {
    match similarity {
        SimilarityFunction::Cosine | SimilarityFunction::Dot => sum(a, b, |a, b| a * b),
        SimilarityFunction::Euclidean => 0.0 - sum(a, b, |a, b| (a - b) * (a - b)).sqrt(),
        SimilarityFunction::Manhattan => 0.0 - sum(a, b, |a, b| (a - b).abs()),
    }
}

fn sum(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += term(*a, *b);
        }
    }
    lanes.iter().sum()
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
