//! Tests `vectile verify`: its findings, the verdict it stores, and the effect of that verdict on later loads.

use std::path::Path;

use vectile::dtype::F16Safety;
use vectile::lab::verify::{Reference, Verification, VerifyOptions, verify};
use vectile::{
    ActivationsRequest, DtypeRequest, Embedder, EmbedderBuilder, Error, HalfFallback, ModelFiles,
    Reason, ShaderF16, Storage, block_on,
};

use crate::builder;
use crate::range::{OVERFLOWING, overflow_as_f16_checkpoint};
use crate::support::{
    adapter, build, built, distance, fixture, lacks, lacks_shaders, tensor, texts,
};

/// Verifies on these texts. Returns `None`, with a loud skip, if the machine has no adapter.
pub fn run(builder: EmbedderBuilder, texts: &[String]) -> Option<Verification> {
    let options = VerifyOptions {
        texts: Some(("a test".into(), texts.to_vec())),
        ..VerifyOptions::default()
    };
    run_with(builder, &options)
}

fn run_with(builder: EmbedderBuilder, options: &VerifyOptions) -> Option<Verification> {
    built(block_on(verify(builder.or_adapter(adapter()), options, |_| {})))
}

fn reference(name: &str) -> Reference {
    let directory = fixture(name);
    let read = |file: &str| std::fs::read(directory.join(file)).unwrap();
    let texts = read("texts.json");
    Reference::from_safetensors("reference", &read("reference.safetensors"), Some(&texts)).unwrap()
}

fn has_f16(found: &Verification) -> bool {
    if found.shader_f16 != ShaderF16::Passed {
        lacks("the adapter has no SHADER_F16");
    }
    found.shader_f16 == ShaderF16::Passed
}

/// Checks the rows of `bert_overflow` against sentence-transformers.
fn rows_are_right(embedder: &Embedder) {
    let got = block_on(embedder.embed(&texts("bert_overflow"))).unwrap();
    assert_eq!(got.retried, 0);
    let expected = tensor(&fixture("bert_overflow").join("reference.safetensors"), "embeddings").1;
    let d = distance(&got.values, &expected, got.dim);
    assert!(d.relative <= 5e-3 && d.min_cosine > 0.999_99, "{d:?}");
}

#[test]
fn activations_beyond_f16_are_reported_with_text_and_layer() {
    if lacks_shaders() {
        return;
    }
    let cache = tempfile::tempdir().unwrap();
    let start = || builder("bert_overflow").cache_dir(cache.path().to_owned());
    let texts = texts("bert_overflow");
    let Some(found) = run(start(), &texts) else { return };
    assert!(found.passed, "{found}");
    assert_eq!(found.texts_beyond_f16, OVERFLOWING);
    assert_eq!(found.verdict.safety, F16Safety::SafeWithF32Activations);
    assert!(found.verdict.decided_by.starts_with("layer 0 up reaches 1093"), "{found}");
    let beyond: Vec<String> = found
        .activations
        .iter()
        .filter(|range| range.texts_beyond_f16 > 0)
        .map(|range| range.place())
        .collect();
    assert_eq!(beyond, ["layer 0 up"]);
    // The embeddings and their norm are two tensors, and each layer has seven.
    assert_eq!(found.activations.len(), 2 + 2 * 7);
    // With f16 activations, exactly the overflowing texts have no row. With f32 activations all texts agree.
    assert_eq!(found.f16[0].unusable, OVERFLOWING);
    assert!(found.f16[1].unusable.is_empty() && found.f16[1].min_cosine > 0.999_99, "{found}");
    assert_eq!(found.f16[1].activations, Storage::F32);
    if !has_f16(&found) {
        return;
    }

    // The next load uses f32 activations, names the layer, and gives right rows without a retry.
    let embedder = build(start().dtype(DtypeRequest::Float16)).unwrap();
    let precision = embedder.precision();
    assert_eq!((precision.weights, precision.activations), (Storage::F16, Storage::F32));
    let reasons = [Reason::ActivationsMeasuredUnsafeInF16, Reason::RoundedToF16];
    assert_eq!(precision.reasons, reasons);
    assert!(precision.to_string().contains("layer 0 up reaches 1093"), "{precision}");
    rows_are_right(&embedder);
    // An explicit request overrides the verdict.
    let forced = start().dtype(DtypeRequest::Float16).activations(ActivationsRequest::F16);
    assert_eq!(build(forced).unwrap().precision().activations, Storage::F16);
    // Without a verdict f16 activations are used.
    let unknown = build(builder("bert_overflow").dtype(DtypeRequest::Float16)).unwrap();
    assert_eq!(unknown.precision().activations, Storage::F16);
}

