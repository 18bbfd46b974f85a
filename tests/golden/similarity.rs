//! Tests `similarity_fn_name`: the four functions on vectors that sentence-transformers made, and the defaults of each
//! kind.

use vectile::{
    EmbedOptions, Embedder, Embeddings, ModelFiles, MultiVectorEncoder, OutputPrecision, Quantized,
    SimilarityFunction, SparseEncoder, block_on, quantize, semantic_search,
};

use crate::support::{build, contents, fixture, model_files, tensor, texts};

/// The vectors of this fixture are not normalized, so the similarity functions rank them differently.
const NAME: &str = "bert_max";

/// Returns the files of a fixture, with another `similarity_fn_name`.
fn files_with(name: &str, similarity: serde_json::Value) -> ModelFiles {
    let mut files = contents(name);
    let options = "config_sentence_transformers.json";
    let mut config: serde_json::Value = serde_json::from_slice(&files[options]).unwrap();
    config["similarity_fn_name"] = similarity;
    files.insert(options.to_owned(), config.to_string().into_bytes());
    ModelFiles::from_bytes(files).unwrap()
}

/// Computes the functions of sentence-transformers' `util/similarity.py` in float64.
fn expected(function: SimilarityFunction, a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let differences = || a.iter().zip(b).map(|(a, b)| a - b);
    match function {
        SimilarityFunction::Cosine => dot(a, b) / (dot(a, a) * dot(b, b)).sqrt(),
        SimilarityFunction::Dot => dot(a, b),
        SimilarityFunction::Euclidean => -differences().map(|d| d * d).sum::<f64>().sqrt(),
        SimilarityFunction::Manhattan => -differences().map(f64::abs).sum::<f64>(),
    }
}

fn reference() -> Vec<Vec<f64>> {
    let (shape, values) = tensor(&fixture(NAME).join("reference.safetensors"), "embeddings");
    values.chunks(shape[1]).map(<[f64]>::to_vec).collect()
}

#[test]
fn the_models_function_gives_the_values_of_sentence_transformers() {
    let rows = reference();
    for function in SimilarityFunction::ALL {
        let files = files_with(NAME, function.name().into());
        let Some(embedder) = build(Embedder::builder(files)) else { return };
        assert_eq!(embedder.similarity_function(), function);
        let got = block_on(embedder.embed(&texts(NAME))).unwrap();
        let all = embedder.similarity(&got, &got).unwrap();
        let pairs = embedder.similarity_pairwise(&got, &got).unwrap();
        for (i, (scores, a)) in all.rows().zip(&rows).enumerate() {
            assert_eq!(pairs[i], scores[i]);
            for (score, b) in scores.iter().zip(&rows) {
                let expected = expected(function, a, b);
                let difference = (f64::from(*score) - expected).abs();
                assert!(
                    difference <= 5e-5 * expected.abs().max(1.0),
                    "{function}: {score} {expected}"
                );
            }
        }
        let inspection = block_on(embedder.inspect());
        assert_eq!(inspection.similarity.as_deref(), Some(function.name()));
    }
}

#[test]
fn the_function_decides_the_ranking() {
    let Some(embedder) = build(Embedder::builder(model_files(NAME))) else { return };
    let got = block_on(embedder.embed(&texts(NAME))).unwrap();
    let rows = reference();
    // The query is the fourth text. The dot product ranks the longest vectors first, and the other functions the
    // nearest ones.
    let query = Embeddings { dim: got.dim, values: got.row(3).to_vec(), ..Embeddings::default() };
    let mut firsts = Vec::new();
    for function in SimilarityFunction::ALL {
        let hits = semantic_search(&query, &got, got.len(), function).unwrap();
        let found: Vec<usize> = hits[0].iter().map(|hit| hit.index).collect();
        let mut order: Vec<usize> = (0..rows.len()).collect();
        let score = |i: &usize| expected(function, &rows[3], &rows[*i]);
        order.sort_by(|a, b| score(b).total_cmp(&score(a)));
        assert_eq!(found[..6], order[..6], "{function}");
        firsts.push(found[..3].to_vec());
    }
    assert_eq!(firsts[0][0], 3);
    assert_ne!(firsts[0], firsts[1], "dot ranks like the cosine");
}

