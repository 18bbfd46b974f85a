//! Sends two hundred invalid requests. Each must get the right status and an error of the usual shape, and the server
//! must keep working.

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};

use super::http::Connection;
use super::{Found, bodies, must, settled};
use crate::program::Program;
use crate::support::fixture;

const JSON: Option<&str> = Some("application/json");
/// Each route with its field of texts, and its status for valid JSON of the wrong shape. The status is 400 in
/// OpenAI's API, and 422 in that of text-embeddings-inference.
const ROUTES: [(&str, &str, u16); 11] = [
    ("/v2/embed", "texts", 400),
    ("/v2/rerank", "documents", 400),
    ("/embeddings", "input", 400),
    ("/embed_all", "inputs", 422),
    ("/predict", "inputs", 422),
    ("/v1/embeddings", "input", 400),
    ("/api/embed", "input", 400),
    ("/embed", "inputs", 422),
    ("/tokenize", "inputs", 422),
    ("/similarity", "inputs", 422),
    ("/v1/rerank", "documents", 400),
];

/// An invalid request and the status that it should get.
struct Case {
    method: Method,
    path: &'static str,
    kind: Option<&'static str>,
    body: Vec<u8>,
    status: u16,
}

pub async fn check() -> Found {
    let models = [fixture("bert_mean_norm"), fixture("rerankers/bert")];
    let program = Program::start(&models, &["--max-body-bytes", "1000000"]);
    let address = program.address();
    let good = bodies(1, 2, 8).remove(0);
    let before = Connection::open(address).await?.post("/v1/embeddings", good.clone()).await?;
    let cases = cases();
    let mut wrong = Vec::new();
    for (n, case) in cases.iter().enumerate() {
        let mut connection = Connection::open(address).await?;
        let Case { method, path, kind, body, status } = case;
        let answer = connection.send(method.clone(), path, *kind, body.clone().into()).await;
        let start = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let what = format!("{n}: {method} {path} {kind:?} {start}");
        match answer {
            Ok(answer) if answer.status == *status && shaped(&answer.body) => {}
            Ok(answer) => {
                let said = String::from_utf8_lossy(&answer.body[..answer.body.len().min(200)])
                    .into_owned();
                wrong.push(format!("{what}: {} instead of {status}: {said}", answer.status));
            }
            Err(error) => wrong.push(format!("{what}: {error} instead of {status}")),
        }
    }
    println!("{} invalid requests, {} with a wrong response", cases.len(), wrong.len());
    must(cases.len() >= 200, || "too few cases".to_owned())?;
    must(wrong.is_empty(), || wrong.join("\n"))?;
    let after = Connection::open(address).await?.post("/v1/embeddings", good).await?;
    must(before.status == 200 && before.body == after.body, || {
        "other vectors afterwards".to_owned()
    })?;
    settled(address, std::time::Duration::from_secs(5)).await
}

/// Whether a body is an error in the shape that OpenAI's clients read, with a message.
fn shaped(body: &Bytes) -> bool {
    let Ok(json) = serde_json::from_slice::<Value>(body) else { return false };
    let error = &json["error"];
    let said = |name: &str| error[name].as_str().is_some_and(|words| !words.is_empty());
    let there = |name: &str| error.get(name).is_some();
    said("message") && said("type") && there("param") && there("code")
}

