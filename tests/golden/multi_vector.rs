//! Tests every multi-vector encoder: each directory of `tests/fixtures/multi_vector` in every storage type and with
//! both families of kernels.

use std::path::PathBuf;

use vectile::{
    DtypeRequest, EmbedOptions, EmbedTask, Error, ModelFiles, MultiVector, MultiVectorEmbeddings,
    MultiVectorEncoder, MultiVectorEncoderBuilder, block_on,
};

use crate::storages::in_every_storage;
use crate::support::{build, directories, fixture, read_json, tensor};

const ROLES: [(EmbedTask, &str); 2] =
    [(EmbedTask::Query, "query"), (EmbedTask::Document, "document")];

fn names() -> Vec<String> {
    directories("multi_vector", "", 8)
}

fn directory(name: &str) -> PathBuf {
    fixture("multi_vector").join(name)
}

fn builder(name: &str) -> MultiVectorEncoderBuilder {
    MultiVectorEncoder::builder(ModelFiles::from_directory(directory(name)).unwrap())
}

fn texts(name: &str) -> Vec<String> {
    read_json(&directory(name).join("texts.json"))
}

fn encode<T: AsRef<str>>(
    encoder: &MultiVectorEncoder,
    role: EmbedTask,
    texts: &[T],
) -> MultiVectorEmbeddings {
    let options = EmbedOptions { task: Some(role), ..EmbedOptions::default() };
    block_on(encoder.encode_with(texts, &options)).unwrap()
}

/// Returns a tensor of the reference, split at its offsets into one part for each text.
fn ragged(name: &str, what: &str, offsets: &str) -> Vec<Vec<f64>> {
    let reference = directory(name).join("reference.safetensors");
    let (shape, values) = tensor(&reference, what);
    let width = shape.get(1).copied().unwrap_or(1);
    let (_, ends) = tensor(&reference, offsets);
    let cut = |pair: &[f64]| values[pair[0] as usize * width..pair[1] as usize * width].to_vec();
    ends.windows(2).map(cut).collect()
}

fn check_all(
    precision: impl Fn(MultiVectorEncoderBuilder) -> MultiVectorEncoderBuilder,
    suffix: &str,
    tolerance: f64,
) {
    for name in names() {
        let Some(encoder) = build(precision(builder(&name))) else { return };
        let texts = texts(&name);
        for (role, label) in ROLES {
            let what = format!("{name}, {label}, {}", encoder.precision());
            let ids = ragged(&name, &format!("{label}.ids"), &format!("{label}.id_offsets"));
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            for (i, tokens) in encoder.tokenize(&texts, role).unwrap().into_iter().enumerate() {
                let tokens: Vec<f64> = tokens.into_iter().map(f64::from).collect();
                assert_eq!(tokens, ids[i], "{what}: tokens of text {i}");
            }
            let expected =
                ragged(&name, &format!("{label}.vectors{suffix}"), &format!("{label}.offsets"));
            let got = encode(&encoder, role, &texts);
            assert_eq!(got.vectors.len(), expected.len(), "{what}");
            let mut worst: f64 = 0.0;
            for (i, (vectors, expected)) in got.vectors.iter().zip(&expected).enumerate() {
                assert_eq!(vectors.dim, encoder.dimension());
                assert_eq!(vectors.values.len(), expected.len(), "{what}: text {i}");
                let differences =
                    vectors.values.iter().zip(expected).map(|(g, e)| (f64::from(*g) - e).abs());
                worst = differences.fold(worst, f64::max);
            }
            assert!(worst <= tolerance, "{what}: {worst:e}");
            for (i, text) in texts.iter().enumerate().rev() {
                let alone = encode(&encoder, role, &[text]);
                assert_eq!(
                    alone.vectors[0], got.vectors[i],
                    "{what}: text {i} alone and in a batch"
                );
            }
            eprintln!("{what}: worst {worst:.1e}");
        }
    }
}

in_every_storage!(check_all, 1e-5);

#[test]
fn scores_agree_with_sentence_transformers() {
    for name in names() {
        let Some(encoder) = build(builder(&name).dtype(DtypeRequest::Float32)) else { return };
        let texts = texts(&name);
        let [queries, documents] = ROLES.map(|(role, _)| encode(&encoder, role, &texts).vectors);
        let (shape, expected) = tensor(&directory(&name).join("reference.safetensors"), "scores");
        assert_eq!(shape, [texts.len(), texts.len()]);
        for (q, query) in queries.iter().enumerate() {
            for (d, document) in documents.iter().enumerate() {
                let (got, expected) =
                    (encoder.similarity(query, document), expected[q * texts.len() + d]);
                let close = (got - expected).abs() <= 1e-5 * expected.abs().max(1.0);
                assert!(close, "{name}, {q} and {d}: {got} where {expected} is expected");
            }
        }
    }
}

#[test]
fn rows_are_bit_identical_in_batches_of_any_size() {
    let texts = texts("bert");
    let Some(encoder) = build(builder("bert")) else { return };
    let all = ROLES.map(|(role, _)| encode(&encoder, role, &texts).vectors);
    for batch_tokens in [1, 37, 100_000] {
        let other = build(builder("bert").batch_tokens(batch_tokens)).unwrap();
        assert_eq!(ROLES.map(|(role, _)| encode(&other, role, &texts).vectors), all);
    }
}

#[test]
fn options_that_token_vectors_lack_are_refused() {
    let Some(encoder) = build(builder("bert")) else { return };
    let query = EmbedOptions { task: Some(EmbedTask::Query), ..EmbedOptions::default() };
    for (options, name) in [
        (EmbedOptions::default(), "task"),
        (EmbedOptions { truncate_dim: Some(8), ..query.clone() }, "truncate_dim"),
        (EmbedOptions { prompt_name: Some("none".into()), ..query.clone() }, "prompt_name"),
    ] {
        match block_on(encoder.encode_with(&["a"], &options)) {
            Err(Error::Option { option, .. }) => assert_eq!(option, name),
            other => panic!("{other:?}"),
        }
    }
    let none = block_on(encoder.encode_with::<&str>(&[], &query)).unwrap();
    assert!(none.vectors.is_empty());
}

#[test]
fn queries_and_documents_have_their_own_length_limits() {
    let Some(encoder) = build(builder("bert")) else { return };
    let lengths = ROLES.map(|(role, _)| encoder.max_seq_length(role));
    assert_eq!(lengths, [Some(16), Some(40)]);
    let long = "a cat sat ".repeat(30);
    let query = encode(&encoder, EmbedTask::Query, &["a", &long]);
    assert_eq!((query.truncated, query.tokens), (vec![1], 32));
    assert!(query.vectors.iter().all(|vectors: &MultiVector| vectors.len() == 16));
    let document = encode(&encoder, EmbedTask::Document, &[&long]);
    assert_eq!((document.truncated, document.tokens), (vec![0], 40));
}
