//! Tests the published all-MiniLM-L6-v2, in the directory that `VECTILE_TEST_MODEL` names, on 236 difficult texts.

use std::collections::HashMap;
use std::path::PathBuf;

use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use vectile::{
    DtypeRequest, EmbedOptions, Embedder, EmbedderBuilder, Feature, HalfFallback, ModelFiles,
    Storage, block_on,
};

use crate::support::{
    Distance, REQUIRE_ADAPTER, adapter, build, distance, fixture, on_cpu, skip, tensor, test_model,
};

/// Returns the model's directory. Without the directory, returns `None` and prints that the test is skipped. Fails if
/// `VECTILE_REQUIRE_ADAPTER` says that the whole suite must run.
fn directory() -> Option<PathBuf> {
    let found = test_model();
    if found.is_none() {
        skip(REQUIRE_ADAPTER, "VECTILE_TEST_MODEL does not name all-MiniLM-L6-v2");
    }
    found
}

fn builder() -> Option<EmbedderBuilder> {
    Some(Embedder::builder(ModelFiles::from_directory(directory()?).unwrap()).or_adapter(adapter()))
}

fn lines(name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(fixture("minilm").join(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn texts() -> Vec<String> {
    let texts: Vec<String> =
        lines("texts.jsonl").iter().map(|l| l["text"].as_str().unwrap().to_owned()).collect();
    assert_eq!(texts.len(), 236);
    texts
}

fn measure(embedder: &Embedder, reference: &str) -> Distance {
    let got = block_on(embedder.embed(&texts())).unwrap();
    let (shape, expected) = tensor(&fixture("minilm").join("reference.safetensors"), reference);
    assert_eq!(shape, [236, 384]);
    let distance = distance(&got.values, &expected, 384);
    eprintln!("{}: {distance:?}", embedder.precision());
    distance
}

#[test]
fn float32_agrees_with_the_reference() {
    let Some(builder) = builder() else { return };
    let Some(embedder) = build(builder) else { return };
    assert_eq!(embedder.precision().weights, Storage::F32);
    assert_eq!(embedder.max_seq_length(), Some(256));
    let ids = embedder.tokenize(&texts(), &EmbedOptions::default()).unwrap();
    for (line, ids) in lines("tokens.jsonl").iter().zip(ids) {
        let expected: Vec<u32> = serde_json::from_value(line["ids256"].clone()).unwrap();
        assert_eq!(ids, expected, "text {}", line["id"]);
    }
    let d = measure(&embedder, "embeddings");
    assert!(d.min_cosine >= 0.999_999_9 && d.max_abs <= 2e-6, "{d:?}");
}

#[test]
fn float32_without_subgroups_agrees_with_the_reference() {
    let Some(builder) = builder() else { return };
    let Some(embedder) = build(builder.disable(vec![Feature::Subgroups])) else { return };
    let d = measure(&embedder, "embeddings");
    assert!(d.min_cosine >= 0.999_999_9 && d.max_abs <= 2e-6, "{d:?}");
}

#[test]
fn sixteen_bit_weights_stay_close_to_the_reference() {
    let Some(first) = builder() else { return };
    let packed = |b: EmbedderBuilder| {
        b.disable(vec![Feature::ShaderF16]).half_fallback(HalfFallback::Packed)
    };
    let half = first.clone().dtype(DtypeRequest::Float16).half_fallback(HalfFallback::Packed);
    let cases = [
        (half, 0.999_99, 1e-3),
        (packed(first.clone().dtype(DtypeRequest::Float16)), 0.999_99, 1e-3),
        (first.dtype(DtypeRequest::Bfloat16), 0.9998, 5e-3),
    ];
    for (builder, cosine, max_abs) in cases {
        let Some(embedder) = build(builder) else { return };
        let d = measure(&embedder, "embeddings");
        assert!(d.min_cosine >= cosine && d.max_abs <= max_abs, "{d:?}");
    }
}

/// The model's files with every float tensor rounded to `dtype`, which the config names.
fn rounded(dtype: Dtype) -> Option<ModelFiles> {
    let directory = directory()?;
    let original = std::fs::read(directory.join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&original).unwrap();
    let mut data: HashMap<String, (Vec<usize>, Vec<u8>)> = HashMap::new();
    for (name, view) in tensors.iter().filter(|(_, view)| view.dtype() == Dtype::F32) {
        let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        let bytes = values
            .flat_map(|v| match dtype {
                Dtype::F16 => f16::from_f32(v).to_le_bytes(),
                _ => bf16::from_f32(v).to_le_bytes(),
            })
            .collect();
        data.insert(name.to_owned(), (view.shape().to_vec(), bytes));
    }
    let views = data.iter().map(|(name, (shape, bytes))| {
        (name, TensorView::new(dtype, shape.clone(), bytes).unwrap())
    });
    let weights = safetensors::serialize(views, None).unwrap();
    let read = |name: &str| std::fs::read(directory.join(name)).unwrap();
    let mut config: Value = serde_json::from_slice(&read("config.json")).unwrap();
    config["dtype"] = if dtype == Dtype::F16 { "float16" } else { "bfloat16" }.into();
    let mut files = vec![
        ("model.safetensors".to_owned(), weights),
        ("config.json".to_owned(), serde_json::to_vec(&config).unwrap()),
    ];
    for name in
        ["modules.json", "tokenizer.json", "sentence_bert_config.json", "1_Pooling/config.json"]
    {
        files.push((name.to_owned(), read(name)));
    }
    Some(ModelFiles::from_bytes(files).unwrap())
}

#[test]
fn sixteen_bit_checkpoints_are_stored_exactly() {
    let Some(bf16) = rounded(Dtype::BF16) else { return };
    let Some(embedder) = build(Embedder::builder(bf16)) else { return };
    assert_eq!(embedder.precision().weights, Storage::PackedBf16);
    let d = measure(&embedder, "embeddings_bf16_weights");
    assert!(d.min_cosine >= 0.999_999_9 && d.max_abs <= 2e-6, "{d:?}");

    // The weights take half as many bytes as those of the f32 checkpoint.
    let whole = build(builder().unwrap()).unwrap().precision().weight_bytes as f64;
    let ratio = embedder.precision().weight_bytes as f64 / whole;
    assert!((0.49..0.51).contains(&ratio), "{ratio}");

    let f16 = rounded(Dtype::F16).unwrap();
    let embedder =
        build(Embedder::builder(f16.clone()).half_fallback(HalfFallback::Packed)).unwrap();
    let d = measure(&embedder, "embeddings_f16_weights");
    assert!(d.min_cosine >= 0.999_99 && d.max_abs <= 1e-3, "{d:?}");
    for fallback in [HalfFallback::F32, HalfFallback::Packed] {
        let builder = Embedder::builder(f16.clone())
            .disable(vec![Feature::ShaderF16])
            .half_fallback(fallback);
        let d = measure(&build(builder).unwrap(), "embeddings_f16_weights");
        assert!(d.min_cosine >= 0.999_999_9 && d.max_abs <= 2e-6, "{d:?}");
    }
}

#[cfg(feature = "lab")]
#[test]
fn verify_passes_with_the_shipped_reference() {
    use vectile::lab::verify::{VerifyOptions, verify};
    let Some(builder) = builder() else { return };
    if build(builder.clone()).is_none() {
        return;
    }
    let found = block_on(verify(builder, &VerifyOptions::default(), |_| {})).unwrap();
    assert!(found.passed, "{found}");
    assert_eq!(found.reference.as_ref().map(|r| (r.texts, r.exact)), Some((48, true)));
    assert_eq!(found.comparisons.len(), 2);
    if on_cpu() {
        // No text was run with f16 activations, so there is no verdict on f16 activations to store.
        assert!(
            found.verdict.decided_by.contains("was not run") && found.kept.is_empty(),
            "{found}"
        );
        return;
    }
    assert_eq!(found.verdict.safety, vectile::dtype::F16Safety::Safe, "{found}");
    assert!(found.verdict.decided_by.contains("down"), "{found}");
}
