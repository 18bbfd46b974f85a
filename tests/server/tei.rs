//! Tests the API of text-embeddings-inference (TEI).

use serde_json::{Value, json};
use vectile::{EmbedOptions, EmbedTask, block_on};

use super::support::{
    Running, bits, bits_of, embedder, have_adapter, options, reranker, sparse, texts,
};

#[test]
fn vectors_are_normalized_by_default() {
    if !have_adapter() {
        return;
    }
    let server = Running::shared();
    let texts = texts(4);
    // The model itself normalizes its vectors, so the option changes no bit of them.
    let expected = block_on(embedder("bert_mean_norm").embed(&texts)).unwrap();
    for normalize in [true, false] {
        let request = json!({ "inputs": texts, "normalize": normalize, "truncate": true });
        let rows = server.post("/embed", &request).ok();
        assert_eq!(rows.as_array().unwrap().len(), 4);
        for (row, expected) in rows.as_array().unwrap().iter().zip(expected.rows()) {
            assert_eq!(bits(row), bits_of(expected));
        }
    }
    // Even for one text, the response is a list of one vector.
    let one = server.post("/embed", &json!({ "inputs": "a" })).ok();
    assert_eq!(one.as_array().unwrap().len(), 1);
    let long = server.post("/embed", &json!({ "inputs": ["cat ".repeat(5000), "a"] }));
    long.ok();
    assert_eq!(long.header("x-truncated-texts"), Some("1"));
    let refused = json!({ "inputs": "cat ".repeat(5000), "truncate": false });
    assert_eq!(server.post("/embed", &refused).error(422), "context_length_exceeded");
    let direction = |direction: &str| {
        server.post("/embed", &json!({ "inputs": "a", "truncation_direction": direction }))
    };
    direction("Right").ok();
    direction("right").ok();
    direction("Left").error(422);
    let prompted = json!({ "inputs": "a", "prompt_name": "query", "model": "prompts" });
    let query = server.post("/embed", &prompted).ok();
    let options = EmbedOptions {
        prompt_name: Some("query".into()),
        normalize: true,
        ..EmbedOptions::default()
    };
    let expected = block_on(embedder("bert_prompts").embed_with(&["a"], &options)).unwrap();
    assert_eq!(bits(&query[0]), bits_of(expected.row(0)));
}

#[test]
fn sparse_vectors_equal_the_library() {
    if !have_adapter() {
        return;
    }
    let texts = texts(3);
    let expected = block_on(sparse("sparse/bert").encode(&texts)).unwrap();
    let got = Running::shared().post("/embed_sparse", &json!({ "inputs": texts })).ok();
    for (vector, expected) in got.as_array().unwrap().iter().zip(&expected.vectors) {
        let pairs = vector.as_array().unwrap();
        let indices: Vec<u64> = pairs.iter().map(|p| p["index"].as_u64().unwrap()).collect();
        assert_eq!(indices, expected.indices.iter().map(|i| u64::from(*i)).collect::<Vec<_>>());
        let values: Vec<Value> = pairs.iter().map(|pair| pair["value"].clone()).collect();
        assert_eq!(bits(&Value::Array(values)), bits_of(&expected.values));
    }
}

/// The model looks up the weights of queries in a table, and runs the transformer for documents only.
#[test]
fn sparse_queries_are_looked_up_if_the_model_says_so() {
    if !have_adapter() {
        return;
    }
    let library = sparse("sparse/opensearch");
    let models = vec![vectile::server::Served::sparse("s", library.clone())];
    let server = Running::start(options(), models);
    for (input_type, task) in [("query", EmbedTask::Query), ("document", EmbedTask::Document)] {
        let asked = EmbedOptions { task: Some(task), ..EmbedOptions::default() };
        let expected = block_on(library.encode_with(&["a cat sat"], &asked)).unwrap();
        let request = json!({ "inputs": "a cat sat", "input_type": input_type });
        let got = server.post("/embed_sparse", &request).ok();
        let values = got[0].as_array().unwrap().iter().map(|pair| pair["value"].clone());
        assert_eq!(bits(&values.collect()), bits_of(&expected.vectors[0].values), "{input_type}");
    }
}

#[test]
fn texts_are_ranked_with_raw_scores_or_probabilities() {
    if !have_adapter() {
        return;
    }
    let server = Running::shared();
    let (query, texts) = ("Where is the cat?", texts(6));
    let library = reranker("rerankers/bert_bare");
    let ranked = block_on(library.rank(query, &texts)).unwrap();
    let request = json!({ "query": query, "texts": texts, "return_text": true });
    let got = server.post("/rerank", &request).ok();
    assert_eq!(got.as_array().unwrap().len(), 6);
    for (got, expected) in got.as_array().unwrap().iter().zip(&ranked) {
        assert_eq!(got["index"], expected.index);
        assert_eq!(got["text"], texts[expected.index]);
        assert_eq!(bits(&json!([got["score"]])), [expected.score.to_bits()]);
    }
    let raw = json!({ "query": query, "texts": texts, "raw_scores": true });
    let raw = server.post("/rerank", &raw).ok();
    for (raw, expected) in raw.as_array().unwrap().iter().zip(&ranked) {
        assert_eq!((&raw["index"], raw.get("text")), (&json!(expected.index), None));
        let logit = raw["score"].as_f64().unwrap();
        let score = 1.0 / (1.0 + (-logit).exp());
        assert!((score - f64::from(expected.score)).abs() < 1e-6, "{logit} {expected:?}");
    }
    server.post("/rerank", &json!({ "query": query, "texts": [] })).error(422);
}

