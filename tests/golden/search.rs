//! Compares the hits of a search in 10,000 vectors, on the adapter and on the host, with the hits of
//! sentence-transformers' `semantic_search`.

use half::f16;
use vectile::{
    CorpusRows, Embedder, Embeddings, SearchHit, SearchOptions, SimilarityFunction, block_on,
    semantic_search,
};

use crate::support::{build, fixture, lacks_shaders, model_files, noise, read_json};

/// Rows of the same width, one after the other.
fn rows_of(dim: usize, values: Vec<f32>) -> Embeddings {
    Embeddings { dim, values, ..Embeddings::default() }
}

fn reference() -> serde_json::Value {
    read_json(&fixture("search.json"))
}

/// Returns the queries and the corpus, which are the same as those of `vectors` in scripts/search_reference.py.
fn vectors() -> (Embeddings, Embeddings) {
    let (rows, width, queries) = (10_000, 64, 5);
    let mut corpus: Vec<f32> =
        (0..rows * width).map(|at| noise(31, at) * (1 + at / width % 3) as f32).collect();
    let query_values: Vec<f32> = (0..queries * width).map(|at| noise(32, at)).collect();
    for (q, query) in query_values.chunks(width).enumerate() {
        for group in 0..4 {
            let near = (q * 4 + group) * width;
            let value = |i: usize| query[i] * (1.0 + group as f32 * 0.25) + corpus[near + i] * 0.25;
            let row: Vec<f32> = (0..width).map(value).collect();
            for copy in 0..2 + group {
                let at = (q * 1999 + group * 613 + copy * 3331 + 100) % rows;
                corpus[at * width..(at + 1) * width].copy_from_slice(&row);
            }
        }
    }
    (rows_of(width, query_values), rows_of(width, corpus))
}

fn assert_reference(what: &str, hits: &[Vec<SearchHit>], function: SimilarityFunction) {
    let reference = reference();
    let expected = reference["hits"][function.name()].as_array().unwrap();
    assert_eq!(hits.len(), expected.len());
    for (query, (hits, expected)) in hits.iter().zip(expected).enumerate() {
        let expected: Vec<(usize, f64)> = serde_json::from_value(expected.clone()).unwrap();
        let found: Vec<usize> = hits.iter().map(|hit| hit.index).collect();
        let rows: Vec<usize> = expected.iter().take(hits.len()).map(|(row, _)| *row).collect();
        assert_eq!(found, rows, "{what}, {function}, query {query}");
        for (hit, (_, score)) in hits.iter().zip(&expected) {
            let error = (f64::from(hit.score) - score).abs();
            assert!(error <= 5e-6 * score.abs().max(1.0), "{what}, {function}: {hit:?} {score}");
        }
    }
}

#[test]
fn hits_are_those_of_semantic_search_with_ties_by_every_function() {
    let (queries, corpus) = vectors();
    for function in SimilarityFunction::ALL {
        let hits = semantic_search(&queries, &corpus, 40, function).unwrap();
        assert_reference("host", &hits, function);
    }
    // A software adapter leaves the selection to the host, unless it runs the kernels for GPUs.
    let builder = || Embedder::builder(model_files("bert_mean_norm"));
    let Some(own) = build(builder()) else { return };
    let of_gpus = build(builder().gpu_kernels()).unwrap();
    let embedders = [("own kernels", own), ("kernels for GPUs", of_gpus)];
    let all = SimilarityFunction::ALL.into_iter();
    for (function, (kernels, embedder)) in all.flat_map(|f| embedders.iter().map(move |e| (f, e))) {
        // A search for 40 hits uses the larger tile, and a search for 10 hits uses the smaller tile. If two rows tie
        // for the last place, the row with the lower number gets it.
        for top_k in [40, 10, 3, 1] {
            let options = SearchOptions { top_k, similarity: Some(function) };
            let hits = block_on(embedder.semantic_search(&queries, &corpus, &options)).unwrap();
            assert_reference(&format!("{kernels}, top {top_k}"), &hits, function);
        }
    }
}

#[test]
fn hits_do_not_depend_on_blocks_queries_or_the_number_of_hits() {
    let builder = Embedder::builder(model_files("bert_mean_norm")).gpu_kernels();
    let Some(embedder) = build(builder) else { return };
    let (queries, corpus) = vectors();
    let function = SimilarityFunction::Euclidean;
    let whole = |top_k| {
        let options = SearchOptions { top_k, similarity: Some(function) };
        block_on(embedder.semantic_search(&queries, &corpus, &options)).unwrap()
    };
    let hits = whole(40);
    // For so many hits, the host selects from all scores.
    for (hits, more) in hits.iter().zip(whole(200)) {
        assert_eq!(hits[..], more[..40]);
        assert_eq!(more.len(), 200);
    }
    assert_eq!(whole(0), vec![Vec::new(); 5]);
    let options = SearchOptions { top_k: 40, similarity: Some(function) };
    let mut search = embedder.search(&queries, &options).unwrap();
    let mut rest = &corpus.values[..];
    for rows in [1, 63, 0, 64, 65, 257, 4999].into_iter().chain([usize::MAX]) {
        let (block, after) = rest.split_at(rest.len().min(rows.saturating_mul(64)));
        block_on(search.add(CorpusRows::F32(block))).unwrap();
        rest = after;
    }
    assert_eq!((search.rows(), search.hits()), (10_000, hits.clone()));
    for (query, hits) in queries.rows().zip(&hits) {
        let alone = rows_of(64, query.to_vec());
        let found = block_on(embedder.semantic_search(&alone, &corpus, &options)).unwrap();
        assert_eq!(found[0], *hits);
    }
    // There are more queries than can be compared with a block at a time.
    let many = rows_of(64, queries.values.repeat(300));
    let few = rows_of(64, corpus.values[..64 * 200].to_vec());
    let found = block_on(embedder.semantic_search(&many, &few, &options)).unwrap();
    let expected = block_on(embedder.semantic_search(&queries, &few, &options)).unwrap();
    assert!(found.chunks(5).all(|found| found == expected) && found.len() == 1500);
}

