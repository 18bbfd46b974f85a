//! The target `http`: requests are routed, parsed and tokenized. No device runs.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use arbitrary::{Result, Unstructured};
use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::edits;
use crate::gpu::adapter::{AdapterChoice, NoopAdapter};
use crate::server::{Served, ServerOptions, routes_without_device};
use crate::{Embedder, ModelFiles, MultiVectorEncoder, Reranker, SparseEncoder, block_on};

/// The server's maximum size of a body. Some inputs exceed it.
const MOST_BODY: usize = 4096;

/// Returns routes of the server, each with a body. Most bodies are valid.
fn routes() -> Vec<(&'static str, Value)> {
    let (texts, documents) = (json!(["One text.", "Another"]), json!(["a", {"text": "b"}]));
    vec![
        (
            "/v1/embeddings",
            json!({"model": "embed", "input": texts, "dimensions": 8,
            "encoding_format": "base64", "user": "u", "input_type": "query", "truncate": true}),
        ),
        ("/embeddings", json!({"model": "embed", "input": [[1, 2], [3]], "prompt_name": "query"})),
        (
            "/v2/embed",
            json!({"model": "embed", "texts": texts, "input_type": "search_query",
            "embedding_types": ["float", "int8", "binary"], "output_dimension": 8, "truncate": "END", "max_tokens": 4,
            "inputs": [{"content": [{"type": "text", "text": "a"}]}]}),
        ),
        (
            "/v2/rerank",
            json!({"model": "rank", "query": "q", "documents": ["a", "b"], "top_n": 1,
            "max_tokens_per_doc": 3}),
        ),
        (
            "/v1/rerank",
            json!({"model": "multi", "query": "q", "documents": documents, "top_n": 1,
            "return_documents": true, "max_tokens_per_doc": 3}),
        ),
        (
            "/rerank",
            json!({"query": "q", "texts": ["a", "b"], "raw_scores": true, "return_text": true,
            "truncate": true, "truncation_direction": "Right"}),
        ),
        ("/predict", json!({"inputs": [["a", "b"], ["c"]], "raw_scores": false, "truncate": true})),
        (
            "/similarity",
            json!({"inputs": {"source_sentence": "a", "sentences": ["b", "c"]},
            "parameters": {"truncate": true, "prompt_name": "query"}}),
        ),
        (
            "/embed",
            json!({"inputs": texts, "normalize": true, "truncate": true, "prompt_name": "document",
            "truncation_direction": "Left", "dimensions": 4}),
        ),
        ("/embed_all", json!({"inputs": "a", "truncate": false})),
        ("/embed_sparse", json!({"inputs": ["a", "b"], "prompt_name": null})),
        ("/tokenize", json!({"inputs": texts, "add_special_tokens": true, "prompt_name": "query"})),
        ("/decode", json!({"ids": [[1, 2], [3]], "skip_special_tokens": true})),
        (
            "/api/embed",
            json!({"model": "embed:latest", "input": texts, "truncate": true, "options": {"num_ctx": 8},
            "keep_alive": "5m", "dimensions": 4}),
        ),
        ("/api/embeddings", json!({"model": "embed", "prompt": "a"})),
        ("/api/show", json!({"model": "embed", "verbose": true})),
        ("/", json!({"inputs": texts})),
        ("/v1/models/em%62ed", json!({})),
        ("/v1/models/..%2f..%2fetc%2fpasswd", json!({})),
        ("/info", json!({})),
        ("/metrics", json!({})),
        ("/api/tags", json!({})),
        ("/v1/none", json!({})),
    ]
}

const METHODS: [&str; 8] = ["POST", "POST", "POST", "POST", "POST", "GET", "PUT", "OPTIONS"];

const TYPES: [&str; 6] = [
    "application/json",
    "application/json; charset=utf-8",
    "application/x+json",
    "text/plain",
    "",
    "application/json;charset=\"",
];

struct Servers {
    runtime: tokio::runtime::Runtime,
    routes: Vec<(&'static str, Value)>,
    names: Vec<&'static str>,
    /// A server with default options, and one that accepts token ids, unknown fields and invalid UTF-8.
    servers: [Router; 2],
}

fn servers() -> &'static Servers {
    static SERVERS: OnceLock<Servers> = OnceLock::new();
    SERVERS.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(1)
            .build()
            .expect("tokio starts");
        let models = models();
        let options =
            ServerOptions { max_body_bytes: MOST_BODY, max_texts: 16, ..ServerOptions::default() };
        let lenient = ServerOptions {
            accept_token_ids: true,
            ignore_unknown_fields: true,
            lossy: true,
            ..options.clone()
        };
        let servers = {
            let _context = runtime.enter();
            [options, lenient].map(|options| routes_without_device(options, models.clone()))
        };
        let routes = routes();
        let fields = routes.iter().filter_map(|(_, body)| body.as_object());
        let mut names: Vec<&str> =
            fields.flat_map(|body| body.keys()).map(|name| &*name.clone().leak()).collect();
        names.sort_unstable();
        names.dedup();
        Servers { runtime, routes, names, servers }
    })
}