#[test]
fn similarities_are_cosines() {
    if !have_adapter() {
        return;
    }
    let sentences = texts(3);
    let rows = block_on(embedder("bert_mean_norm").embed(&["5 cat", &sentences[0]])).unwrap();
    let request = json!({ "inputs": { "source_sentence": "5 cat", "sentences": sentences } });
    let got = Running::shared().post("/similarity", &request).ok();
    assert_eq!(got.as_array().unwrap().len(), 3);
    let dot: f64 =
        rows.row(0).iter().zip(rows.row(1)).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    assert!((got[0].as_f64().unwrap() - dot).abs() < 1e-6, "{got} {dot}");
    let same = json!({ "inputs": { "source_sentence": "a", "sentences": ["a"] } });
    assert_eq!(Running::shared().post("/similarity", &same).ok()[0], 1.0);
}

#[test]
fn tokens_have_their_offsets() {
    if !have_adapter() {
        return;
    }
    let server = Running::shared();
    let text = "Über the cat";
    let ids = embedder("bert_mean_norm").tokenize(&[text], &EmbedOptions::default()).unwrap();
    let tokens = server.post("/tokenize", &json!({ "inputs": text })).ok();
    let tokens = tokens[0].as_array().unwrap();
    let got: Vec<u64> = tokens.iter().map(|token| token["id"].as_u64().unwrap()).collect();
    assert_eq!(got, ids[0].iter().map(|id| u64::from(*id)).collect::<Vec<_>>());
    let (first, last) = (&tokens[0], &tokens[tokens.len() - 1]);
    assert_eq!((&first["special"], &first["start"]), (&json!(true), &Value::Null));
    assert_eq!(last["special"], true);
    for token in &tokens[1..tokens.len() - 1] {
        let at = |end: &str| token[end].as_u64().unwrap() as usize;
        assert_eq!(token["text"], text[at("start")..at("stop")], "{token}");
        assert_eq!(token["special"], false);
    }
    let plain = json!({ "inputs": [text, "a"], "add_special_tokens": false });
    let plain = server.post("/tokenize", &plain).ok();
    assert_eq!(plain[0].as_array().unwrap().len(), tokens.len() - 2);
    assert_eq!(plain.as_array().unwrap().len(), 2);
    server.post("/tokenize", &json!({ "inputs": [1, 2] })).error(422);
}

#[test]
fn info_describes_every_model_with_its_precision() {
    if !have_adapter() {
        return;
    }
    let info = Running::shared().get("/info").ok();
    assert_eq!(info["model_id"], "embed");
    assert_eq!(info["model_type"], json!({ "embedding": { "pooling": "mean" } }));
    assert_eq!(info["max_client_batch_size"], 2048);
    let library = embedder("bert_mean_norm");
    let first = &info["models"][0];
    let mut precision = serde_json::to_value(library.precision()).unwrap();
    precision["sentence"] = json!(library.precision().to_string());
    assert_eq!(first["precision"], precision);
    assert_eq!(first["adapter"], serde_json::to_value(library.adapter()).unwrap());
    assert_eq!(first["dimensions"], library.dimension());
    assert_eq!(first["max_tokens"], json!(library.max_seq_length()));
    assert_eq!((&first["ready"], &first["kind"]), (&json!(true), &json!("embedding")));
    let kinds: Vec<&Value> =
        info["models"].as_array().unwrap().iter().map(|model| &model["kind"]).collect();
    assert_eq!(kinds, ["embedding", "embedding", "reranker", "sparse"]);
    assert!(info["models"][1]["prompts"].as_array().unwrap().contains(&json!("query")));
}

/// For an embedding model, TEI returns the hidden states before pooling, including those of special tokens.
#[test]
fn every_token_has_a_vector() {
    if !have_adapter() {
        return;
    }
    let server = Running::shared();
    let library = embedder("bert_mean_norm");
    let texts = texts(3);
    let got = server.post("/embed_all", &json!({ "inputs": texts, "model": "embed" })).ok();
    for (got, text) in got.as_array().unwrap().iter().zip(&texts) {
        let expected = block_on(library.hidden_states(text)).unwrap();
        let rows: Vec<u32> = got.as_array().unwrap().iter().flat_map(bits).collect();
        assert_eq!(rows, bits_of(&expected));
        let ids = library.tokenize(&[text], &EmbedOptions::default()).unwrap();
        assert_eq!(got.as_array().unwrap().len(), ids[0].len());
    }
    let refused = server.post("/embed_all", &json!({ "inputs": "a", "model": "sparse" }));
    assert_eq!(refused.error(400), "wrong_model");
}

#[test]
fn decoding_reverses_tokenizing() {
    if !have_adapter() {
        return;
    }
    let server = Running::shared();
    let tokens = server.post("/tokenize", &json!({ "inputs": ["the cat sat", "a dog"] })).ok();
    let ids: Vec<Vec<&Value>> = tokens
        .as_array()
        .unwrap()
        .iter()
        .map(|text| text.as_array().unwrap().iter().map(|token| &token["id"]).collect())
        .collect();
    let decoded = server.post("/decode", &json!({ "ids": ids })).ok();
    assert_eq!(decoded, json!(["the cat sat", "a dog"]));
    assert_eq!(server.post("/decode", &json!({ "ids": ids[0] })).ok(), json!(["the cat sat"]));
    let special = server.post("/decode", &json!({ "ids": ids[0], "skip_special_tokens": false }));
    assert_eq!(special.ok(), json!(["[CLS] the cat sat [SEP]"]));
    for wrong in [json!("text"), json!(["text"]), json!([]), json!([[1], "a"]), json!([-1])] {
        server.post("/decode", &json!({ "ids": wrong })).error(422);
    }
    let unknown = server.post("/decode", &json!({ "ids": [[1], [4_000_000]] }));
    unknown.error(422);
    assert!(unknown.message().contains("4000000"), "{}", unknown.message());
}
