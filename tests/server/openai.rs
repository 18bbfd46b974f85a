//! Tests the routes of OpenAI's API.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use vectile::{EmbedOptions, EmbedTask, block_on};

use super::support::{Running, bits, bits_of, embedder, have_adapter, options, texts};

fn floats(base64: &Value) -> Vec<u32> {
    let bytes = STANDARD.decode(base64.as_str().unwrap()).unwrap();
    bytes.chunks_exact(4).map(|four| u32::from_le_bytes(four.try_into().unwrap())).collect()
}

#[test]
fn vectors_equal_the_library_as_numbers_and_in_base64() {
    if !have_adapter() {
        return;
    }
    let server = Running::shared();
    let texts = texts(30);
    let expected = block_on(embedder("bert_mean_norm").embed(&texts)).unwrap();
    let numbers = server
        .post("/v1/embeddings", &json!({ "model": "embed", "input": texts, "user": "me" }))
        .ok();
    assert_eq!((&numbers["object"], &numbers["model"]), (&json!("list"), &json!("embed")));
    let usage = json!({ "prompt_tokens": expected.tokens, "total_tokens": expected.tokens });
    assert_eq!(numbers["usage"], usage);
    assert!(numbers.get("truncated").is_none());
    let request = json!({ "model": "embed", "input": texts, "encoding_format": "base64" });
    let encoded = server.post("/v1/embeddings", &request).ok();
    for (at, row) in expected.rows().enumerate() {
        let object = &numbers["data"][at];
        assert_eq!((&object["index"], &object["object"]), (&json!(at), &json!("embedding")));
        assert_eq!(bits(&object["embedding"]), bits_of(row), "{at}");
        assert_eq!(floats(&encoded["data"][at]["embedding"]), bits_of(row), "{at}");
    }
    // This request has one text instead of a list, and names no model.
    let one = server.post("/v1/embeddings", &json!({ "input": texts[3] })).ok();
    assert_eq!(one["data"].as_array().unwrap().len(), 1);
    assert_eq!(bits(&one["data"][0]["embedding"]), bits_of(expected.row(3)));
}

#[test]
fn dimensions_prompts_and_input_types_work_as_in_the_library() {
    if !have_adapter() {
        return;
    }
    let server = Running::shared();
    let library = embedder("bert_prompts");
    let text = "What is f16?";
    let table = [
        (json!({}), EmbedOptions::default()),
        (
            json!({ "dimensions": 8 }),
            EmbedOptions { truncate_dim: Some(8), normalize: true, ..EmbedOptions::default() },
        ),
        (
            json!({ "dimensions": 8, "normalize": false }),
            EmbedOptions { truncate_dim: Some(8), ..EmbedOptions::default() },
        ),
        (
            json!({ "prompt_name": "query" }),
            EmbedOptions { prompt_name: Some("query".into()), ..EmbedOptions::default() },
        ),
        (
            json!({ "prompt": "say: " }),
            EmbedOptions { prompt: Some("say: ".into()), ..EmbedOptions::default() },
        ),
        (
            json!({ "input_type": "query" }),
            EmbedOptions { task: Some(EmbedTask::Query), ..EmbedOptions::default() },
        ),
        (
            json!({ "input_type": "passage" }),
            EmbedOptions { task: Some(EmbedTask::Document), ..EmbedOptions::default() },
        ),
    ];
    for (fields, options) in table {
        let mut request = json!({ "model": "prompts", "input": [text] });
        request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let expected = block_on(library.embed_with(&[text], &options)).unwrap();
        let got = server.post("/v1/embeddings", &request).ok();
        assert_eq!(bits(&got["data"][0]["embedding"]), bits_of(expected.row(0)), "{fields}");
    }
}

#[test]
fn texts_that_are_too_long_are_truncated_and_reported_or_refused() {
    if !have_adapter() {
        return;
    }
    let server = Running::shared();
    let long = "cat ".repeat(5000);
    let request = json!({ "input": ["short", long, "dog", long] });
    let cut = server.post("/v1/embeddings", &request);
    assert_eq!(cut.ok()["truncated"], json!([1, 3]));
    assert_eq!(cut.header("x-truncated-texts"), Some("2"));
    let request = json!({ "input": ["short", long], "truncate": false });
    let refused = server.post("/v1/embeddings", &request);
    assert_eq!(refused.error(400), "context_length_exceeded");
    assert_eq!(refused.param(), "input[1]");
}

