//! Tests that `tune` prints and caches times, and that a software adapter has only one variant.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use vectile::lab::tune::{MatrixShape, TuneAdapter, TuneOptions, build_tuned, tune_adapter};
use vectile::{Embedder, EmbedderBuilder, ModelFiles, block_on};

use crate::support::*;

/// Makes the command with a cache directory of its own.
fn tune(cache: &Path, args: &[&str]) -> Command {
    let mut command = vectile();
    command.env("XDG_CACHE_HOME", cache).arg("tune").arg(model("bert_mean_norm")).args(args);
    command
}

#[test]
fn a_software_adapter_has_one_variant() {
    if !have_adapter() {
        return;
    }
    let cache = tempfile::tempdir().unwrap();
    refuse(
        tune(cache.path(), &["--adapter", "llvmpipe"]),
        &["llvmpipe", "only one matmul variant"],
    );
}

#[test]
fn variants_are_timed_at_the_shapes_of_the_model_and_cached() {
    if !have_adapter() {
        return;
    }
    let cache = tempfile::tempdir().unwrap();
    let args = ["--gpu-kernels", "--rows", "16", "--runs", "2", "--json"];
    let path = cache.path().join("tuning.json");
    let mut command = tune(cache.path(), &args);
    command.arg(&path);
    let table = stdout(&succeed(command));
    let tuning: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();

    let cases = tuning["cases"].as_array().unwrap();
    // There are two row counts for each of three shapes: qkv, up and down.
    assert!(cases.len() >= 6 && cases.len().is_multiple_of(2), "{cases:?}");
    for case in cases {
        let variants = case["variants"].as_array().unwrap();
        assert!(variants.len() > 3, "{case}");
        let ms = |variant: &Value| variant["ms"].as_f64().unwrap();
        assert!(variants.is_sorted_by(|a, b| ms(a) <= ms(b)), "{case}");
        for variant in variants {
            assert!(ms(variant) > 0.0 && variant["gflops"].as_f64().unwrap() > 0.0, "{case}");
            assert!(
                table.contains(variant["variant"].as_str().unwrap()),
                "{variant} is not in: {table}"
            );
        }
        for which in ["chosen", "untuned"] {
            assert!(variants.iter().any(|variant| variant["variant"] == case[which]), "{case}");
        }
    }
    assert_eq!(tuning["left_out"], serde_json::json!([]));

    let kept = cache.path().join("vectile/kernels.json");
    assert_eq!(tuning["kept"], kept.display().to_string());
    assert!(table.contains("kernels.json"), "{table}");
    let kept: Value = serde_json::from_slice(&std::fs::read(&kept).unwrap()).unwrap();
    let (key, found) = kept.as_object().unwrap().iter().next().unwrap();
    assert!(key.contains(tuning["adapter"]["name"].as_str().unwrap()), "{key}");
    assert!(key.contains("shaders "), "{key}");
    assert_eq!(found["choices"].as_array().unwrap().len(), cases.len());
}

#[test]
fn without_a_model_every_precision_of_the_adapter_is_tuned() {
    if !have_adapter() {
        return;
    }
    let cache = tempfile::tempdir().unwrap();
    let adapter = TuneAdapter {
        adapter: adapter(),
        cache_dir: Some(cache.path().to_owned()),
        gpu_kernels: true,
        ..TuneAdapter::default()
    };
    let shapes =
        [(64, 48), (30, 20)].map(|(inner, columns)| MatrixShape { inner, columns }).to_vec();
    let options = TuneOptions { most_rows: 4, runs: 2, shapes };
    let found =
        block_on(tune_adapter(&adapter, Default::default(), &options, |_, _, _| ())).unwrap();
    let names: Vec<String> =
        found.iter().map(|found| format!("{} {}", found.weights, found.activations)).collect();
    assert_eq!(names, ["f32 f32", "f16 f16", "packed bf16 f32"]);
    for found in &found {
        let shapes: Vec<_> = found.cases.iter().map(|case| (case.inner, case.columns)).collect();
        assert_eq!(shapes, [(64, 48), (32, 20)]);
    }
    // A software adapter without the GPU kernels has only one variant, so there is nothing to tune.
    let plain = TuneAdapter { gpu_kernels: false, ..adapter };
    let error = block_on(tune_adapter(&plain, Default::default(), &options, |_, _, _| ()));
    assert!(error.unwrap_err().to_string().contains("software adapter"));
}

#[test]
fn a_model_is_tuned_once() {
    if !have_adapter() {
        return;
    }
    let cache = tempfile::tempdir().unwrap();
    let files = ModelFiles::from_directory(model("bert_mean_norm")).unwrap();
    let plain = Embedder::builder(files).or_adapter(adapter()).cache_dir(cache.path().to_owned());
    let options = TuneOptions { most_rows: 16, runs: 2, ..TuneOptions::default() };
    let built = |builder: &EmbedderBuilder| {
        block_on(build_tuned(builder.clone(), &options, |_, _, _| ())).unwrap()
    };
    // The kernels for software adapters have only one variant.
    assert_eq!(built(&plain).1, None);
    let builder = plain.gpu_kernels();
    let untuned = block_on(builder.clone().build()).unwrap();
    for times in 0..2 {
        let (tuned, found) = built(&builder);
        assert_eq!(found.is_some_and(|found| !found.cases.is_empty()), times == 0);
        let kernels = block_on(tuned.inspect()).kernels.matmul;
        assert!(kernels.contains("as tuned here"), "{kernels}");
        let rows = [&untuned, &tuned].map(|model| block_on(model.embed(&["a text"])).unwrap());
        assert_eq!(rows[0], rows[1]);
    }
}

#[test]
fn a_cache_that_cannot_be_written_is_an_error() {
    if !have_adapter() {
        return;
    }
    let cache = tempfile::tempdir().unwrap();
    std::fs::write(cache.path().join("vectile"), "a file").unwrap();
    let command = tune(cache.path(), &["--gpu-kernels", "--rows", "4", "--runs", "1"]);
    refuse(command, &["kernels.json", "cannot be written"]);
}
