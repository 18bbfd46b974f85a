//! Tests Cohere's API of version 2, with public reports about servers that claim to be compatible with it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use vectile::server::Served;
use vectile::{EmbedOptions, EmbedTask, OutputPrecision, Quantized, block_on, quantize};

use super::support::{
    Running, bits, bits_of, embedder, first_tokens, have_adapter, multi_vector, options, reranker,
    texts,
};

#[test]
fn documents_are_ranked_in_the_shape_of_version_2() {
    if !have_adapter() {
        return;
    }
    let server = Running::shared();
    let (query, texts) = ("Where is the cat?", texts(5));
    let ranked = block_on(reranker("rerankers/bert_bare").rank(query, &texts)).unwrap();
    // See BerriAI/litellm issue 8194 and 1Panel-dev/MaxKB pull request 6527. `ClientV2` uses `/v2/rerank` only, and
    // sends null for arguments that it was not given.
    let request = json!({ "model": "rank", "query": query, "documents": texts, "top_n": null,
        "max_tokens_per_doc": null });
    let all = server.post("/v2/rerank", &request).ok();
    assert_eq!(all["results"].as_array().unwrap().len(), 5);
    for (got, expected) in all["results"].as_array().unwrap().iter().zip(&ranked) {
        assert_eq!((&got["index"], got.get("document")), (&json!(expected.index), None));
        assert_eq!(bits(&json!([got["relevance_score"]])), [expected.score.to_bits()]);
    }
    assert!(all["id"].as_str().is_some_and(|id| !id.is_empty()));
    assert_eq!(all["meta"]["api_version"]["version"], "2");
    assert_eq!(all["meta"]["billed_units"]["search_units"], 1);
    // LiteLLM's `cohere/` sends fields of both versions of the API.
    let request = json!({ "model": "rank", "query": query, "documents": [{ "text": texts[0] }, texts[1]],
        "top_n": 1, "return_documents": true, "rank_fields": ["text"] });
    let best = server.post("/v2/rerank", &request).ok();
    let index = best["results"][0]["index"].as_u64().unwrap() as usize;
    assert_eq!(best["results"].as_array().unwrap().len(), 1);
    assert_eq!(best["results"][0]["document"]["text"], texts[index]);
    for (field, value) in [
        ("top_n", json!(0)),
        ("documents", json!([])),
        ("documents", json!([5])),
        ("rank_fields", json!(["title"])),
        ("max_tokens_per_doc", json!(0)),
        ("unknown", json!(1)),
    ] {
        let mut wrong = request.clone();
        wrong[field] = value;
        server.post("/v2/rerank", &wrong).error(400);
    }
    let other = json!({ "model": "embed", "query": "a", "documents": ["b"] });
    assert_eq!(server.post("/v2/rerank", &other).error(400), "wrong_model");
}

#[test]
fn long_documents_are_cut_to_the_given_tokens() {
    if !have_adapter() {
        return;
    }
    let server = Running::shared();
    let long = "the cat sat on the roof";
    let short = first_tokens(server, long, 3);
    let documents = [long, "a dog", &short];
    let scores = |request: Value| {
        let answer = server.post("/v2/rerank", &request).ok();
        let mut scores = vec![Value::Null; documents.len()];
        for one in answer["results"].as_array().unwrap() {
            scores[one["index"].as_u64().unwrap() as usize] = one["relevance_score"].clone();
        }
        scores
    };
    let cut = scores(json!({ "query": "cat", "documents": documents, "max_tokens_per_doc": 3 }));
    let by_hand = scores(json!({ "query": "cat", "documents": [short, "a dog", short] }));
    assert_eq!(cut, by_hand);
    assert_eq!(cut[0], cut[2]);
    let whole =
        scores(json!({ "query": "cat", "documents": documents, "max_tokens_per_doc": 4096 }));
    assert_eq!(whole, scores(json!({ "query": "cat", "documents": documents })));
}