#[test]
fn rows_of_float16_rank_like_their_values() {
    let Some(embedder) = build(Embedder::builder(model_files("bert_mean_norm"))) else { return };
    let (queries, corpus) = vectors();
    // This width is not a multiple of a cell.
    let cut = |rows: &Embeddings| -> Vec<f32> {
        rows.rows().flat_map(|row| row[..30].to_vec()).collect()
    };
    let (queries, corpus) = (rows_of(30, cut(&queries)), cut(&corpus));
    let half: Vec<f16> = corpus.iter().map(|value| f16::from_f32(*value)).collect();
    let wide = rows_of(30, half.iter().map(|value| value.to_f32()).collect());
    for function in SimilarityFunction::ALL {
        let options = SearchOptions { top_k: 20, similarity: Some(function) };
        let mut search = embedder.search(&queries, &options).unwrap();
        block_on(search.add(CorpusRows::F16(&half))).unwrap();
        let expected = block_on(embedder.semantic_search(&queries, &wide, &options)).unwrap();
        assert_eq!(search.hits(), expected, "{function}");
    }
}

#[test]
fn rows_that_cannot_be_compared_are_named() {
    let Some(embedder) = build(Embedder::builder(model_files("bert_mean_norm"))) else { return };
    let queries = rows_of(3, vec![1.0, 0.0, 0.0]);
    let start = || {
        let mut search = embedder.search(&queries, &SearchOptions::default()).unwrap();
        block_on(search.add(CorpusRows::F32(&[1.0; 6]))).unwrap();
        search
    };
    let refused = |rows: CorpusRows<'_>| block_on(start().add(rows)).unwrap_err().to_string();
    let nan = refused(CorpusRows::F32(&[0.0, 0.0, 0.0, 1.0, f32::NAN, 0.0]));
    assert!(nan.contains("row 3 holds NaN"), "{nan}");
    let half = [f16::ZERO, f16::ZERO, f16::NEG_INFINITY];
    assert!(refused(CorpusRows::F16(&half)).contains("row 2 holds -inf"));
    let long = refused(CorpusRows::F32(&[1e19, 1e19, 0.0]));
    assert!(long.contains("row 2 is too long") && long.contains("scale"), "{long}");
    assert!(
        refused(CorpusRows::F32(&[0.0; 4]))
            .contains("4 values, which cannot be divided into rows of 3 values")
    );
    let nan = rows_of(3, vec![1.0, 0.0, f32::INFINITY]);
    let error = embedder.search(&nan, &SearchOptions::default()).unwrap_err().to_string();
    assert!(error.contains("queries") && error.contains("row 0"), "{error}");
    let searched = |corpus: &Embeddings| {
        block_on(embedder.semantic_search(&queries, corpus, &SearchOptions::default()))
    };
    let error = searched(&rows_of(4, vec![0.0; 4])).unwrap_err().to_string();
    assert!(error.contains('4'), "{error}");
    // A corpus without rows has no hits.
    assert_eq!(searched(&rows_of(3, vec![])).unwrap(), [Vec::new()]);
}

#[test]
fn a_search_survives_a_lost_device_and_refuses_a_kernel_that_stops() {
    if lacks_shaders() {
        return;
    }
    let files = || model_files("bert_mean_norm");
    let Some(embedder) = build(Embedder::builder(files())) else { return };
    let (queries, corpus) = vectors();
    let options = SearchOptions { top_k: 10, similarity: Some(SimilarityFunction::Dot) };
    block_on(embedder.lose_device());
    let hits = block_on(embedder.semantic_search(&queries, &corpus, &options)).unwrap();
    assert_reference("after a loss", &hits, SimilarityFunction::Dot);
    for kernel in ["similarity", "top_k"] {
        let stopping = vectile::gpu::executor::StoppingKernel { kernel, after: 100 };
        let embedder = Embedder::builder(files()).gpu_kernels().stop_kernel(stopping);
        let embedder = build(embedder).unwrap();
        let mut search = embedder.search(&queries, &options).unwrap();
        let fault = (0..200)
            .find_map(|_| block_on(search.add(CorpusRows::F32(&corpus.values[..640]))).err());
        let fault = fault.expect("the kernel stopped").to_string();
        assert!(fault.contains("dispatches of a batch ran"), "{kernel}: {fault}");
    }
}
