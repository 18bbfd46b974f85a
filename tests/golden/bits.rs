//! Tests that a text's row is bit-identical alone and in any batch.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use vectile::{
    ActivationsRequest, DtypeRequest, EmbedOptions, Embedder, EmbedderBuilder, Feature,
    HalfFallback, block_on,
};

use crate::builder;
use crate::support::{build, texts};

/// Returns one builder for each pair of storage types that the dtype policy can choose.
fn precisions() -> Vec<EmbedderBuilder> {
    precisions_of("bert_outliers")
}

fn precisions_of(name: &str) -> Vec<EmbedderBuilder> {
    let base = || builder(name);
    let packed = || {
        base()
            .dtype(DtypeRequest::Float16)
            .disable(vec![Feature::ShaderF16])
            .half_fallback(HalfFallback::Packed)
    };
    vec![
        base().dtype(DtypeRequest::Float32),
        base().dtype(DtypeRequest::Float32).disable(vec![Feature::Subgroups]),
        base().dtype(DtypeRequest::Float16).half_fallback(HalfFallback::Packed),
        packed(),
        packed().activations(ActivationsRequest::F16),
        base().dtype(DtypeRequest::Bfloat16),
    ]
}

fn alone(embedder: &Embedder, texts: &[String]) -> Vec<Vec<f32>> {
    texts.iter().map(|text| block_on(embedder.embed(&[text])).unwrap().values).collect()
}

#[test]
fn rows_are_bit_identical_alone_and_in_any_order() {
    let texts = texts("bert_outliers");
    for precision in precisions() {
        let Some(embedder) = build(precision.clone()) else { return };
        let alone = alone(&embedder, &texts);
        let all = block_on(embedder.embed(&texts)).unwrap();
        for (i, row) in all.rows().enumerate() {
            assert_eq!(row, alone[i], "text {i}, {}", embedder.precision());
        }
        let backwards: Vec<&String> = texts.iter().rev().collect();
        let rows = block_on(embedder.embed(&backwards)).unwrap();
        for (i, row) in rows.rows().rev().enumerate() {
            assert_eq!(row, alone[i], "text {i} backwards, {}", embedder.precision());
        }
        for batch_tokens in [1, 37, 100_000] {
            let other = build(precision.clone().batch_tokens(batch_tokens)).unwrap();
            let rows = block_on(other.embed(&texts)).unwrap();
            assert_eq!(rows.values, all.values, "{batch_tokens} tokens, {}", other.precision());
        }
    }
}

#[test]
fn a_hundred_repeats_are_bit_identical() {
    let texts = texts("bert_outliers");
    let Some(embedder) = build(builder("bert_outliers")) else { return };
    let first = block_on(embedder.embed(&texts)).unwrap();
    for repeat in 1..=100 {
        let again = block_on(embedder.embed(&texts)).unwrap();
        assert_eq!(again.values, first.values, "repeat {repeat}");
    }
}

#[test]
fn rows_are_bit_identical_in_random_batches() {
    let texts = texts("bert_outliers");
    for precision in precisions() {
        let Some(embedder) = build(precision) else { return };
        let alone = alone(&embedder, &texts);
        let picks = proptest::collection::vec(0..texts.len(), 1..40);
        // Each of the six precisions gets an equal share of the batches.
        let cases = std::env::var("VECTILE_BATCHES").map_or(144, |count| count.parse().unwrap());
        let cases = u32::div_ceil(cases, 6);
        let mut runner =
            TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
        let result = runner.run(&picks, |picks| {
            let batch: Vec<&String> = picks.iter().map(|i| &texts[*i]).collect();
            let rows = block_on(embedder.embed(&batch)).unwrap();
            for (row, i) in rows.rows().zip(&picks) {
                prop_assert_eq!(row, &alone[*i][..]);
            }
            Ok(())
        });
        result.unwrap_or_else(|e| panic!("{}: {e}", embedder.precision()));
    }
}

#[test]
fn tables_gathered_on_the_host_give_bit_identical_rows() {
    let texts = texts("bert_outliers");
    for precision in precisions() {
        let Some(embedder) = build(precision.clone()) else { return };
        let whole = block_on(embedder.embed(&texts)).unwrap();
        // The limit is one byte less than the word table needs, so the table stays on the host.
        let words = block_on(embedder.inspect()).tensors;
        let words = words.iter().find(|t| t.name.ends_with("word_embeddings.weight")).unwrap();
        let values = words.shape.iter().product::<usize>() as u64;
        let bytes = values * embedder.precision().weights.bytes() - 1;
        let gathered = build(precision.max_binding_bytes(bytes)).unwrap();
        assert_eq!(gathered.adapter().max_binding_bytes, bytes);
        let rows = block_on(gathered.embed(&texts)).unwrap();
        assert_eq!(rows.values, whole.values, "{}", gathered.precision());
    }
}

/// Some blocks of a few columns end inside heads, and some end between the parts of a layer.
#[test]
fn matrices_in_blocks_of_columns_give_bit_identical_rows() {
    let name = "families/mistral_bidirectional";
    let texts = texts(name);
    // The f16 self-test needs larger bindings, so a verdict must be cached first.
    let verdicts = tempfile::tempdir().unwrap();
    for precision in precisions_of(name) {
        let precision = precision.cache_dir(verdicts.path().to_owned());
        for precision in [precision.clone(), precision.gpu_kernels()] {
            let Some(whole) = build(precision.clone()) else { return };
            // Only texts of up to three tokens run. Their activations fit a binding that is too small for a whole
            // matrix.
            let short = |text: &&String| {
                let ids = whole.tokenize(&[text], &EmbedOptions::default()).unwrap();
                ids[0].len() <= 3
            };
            let texts: Vec<&String> = texts.iter().filter(short).collect();
            assert!(texts.len() > 1);
            let expected = block_on(whole.embed(&texts)).unwrap().values;
            let dispatches = block_on(whole.inspect()).graph.len();
            let blocks = build(precision.max_binding_bytes(2800)).unwrap();
            let rows = block_on(blocks.embed(&texts)).unwrap();
            assert_eq!(rows.values, expected, "{}", blocks.precision());
            let more = block_on(blocks.inspect()).graph.len();
            assert!(more > dispatches + 4, "{}: {dispatches}, {more}", blocks.precision());
        }
    }
}
