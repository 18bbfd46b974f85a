//! Tests every error status, and the text that its response gives the client.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use serde_json::json;
use vectile::server::{Served, Server, ServerOptions};
use vectile::{Error, block_on};

use super::support::{Client, Running, adapter, embedder, have_adapter, options};

#[test]
fn wrong_paths_methods_and_content_types_have_their_own_errors() {
    if !have_adapter() {
        return;
    }
    let server = Running::shared();
    for path in ["/nothing", "/v1", "/v1/embeddings/", "/embed/x", "/%ff", "//"] {
        assert_eq!(server.get(path).error(404), "not_found", "{path}");
    }
    let wrong = server.get("/v1/embeddings");
    assert_eq!(wrong.error(405), "method_not_allowed");
    assert_eq!(wrong.header("allow"), Some("POST"));
    for method in ["PUT", "DELETE", "PATCH", "BREW"] {
        let answer = server.connect().send(method, "/embed", &[], b"");
        assert_eq!(answer.error(405), "method_not_allowed", "{method}");
    }
    assert_eq!(server.post("/info", &json!({})).error(405), "method_not_allowed");
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "json"] {
        let answer = server.connect().send("POST", "/embed", &[("content-type", kind)], b"{}");
        assert_eq!(answer.error(415), "unsupported_media_type", "{kind}");
    }
    let body = br#"{"inputs":"a"}"#;
    for kind in ["application/json; charset=utf-8", "Application/JSON", "application/vnd.x+json"] {
        server.connect().send("POST", "/embed", &[("content-type", kind)], body).ok();
    }
    server.connect().send("POST", "/embed", &[], body).ok();
}