/// Returns a valid request of a route, from which invalid requests are made.
fn good(path: &str) -> Value {
    match path {
        "/v2/embed" => json!({ "texts": ["a cat", "a roof"] }),
        "/predict" => json!({ "inputs": [["a cat", "a roof"]] }),
        "/v1/rerank" | "/v2/rerank" => {
            json!({ "query": "a cat", "documents": ["a roof", "a train"] })
        }
        "/similarity" => {
            json!({ "inputs": { "source_sentence": "a cat", "sentences": ["a roof"] } })
        }
        "/embed" | "/embed_all" | "/tokenize" => json!({ "inputs": ["a cat", "a roof"] }),
        _ => json!({ "input": ["a cat", "a roof"] }),
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut random = fastrand::Rng::with_seed(11);
    for (path, field, shape) in ROUTES {
        let mut post = |kind, body: Vec<u8>, status| {
            cases.push(Case { method: Method::POST, path, kind, body, status })
        };
        let whole = good(path).to_string().into_bytes();
        // These bodies are invalid JSON.
        for _ in 0..4 {
            post(JSON, whole[..random.usize(1..whole.len())].to_vec(), 400);
        }
        for length in [1, 40, 4000] {
            // Valid JSON may begin with white space. Bytes from 128 on are never white space, so these bodies are
            // invalid.
            post(JSON, (0..length).map(|_| random.u8(128..)).collect(), 400);
        }
        let mut torn = whole.clone();
        torn.push(b'}');
        post(JSON, torn, 400);
        for body in ["", " ", "{'a': 1}", "\u{feff}{}"] {
            post(JSON, body.as_bytes().to_vec(), 400);
        }
        for value in ["NaN", "Infinity", "1e999", "\"\\ud800\"", "01"] {
            post(JSON, format!("{{\"{field}\": {value}}}").into_bytes(), 400);
        }
        post(JSON, vec![b'['; 100_000], 400);
        // These bodies are valid JSON of the wrong shape.
        for body in [
            json!(null),
            json!(3),
            json!("text"),
            json!([]),
            json!({}),
            json!({ "no_such_field": 1 }),
        ] {
            post(JSON, body.to_string().into_bytes(), shape);
        }
        for value in [
            json!(null),
            json!(1.5),
            json!(true),
            json!({ "a": 1 }),
            json!([null]),
            json!([{}]),
            json!([["a", 1], 2]),
        ] {
            let mut bent = good(path);
            bent[field] = value;
            post(JSON, bent.to_string().into_bytes(), shape);
        }
        // These requests have a wrong content type, a wrong method, or a body that is too large. Ollama's routes read
        // JSON of any content type.
        let (any_type, kind) = (path.starts_with("/api/"), "application/x-www-form-urlencoded");
        post(Some(kind), b"input=a".to_vec(), if any_type { 400 } else { 415 });
        if !any_type {
            post(Some("text/plain"), whole.clone(), 415);
        }
        post(JSON, format!("{{\"{field}\": [\"{}\"]}}", "a".repeat(1_000_000)).into_bytes(), 413);
        cases.push(Case { method: Method::GET, path, kind: None, body: Vec::new(), status: 405 });
        cases.push(Case { method: Method::DELETE, path, kind: JSON, body: whole, status: 405 });
    }
    let embeddings = [
        json!({ "input": "a", "model": "no-such-model" }),
        json!({ "input": "a", "encoding_format": "hex" }),
        json!({ "input": "a", "dimensions": 0 }),
        json!({ "input": "a", "dimensions": -1 }),
        json!({ "input": "a", "dimensions": 1.5 }),
        json!({ "input": "a", "dimensions": "8" }),
        json!({ "input": "a", "dimensions": 100_000_000_000_u64 }),
        json!({ "input": [] }),
        json!({ "input": [[101, 102]] }),
        json!({ "input": [1, 2, 3] }),
        json!({ "input": vec!["a"; 100_000] }),
    ];
    for body in embeddings {
        let status = match &body["input"] {
            Value::Array(texts) if texts.len() > 2048 => 413,
            _ if body.get("model").is_some() => 404,
            _ => 400,
        };
        cases.push(Case {
            method: Method::POST,
            path: "/v1/embeddings",
            kind: JSON,
            body: body.to_string().into_bytes(),
            status,
        });
    }
    for path in ["/v1/embedding", "/v2/embeddings", "/%ff", "/v1/embeddings/", "/assets/../info"] {
        cases.push(Case {
            method: Method::POST,
            path,
            kind: JSON,
            body: b"{}".to_vec(),
            status: 404,
        });
    }
    cases
}