#[test]
fn null_and_names_of_other_kinds_are_the_cosine() {
    for name in [serde_json::Value::Null, "maxsim".into()] {
        let Some(embedder) = build(Embedder::builder(files_with(NAME, name))) else { return };
        assert_eq!(embedder.similarity_function(), SimilarityFunction::Cosine);
    }
}

#[test]
fn cut_and_quantized_vectors_are_compared_by_their_own_values() {
    let files = files_with(NAME, "euclidean".into());
    let Some(embedder) = build(Embedder::builder(files)) else { return };
    let options = EmbedOptions { truncate_dim: Some(16), ..EmbedOptions::default() };
    let cut = block_on(embedder.embed_with(&texts(NAME), &options)).unwrap();
    let rows = reference();
    let got = embedder.similarity(&cut, &cut).unwrap();
    let expected_of = |a: &[f64], b: &[f64]| expected(SimilarityFunction::Euclidean, a, b);
    let first = f64::from(got.values[5]);
    assert!((first - expected_of(&rows[0][..16], &rows[5][..16])).abs() < 5e-5, "{first}");
    let whole = block_on(embedder.embed(&texts(NAME))).unwrap();
    let error = embedder.similarity(&cut, &whole).unwrap_err().to_string();
    assert!(error.contains("16") && error.contains("32"), "{error}");
    assert!(
        embedder
            .similarity_pairwise(&cut, &Embeddings { values: vec![0.0; 16], ..cut.clone() })
            .is_err()
    );
    // The vectors hold the steps of int8 as floats, as sentence-transformers compares them.
    let bytes = quantize(&whole.values, whole.dim, OutputPrecision::Int8, None).unwrap();
    let Quantized::Int8(steps) = bytes else { panic!("{bytes:?}") };
    let values: Vec<f32> = steps.iter().map(|step| f32::from(*step)).collect();
    let quantized = Embeddings { values, ..whole.clone() };
    let got = embedder.similarity(&quantized, &quantized).unwrap();
    let step = |row: usize| -> Vec<f64> {
        steps[row * whole.dim..][..whole.dim].iter().map(|step| f64::from(*step)).collect()
    };
    assert!((f64::from(got.values[5]) - expected_of(&step(0), &step(5))).abs() < 1e-3);
}

#[test]
fn sparse_vectors_are_compared_by_dot_product_and_token_vectors_by_max_sim() {
    let texts = ["A cat sat on the roof.", "The dog ran."];
    let builder = SparseEncoder::builder(files_with("sparse/bert", serde_json::Value::Null));
    let Some(sparse) = build(builder) else { return };
    assert_eq!(sparse.similarity_function(), SimilarityFunction::Dot);
    let vectors = block_on(sparse.encode(&texts)).unwrap().vectors;
    let dot = sparse.similarity(&vectors[0], &vectors[1]);
    assert!((dot - vectors[0].dot(&vectors[1])).abs() < 1e-9, "{dot}");
    let builder = SparseEncoder::builder(files_with("sparse/bert", "cosine".into()));
    let Some(cosine) = build(builder) else { return };
    assert!((cosine.similarity(&vectors[0], &vectors[0]) - 1.0).abs() < 1e-9);

    let builder = MultiVectorEncoder::builder(files_with("multi_vector/bert", "dot".into()));
    let Some(multi) = build(builder) else { return };
    let query = block_on(multi.encode_query(&texts[..1])).unwrap();
    let documents = block_on(multi.encode_document(&texts)).unwrap();
    let (query, document) = (&query.vectors[0], &documents.vectors[1]);
    assert_eq!(multi.similarity(query, document), query.max_sim(document));
    let inspection = block_on(multi.inspect());
    assert_eq!(inspection.similarity.as_deref(), Some("maxsim"));
}