#[test]
fn a_measured_f16_checkpoint_runs_no_text_again() {
    let cache = tempfile::tempdir().unwrap();
    let start = || {
        Embedder::builder(overflow_as_f16_checkpoint())
            .or_adapter(adapter())
            .cache_dir(cache.path().to_owned())
    };
    let texts = texts("bert_overflow");
    let Some(before) = build(start()) else { return };
    if before.precision().activations != Storage::F16 {
        lacks("the adapter has no SHADER_F16");
        return;
    }
    assert_eq!(block_on(before.embed(&texts)).unwrap().retried, OVERFLOWING.len());
    let found = run(start(), &texts).unwrap();
    // `auto` runs the overflowing texts again, so nothing fails.
    assert!(found.passed, "{found}");
    let after = build(start()).unwrap();
    assert_eq!(after.precision().activations, Storage::F32);
    assert_eq!(after.precision().reasons, [Reason::ActivationsMeasuredUnsafeInF16]);
    rows_are_right(&after);
}

#[test]
fn forced_f16_activations_do_not_pass_where_a_text_overflows() {
    if lacks_shaders() {
        return;
    }
    let forced = || {
        builder("bert_overflow")
            .dtype(DtypeRequest::Float16)
            .half_fallback(HalfFallback::Packed)
            .activations(ActivationsRequest::F16)
    };
    let texts = texts("bert_overflow");
    let Some(found) = run(forced(), &texts) else { return };
    assert!(!found.passed);
    let [failure] = &found.failures[..] else { panic!("{:?}", found.failures) };
    for words in ["text 27", "\"light\"", "the requested precision", "layer 0 up reaches 1093"] {
        assert!(failure.contains(words), "no `{words}` in {failure}");
    }
    assert!(found.to_string().contains("NOT PASSED"), "{found}");
    // On the texts without an overflow, the model passes.
    let calm: Vec<String> = texts[..OVERFLOWING[0]].to_vec();
    let found = run(forced(), &calm).unwrap();
    assert!(found.passed, "{found}");
    assert_eq!(found.verdict.safety, F16Safety::Safe, "{found}");
}

#[test]
fn a_wrong_kernel_does_not_pass() {
    if lacks_shaders() {
        return;
    }
    let wrong = builder("bert_concat").edit_shader(("layer_norm", |wgsl| {
        wgsl.replace("let scale = 1.0 /", "let scale = 1.003 /")
    }));
    let options =
        VerifyOptions { reference: Some(reference("bert_concat")), ..VerifyOptions::default() };
    let Some(found) = run_with(wrong, &options) else { return };
    assert!(!found.passed);
    let has = |words: [&str; 2]| {
        found.failures.iter().any(|failure| words.iter().all(|word| failure.contains(word)))
    };
    assert!(has(["kernel layer_norm", "f32 activations"]), "{:?}", found.failures);
    assert!(has(["differ from the reference", "f32 weights"]), "{:?}", found.failures);
    assert!(found.kernels.iter().all(|check| check.passed != (check.kernel == "layer_norm")));
    // The unedited kernel passes.
    let found = run_with(builder("bert_concat"), &options).unwrap();
    assert!(found.passed, "{found}");
    assert!(found.comparisons.iter().all(|comparison| comparison.texts >= 20), "{found}");
}