#[test]
fn vectors_have_every_encoding() {
    if !have_adapter() {
        return;
    }
    let server = Running::shared();
    let library = embedder("bert_mean_norm");
    let texts = texts(4);
    let expected = block_on(library.embed(&texts)).unwrap();
    let kinds = ["float", "int8", "uint8", "binary", "ubinary", "base64"];
    let request = json!({ "model": "embed", "texts": texts, "input_type": "search_document",
        "embedding_types": kinds, "truncate": "END" });
    let all = server.post("/v2/embed", &request).ok();
    assert_eq!(
        (&all["texts"], &all["response_type"]),
        (&json!(texts), &json!("embeddings_by_type"))
    );
    assert_eq!(all["meta"]["billed_units"]["input_tokens"], expected.tokens);
    let of = |kind: &str, row: usize| all["embeddings"][kind][row].clone();
    let integers = |value: Value| -> Vec<i64> {
        value.as_array().unwrap().iter().map(|value| value.as_i64().unwrap()).collect()
    };
    for (at, row) in expected.rows().enumerate() {
        assert_eq!(bits(&of("float", at)), bits_of(row));
        let bytes: Vec<u8> = row.iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(of("base64", at), STANDARD.encode(bytes));
        // See cohere-ai/cohere-python issue 466. The values must be integers, and not floats with a zero after the
        // point.
        let largest = row.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let int8: Vec<i64> = row
            .iter()
            .map(|v| (f64::from(*v) / f64::from(largest) * 127.0).round() as i64)
            .collect();
        assert_eq!(integers(of("int8", at)), int8);
        let uint8: Vec<i64> = int8.iter().map(|value| value + 128).collect();
        assert_eq!(integers(of("uint8", at)), uint8);
        // See elastic/elasticsearch pull request 120751. Binary vectors are bytes with a sign.
        for (kind, precision) in
            [("binary", OutputPrecision::Binary), ("ubinary", OutputPrecision::Ubinary)]
        {
            let packed: Vec<i64> = match quantize(row, row.len(), precision, None).unwrap() {
                Quantized::Int8(bytes) => bytes.into_iter().map(i64::from).collect(),
                Quantized::Uint8(bytes) => bytes.into_iter().map(i64::from).collect(),
                other => panic!("{other:?}"),
            };
            assert_eq!(integers(of(kind, at)), packed, "{kind}");
        }
    }
    // See vercel/ai issue 3652. Only the requested encodings are returned, and float is the default.
    let binary = json!({ "texts": texts, "embedding_types": ["binary"] });
    let binary = server.post("/v2/embed", &binary).ok();
    assert_eq!(binary["embeddings"].as_object().unwrap().keys().collect::<Vec<_>>(), ["binary"]);
    let plain = server.post("/v2/embed", &json!({ "model": "embed", "texts": [texts[0]] })).ok();
    assert_eq!(plain["embeddings"].as_object().unwrap().keys().collect::<Vec<_>>(), ["float"]);
    assert_eq!(plain["embeddings"]["float"][0], of("float", 0));
    // A vector does not depend on the other texts of its request.
    let alone = json!({ "texts": [texts[2]], "embedding_types": ["int8"] });
    assert_eq!(server.post("/v2/embed", &alone).ok()["embeddings"]["int8"][0], of("int8", 2));
}

