//! Tests requests from public reports about other servers, which show what real clients send and what they should
//! get.

use std::sync::Arc;

use serde_json::{Value, json};
use vectile::server::{Served, ServerOptions};
use vectile::{Embedder, ModelFiles, block_on};

use super::support::{
    Answer, Running, contents, embedder, have_adapter, options, reranker, sparse, texts,
};

fn with(change: ServerOptions) -> Running {
    let models = vec![
        Served::embedder("embed", embedder("bert_mean_norm")),
        Served::reranker("rank", reranker("rerankers/bert_bare")),
    ];
    Running::start(change, models)
}

/// Clients and proxies send unknown fields. The error names the field, unless the server is told to ignore them.
#[test]
fn unknown_fields_are_refused_by_name_or_ignored() {
    if !have_adapter() {
        return;
    }
    let lenient = with(ServerOptions { ignore_unknown_fields: true, ..options() });
    let strict = Running::shared();
    let cases = [
        // LiteLLM's proxy of early 2026 sent this. See also router-for-me/CLIProxyAPI issue 1703.
        (
            "/v1/embeddings",
            json!({ "model": "embed", "input": "ping", "metadata": { "user_api_key_user_id": "u" },
                "proxy_server_request": { "method": "POST" } }),
            "metadata",
        ),
        // See BerriAI/litellm issue 3725, about parameters of another provider.
        (
            "/v1/embeddings",
            json!({ "model": "embed", "input": ["a"], "timeout": 600, "max_retries": 0 }),
            "max_retries",
        ),
        // See vllm-project/vllm pull request 10463, about extra fields of code editors.
        (
            "/v1/embeddings",
            json!({ "model": "embed", "input": ["a"], "id": 1_947_269_257, "opts": { "visible": false } }),
            "id",
        ),
        // See BerriAI/litellm issue 15637, about metadata in `extra_body`.
        (
            "/v1/rerank",
            json!({ "query": "a", "documents": ["b"], "extra_body": { "metadata": {} } }),
            "extra_body",
        ),
        ("/v2/embed", json!({ "texts": ["a"], "metadata": {} }), "metadata"),
    ];
    for (path, body, field) in cases {
        let refused = strict.post(path, &body);
        refused.error(400);
        assert_eq!(refused.param(), field, "{path} {body}");
        assert!(refused.message().contains("--ignore-unknown-fields"), "{}", refused.message());
        lenient.post(path, &body).ok();
    }
    // By default, the error reveals a typing mistake.
    let typo = strict.post("/v1/embeddings", &json!({ "input": "a", "dimension": 8 }));
    assert_eq!(typo.param(), "dimension");
    assert!(typo.message().contains("`dimensions`"), "{}", typo.message());
}

/// The servers of text-embeddings-inference and Ollama ignore unknown fields, and so do the same routes here.
#[test]
fn unknown_fields_are_ignored_where_the_apis_own_server_ignores_them() {
    if !have_adapter() {
        return;
    }
    let server = Running::shared();
    for (path, body) in [
        // LiteLLM's `huggingface/` sends `top_n` to TEI's `/rerank`.
        (
            "/rerank",
            json!({ "query": "cat", "texts": ["a cat", "a dog"], "top_n": 2, "return_text": true }),
        ),
        // See huggingface/huggingface_hub issue 2824. Haystack sent options of other tasks.
        (
            "/embed",
            json!({ "inputs": ["a"], "truncate": true, "parameters": {}, "wait_for_model": true }),
        ),
        ("/embed_sparse", json!({ "inputs": "a", "options": { "use_cache": false } })),
        ("/embed_all", json!({ "inputs": "a", "normalize": true, "model": "embed" })),
        ("/tokenize", json!({ "inputs": "a", "return_tensors": "pt" })),
        ("/decode", json!({ "ids": [[1, 2]], "clean_up_tokenization_spaces": true })),
        ("/predict", json!({ "inputs": [["a", "b"]], "top_k": 3 })),
        (
            "/similarity",
            json!({ "inputs": { "source_sentence": "a", "sentences": ["b"], "lang": "en" },
                "parameters": { "batch_size": 8 } }),
        ),
        ("/", json!({ "inputs": "hello", "parameters": { "truncate": true } })),
        (
            "/api/embed",
            json!({ "model": "embed", "input": "a", "stream": false, "format": "json" }),
        ),
        ("/api/embeddings", json!({ "model": "embed", "prompt": "a", "raw": true })),
    ] {
        server.post(path, &body).ok();
    }
}

