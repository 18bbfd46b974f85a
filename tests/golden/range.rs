//! Tests that activations beyond the range of f16 are noticed in exactly the texts that have such activations, and that
//! f16 is not used if its self-test fails.

use vectile::{
    ActivationsRequest, DtypeRequest, Error, Feature, HalfFallback, ModelFiles, block_on,
};

use crate::builder;
use crate::support::{build, distance, fixture, lacks, lacks_shaders, tensor, texts};

/// The texts of `bert_overflow` with activations above 65504.
pub const OVERFLOWING: [usize; 3] = [27, 28, 29];

#[test]
fn forced_f16_activations_are_refused_by_text() {
    if lacks_shaders() {
        return;
    }
    for disabled in [vec![], vec![Feature::ShaderF16]] {
        let builder = builder("bert_overflow")
            .dtype(DtypeRequest::Float16)
            .disable(disabled)
            .half_fallback(HalfFallback::Packed)
            .activations(ActivationsRequest::F16);
        let Some(embedder) = build(builder) else { return };
        let texts = texts("bert_overflow");
        for (i, text) in texts.iter().enumerate() {
            let result = block_on(embedder.embed(&[text]));
            assert_eq!(result.is_err(), OVERFLOWING.contains(&i), "text {i}");
        }
        match block_on(embedder.embed(&texts)) {
            Err(Error::NonFinite { text: 27, problem }) => {
                assert!(
                    problem.contains("f16") && problem.contains("activations to `f32`"),
                    "{problem}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The files of `bert_overflow`, an f32 checkpoint, with a config that says f16. `auto` then runs the model in f16.
pub fn overflow_as_f16_checkpoint() -> ModelFiles {
    let directory = fixture("bert_overflow");
    let read = |name: &str| std::fs::read(directory.join(name)).unwrap();
    let mut config: serde_json::Value = serde_json::from_slice(&read("config.json")).unwrap();
    config["dtype"] = "float16".into();
    let mut files = vec![("config.json".to_owned(), serde_json::to_vec(&config).unwrap())];
    for name in [
        "modules.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "sentence_bert_config.json",
        "1_Pooling/config.json",
    ] {
        files.push((name.to_owned(), read(name)));
    }
    ModelFiles::from_bytes(files).unwrap()
}

#[test]
fn auto_runs_overflowing_texts_again_and_counts_them() {
    let files = overflow_as_f16_checkpoint();
    let Some(embedder) = build(vectile::Embedder::builder(files.clone())) else { return };
    if embedder.precision().activations == vectile::Storage::F32 {
        lacks("the adapter has no SHADER_F16");
        return;
    }
    let texts = texts("bert_overflow");
    let got = block_on(embedder.embed(&texts)).unwrap();
    assert_eq!(got.retried, OVERFLOWING.len());
    let reference = fixture("bert_overflow").join("reference.safetensors");
    let (_, expected) = tensor(&reference, "embeddings");
    let d = distance(&got.values, &expected, got.dim);
    assert!(d.relative <= 1e-2 && d.min_cosine > 0.999, "{d:?}");

    // Texts that ran again have the rows that f32 activations give; the rows of all other texts are unchanged.
    let wide = vectile::Embedder::builder(files).activations(ActivationsRequest::F32);
    let wide = block_on(build(wide).unwrap().embed(&texts)).unwrap();
    for (i, text) in texts.iter().enumerate() {
        let alone = block_on(embedder.embed(&[text])).unwrap();
        assert_eq!(alone.row(0), got.row(i), "text {i}");
        assert_eq!(alone.row(0) == wide.row(i), OVERFLOWING.contains(&i), "text {i}");
    }
}

#[test]
fn f16_that_failed_its_self_test_is_not_used() {
    if lacks_shaders() {
        return;
    }
    let cache = tempfile::tempdir().unwrap();
    let start = || builder("bert_f16").cache_dir(cache.path().to_owned());
    let Some(embedder) = build(start()) else { return };
    if embedder.precision().weights != vectile::Storage::F16 {
        lacks("the adapter has no SHADER_F16");
        return;
    }
    // The verdict is cached. A cached failure is used at the next load.
    let file = cache.path().join("shader-f16.json");
    let kept = std::fs::read_to_string(&file).unwrap();
    assert!(kept.contains("true"), "{kept}");
    std::fs::write(&file, kept.replace("true", "false")).unwrap();
    let demoted = build(start()).unwrap();
    assert_eq!(demoted.precision().weights, vectile::Storage::F32);
    assert_eq!(demoted.precision().reasons, [vectile::Reason::ShaderF16FailedSelfTest]);
    assert!(demoted.precision().to_string().contains("failed its self-test"));
    // A damaged file is ignored.
    std::fs::write(&file, "not json").unwrap();
    assert_eq!(build(start()).unwrap().precision().weights, vectile::Storage::F16);
}

#[test]
fn f16_is_tested_on_the_kernels_that_the_model_runs() {
    if lacks_shaders() {
        return;
    }
    let weights = |edit: vectile::gpu::executor::ShaderEdit| {
        build(builder("bert_f16").edit_shader(edit)).map(|model| model.precision().weights)
    };
    // BERT does not run `rms_norm`, so a fault of `rms_norm` does not affect BERT.
    match weights(("rms_norm", |_| "no WGSL".to_owned())) {
        None => return,
        Some(vectile::Storage::F16) => {}
        Some(_) => return lacks("the adapter has no SHADER_F16"),
    }
    let in_f16_alone: vectile::gpu::executor::ShaderEdit = ("lookup", |wgsl| {
        wgsl.replace("return vec4<f16>(value);", "return vec4<f16>(value * 1.01);")
    });
    assert_eq!(weights(in_f16_alone), Some(vectile::Storage::F32));
}

/// The files of `bert_overflow` in f16, with the modules of a multi-vector encoder.
fn token_vectors_in_f16() -> ModelFiles {
    let read = |directory: &str, name: &str| std::fs::read(fixture(directory).join(name)).unwrap();
    let config = read("bert_overflow", "config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    config["dtype"] = "float16".into();
    let mut files = vec![("config.json".to_owned(), serde_json::to_vec(&config).unwrap())];
    for name in ["model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        files.push((name.to_owned(), read("bert_overflow", name)));
    }
    for name in [
        "modules.json",
        "config_sentence_transformers.json",
        "sentence_bert_config.json",
        "1_Dense/config.json",
        "1_Dense/model.safetensors",
        "2_MultiVectorMask/config.json",
        "3_Normalize/config.json",
    ] {
        files.push((name.to_owned(), read("multi_vector/bert", name)));
    }
    ModelFiles::from_bytes(files).unwrap()
}

#[test]
fn token_vectors_of_overflowing_texts_are_run_again() {
    let start = || vectile::MultiVectorEncoder::builder(token_vectors_in_f16());
    let Some(encoder) = build(start()) else { return };
    if encoder.precision().activations == vectile::Storage::F32 {
        lacks("the adapter has no SHADER_F16");
        return;
    }
    let texts = ["a cat", "light", "water, and the light of a cat", "the roof"];
    let got = block_on(encoder.encode_document(&texts)).unwrap();
    assert_eq!(got.retried, 2);
    let wide = build(start().activations(ActivationsRequest::F32)).unwrap();
    let wide = block_on(wide.encode_document(&texts)).unwrap();
    for (i, text) in texts.iter().enumerate() {
        let alone = block_on(encoder.encode_document(&[text])).unwrap();
        assert_eq!(alone.vectors[0], got.vectors[i], "text {i}");
        assert_eq!(got.vectors[i].len(), wide.vectors[i].len(), "text {i}");
        assert_eq!(got.vectors[i] == wide.vectors[i], [1, 2].contains(&i), "text {i}");
    }
}