/// Returns a model of each kind, on a device that computes nothing.
fn models() -> Vec<Served> {
    let adapter = || {
        AdapterChoice::Noop(Box::new(NoopAdapter {
            shader_f16: false,
            subgroup_size: None,
            webgpu_default_limits: true,
            max_binding_bytes: None,
            software: false,
        }))
    };
    let files = |name: &str| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        ModelFiles::from_directory(root.join(name)).expect("the fixture is readable")
    };
    let built = "the fixture loads on a device that computes nothing";
    let dense = |name: &str| {
        Arc::new(block_on(Embedder::builder(files(name)).adapter(adapter()).build()).expect(built))
    };
    let rank = Reranker::builder(files("rerankers/bert_bare")).adapter(adapter());
    let sparse = SparseEncoder::builder(files("sparse/bert")).adapter(adapter());
    let multi = MultiVectorEncoder::builder(files("multi_vector/bert")).adapter(adapter());
    vec![
        Served::embedder("embed", dense("bert_mean_norm")),
        Served::embedder("prompts", dense("bert_prompts")),
        Served::reranker("rank", Arc::new(block_on(rank.build()).expect(built))),
        Served::sparse("sparse", Arc::new(block_on(sparse.build()).expect(built))),
        Served::multi_vector("multi", Arc::new(block_on(multi.build()).expect(built))),
    ]
}

/// The target `http`. The first byte chooses the route. If the second byte is even, the bytes after the third are the
/// body. Otherwise they choose mistakes in a valid body, the method and the content type. The third byte chooses the
/// server.
pub fn http(data: &[u8]) {
    let Some((&[route, mode, server], data)) = data.split_first_chunk() else { return };
    let all = servers();
    let (path, body) = &all.routes[usize::from(route) % all.routes.len()];
    let request = match mode % 2 {
        0 => request(path, "POST", TYPES[0], data.to_vec()),
        _ => edited(&mut Unstructured::new(data), all, path, body)
            .unwrap_or_else(|_| request(path, "POST", TYPES[0], body.to_string().into_bytes())),
    };
    let server = all.servers[usize::from(server) % 2].clone();
    let (status, headers, answer) = all.runtime.block_on(async {
        let answer = server.oneshot(request).await.expect("a router always answers");
        let (parts, body) = answer.into_parts();
        let bytes = body.collect().await.expect("the answer is whole").to_bytes();
        (parts.status, parts.headers, bytes)
    });
    let text = String::from_utf8_lossy(&answer);
    if status.is_success() {
        let is_json = headers.get("content-type").is_some_and(|t| t.as_bytes().ends_with(b"json"));
        assert!(!is_json || serde_json::from_str::<Value>(&text).is_ok(), "{path}: {text}");
        return;
    }
    assert!(!matches!(status.as_u16(), 500..=502), "{path}: {status} {text}");
    if status == StatusCode::SERVICE_UNAVAILABLE {
        assert!(headers.contains_key("retry-after"), "{path}: 503 without retry-after");
        assert!(text.contains("shutting_down"), "{path}: {text}");
    }
    let answer: Value =
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path}: {status} {text}"));
    let error = &answer["error"];
    let message = error["message"].as_str().unwrap_or_else(|| panic!("{path}: {status} {text}"));
    assert!(!message.is_empty() && !message.contains(char::is_control), "{path}: {message:?}");
    assert!(message.len() <= 2 * MOST_BODY, "{path}: a message of {} bytes", message.len());
    let keys: Vec<&String> = error.as_object().expect("the error is an object").keys().collect();
    assert_eq!(keys, ["code", "message", "param", "type"], "{path}: {text}");
}

fn request(path: &str, method: &str, content_type: &str, body: Vec<u8>) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
    if !content_type.is_empty() {
        request = request.header("content-type", content_type);
    }
    request.body(Body::from(body)).expect("the request is valid")
}

fn edited(u: &mut Unstructured, all: &Servers, path: &str, body: &Value) -> Result<Request<Body>> {
    let mut body = body.clone();
    if u.ratio(1, 2)? && body.is_object() {
        // The request may name a model of another kind than the route expects, or one that does not exist.
        body["model"] =
            (*u.choose(&["embed", "prompts", "rank", "sparse", "multi", "none"])?).into();
    }
    edits::edit(u, &mut body, &all.names)?;
    let mut text = edits::text(u, &body)?;
    let (method, content_type) = match u.ratio(1, 8)? {
        true => (*u.choose(&METHODS)?, *u.choose(&TYPES)?),
        false => (METHODS[0], TYPES[0]),
    };
    let own = u.bytes(u.len())?;
    if let Some(at) = text.windows(2).position(|pair| pair == b":\"").filter(|_| !own.is_empty()) {
        // Bytes of the input become the start of the first text, whether or not they are UTF-8.
        text.splice(at + 2..at + 2, own.iter().copied());
    }
    Ok(request(path, method, content_type, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_requests_that_the_target_changes_reach_the_queue() {
        let all = servers();
        let mut reached = 0;
        for (path, body) in &all.routes[..17] {
            let request = request(path, "POST", TYPES[0], body.to_string().into_bytes());
            let answer = all.runtime.block_on(all.servers[1].clone().oneshot(request)).unwrap();
            reached += usize::from(answer.status() == 503 || answer.status() == 200);
        }
        assert!(reached >= 13, "only {reached} of 17 requests were tokenized");
    }
}
