//! Tests the kernels that search a corpus: `similarity` and `top_k`.

use vectile::SimilarityFunction;
use vectile::dtype::Storage;
use vectile::kernels::{Builder, reference, similarity, top_k};

use crate::{
    RAGGED, activations, assert_close, bench, own_plan, precision, run, shapes, storages, values,
};

fn scaled_to_one(queries: &mut [f32], width: usize) {
    for query in queries.chunks_mut(width) {
        let length = query.iter().map(|value| value * value).sum::<f32>().sqrt();
        query.iter_mut().for_each(|value| *value /= length);
    }
}

/// Compares the similarities of `count` queries with the reference. The first row of the corpus is zero.
fn check_similarities(rows: usize, width: usize, count: usize) {
    let Some(mut bench) = bench() else { return };
    for executor in &mut bench.executors {
        for storage in storages(executor) {
            let mut corpus = values(1, rows * width, 2.0, storage);
            corpus[..width].fill(0.0);
            let mut queries = values(2, count * width, 2.0, Storage::F32);
            scaled_to_one(&mut queries, width);
            for function in SimilarityFunction::ALL {
                let precision = precision(storage, Storage::F32);
                let mut builder = Builder::new(&own_plan(executor), &precision);
                let corpus_t = activations(&mut builder, "rows", &corpus, width, storage);
                let queries_t = activations(&mut builder, "queries", &queries, width, Storage::F32);
                let y = similarity::similarity(&mut builder, corpus_t, queries_t, function);
                let (got, _) = run(executor, builder, y);
                let expected = reference::similarity(&corpus, &queries, width, function);
                let what = format!("{function}, {count} of {rows}×{width}, {storage}");
                // Sums of 384 absolute differences are the largest scores.
                assert_close(&what, &got, &expected, Storage::F32, 1e-4);
            }
        }
    }
}

#[test]
fn similarities_of_ragged_sizes_in_every_storage_by_every_function() {
    for ((rows, width), count) in
        RAGGED.iter().zip([65, 64, 257, 3, 30, 384]).zip([1, 4, 5, 1, 3, 9])
    {
        check_similarities(*rows, width, count);
    }
}

#[test]
fn random_shapes() {
    shapes::each("similarity and top_k", |shapes| {
        check_similarities(shapes.size(300), shapes.size(400), shapes.size(20));
        check_best(shapes.pick(&[1, 64, 1000]) + shapes.size(300), shapes.size(128));
    });
}

#[test]
fn a_score_is_bit_identical_among_any_queries_and_rows() {
    let Some(mut bench) = bench() else { return };
    let width = 70;
    let corpus = values(3, 130 * width, 1.0, Storage::F32);
    let queries = values(4, 6 * width, 1.0, Storage::F32);
    for executor in &mut bench.executors {
        for function in SimilarityFunction::ALL {
            let mut scores = |rows: &[f32], queries: &[f32]| {
                let precision = precision(Storage::F32, Storage::F32);
                let mut builder = Builder::new(&own_plan(executor), &precision);
                let rows = activations(&mut builder, "rows", rows, width, Storage::F32);
                let queries = activations(&mut builder, "queries", queries, width, Storage::F32);
                let y = similarity::similarity(&mut builder, rows, queries, function);
                run(executor, builder, y).0
            };
            let all = scores(&corpus, &queries);
            for (query, row) in [(0, 0), (3, 64), (5, 129)] {
                let one = scores(
                    &corpus[row * width..(row + 1) * width],
                    &queries[query * width..(query + 1) * width],
                );
                assert_eq!(one[0].to_bits(), all[query * 130 + row].to_bits(), "{function}");
            }
        }
    }
}

/// Returns the best pairs, sorted, without the pairs that hold no candidate.
fn merged(pairs: &[f32], keep: usize) -> Vec<[f32; 2]> {
    let mut best: Vec<[f32; 2]> =
        pairs.chunks(2).map(|pair| [pair[0], pair[1]]).filter(|pair| pair[1] >= 0.0).collect();
    best.sort_by(|a, b| b[0].total_cmp(&a[0]).then(a[1].total_cmp(&b[1])));
    best.truncate(keep);
    best
}

/// Compares the best `keep` scores of three rows of `count` scores with a full sort.
fn check_best(count: usize, keep: usize) {
    let Some(mut bench) = bench() else { return };
    for executor in &mut bench.executors {
        // The scores have only a few different values, so there are ties. The last scores are negative.
        let of = |at: usize| ((at * 7919) % 251) as f32 * 0.5 - 20.0;
        let scores: Vec<f32> = (0..3 * count).map(of).collect();
        let precision = precision(Storage::F32, Storage::F32);
        let mut builder = Builder::new(&own_plan(executor), &precision);
        let scores_t = activations(&mut builder, "scores", &scores, count, Storage::F32);
        let y = top_k::top_k(&mut builder, scores_t, keep);
        assert!(y.width / 2 <= 512.max(count.div_ceil(64) * keep), "{count} {keep}");
        let (got, _) = run(executor, builder, y);
        for (row, got) in scores.chunks(count).zip(got.chunks(y.width)) {
            let expected = reference::top_k(row, count, count, keep.min(count));
            let found: Vec<f64> = merged(got, keep).into_iter().flatten().map(f64::from).collect();
            assert_eq!(found, expected, "{keep} of {count}");
        }
    }
}

#[test]
fn the_best_of_ragged_counts_are_those_of_a_full_sort_with_ties() {
    for count in RAGGED.iter().copied().chain([1021, 20_011]) {
        for keep in [1, 10, 33, 128] {
            check_best(count, keep);
        }
    }
}

/// No two candidates have the same place, so a score that is not a number reaches the host, which refuses the result.
#[test]
fn scores_of_any_bits_keep_their_order() {
    let Some(mut bench) = bench() else { return };
    let scores = [0.0, -0.0, f32::MIN_POSITIVE, f32::MAX, f32::MIN, -1.5, f32::INFINITY, 2.5];
    for executor in &mut bench.executors {
        let precision = precision(Storage::F32, Storage::F32);
        let mut builder = Builder::new(&own_plan(executor), &precision);
        let scores_t = activations(&mut builder, "scores", &scores, 8, Storage::F32);
        let y = top_k::pass(&mut builder, scores_t, 8, false);
        let (got, _) = run(executor, builder, y);
        let rows: Vec<f32> = got.chunks(2).map(|pair| pair[1]).collect();
        assert_eq!(rows, [6.0, 3.0, 7.0, 2.0, 0.0, 1.0, 5.0, 4.0], "{got:?}");
    }
}
