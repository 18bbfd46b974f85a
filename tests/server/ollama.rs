//! Tests the routes of Ollama's API.

use serde_json::json;
use vectile::{EmbedOptions, block_on};

use super::support::{Running, bits, bits_of, embedder, have_adapter};

#[test]
fn vectors_have_length_one_and_tokens_are_counted() {
    if !have_adapter() {
        return;
    }
    let server = Running::shared();
    let options = EmbedOptions { normalize: true, ..EmbedOptions::default() };
    let texts = ["a cat", "the dog ran"];
    let expected = block_on(embedder("bert_mean_norm").embed_with(&texts, &options)).unwrap();
    let request = json!({
        "model": "embed:latest",
        "input": texts,
        "truncate": true,
        "keep_alive": "5m",
        "options": { "num_ctx": 512 },
    });
    let got = server.post("/api/embed", &request).ok();
    assert_eq!(
        (&got["model"], &got["prompt_eval_count"]),
        (&json!("embed"), &json!(expected.tokens))
    );
    assert!(got["total_duration"].as_u64().unwrap() > 0);
    for (at, row) in expected.rows().enumerate() {
        assert_eq!(bits(&got["embeddings"][at]), bits_of(row));
    }
    let one = server.post("/api/embed", &json!({ "model": "embed", "input": texts[1] })).ok();
    assert_eq!(one["embeddings"].as_array().unwrap().len(), 1);
    let short = json!({ "model": "embed", "input": texts[1], "dimensions": 8 });
    assert_eq!(bits(&server.post("/api/embed", &short).ok()["embeddings"][0]).len(), 8);
    let old = json!({ "model": "embed", "prompt": texts[1] });
    let old = server.post("/api/embeddings", &old).ok();
    assert_eq!(bits(&old["embedding"]), bits_of(expected.row(1)));
    let missing = server.post("/api/embed", &json!({ "model": "llama3", "input": "a" }));
    assert_eq!(missing.error(404), "model_not_found");
}

#[test]
fn models_are_listed_and_shown() {
    if !have_adapter() {
        return;
    }
    let server = Running::shared();
    assert_eq!(server.get("/api/version").ok()["version"], env!("CARGO_PKG_VERSION"));
    let tags = server.get("/api/tags").ok();
    assert_eq!(tags["models"].as_array().unwrap().len(), 4);
    assert_eq!(tags["models"][0]["name"], "embed");
    assert!(tags["models"][0]["modified_at"].as_str().unwrap().ends_with('Z'));
    let shown = server.post("/api/show", &json!({ "model": "embed" })).ok();
    assert_eq!(shown["capabilities"], json!(["embedding"]));
    let dimension = embedder("bert_mean_norm").dimension();
    assert_eq!(shown["model_info"]["embedding.embedding_length"], dimension);
    assert_eq!(server.post("/api/show", &json!({ "model": "x" })).error(404), "model_not_found");
}
