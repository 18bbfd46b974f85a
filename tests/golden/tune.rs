//! Tests that later loads use the results of `vectile tune`, and that their rows stay bit-identical.

use std::collections::BTreeMap;

use serde_json::Value;
use vectile::lab::tune::{TuneOptions, tune};
use vectile::{DtypeRequest, EmbedderBuilder, block_on};

use crate::support::{build, lacks_shaders};

fn builder() -> EmbedderBuilder {
    crate::builder("bert_mean_norm").dtype(DtypeRequest::Float32).gpu_kernels()
}

/// Returns the vectors of a batch of texts, the matmul variants of a short batch, and the description of the variants.
fn run(builder: EmbedderBuilder) -> Option<(Vec<f32>, Vec<String>, String)> {
    let embedder = build(builder)?;
    let long = "words and more ".repeat(20);
    let texts = ["A text.", long.as_str(), "Another, of some more words."];
    let vectors = block_on(embedder.embed(&texts)).unwrap();
    for (at, text) in texts.iter().enumerate() {
        let alone = block_on(embedder.embed(&[text])).unwrap();
        assert_eq!(alone.row(0), vectors.row(at), "{text}");
    }
    let inspection = block_on(embedder.inspect());
    let variants =
        inspection.graph.iter().filter_map(|dispatch| dispatch.variant.clone()).collect();
    Some((vectors.values, variants, inspection.kernels.matmul))
}

#[test]
fn tuned_variants_are_used_and_rows_stay_bit_identical() {
    if lacks_shaders() {
        return;
    }
    let Some((before, untuned, described)) = run(builder()) else { return };
    assert!(!described.contains("tuned"), "{described}");
    let cache = tempfile::tempdir().unwrap();
    let tuned = || builder().cache_dir(cache.path().to_owned());
    let options = TuneOptions { most_rows: 64, runs: 2, ..TuneOptions::default() };
    let tuning = block_on(tune(tuned(), &options, |_, _, _| {})).unwrap();
    assert!(tuning.left_out.is_empty(), "{:?}", tuning.left_out);
    let (after, _, described) = run(tuned()).unwrap();
    assert_eq!(after, before);
    assert!(described.contains("tuned"), "{described}");

    // These choices take the place of choices that another machine stored.
    let path = cache.path().join("kernels.json");
    for (name, shown) in
        [("tile 128x128", "tiles of 128 × 128"), ("few 8", "few rows: 8 at a time")]
    {
        let mut kept: BTreeMap<String, Value> =
            serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        for found in kept.values_mut() {
            for choice in found["choices"].as_array_mut().unwrap() {
                choice["variant"] = name.into();
            }
        }
        std::fs::write(&path, serde_json::to_vec(&kept).unwrap()).unwrap();
        let (after, variants, _) = run(tuned()).unwrap();
        assert_eq!(after, before, "{name}");
        assert_eq!(variants.len(), untuned.len());
        assert!(variants.iter().all(|variant| variant == shown), "{variants:?}");
    }

    // Damaged files are ignored.
    for broken in ["{", "[]", r#"{"an adapter": {"choices": 3}}"#] {
        std::fs::write(&path, broken).unwrap();
        let (after, variants, described) = run(tuned()).unwrap();
        assert_eq!((after, variants), (before.clone(), untuned.clone()));
        assert!(!described.contains("tuned"), "{described}");
    }
}