#[test]
fn a_kernel_that_is_wrong_in_f16_demotes_f16_and_does_not_pass() {
    let cache = tempfile::tempdir().unwrap();
    let wrong =
        |wgsl: String| wgsl.replace("return vec4<f16>(value);", "return vec4<f16>(value * 1.01);");
    let start = || builder("bert_f16").edit_shader(("attention_lane", wrong));
    let Some(found) = run(start().cache_dir(cache.path().to_owned()), &["a".into()]) else {
        return;
    };
    if !found.adapter.shader_f16 || !found.adapter.is_software() {
        lacks("the adapter has no SHADER_F16, or runs other kernels");
        return;
    }
    assert!(!found.passed);
    assert_eq!(found.shader_f16, ShaderF16::FailedSelfTest);
    assert!(found.failures.iter().all(|failure| failure.starts_with("kernel attention_lane")));
    assert_eq!(found.precision.reasons, [Reason::ShaderF16FailedSelfTest]);
    // f16 is still measured, in the form of packed f16.
    assert_eq!(found.f16[0].weights, Storage::PackedF16);
    // Later loads use the cached verdict; a load without a cache runs the self-test.
    for builder in [builder("bert_f16").cache_dir(cache.path().to_owned()), start()] {
        let embedder = build(builder).unwrap();
        assert_eq!(embedder.precision().weights, Storage::F32);
        assert_eq!(embedder.precision().reasons, [Reason::ShaderF16FailedSelfTest]);
    }
    // A model that stores no f16 runs no self-test.
    let wide = build(start().dtype(DtypeRequest::Float32)).unwrap();
    assert_eq!(wide.precision().reasons, []);
}

fn copy(name: &str, to: &Path) {
    for entry in std::fs::read_dir(fixture(name)).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            std::fs::create_dir(&to).unwrap();
            for inner in std::fs::read_dir(from).unwrap() {
                let inner = inner.unwrap();
                std::fs::copy(inner.path(), to.join(inner.file_name())).unwrap();
            }
        } else {
            std::fs::copy(from, to).unwrap();
        }
    }
}

