//! Known-answer tests of the kernels that search a corpus.

use super::{Answer, stored_rows, values};
use crate::dtype::Storage;
use crate::kernels::{Builder, reference, similarity as compare, top_k};
use crate::similarity::SimilarityFunction;

/// Tests several queries against rows of different norms, one of which is zero.
pub fn cosine(builder: &mut Builder) -> Answer {
    similarity(builder, SimilarityFunction::Cosine, 5)
}

pub fn dot(builder: &mut Builder) -> Answer {
    similarity(builder, SimilarityFunction::Dot, 1)
}

pub fn euclidean(builder: &mut Builder) -> Answer {
    similarity(builder, SimilarityFunction::Euclidean, 1)
}

pub fn manhattan(builder: &mut Builder) -> Answer {
    similarity(builder, SimilarityFunction::Manhattan, 5)
}

fn similarity(builder: &mut Builder, function: SimilarityFunction, count: usize) -> Answer {
    let (rows, width) = (67, 30);
    let storage = builder.weights;
    let mut corpus = values(25, rows * width, 1.0, storage);
    corpus[width..2 * width].fill(0.0);
    let mut queries = values(26, count * width, 1.0, Storage::F32);
    for query in queries.chunks_mut(width) {
        let length = query.iter().map(|value| value * value).sum::<f32>().sqrt();
        query.iter_mut().for_each(|value| *value /= length);
    }
    let corpus_t = stored_rows(builder, &corpus, width, storage);
    let queries_t = stored_rows(builder, &queries, width, Storage::F32);
    let y = compare::similarity(builder, corpus_t, queries_t, function);
    Answer { y, expected: reference::similarity(&corpus, &queries, width, function) }
}

/// Returns scores of both signs that take only 23 different values, so many scores are equal.
fn scores() -> Vec<f32> {
    (0..2 * 150u32).map(|at| (at * 7919 % 23) as f32 * 0.25 - 3.0).collect()
}

pub fn best_scores(builder: &mut Builder) -> Answer {
    let scores = scores();
    let y = {
        let scores = stored_rows(builder, &scores, 150, Storage::F32);
        top_k::pass(builder, scores, 5, false)
    };
    Answer { y, expected: reference::top_k(&scores, 150, 64, 5) }
}

/// Tests candidates that are pairs (score, column) of [`scores`], in descending order of columns. Every fifth candidate
/// is empty: (0, -1).
pub fn best_pairs(builder: &mut Builder) -> Answer {
    let scores = scores();
    let pairs = scores.chunks(150).flat_map(|row| {
        let pair = |(column, score): (usize, &f32)| match column % 5 {
            0 => [0.0, -1.0],
            _ => [*score, column as f32],
        };
        row.iter().enumerate().rev().flat_map(pair).collect::<Vec<f32>>()
    });
    let pairs: Vec<f32> = pairs.collect();
    let mut expected = Vec::new();
    for row in pairs.chunks(300) {
        for tile in row.chunks(128) {
            let mut best: Vec<[f32; 2]> = tile
                .chunks(2)
                .map(|pair| [pair[0], pair[1]])
                .filter(|pair| pair[1] >= 0.0)
                .collect();
            best.sort_by(|a, b| b[0].total_cmp(&a[0]).then(a[1].total_cmp(&b[1])));
            best.resize(60, [0.0, -1.0]);
            expected.extend(best[..3].iter().flatten().map(|value| f64::from(*value)));
        }
    }
    let candidates = stored_rows(builder, &pairs, 300, Storage::F32);
    Answer { y: top_k::pass(builder, candidates, 3, true), expected }
}

/// Tests the larger tile size, with fewer candidates than the tile holds.
pub fn many_best(builder: &mut Builder) -> Answer {
    let scores = scores();
    let candidates = stored_rows(builder, &scores, 150, Storage::F32);
    let y = top_k::pass(builder, candidates, 100, false);
    Answer { y, expected: reference::top_k(&scores, 150, 256, 100) }
}