#[test]
fn token_ids_are_refused_with_advice_unless_accepted() {
    if !have_adapter() {
        return;
    }
    let texts = texts(5);
    let library = embedder("bert_mean_norm");
    let ids = library.tokenize(&texts, &EmbedOptions::default()).unwrap();
    for input in [json!(ids), json!(ids[0])] {
        let refused = Running::shared().post("/v1/embeddings", &json!({ "input": input }));
        assert_eq!(refused.error(400), "token_ids_not_supported");
        let message = refused.message();
        for word in ["check_embedding_ctx_length=False", "--accept-token-ids"] {
            assert!(message.contains(word), "{message}");
        }
    }
    let accepting = vectile::server::ServerOptions { accept_token_ids: true, ..options() };
    let models = vec![vectile::server::Served::embedder("embed", library.clone())];
    let server = Running::start(accepting, models);
    let expected = block_on(library.embed(&texts)).unwrap();
    let got = server.post("/v1/embeddings", &json!({ "input": ids })).ok();
    for (at, row) in expected.rows().enumerate() {
        assert_eq!(bits(&got["data"][at]["embedding"]), bits_of(row), "{at}");
    }
    let one = server.post("/v1/embeddings", &json!({ "input": ids[2] })).ok();
    assert_eq!(bits(&one["data"][0]["embedding"]), bits_of(expected.row(2)));
    let beyond = server.post("/v1/embeddings", &json!({ "input": [[1, 4_000_000]] }));
    beyond.error(400);
    assert!(beyond.message().contains("4000000"), "{}", beyond.message());
    server.post("/v1/embeddings", &json!({ "input": [[]] })).error(400);
    let prompted = json!({ "input": [[1, 2]], "prompt": "x" });
    assert_eq!(server.post("/v1/embeddings", &prompted).param(), "prompt");
}

#[test]
fn models_are_listed_and_selected_by_name() {
    if !have_adapter() {
        return;
    }
    let server = Running::shared();
    let list = server.get("/v1/models").ok();
    let ids: Vec<&Value> = list["data"].as_array().unwrap().iter().map(|m| &m["id"]).collect();
    assert_eq!(ids, ["embed", "prompts", "rank", "sparse"]);
    assert_eq!(server.get("/v1/models/rank").ok()["object"], "model");
    assert_eq!(server.get("/v1/models/a/b").error(404), "model_not_found");
    let unknown = server.post("/v1/embeddings", &json!({ "model": "gpt", "input": "a" }));
    assert_eq!(unknown.error(404), "model_not_found");
    assert!(unknown.message().contains("embed, prompts"), "{}", unknown.message());
    let other = server.post("/v1/embeddings", &json!({ "model": "rank", "input": "a" }));
    assert_eq!(other.error(400), "wrong_model");
}

#[test]
fn the_document_describes_every_request_and_answer() {
    if !have_adapter() {
        return;
    }
    let document = Running::shared().get("/openapi.json").ok();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    for path in [
        "/v1/embeddings",
        "/v1/rerank",
        "/embed",
        "/embed_sparse",
        "/rerank",
        "/similarity",
        "/tokenize",
        "/api/embed",
    ] {
        let post = &document["paths"][path]["post"];
        assert!(post["summary"].is_string(), "{path}");
        let schema = &post["requestBody"]["content"]["application/json"]["schema"]["$ref"];
        let name = schema.as_str().unwrap().rsplit('/').next().unwrap();
        let component = &document["components"]["schemas"][name];
        assert!(component["example"].is_object(), "{path}: {component}");
        assert!(post["responses"]["200"].is_object() && post["responses"]["default"].is_object());
    }
    // The page shows the routes under the document's tags, in this order.
    let tags: Vec<&Value> =
        document["tags"].as_array().unwrap().iter().map(|tag| &tag["name"]).collect();
    assert_eq!(tags[0], "OpenAI");
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, call) in methods.as_object().unwrap() {
            assert!(tags.contains(&&call["tags"][0]), "{method} {path}: {}", call["tags"]);
        }
    }
    // Every reference in the document must lead to a schema.
    let text = document.to_string();
    for reference in text.split("\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
}