#[test]
fn a_verdict_applies_only_to_the_same_weights() {
    if lacks_shaders() {
        return;
    }
    let (model, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    copy("bert_overflow", model.path());
    let start = || {
        Embedder::builder(ModelFiles::from_directory(model.path()).unwrap())
            .or_adapter(adapter())
            .dtype(DtypeRequest::Float16)
            .half_fallback(HalfFallback::Packed)
    };
    let options = VerifyOptions {
        texts: Some(("a test".into(), texts("bert_overflow"))),
        write_beside: true,
        ..VerifyOptions::default()
    };
    let Some(found) = run_with(start().cache_dir(cache.path().to_owned()), &options) else {
        return;
    };
    assert_eq!(found.kept.len(), 2);
    let places = |cached: bool| {
        let builder = start();
        if cached { builder.cache_dir(cache.path().to_owned()) } else { builder }
    };
    let measured = |builder: EmbedderBuilder| build(builder).unwrap().precision().measured.clone();
    // The verdict beside the model is found with a cache directory and without one.
    for cached in [true, false] {
        assert_eq!(measured(places(cached)), Some(found.verdict.clone()), "{cached}");
    }
    // One weight changes, but the length and the header of the file stay the same.
    let weights = model.path().join("model.safetensors");
    let whole = std::fs::read(&weights).unwrap();
    let mut changed = whole.clone();
    let last = changed.len() - 2;
    changed[last] ^= 1;
    std::fs::write(&weights, &changed).unwrap();
    for cached in [true, false] {
        assert_eq!(measured(places(cached)), None, "{cached}");
    }
    std::fs::write(&weights, &whole).unwrap();
    assert_eq!(measured(places(true)), Some(found.verdict.clone()));
    // Damaged files are ignored.
    for place in &found.kept {
        std::fs::write(&place.path, "{\"verdict\": 5}").unwrap();
    }
    for cached in [true, false] {
        assert_eq!(measured(places(cached)), None, "{cached}");
    }
    // A load in f32 reads no verdict.
    assert_eq!(measured(places(true).dtype(DtypeRequest::Float32)), None);
}

#[test]
fn an_earlier_stricter_verdict_stays() {
    if lacks_shaders() {
        return;
    }
    let cache = tempfile::tempdir().unwrap();
    let start = || builder("bert_outliers").cache_dir(cache.path().to_owned());
    let calm = ["a cat".to_owned(), "the dog ran".to_owned()];
    let Some(found) = run(start(), &calm) else { return };
    assert_eq!(found.verdict.safety, F16Safety::Safe, "{found}");
    assert_eq!(found.kept_verdict, found.verdict);
    let [place] = &found.kept[..] else { panic!("{:?}", found.kept) };
    let place = &place.path;
    // This edit stands for an earlier verdict on other texts.
    let kept = std::fs::read_to_string(place).unwrap();
    let worse = kept.replace("\"safe\"", "\"safe_with_f32_activations\"");
    assert_ne!(kept, worse);
    std::fs::write(place, &worse).unwrap();
    let found = run(start(), &calm).unwrap();
    assert_eq!(found.verdict.safety, F16Safety::Safe);
    assert_eq!(found.kept_verdict.safety, F16Safety::SafeWithF32Activations);
    assert_eq!(std::fs::read_to_string(place).unwrap(), worse);
    assert!(
        found.to_string().contains("the stored verdict is stricter, so it stays in use"),
        "{found}"
    );
    std::fs::remove_file(place).unwrap();
    let found = run(start(), &calm).unwrap();
    assert_eq!(found.kept_verdict.safety, F16Safety::Safe);
}

#[test]
fn a_weight_beyond_f16_makes_the_model_unsafe_and_is_named() {
    if lacks_shaders() {
        return;
    }
    let (model, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    copy("bert_mean_norm", model.path());
    // The edit makes f16 overflow in the last row of the token table, which no text uses.
    let path = model.path().join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let words = tensors.tensor("embeddings.word_embeddings.weight").unwrap().data();
    let end = words.as_ptr() as usize + words.len() - bytes.as_ptr() as usize;
    bytes[end - 4..end].copy_from_slice(&70000.0f32.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let start = || {
        Embedder::builder(ModelFiles::from_directory(model.path()).unwrap()).or_adapter(adapter())
    };
    let half = || start().dtype(DtypeRequest::Float16).half_fallback(HalfFallback::Packed);

    let Some(embedder) = build(start()) else { return };
    assert_eq!(embedder.precision().weights, Storage::F32);
    match block_on(half().build()) {
        Err(Error::Tensor { tensor, problem, .. }) => {
            assert!(tensor.ends_with("word_embeddings.weight"), "{tensor}");
            assert!(problem.contains("70000"), "{problem}");
        }
        other => panic!("{other:?}"),
    }
    let found = run(start().cache_dir(cache.path().to_owned()), &["a cat".into()]).unwrap();
    assert!(found.passed, "{found}");
    assert_eq!(found.verdict.safety, F16Safety::Unsafe);
    assert!(found.verdict.decided_by.contains("embeddings.word_embeddings.weight"), "{found}");
    assert!(found.f16.is_empty());
    // f16 falls back to f32 with a reason, or fails if a fallback is an error.
    let embedder = build(half().cache_dir(cache.path().to_owned())).unwrap();
    let precision = embedder.precision();
    assert_eq!((precision.weights, precision.activations), (Storage::F32, Storage::F32));
    assert_eq!(precision.reasons, [Reason::WeightsMeasuredUnsafeInF16]);
    assert!(precision.to_string().contains("70000"), "{precision}");
    let strict = half().half_fallback(HalfFallback::Error).cache_dir(cache.path().to_owned());
    assert!(matches!(block_on(strict.build()), Err(Error::Option { .. })));
}

#[test]
fn every_precision_is_compared_with_the_reference() {
    for (name, dtype, expected) in [
        ("bert_mean_norm", DtypeRequest::Auto, vec![(Storage::F32, Storage::F32)]),
        ("bert_bf16", DtypeRequest::Auto, vec![(Storage::PackedBf16, Storage::F32)]),
        ("bert_mean_norm", DtypeRequest::Bfloat16, vec![(Storage::PackedBf16, Storage::F32)]),
        ("bert_dense", DtypeRequest::Float16, vec![]),
    ] {
        let options =
            VerifyOptions { reference: Some(reference(name)), ..VerifyOptions::default() };
        let Some(found) = run_with(builder(name).dtype(dtype), &options) else { return };
        assert!(found.passed, "{found}");
        let compared: Vec<(Storage, Storage)> =
            found.comparisons.iter().map(|c| (c.weights, c.activations)).collect();
        assert_eq!(compared[0], (Storage::F32, Storage::F32), "{name}");
        assert!(compared[1].0 == Storage::F16 || compared[1].0 == Storage::PackedF16, "{name}");
        for pair in expected {
            assert!(compared.contains(&pair), "{name}: {compared:?}");
        }
    }
    // A reference of another model is refused.
    let options =
        VerifyOptions { reference: Some(reference("bert_dense")), ..VerifyOptions::default() };
    match block_on(verify(builder("bert_mean_norm"), &options, |_| {})) {
        Err(Error::File { problem, .. }) => {
            assert!(problem.contains("30 values") && problem.contains("48"), "{problem}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_16_bit_checkpoint_replaces_f32_that_does_not_fit() {
    let fixed = |name| builder(name).batch_tokens(64);
    let Some(exact) = build(fixed("bert_bf16")) else { return };
    let most = exact.memory().peak();
    drop(exact);
    let Some(found) = run(fixed("bert_bf16").max_memory(most), &["a cat".into()]) else { return };
    assert!(found.passed, "{found}");
    assert_eq!(found.f32_weights, Storage::PackedBf16);
    assert!(found.to_string().contains("f32 weights do not fit on this adapter"), "{found}");
    assert_eq!(found.as_asked.min_cosine, 1.0);
    let options =
        VerifyOptions { texts: Some(("a test".into(), vec!["a".into()])), ..Default::default() };
    match block_on(verify(fixed("bert_mean_norm").max_memory(1000), &options, |_| {})) {
        Err(Error::TooLarge { available: 1000, problem, .. }) => {
            assert!(problem.contains("max_memory allows"), "{problem}");
        }
        other => panic!("{other:?}"),
    }
}

#[cfg(unix)]
#[test]
fn a_verdict_that_cannot_be_stored_is_reported() {
    if lacks_shaders() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let Some(found) = run(builder("bert_concat").cache_dir(file), &["a".into()]) else { return };
    assert!(found.passed && found.kept[0].problem.is_some(), "{found}");
    assert!(found.to_string().contains("NOT stored in"), "{found}");
    let bytes = Embedder::builder(overflow_as_f16_checkpoint()).or_adapter(adapter());
    let options = VerifyOptions { write_beside: true, ..VerifyOptions::default() };
    let refused = block_on(verify(bytes, &options, |_| {}));
    assert!(matches!(refused, Err(Error::Option { .. })), "{refused:?}");
}

#[test]
fn without_a_reference_it_says_so() {
    let Some(found) = run(builder("bert_concat"), &["a".into()]) else { return };
    assert!(found.reference.is_none() && found.comparisons.is_empty());
    assert!(found.to_string().contains("no reference vectors for these weights"), "{found}");
    let json = serde_json::to_value(&found).unwrap();
    for field in [
        "kernels",
        "precision",
        "against_cpu",
        "activations",
        "weights",
        "verdict",
        "failures",
        "passed",
    ] {
        assert!(json.get(field).is_some(), "{field}");
    }
    // The JSON has no texts, so that it can be passed on.
    assert!(json.get("shown").is_none());
}
