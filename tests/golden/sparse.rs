//! Every sparse encoder: each directory of `tests/fixtures/sparse` in every storage and by both sorts of
//! kernels.

use std::path::{Path, PathBuf};

use vectile::{
    ActivationsRequest, DtypeRequest, EmbedOptions, Error, Feature, HalfFallback, ModelFiles,
    SparseEmbeddings, SparseEncoder, SparseEncoderBuilder, block_on,
};

use crate::{build, fixture, tensor};

fn names() -> Vec<String> {
    let entries = std::fs::read_dir(fixture("sparse")).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert!(names.len() >= 6);
    names
}

fn directory(name: &str) -> PathBuf {
    fixture("sparse").join(name)
}

fn builder(name: &str) -> SparseEncoderBuilder {
    SparseEncoder::builder(ModelFiles::from_directory(directory(name)).unwrap())
}

fn texts(directory: &Path) -> Vec<String> {
    serde_json::from_slice(&std::fs::read(directory.join("texts.json")).unwrap()).unwrap()
}

/// The vectors as rows with their zeros.
fn dense(embeddings: &SparseEmbeddings) -> Vec<f32> {
    let mut rows = vec![0.0; embeddings.vectors.len() * embeddings.dim];
    for (row, vector) in rows.chunks_exact_mut(embeddings.dim).zip(&embeddings.vectors) {
        assert!(vector.indices.is_sorted_by(|a, b| a < b));
        assert!(vector.values.iter().all(|value| *value > 0.0));
        for (index, value) in vector.indices.iter().zip(&vector.values) {
            row[*index as usize] = *value;
        }
    }
    rows
}

fn check_all(
    precision: impl Fn(SparseEncoderBuilder) -> SparseEncoderBuilder,
    suffix: &str,
    tolerance: f64,
) {
    for name in names() {
        // Of weights that are cut by rank, which are kept changes with any rounding.
        if name == "bert_twice" && tolerance > 1e-3 {
            continue;
        }
        let Some(encoder) = build(precision(builder(&name))) else { return };
        let what = format!("{name}, {}", encoder.precision());
        let texts = texts(&directory(&name));
        let got = block_on(encoder.encode(&texts)).unwrap();
        let reference = directory(&name).join("reference.safetensors");
        let (shape, expected) = tensor(&reference, &format!("embeddings{suffix}"));
        assert_eq!([got.vectors.len(), got.dim], shape[..], "{what}");
        let differences =
            dense(&got).into_iter().zip(&expected).map(|(g, e)| (f64::from(g) - e).abs());
        let worst = differences.fold(0.0, f64::max);
        assert!(worst <= tolerance, "{what}: {worst:e}");
        for (i, text) in texts.iter().enumerate().rev() {
            let alone = block_on(encoder.encode(&[text])).unwrap();
            assert_eq!(alone.vectors[0], got.vectors[i], "{what}: text {i} alone and in a batch");
        }
        eprintln!("{what}: worst {worst:.1e}");
    }
}

#[test]
fn float32() {
    check_all(|builder| builder.dtype(DtypeRequest::Float32), "", 2e-5);
}

#[test]
fn float32_by_the_kernels_for_gpus() {
    check_all(|builder| builder.dtype(DtypeRequest::Float32).gpu_kernels(), "", 2e-5);
}

#[test]
fn packed_f16_weights_are_as_exact_as_their_rounding() {
    let packed = |builder: SparseEncoderBuilder| {
        builder
            .dtype(DtypeRequest::Float16)
            .withhold(vec![Feature::ShaderF16])
            .half_fallback(HalfFallback::Packed)
    };
    check_all(packed, ".float16", 2e-5);
}

#[test]
fn packed_bf16_weights_are_as_exact_as_their_rounding() {
    let bf16 = |builder: SparseEncoderBuilder| builder.dtype(DtypeRequest::Bfloat16).gpu_kernels();
    check_all(bf16, ".bfloat16", 2e-5);
}

#[test]
fn f16_weights_and_activations() {
    let forced = |builder: SparseEncoderBuilder| {
        builder
            .dtype(DtypeRequest::Float16)
            .half_fallback(HalfFallback::Packed)
            .activations(ActivationsRequest::F16)
    };
    check_all(forced, ".float16", 5e-2);
}

#[test]
fn batches_of_any_size_and_small_bindings_give_the_same_bits() {
    let Some(encoder) = build(builder("bert")) else { return };
    let texts = texts(&directory("bert"));
    let all = block_on(encoder.encode(&texts)).unwrap();
    for batch_tokens in [1, 37, 100_000] {
        let other = build(builder("bert").batch_tokens(batch_tokens)).unwrap();
        assert_eq!(block_on(other.encode(&texts)).unwrap().vectors, all.vectors);
    }
    // Room for the logits of one text only.
    let small = build(builder("bert").max_binding_bytes(1 << 20)).unwrap();
    assert_eq!(block_on(small.encode(&texts)).unwrap().vectors, all.vectors);
}

#[test]
fn what_sparse_vectors_do_not_have_is_refused() {
    let Some(encoder) = build(builder("bert_bare")) else { return };
    for (options, name) in [
        (EmbedOptions { normalize: true, ..EmbedOptions::default() }, "normalize"),
        (EmbedOptions { truncate_dim: Some(8), ..EmbedOptions::default() }, "truncate_dim"),
    ] {
        match block_on(encoder.encode_with(&["a"], &options)) {
            Err(Error::Option { option, .. }) => assert_eq!(option, name),
            other => panic!("{other:?}"),
        }
    }
    assert!(encoder.token(5).is_some());
    assert_eq!(encoder.token(1 << 20), None);
}
