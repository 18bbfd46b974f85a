//! Tests every sparse encoder: each directory of `tests/fixtures/sparse`, and bge-m3, in every storage type and with
//! both families of kernels.

use std::path::{Path, PathBuf};

use vectile::{
    EmbedOptions, EmbedTask, Error, ModelFiles, OnTooLong, SparseEmbeddings, SparseEncoder,
    SparseEncoderBuilder, block_on,
};

use crate::storages::in_every_storage;
use crate::support::{build, directories, fixture, read_json, tensor};

fn names() -> Vec<String> {
    let mut names = directories("sparse", "", 6);
    names.push(BGE_M3.to_owned());
    names
}

/// A fixture that is both a sparse and a multi-vector encoder.
const BGE_M3: &str = "bge_m3";

fn directory(name: &str) -> PathBuf {
    fixture(if name == BGE_M3 { "multi_vector" } else { "sparse" }).join(name)
}

fn builder(name: &str) -> SparseEncoderBuilder {
    SparseEncoder::builder(ModelFiles::from_directory(directory(name)).unwrap())
}

fn texts(directory: &Path) -> Vec<String> {
    read_json(&directory.join("texts.json"))
}

/// Returns the vectors as dense rows.
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
        // This model selects weights by rank, and rounding changes the selection, so only exact storage types are
        // tested.
        if name == "bert_twice" && tolerance > 1e-3 {
            continue;
        }
        let Some(encoder) = build(precision(builder(&name))) else { return };
        let what = format!("{name}, {}", encoder.precision());
        let texts = texts(&directory(&name));
        let got = block_on(encoder.encode(&texts)).unwrap();
        let reference = directory(&name).join("reference.safetensors");
        let vectors = if name == BGE_M3 { "lexical" } else { "embeddings" };
        let (shape, expected) = tensor(&reference, &format!("{vectors}{suffix}"));
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

in_every_storage!(check_all, 2e-5);

#[test]
fn rows_are_bit_identical_in_batches_of_any_size_and_small_bindings() {
    let Some(encoder) = build(builder("bert")) else { return };
    let texts = texts(&directory("bert"));
    let all = block_on(encoder.encode(&texts)).unwrap();
    for batch_tokens in [1, 37, 100_000] {
        let other = build(builder("bert").batch_tokens(batch_tokens)).unwrap();
        assert_eq!(block_on(other.encode(&texts)).unwrap().vectors, all.vectors);
    }
    // The binding has room for the logits of one text only.
    let small = build(builder("bert").max_binding_bytes(1 << 20)).unwrap();
    assert_eq!(block_on(small.encode(&texts)).unwrap().vectors, all.vectors);
}

#[test]
fn queries_with_a_lookup_table_agree_with_the_reference() {
    let Some(encoder) = build(builder("opensearch")) else { return };
    let texts = texts(&directory("opensearch"));
    let reference = directory("opensearch").join("reference.safetensors");
    let (shape, expected) = tensor(&reference, "queries");
    let query = EmbedOptions { task: Some(EmbedTask::Query), ..EmbedOptions::default() };
    let got = block_on(encoder.encode_with(&texts, &query)).unwrap();
    assert_eq!([got.vectors.len(), got.dim], shape[..]);
    assert_eq!(dense(&got).into_iter().map(f64::from).collect::<Vec<_>>(), expected);
    // Texts longer than 20 tokens are truncated and reported.
    assert_eq!(encoder.max_seq_length_of(&query), Some(20));
    assert_eq!(encoder.max_seq_length_of(&EmbedOptions::default()), Some(80));
    assert_eq!(got.truncated, [texts.len() - 2, texts.len() - 1]);
    let long = EmbedOptions { on_too_long: OnTooLong::Error, ..query };
    match block_on(encoder.encode_with(&texts, &long)) {
        Err(Error::TooLong { text, limit: 20, .. }) => assert_eq!(text, texts.len() - 2),
        other => panic!("{other:?}"),
    }
}

#[test]
fn options_that_sparse_vectors_lack_are_refused() {
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
