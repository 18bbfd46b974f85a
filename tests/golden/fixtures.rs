//! Tests every fixture in every storage type.

use serde_json::Value;
use vectile::{
    ActivationsRequest, DtypeRequest, EmbedOptions, EmbedderBuilder, Feature, HalfFallback,
    Storage, block_on,
};

use crate::builder;
use crate::support::{build, directories, distance, fixture, on_cpu, read_json, tensor, texts};

fn names() -> Vec<String> {
    directories("", "bert_", 24)
}

fn facts(name: &str) -> Value {
    read_json(&fixture(name).join("fixture.json"))
}

pub fn options(encode: &Value) -> EmbedOptions {
    let string = |key: &str| encode.get(key).and_then(Value::as_str).map(str::to_owned);
    EmbedOptions {
        prompt_name: string("prompt_name"),
        prompt: string("prompt"),
        truncate_dim: encode.get("truncate_dim").and_then(Value::as_u64).map(|d| d as usize),
        normalize: encode.get("normalize_embeddings") == Some(&Value::Bool(true)),
        ..EmbedOptions::default()
    }
}

/// Checks every tensor of a fixture's reference. The tolerance is `most` times the measured error of torch in the same
/// arithmetic, and at least `floor`. Returns `false` if there is no adapter.
fn check(name: &str, builder: EmbedderBuilder, arithmetic: &str, most: f64, floor: f64) -> bool {
    let Some(embedder) = build(builder) else { return false };
    let facts = facts(name);
    let reference = fixture(name).join("reference.safetensors");
    let measured = facts["measured_against_reference"][arithmetic]["relative"].as_f64().unwrap();
    for (tensor_name, how) in facts["tensors"].as_object().unwrap() {
        let texts = texts(name);
        let options = options(&how["encode"]);
        let got = block_on(embedder.embed_with(&texts, &options)).unwrap();
        let (shape, expected) = tensor(&reference, tensor_name);
        assert_eq!([got.len(), got.dim], shape[..], "{name} {tensor_name}");
        let distance = distance(&got.values, &expected, got.dim);
        let what = format!("{name} {tensor_name} ({})", embedder.precision());
        eprintln!("{what}: {distance:?}, torch {measured:e}");
        assert!(distance.relative <= (measured * most).max(floor), "{what}: {distance:?}");

        let suffix = tensor_name.strip_prefix("embeddings").unwrap();
        let ids = tensor(&reference, &format!("input_ids{suffix}")).1;
        let flat: Vec<f64> = embedder
            .tokenize(&texts, &options)
            .unwrap()
            .into_iter()
            .flatten()
            .map(f64::from)
            .collect();
        assert_eq!(flat, ids, "{what}: token ids");
    }
    true
}

#[test]
fn float32() {
    for name in names() {
        if !check(&name, builder(&name).dtype(DtypeRequest::Float32), "float32", 4.0, 2e-6) {
            return;
        }
    }
}

#[test]
fn float16() {
    for name in names().iter().filter(|name| *name != "bert_overflow") {
        let builder = builder(name).dtype(DtypeRequest::Float16);
        if !check(name, builder, "float16_weights_float16_activations", 4.0, 1e-3) {
            return;
        }
    }
}

#[test]
fn packed_f16_without_shader_f16() {
    for name in names() {
        let builder = builder(&name)
            .dtype(DtypeRequest::Float16)
            .disable(vec![Feature::ShaderF16])
            .half_fallback(HalfFallback::Packed);
        if !check(&name, builder, "float16_weights_float32_activations", 4.0, 1e-3) {
            return;
        }
    }
}

#[test]
fn packed_f16_activations_without_shader_f16() {
    for name in names().iter().filter(|name| *name != "bert_overflow") {
        let builder = builder(name)
            .dtype(DtypeRequest::Float16)
            .disable(vec![Feature::ShaderF16])
            .half_fallback(HalfFallback::Packed)
            .activations(ActivationsRequest::F16);
        if !check(name, builder, "float16_weights_float16_activations", 4.0, 1e-3) {
            return;
        }
    }
}

#[test]
fn bfloat16() {
    for name in names() {
        let builder = builder(&name).dtype(DtypeRequest::Bfloat16);
        if !check(&name, builder, "bfloat16_weights_float32_activations", 4.0, 1e-2) {
            return;
        }
    }
}

#[test]
fn auto_uses_the_checkpoint_dtype() {
    for (name, with_f16, without) in [
        ("bert_bf16", Storage::PackedBf16, Storage::PackedBf16),
        ("bert_f16", Storage::F16, Storage::F32),
        ("bert_mean_norm", Storage::F32, Storage::F32),
    ] {
        let Some(embedder) = build(builder(name)) else { return };
        assert_eq!(embedder.precision().weights, with_f16, "{name}");
        let bare = build(builder(name).disable(vec![Feature::ShaderF16])).unwrap();
        // The CPU reads f16 weights without SHADER_F16.
        let without = if on_cpu() { with_f16 } else { without };
        assert_eq!(bare.precision().weights, without, "{name}");
    }
    // A bf16 checkpoint is stored exactly, so it is as accurate as f32. The same is true of an f16 checkpoint stored as
    // f32.
    assert!(check("bert_bf16", builder("bert_bf16"), "float32", 4.0, 2e-6));
    let widened = builder("bert_f16").disable(vec![Feature::ShaderF16]);
    assert!(check("bert_f16", widened, "float32", 4.0, 2e-6));
    let wide_activations = builder("bert_f16").activations(ActivationsRequest::F32);
    assert!(check("bert_f16", wide_activations, "float32", 4.0, 2e-6));
}