/// Text may end with half of an emoji, if it was cut between the two halves of a UTF-16 pair.
#[test]
fn half_an_emoji_is_named_by_item_or_replaced() {
    if !have_adapter() {
        return;
    }
    let strict = Running::shared();
    let lossy = with(ServerOptions { lossy: true, ..options() });
    let replaced = |text: &str| lossy.post("/v1/embeddings", &json!({ "input": [text] })).ok();
    for (path, body, param, whole) in [
        // JavaScript's `slice` cuts like this: see elizaOS/eliza pull request 18079.
        ("/v1/embeddings", r#"{"input": ["cut \ud83d"]}"#, "input[0]", "cut \u{fffd}"),
        // A mark follows the cut: see oguzbilgic/kern-ai issue 313.
        (
            "/v1/embeddings",
            r#"{"input": ["whole", "$0.0000\n\ud83d... [truncated]"]}"#,
            "input[1]",
            "$0.0000\n\u{fffd}... [truncated]",
        ),
        // The second half is left: see JustVugg/colibri pull request 1589.
        ("/v1/embeddings", r#"{"input": ["x \ude00 y"]}"#, "input[0]", "x \u{fffd} y"),
        ("/v1/embeddings", r#"{"input": "\udcf0"}"#, "input", "\u{fffd}"),
        // The cut is at a chunk's boundary, beside a whole pair: see ayunis-core/ayunis-core pull request 1256.
        (
            "/v1/embeddings",
            r#"{"input": ["\ud83d\ude00 \ud83d"]}"#,
            "input[0]",
            "\u{1f600} \u{fffd}",
        ),
        ("/embed", r#"{"inputs": ["a", "cut \ud83d"]}"#, "inputs[1]", "cut \u{fffd}"),
        ("/v2/embed", r#"{"texts": ["a", "b", "cut \ud83d"]}"#, "texts[2]", "cut \u{fffd}"),
        ("/api/embed", r#"{"input": ["cut \ud83d"]}"#, "input[0]", "cut \u{fffd}"),
        ("/", r#"{"inputs": "cut \ud83d"}"#, "inputs", "cut \u{fffd}"),
    ] {
        let refused = strict.post_bytes(path, body.as_bytes());
        assert_eq!(refused.error(400), "invalid_json", "{path} {body}");
        assert_eq!(refused.param(), param, "{path} {body}");
        let message = refused.message();
        for word in [param, "half of a character", "--lossy"] {
            assert!(message.contains(word), "{message}");
        }
        let last = |answer: &Answer| -> Value {
            let answer = answer.ok();
            let list = match path {
                "/v1/embeddings" => &answer["data"],
                "/v2/embed" => &answer["embeddings"]["float"],
                "/api/embed" => &answer["embeddings"],
                _ => &answer,
            };
            let last = list.as_array().unwrap().last().unwrap();
            if path == "/v1/embeddings" { last["embedding"].clone() } else { last.clone() }
        };
        let got = last(&lossy.post_bytes(path, body.as_bytes()));
        assert_eq!(got, replaced(whole)["data"][0]["embedding"], "{path} {body}");
    }
    // Invalid UTF-8 is refused and replaced in the same way.
    let body = b"{\"input\": [\"a\", \"b\xff\"]}";
    let refused = strict.post_bytes("/v1/embeddings", body);
    assert_eq!((refused.error(400).as_str(), refused.param()), ("invalid_json", json!("input[1]")));
    let got = lossy.post_bytes("/v1/embeddings", body).ok();
    assert_eq!(got["data"][1]["embedding"], replaced("b\u{fffd}")["data"][0]["embedding"]);
    // If the backslash before `u` is itself escaped, there is no escape of a surrogate.
    strict.post_bytes("/v1/embeddings", br#"{"input": ["\\ud83d"]}"#).ok();
}

/// Ollama reads JSON whatever the content type says. The curl examples in its documentation set no header.
#[test]
fn ollamas_routes_take_any_content_type() {
    if !have_adapter() {
        return;
    }
    let server = Running::shared();
    let embed = br#"{"model": "embed", "input": "Why is the sky blue?"}"#;
    let old = br#"{"model": "embed", "prompt": "a"}"#;
    let show = br#"{"model": "embed"}"#;
    for (path, body) in [("/api/embed", &embed[..]), ("/api/embeddings", old), ("/api/show", show)]
    {
        for kind in [
            // curl with -d and without -H sends this type: see NotPunchnox/rkllama issue 35 (LiteLLM) and
            // open-webui/docs issue 881.
            "application/x-www-form-urlencoded",
            "text/plain;charset=UTF-8",
            // See cheshire-cat-ai/core issue 723, about a client that names no type and a client that names a wrong
            // one.
            "application/octet-stream",
            "",
        ] {
            let headers = [("content-type", kind)];
            server.connect().send("POST", path, &headers, body).ok();
        }
        server.connect().send("POST", path, &[], body).ok();
    }
    // A body that is not JSON is still refused as such, and the other APIs require the right type.
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let refused = server.connect().send("POST", "/api/embed", &form, b"model=embed&input=a");
    assert_eq!(refused.error(400), "invalid_json");
    let refused = server.connect().send("POST", "/v1/embeddings", &form, br#"{"input": "a"}"#);
    assert_eq!(refused.error(415), "unsupported_media_type");
}

/// TEI's `POST /` acts as the route for the kind of its model. In run-llama/llama_index issue 11683,
/// `InferenceClient` gets the base address, and so it does in huggingface/huggingface_hub issue 1647.
#[test]
fn the_base_address_answers_by_kind() {
    if !have_adapter() {
        return;
    }
    let server = Running::shared();
    let same = |path: &str, body: Value| {
        let (root, own) = (server.post("/", &body).ok(), server.post(path, &body).ok());
        assert_eq!(root, own, "{path}");
    };
    same("/embed", json!({ "inputs": "hello" }));
    same("/embed", json!({ "inputs": ["a", "b"], "model": "prompts", "prompt_name": "query" }));
    same("/embed_sparse", json!({ "inputs": "hello", "model": "sparse" }));
    same("/predict", json!({ "inputs": ["a question", "an answer"], "model": "rank" }));
    same("/rerank", json!({ "query": "cat", "texts": ["a cat", "a dog"] }));
    same(
        "/similarity",
        json!({ "inputs": { "source_sentence": "a cat", "sentences": ["a dog", "a cat"] } }),
    );
}

/// TEI and Infinity serve OpenAI's embeddings under the route `/embeddings` too.
#[test]
fn embeddings_has_a_short_name() {
    if !have_adapter() {
        return;
    }
    let server = Running::shared();
    let body = json!({ "model": "embed", "input": "hello" });
    let [short, long] = ["/embeddings", "/v1/embeddings"].map(|path| server.post(path, &body).ok());
    assert_eq!(short, long);
    assert_eq!(server.get("/embeddings").error(405), "method_not_allowed");
}

/// See huggingface/api-inference-community issue 72, about a service that compares by cosine whatever the model says.
#[test]
fn similarities_follow_the_function_of_the_model() {
    if !have_adapter() {
        return;
    }
    let mut files = contents("bert_max");
    let options_of = files.get_mut("config_sentence_transformers.json").unwrap();
    let mut changed: Value = serde_json::from_slice(options_of).unwrap();
    changed["similarity_fn_name"] = "dot".into();
    *options_of = changed.to_string().into_bytes();
    let files = ModelFiles::from_bytes(files).unwrap();
    let library = Arc::new(block_on(Embedder::builder(files).build()).unwrap());
    let sentences = texts(3);
    let rows = |texts: &[String]| block_on(library.embed(texts)).unwrap();
    let query = rows(&["Where is the cat?".to_owned()]);
    let expected = library.similarity(&query, &rows(&sentences)).unwrap();
    // The vectors are not normalized, so no dot product is a cosine.
    assert!(expected.values.iter().all(|score| score.abs() > 1.0), "{expected:?}");
    let server = Running::start(options(), vec![Served::embedder("dot", library)]);
    let body =
        json!({ "inputs": { "source_sentence": "Where is the cat?", "sentences": sentences } });
    let got = server.post("/similarity", &body).ok();
    for (got, expected) in got.as_array().unwrap().iter().zip(&expected.values) {
        let (got, expected) = (got.as_f64().unwrap(), f64::from(*expected));
        assert!((got - expected).abs() <= 1e-6 * expected.abs(), "{got} {expected}");
    }
}

/// Even if a reranker's files name no activation function, or Identity, TEI's API returns probabilities.
#[test]
fn ranks_of_tei_are_probabilities_whatever_the_activation_is() {
    if !have_adapter() {
        return;
    }
    let sigmoid = |logit: f64| 1.0 / (1.0 + (-logit).exp());
    // For Identity, see huggingface/sentence-transformers issue 1058 and FlagOpen/FlagEmbedding issue 108. Other
    // fixtures have tanh, or are language models that answer yes or no. modelscope/ms-swift issue 8386 compares the
    // two logits of such answers.
    let fixtures = ["bert", "bert_bare", "distilbert", "qwen3", "qwen2"];
    for fixture in fixtures.map(|name| format!("rerankers/{name}")) {
        let library = reranker(&fixture);
        let server = Running::start(options(), vec![Served::reranker("r", library)]);
        let request =
            |raw| json!({ "query": "Where is the cat?", "texts": texts(4), "raw_scores": raw });
        let raw = server.post("/rerank", &request(true)).ok();
        let probable = server.post("/rerank", &request(false)).ok();
        let mut default = request(false);
        default.as_object_mut().unwrap().remove("raw_scores");
        assert_eq!(server.post("/rerank", &default).ok(), probable);
        for (raw, probable) in raw.as_array().unwrap().iter().zip(probable.as_array().unwrap()) {
            assert_eq!(raw["index"], probable["index"], "{fixture}");
            let expected = sigmoid(raw["score"].as_f64().unwrap());
            let got = probable["score"].as_f64().unwrap();
            assert!((got - expected).abs() < 1e-6, "{fixture}: {got} {expected}");
        }
    }
}

#[test]
fn predictions_name_labels_with_softmax_or_sigmoid() {
    if !have_adapter() {
        return;
    }
    let library = reranker("rerankers/bert_labels");
    let scores = block_on(library.predict(&[("a question", "an answer"), ("a", "b")])).unwrap();
    let models = vec![
        Served::reranker("labels", library),
        Served::reranker("one", reranker("rerankers/bert")),
        Served::sparse("sparse", sparse("sparse/bert")),
        Served::reranker("chat", reranker("rerankers/qwen3")),
    ];
    let server = Running::start(options(), models);
    let inputs = json!([["a question", "an answer"], ["a", "b"]]);
    let raw = json!({ "inputs": inputs, "raw_scores": true });
    let raw = server.post("/predict", &raw).ok();
    let probable = server.post("/predict", &json!({ "inputs": inputs })).ok();
    for (at, logits) in scores.rows().enumerate() {
        let sum: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
        let mut last = f64::INFINITY;
        for rank in 0..3 {
            let label = raw[at][rank]["label"].as_str().unwrap();
            let index: usize = label.strip_prefix("LABEL_").unwrap().parse().unwrap();
            let logit = f64::from(logits[index]);
            assert!((raw[at][rank]["score"].as_f64().unwrap() - logit).abs() < 1e-6);
            assert_eq!(probable[at][rank]["label"], label);
            let got = probable[at][rank]["score"].as_f64().unwrap();
            assert!((got - logit.exp() / sum).abs() < 1e-6, "{got}");
            assert!(logit <= last);
            last = logit;
        }
    }
    // One input gives one list. A single text is read without a second text.
    let single = server.post("/predict", &json!({ "inputs": ["a question", "an answer"] })).ok();
    assert_eq!(single, probable[0]);
    let text = server.post("/predict", &json!({ "inputs": "a text alone" })).ok();
    assert_eq!(text.as_array().unwrap().len(), 3);
    assert_eq!(text, server.post("/predict", &json!({ "inputs": [["a text alone"]] })).ok()[0]);
    let one = server.post("/predict", &json!({ "inputs": ["a", "b"], "model": "one" })).ok();
    let rank = json!({ "query": "a", "texts": ["b"], "model": "one" });
    assert_eq!(one[0]["score"], server.post("/rerank", &rank).ok()[0]["score"]);
    assert_eq!(one[0]["label"], "LABEL_0");
    // Ranking needs a model with one label, and a chat template needs a pair.
    let ranks = server.post("/rerank", &json!({ "query": "a", "texts": ["b"], "model": "labels" }));
    assert_eq!(ranks.error(422), "unsupported");
    let alone = server.post("/predict", &json!({ "inputs": "a", "model": "chat" }));
    alone.error(422);
    assert!(alone.message().contains("pair"), "{}", alone.message());
    server.post("/predict", &json!({ "inputs": ["a", "b"], "model": "chat" })).ok();
    let wrong = server.post("/predict", &json!({ "inputs": "a", "model": "sparse" }));
    assert_eq!(wrong.error(400), "wrong_model");
    let info = server.get("/info").ok();
    let labels = json!({ "0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2" });
    assert_eq!(info["model_type"]["classifier"]["id2label"], labels);
}