#[test]
fn sizes_of_requests_are_limited() {
    if !have_adapter() {
        return;
    }
    let small = ServerOptions { max_body_bytes: 1000, max_texts: 3, ..options() };
    let server = Running::start(small, vec![Served::embedder("m", embedder("bert_mean_norm"))]);
    let many = json!({ "inputs": ["a", "b", "c", "d"] });
    let answer = server.post("/embed", &many);
    assert_eq!((answer.error(413), answer.param()), ("too_many_texts".into(), json!("inputs")));
    let long = json!({ "inputs": "a".repeat(1000) });
    assert_eq!(server.post("/embed", &long).error(413), "body_too_large");
    // If the declared length is too large, the request is refused before the body arrives.
    let mut client = server.connect();
    client
        .stream
        .write_all(b"POST /embed HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n")
        .unwrap();
    assert_eq!(client.answer().unwrap().error(413), "body_too_large");
    // If no length is declared, the request is refused once its body exceeds the limit.
    let mut client = server.connect();
    client
        .stream
        .write_all(b"POST /embed HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        .unwrap();
    for _ in 0..20 {
        // Writing may fail, because the server may have answered already.
        let _ = client.stream.write_all(format!("64\r\n{}\r\n", "a".repeat(100)).as_bytes());
    }
    assert_eq!(client.answer().unwrap().error(413), "body_too_large");
    server.post("/embed", &json!({ "inputs": ["a", "b", "c"] })).ok();
}

#[test]
fn a_client_refused_while_sending_receives_the_error() {
    if !have_adapter() {
        return;
    }
    let options = ServerOptions { max_body_bytes: 1000, api_keys: vec!["k".into()], ..options() };
    let server = Running::start(options, vec![Served::embedder("m", embedder("bert_mean_norm"))]);
    // The body is larger than the socket buffers. The client reads nothing until it has sent everything.
    let body = vec![b'a'; 32 << 20];
    let key = ("x-api-key", "k");
    let json = ("content-type", "application/json");
    let cases = [
        ("/embed", &[key, json][..], 413, "body_too_large"),
        ("/embed", &[json], 401, "invalid_api_key"),
        ("/embed", &[key, ("content-type", "text/plain")], 415, "unsupported_media_type"),
        ("/info", &[key, json], 405, "method_not_allowed"),
        ("/nothing", &[key, json], 404, "not_found"),
    ];
    for (path, headers, status, code) in cases {
        let mut client = server.connect();
        client.write("POST", path, headers, &body).unwrap();
        assert_eq!(client.answer().unwrap().error(status), code, "{path} {headers:?}");
        // The server has read the whole body, so the connection can be used again.
        client.send("GET", "/health/live", &[], b"").ok();
    }
    // If the client waits for `100 Continue`, the request is refused before the client sends the body.
    let mut client = server.connect();
    let head = "POST /embed HTTP/1.1\r\nhost: x\r\nx-api-key: k\r\nexpect: 100-continue\r\n\
                content-length: 99999999\r\n\r\n";
    client.stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(client.answer().unwrap().error(413), "body_too_large");
}

#[test]
fn slow_clients_time_out() {
    if !have_adapter() {
        return;
    }
    let short = Duration::from_millis(300);
    let patient = ServerOptions { header_timeout: short, body_timeout: short, ..options() };
    let server = Running::start(patient, vec![Served::embedder("m", embedder("bert_mean_norm"))]);
    // This body arrives byte by byte, until the time limit.
    let mut client = server.connect();
    client
        .stream
        .write_all(b"POST /embed HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n")
        .unwrap();
    let since = Instant::now();
    for _ in 0..8 {
        let _ = client.stream.write_all(b"{");
        std::thread::sleep(Duration::from_millis(60));
    }
    assert_eq!(client.answer().unwrap().error(408), "body_timeout");
    assert!(since.elapsed() < Duration::from_secs(5));
    // The server must close both a connection with an incomplete head and an idle connection.
    for head in ["GET /health/live HTTP/1.1\r\nhost: ", ""] {
        let mut client = server.connect();
        let since = Instant::now();
        let _ = client.stream.write_all(head.as_bytes());
        let mut rest = Vec::new();
        let _ = client.stream.read_to_end(&mut rest);
        assert!(since.elapsed() < Duration::from_secs(5), "{head}");
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 4"), "{head}");
    }
    server.get("/health/live").ok();
}

#[test]
fn connections_beyond_the_maximum_get_an_error() {
    if !have_adapter() {
        return;
    }
    let few = ServerOptions { max_connections: 2, ..options() };
    let server = Running::start(few, vec![Served::embedder("m", embedder("bert_mean_norm"))]);
    let (mut first, mut second) = (server.connect(), server.connect());
    first.send("GET", "/health/live", &[], b"").ok();
    second.send("GET", "/health/live", &[], b"").ok();
    let third = server.get("/health/live");
    assert_eq!(third.error(503), "too_many_connections");
    assert_eq!(third.header("retry-after-ms"), Some("1000"));
    drop(first);
    let since = Instant::now();
    while server.get("/health/live").status != 200 {
        assert!(since.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn keys_are_required_if_the_server_has_some() {
    if !have_adapter() {
        return;
    }
    let keyed = ServerOptions { api_keys: vec!["k1".into(), "k2".into()], ..options() };
    let server = Running::start(keyed, vec![Served::embedder("m", embedder("bert_mean_norm"))]);
    let body = br#"{"inputs":"a"}"#;
    let with = |headers: &[(&str, &str)]| server.connect().send("POST", "/embed", headers, body);
    for headers in [&[][..], &[("authorization", "Bearer k3")], &[("authorization", "k1")]] {
        let answer = with(headers);
        assert_eq!(answer.error(401), "invalid_api_key");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    for headers in
        [[("authorization", "Bearer k1")], [("authorization", "bearer k2")], [("x-api-key", "k1")]]
    {
        with(&headers).ok();
    }
    for path in ["/info", "/metrics", "/v1/models", "/api/tags"] {
        assert_eq!(server.get(path).error(401), "invalid_api_key", "{path}");
    }
    for path in ["/health", "/health/live", "/health/ready", "/openapi.json"] {
        server.get(path).ok();
    }
    assert_eq!(server.get("/nothing").error(404), "not_found");
}

#[test]
fn named_origins_may_call_the_server() {
    if !have_adapter() {
        return;
    }
    let origin = "https://app.example";
    let named = ServerOptions { cors_origins: vec![origin.into()], ..options() };
    let server = Running::start(named, vec![Served::embedder("m", embedder("bert_mean_norm"))]);
    let allowed = |server: &Running, origin: &str| {
        let headers = [("origin", origin), ("access-control-request-method", "POST")];
        let answer = server.connect().send("OPTIONS", "/v1/embeddings", &headers, b"");
        answer.header("access-control-allow-origin").map(str::to_owned)
    };
    assert_eq!(allowed(&server, origin).as_deref(), Some(origin));
    assert_eq!(allowed(&server, "https://other.example"), None);
    assert_eq!(allowed(Running::shared(), origin), None);
}

#[test]
fn requests_have_ids() {
    if !have_adapter() {
        return;
    }
    let server = Running::shared();
    let mut client = server.connect();
    let answer = client.send("GET", "/nothing", &[("x-request-id", "abc-1")], b"");
    assert_eq!(answer.header("x-request-id"), Some("abc-1"));
    let first = client.send("GET", "/health/live", &[], b"");
    let second = client.send("GET", "/health/live", &[("x-request-id", "a b")], b"");
    let id = |answer: &super::support::Answer| answer.header("x-request-id").unwrap().to_owned();
    assert_eq!((id(&first).len(), id(&second).len()), (32, 32));
    assert_ne!(id(&first), id(&second));
}

#[test]
fn invalid_options_are_refused_before_models_load() {
    let taken = Server::bind(options()).unwrap();
    let again = Server::bind(ServerOptions { port: taken.address().port(), ..options() });
    let said = again.unwrap_err().to_string();
    assert!(said.contains(&taken.address().port().to_string()), "{said}");
    let nowhere = ServerOptions { host: "no.such.host.invalid".into(), ..options() };
    assert!(Server::bind(nowhere).unwrap_err().is_user_error());
    for wrong in [
        ServerOptions { max_texts: 0, ..options() },
        ServerOptions { max_queue_tokens: Some(0), ..options() },
        ServerOptions { api_keys: vec!["".into()], ..options() },
        ServerOptions { body_timeout: Duration::ZERO, ..options() },
    ] {
        assert!(Server::bind(wrong).unwrap_err().is_user_error());
    }
}

#[test]
fn the_server_ends_if_names_repeat_or_a_model_fails_to_load() {
    if !have_adapter() {
        return;
    }
    let model = embedder("bert_mean_norm");
    let twice = vec![Served::embedder("m", model.clone()), Served::embedder("m", model)];
    let run = |load: Result<Vec<Served>, Error>| {
        Server::bind(options()).unwrap().run(move || load, |_| panic!("ready")).unwrap_err()
    };
    assert!(run(Ok(twice)).to_string().contains("two models have the name `m`"));
    assert!(run(Ok(Vec::new())).is_user_error());
    let missing = vectile::ModelFiles::from_directory("no/such/model").unwrap_err();
    assert_eq!(run(Err(missing.clone())), missing);
}

/// While models load, the process is live, but not ready.
#[test]
fn requests_get_503_while_models_load() {
    if !have_adapter() {
        return;
    }
    let server = Server::bind(options()).unwrap();
    let (address, stop) = (server.address(), server.stopper());
    let (go, wait) = std::sync::mpsc::channel();
    let load = move || {
        wait.recv().unwrap();
        let files = super::support::files("bert_mean_norm");
        let embedder = block_on(vectile::Embedder::builder(files).adapter(adapter()).build())?;
        Ok::<_, Error>(vec![Served::embedder("m", std::sync::Arc::new(embedder))])
    };
    let thread = std::thread::spawn(move || server.run(load, |_| {}));
    let get = |path: &str| Client::connect(address).send("GET", path, &[], b"");
    get("/health/live").ok();
    for path in ["/health/ready", "/info", "/v1/models"] {
        let answer = get(path);
        assert_eq!(answer.error(503), "loading", "{path}");
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    let embed = Client::connect(address).send("POST", "/embed", &[], br#"{"inputs":"a"}"#);
    assert_eq!(embed.error(503), "loading");
    go.send(()).unwrap();
    let since = Instant::now();
    while get("/health/ready").status != 200 {
        assert!(since.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(20));
    }
    stop.stop();
    assert_eq!(thread.join().unwrap().unwrap().abandoned, 0);
}
