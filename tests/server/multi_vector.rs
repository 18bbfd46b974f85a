//! Tests multi-vector models: vectors of tokens, ranking by MaxSim, and requests that such a model refuses.

use serde_json::json;
use vectile::block_on;
use vectile::server::Served;

use super::support::{
    Running, bits, bits_of, embedder, have_adapter, multi_vector, options, reranker, texts,
};

const FIXTURES: [&str; 3] =
    ["multi_vector/bert", "multi_vector/stanford_bert", "multi_vector/pylate_plain"];

#[test]
fn vectors_of_tokens_equal_the_library() {
    if !have_adapter() {
        return;
    }
    for fixture in FIXTURES {
        let library = multi_vector(fixture);
        let models = vec![Served::multi_vector("m", library.clone())];
        let server = Running::start(options(), models);
        let texts = texts(5);
        let documents = block_on(library.encode_document(&texts)).unwrap();
        let queries = block_on(library.encode_query(&texts)).unwrap();
        for (request, expected) in [
            (json!({ "inputs": texts }), &documents),
            (json!({ "inputs": texts, "input_type": "document" }), &documents),
            (json!({ "inputs": texts, "input_type": "query" }), &queries),
        ] {
            let got = server.post("/embed_all", &request).ok();
            assert_eq!(got.as_array().unwrap().len(), texts.len());
            for (got, expected) in got.as_array().unwrap().iter().zip(&expected.vectors) {
                assert_eq!(got.as_array().unwrap().len(), expected.len(), "{fixture}");
                for (got, row) in got.as_array().unwrap().iter().zip(expected.rows()) {
                    assert_eq!(bits(got), bits_of(row), "{fixture}");
                }
            }
        }
    }
}

#[test]
fn documents_are_ranked_by_late_interaction() {
    if !have_adapter() {
        return;
    }
    for fixture in FIXTURES {
        let library = multi_vector(fixture);
        let models = vec![Served::multi_vector("m", library.clone())];
        let server = Running::start(options(), models);
        let (query, texts) = ("Where is the cat?", texts(6));
        let queries = block_on(library.encode_query(&[query])).unwrap();
        let documents = block_on(library.encode_document(&texts)).unwrap();
        let score = |document| library.similarity(&queries.vectors[0], document) as f32;
        let scores: Vec<f32> = documents.vectors.iter().map(score).collect();
        let tei = json!({ "query": query, "texts": texts });
        let jina = json!({ "query": query, "documents": texts });
        let raw = json!({ "query": query, "texts": texts, "raw_scores": true });
        let (tei, raw) = (server.post("/rerank", &tei).ok(), server.post("/rerank", &raw).ok());
        let jina = server.post("/v1/rerank", &jina).ok();
        assert_eq!(tei, raw, "MaxSim has one scale");
        let mut last = f32::INFINITY;
        for at in 0..texts.len() {
            let index = tei[at]["index"].as_u64().unwrap() as usize;
            assert_eq!(bits(&json!([tei[at]["score"]])), [scores[index].to_bits()], "{fixture}");
            assert_eq!(jina["results"][at]["index"], index);
            assert_eq!(jina["results"][at]["relevance_score"], tei[at]["score"]);
            assert!(scores[index] <= last);
            last = scores[index];
        }
    }
}

#[test]
fn questions_for_other_kinds_are_refused_with_the_kind_that_is_needed() {
    if !have_adapter() {
        return;
    }
    let models = vec![Served::multi_vector("m", multi_vector("multi_vector/bert"))];
    let server = Running::start(options(), models);
    for (path, body, needed) in [
        ("/v1/embeddings", json!({ "model": "m", "input": "a" }), "embedding"),
        ("/api/embed", json!({ "model": "m", "input": "a" }), "embedding"),
        ("/embed", json!({ "model": "m", "inputs": "a" }), "embedding"),
        ("/embed_sparse", json!({ "model": "m", "inputs": "a" }), "sparse"),
        ("/predict", json!({ "model": "m", "inputs": "a" }), "reranker"),
    ] {
        let refused = server.post(path, &body);
        assert_eq!(refused.error(400), "wrong_model", "{path}");
        let message = refused.message();
        assert!(message.contains("multi-vector") && message.contains(needed), "{message}");
        let mut unnamed = body;
        unnamed.as_object_mut().unwrap().remove("model");
        assert_eq!(server.post(path, &unnamed).error(404), "model_not_found", "{path}");
    }
    let info = server.get("/info").ok();
    assert_eq!(info["models"][0]["kind"], "multi-vector");
    assert_eq!(server.post("/api/show", &json!({ "model": "m" })).ok()["capabilities"], json!([]));
    server.get("/health/ready").ok();
    let dimensions = json!({ "inputs": "a", "input_type": "query", "truncate": false });
    server.post("/embed_all", &dimensions).ok();
    let long = json!({ "inputs": ["a", "cat ".repeat(5000)], "truncate": false });
    assert_eq!(server.post("/embed_all", &long).error(422), "context_length_exceeded");
}

/// If a server has both kinds and the request names no model, a reranker is preferred.
#[test]
fn rerankers_are_preferred_for_ranking_and_multi_vector_models_for_vectors_of_tokens() {
    if !have_adapter() {
        return;
    }
    let models = vec![
        Served::embedder("dense", embedder("bert_mean_norm")),
        Served::multi_vector("multi", multi_vector("multi_vector/bert")),
        Served::reranker("rank", reranker("rerankers/bert")),
    ];
    let server = Running::start(options(), models);
    let request = json!({ "query": "a", "documents": ["b"] });
    assert_eq!(server.post("/v1/rerank", &request).ok()["model"], "rank");
    let named = json!({ "query": "a", "documents": ["b"], "model": "multi" });
    assert_eq!(server.post("/v1/rerank", &named).ok()["model"], "multi");
    let width = |request: &serde_json::Value| {
        server.post("/embed_all", request).ok()[0][0].as_array().unwrap().len()
    };
    let multi = multi_vector("multi_vector/bert").dimension();
    assert_eq!(width(&json!({ "inputs": "a" })), multi);
    let dense = embedder("bert_mean_norm");
    let hidden = block_on(dense.hidden_states("a cat")).unwrap();
    let states = server.post("/embed_all", &json!({ "inputs": "a cat", "model": "dense" })).ok();
    let rows: Vec<u32> = states[0].as_array().unwrap().iter().flat_map(bits).collect();
    assert_eq!(rows, bits_of(&hidden));
}