#[test]
fn input_types_select_prompts_and_dimensions_cut() {
    if !have_adapter() {
        return;
    }
    let server = Running::shared();
    let library = embedder("bert_prompts");
    let text = "What is f16?";
    let task = |task| EmbedOptions { task: Some(task), ..EmbedOptions::default() };
    let table = [
        (json!({ "input_type": "search_query" }), task(EmbedTask::Query)),
        (json!({ "input_type": "search_document" }), task(EmbedTask::Document)),
        (json!({ "input_type": "clustering" }), EmbedOptions::default()),
        (json!({}), EmbedOptions::default()),
        (
            json!({ "output_dimension": 8 }),
            EmbedOptions { truncate_dim: Some(8), normalize: true, ..EmbedOptions::default() },
        ),
    ];
    for (fields, options) in table {
        let mut request = json!({ "model": "prompts", "texts": [text] });
        request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let expected = block_on(library.embed_with(&[text], &options)).unwrap();
        let got = server.post("/v2/embed", &request).ok();
        assert_eq!(bits(&got["embeddings"]["float"][0]), bits_of(expected.row(0)), "{fields}");
    }
    let inputs = json!({ "model": "prompts", "inputs": [
        { "content": [{ "type": "text", "text": text }] },
    ] });
    let expected = block_on(library.embed(&[text])).unwrap();
    let got = server.post("/v2/embed", &inputs).ok();
    assert_eq!(bits(&got["embeddings"]["float"][0]), bits_of(expected.row(0)));
}

#[test]
fn requests_that_cannot_be_answered_name_their_field() {
    if !have_adapter() {
        return;
    }
    let server = Running::shared();
    let long = "cat ".repeat(5000);
    for (fields, param) in [
        (json!({}), "texts"),
        (json!({ "texts": [] }), "texts"),
        (json!({ "texts": "a" }), "texts"),
        (json!({ "texts": ["a", 5] }), "texts[1]"),
        (json!({ "texts": ["a"], "images": ["data:"] }), "images"),
        (json!({ "texts": ["a"], "inputs": [] }), "inputs"),
        (json!({ "inputs": [{ "content": [{ "type": "image_url" }] }] }), "inputs[0].content[0]"),
        (json!({ "texts": ["a"], "input_type": "image" }), "input_type"),
        (json!({ "texts": ["a"], "embedding_types": ["float16"] }), "embedding_types[0]"),
        (json!({ "texts": ["a"], "output_dimension": 0 }), "output_dimension"),
        (json!({ "texts": ["a"], "output_dimension": 100_000 }), "output_dimension"),
        (json!({ "texts": ["a"], "max_tokens": 0 }), "max_tokens"),
        (json!({ "texts": ["a"], "truncate": "START" }), "truncate"),
        (json!({ "texts": ["a", long], "truncate": "NONE" }), "texts[1]"),
        (json!({ "texts": ["a", "a b c d"], "truncate": "NONE", "max_tokens": 3 }), "texts[1]"),
        (json!({ "texts": ["a"], "model": "no-such-model" }), "model"),
        (json!({ "texts": ["a"], "no_such_field": 1 }), "no_such_field"),
    ] {
        let status = if fields.get("model").is_some() { 404 } else { 400 };
        let answer = server.post("/v2/embed", &fields);
        answer.error(status);
        assert_eq!(answer.param(), param, "{fields}");
    }
    let cut = json!({ "texts": ["the cat sat on the roof"], "max_tokens": 3 });
    let by_hand = json!({ "texts": [first_tokens(server, "the cat sat on the roof", 3)] });
    let float =
        |request: &Value| server.post("/v2/embed", request).ok()["embeddings"]["float"].clone();
    assert_eq!(float(&cut), float(&by_hand));
}

#[test]
fn multi_vector_models_rank_and_do_not_embed() {
    if !have_adapter() {
        return;
    }
    let models = vec![Served::multi_vector("m", multi_vector("multi_vector/bert"))];
    let server = Running::start(options(), models);
    let request = json!({ "model": "m", "query": "a cat", "documents": ["a dog", "the cat sat"] });
    let [first, second] = ["/v1/rerank", "/v2/rerank"].map(|path| server.post(path, &request).ok());
    for at in 0..2 {
        let of = |answer: &Value, field: &str| answer["results"][at][field].clone();
        assert_eq!(of(&first, "index"), of(&second, "index"));
        assert_eq!(of(&first, "relevance_score"), of(&second, "relevance_score"));
    }
    let refused = server.post("/v2/embed", &json!({ "model": "m", "texts": ["a"] }));
    assert_eq!(refused.error(400), "wrong_model");
}
