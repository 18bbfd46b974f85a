//! Tests the server as seen by an attacker who writes any bytes to a socket.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use vectile::server::{Served, ServerOptions};

use super::support::{Client, Running, embedder, have_adapter, options};

const BODY: &str = r#"{"inputs":"a"}"#;
/// [`BODY`] as a chunked body.
const CHUNKS: &str = "e\r\n{\"inputs\":\"a\"}\r\n0\r\n\r\n";
/// A request after which the server closes the connection. Tests send it after the request under test. If the server
/// answers it, the server has found the end of the request under test, and has kept the connection open.
const LAST: &str = "GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

/// Sends text on a new connection, and returns all that the server sends before it closes the connection.
fn ask(server: &Running, text: &str) -> String {
    let mut client = server.connect();
    client.stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // The server may close the connection before it has read everything, so errors of writing are ignored.
    let _ = client.stream.write_all(text.as_bytes());
    let mut said = Vec::new();
    let _ = client.stream.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

/// Returns the statuses of the responses in a text. It finds them by `HTTP/1.`, which no body of these tests contains.
fn statuses(said: &str) -> Vec<u16> {
    let responses = said.split("HTTP/1.").skip(1);
    responses.map(|response| response[2..5].parse().unwrap()).collect()
}

#[track_caller]
fn expect(server: &Running, text: &str, expected: &[u16]) {
    let said = ask(server, text);
    let start: String = text.chars().take(200).collect();
    assert_eq!(statuses(&said), expected, "\n{start}\n{said}");
}

/// Returns a request to `/embed` with these additional headers and `body`, followed by the request [`LAST`].
fn embed(headers: &str, body: &str) -> String {
    format!("POST /embed HTTP/1.1\r\nhost: x\r\n{headers}\r\n{body}{LAST}")
}

#[test]
fn no_request_hides_in_another_request() {
    if !have_adapter() {
        return;
    }
    let server = Running::shared();
    let chunked = "transfer-encoding: chunked\r\n";
    expect(server, &embed("content-length: 14\r\n", BODY), &[200, 200]);
    expect(server, &embed(chunked, CHUNKS), &[200, 200]);
    expect(server, &embed("Transfer-Encoding: Chunked\r\n", CHUNKS), &[200, 200]);
    // The body ends with the chunks. The server then closes the connection, so it does not take the text after the
    // chunks for a request.
    for length in ["14", "3", "0", "x"] {
        let both = format!("{chunked}content-length: {length}\r\n");
        expect(server, &embed(&both, CHUNKS), &[200]);
    }
    expect(server, &embed(&format!("content-length: 3\r\n{chunked}"), CHUNKS), &[200]);
    let lengths = [
        "14\r\ncontent-length: 1",
        "14, 14",
        "14, 1",
        "+14",
        "-1",
        "0x0e",
        "14.0",
        "1 4",
        "",
        "99999999999999999999999",
        "\x0b14",
    ];
    for length in lengths {
        expect(server, &embed(&format!("content-length: {length}\r\n"), BODY), &[400]);
    }
    let codings = [
        "xchunked",
        "\x0bchunked",
        "identity",
        "chunked, identity",
        "gzip, chunked",
        "chunked, chunked",
        "identity, chunked",
        ", chunked",
        "chunked\r\ntransfer-encoding: chunked",
        "identity\r\ntransfer-encoding: chunked",
        "chunked\r\ntransfer-encoding: identity",
        "\"chunked\"",
        "",
    ];
    for coding in codings {
        expect(server, &embed(&format!("transfer-encoding: {coding}\r\n"), CHUNKS), &[400]);
    }
    for headers in [
        "content-length : 14\r\n",
        " content-length: 14\r\n",
        "x-a: b\r\n c: d\r\ncontent-length: 14\r\n",
        "x-a: b\rcontent-length: 14\r\n",
        "x-a: b\0\r\ncontent-length: 14\r\n",
        "content-length: 14\r\nx a: b\r\n",
        "content-length: 14\r\n: b\r\n",
        "host: y\r\ncontent-length: 14\r\n",
    ] {
        expect(server, &embed(headers, BODY), &[400]);
    }
    let bare = format!("GET /health/live HTTP/1.1\r\n\r\n{LAST}");
    expect(server, &bare, &[400]);
    let old = format!("POST /embed HTTP/1.0\r\n{chunked}\r\n{CHUNKS}{LAST}");
    expect(server, &old, &[400]);
}

#[test]
fn invalid_chunks_end_the_connection() {
    if !have_adapter() {
        return;
    }
    let server = Running::shared();
    for chunks in [
        "zz\r\n{\"inputs\":\"a\"}\r\n0\r\n\r\n",
        "-1\r\n{\"inputs\":\"a\"}\r\n0\r\n\r\n",
        "0xe\r\n{\"inputs\":\"a\"}\r\n0\r\n\r\n",
        "fffffffffffffffff\r\n{\"inputs\":\"a\"}\r\n0\r\n\r\n",
        "e\r\n{\"inputs\":\"a\"}XX0\r\n\r\n",
        "e\n{\"inputs\":\"a\"}\n0\n\n",
        "e;a\n{\"inputs\":\"a\"}\r\n0\r\n\r\n",
        "e\r\n{\"inputs\":\"a\"}\r\n0\r\nnot a trailer\r\n\r\n",
    ] {
        expect(server, &embed("transfer-encoding: chunked\r\n", chunks), &[400]);
    }
    // Trailers are read, but never become headers of the request.
    let trailers = "e\r\n{\"inputs\":\"a\"}\r\n0\r\ncontent-length: 5\r\nhost: y\r\n\r\n";
    expect(server, &embed("transfer-encoding: chunked\r\n", trailers), &[200, 200]);
    let extension = "e;a=b\r\n{\"inputs\":\"a\"}\r\n0\r\n\r\n";
    expect(server, &embed("transfer-encoding: chunked\r\n", extension), &[200, 200]);
}

#[test]
fn a_request_after_a_refused_body_is_read_from_its_start() {
    if !have_adapter() {
        return;
    }
    let server = Running::shared();
    let length = format!("content-length: {}\r\n", LAST.len());
    // Each body is itself a request. The server must not answer it.
    let post = |path: &str, headers: &str| {
        format!("POST {path} HTTP/1.1\r\nhost: x\r\n{length}{headers}\r\n{LAST}{LAST}")
    };
    expect(server, &post("/nothing", ""), &[404, 200]);
    expect(server, &post("/embed", "content-type: text/plain\r\n"), &[415, 200]);
    expect(server, &post("/embed", "content-encoding: gzip\r\n"), &[415, 200]);
    expect(server, &post("/embed", ""), &[400, 200]);
    expect(server, &post("/info", ""), &[405, 200]);
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\n{length}\r\n{LAST}");
    expect(server, &(get("/embed") + LAST), &[405, 200]);
    expect(server, &(get("/health/live").repeat(3) + LAST), &[200; 4]);
}

#[test]
fn compressed_bodies_are_refused() {
    if !have_adapter() {
        return;
    }
    let server = Running::shared();
    for coding in ["gzip", "deflate", "br", "zstd", "gzip, identity", "x", ""] {
        let answer = server.connect().send(
            "POST",
            "/embed",
            &[("content-encoding", coding)],
            BODY.as_bytes(),
        );
        assert_eq!(answer.error(415), "unsupported_content_encoding", "{coding}");
        assert_eq!(answer.header("accept-encoding"), Some("identity"));
    }
    let plain = [("content-encoding", "identity")];
    server.connect().send("POST", "/embed", &plain, BODY.as_bytes()).ok();
}

#[test]
fn floods_of_headers_are_refused() {
    if !have_adapter() {
        return;
    }
    let server = Running::shared();
    let many = |count: usize| (0..count).map(|n| format!("x-{n}: a\r\n")).collect::<String>();
    let length = "content-length: 14\r\n";
    expect(server, &embed(&format!("{length}{}", many(90)), BODY), &[200, 200]);
    for count in [101, 10_000] {
        expect(server, &embed(&format!("{length}{}", many(count)), BODY), &[431]);
    }
    for (name, bytes) in [("x-a", 10 << 20), ("authorization", 1 << 20)] {
        let long = format!("{length}{name}: {}\r\n", "a".repeat(bytes));
        expect(server, &embed(&long, BODY), &[431]);
    }
    let path = "a".repeat(1 << 20);
    let said = statuses(&ask(server, &format!("GET /{path} HTTP/1.1\r\nhost: x\r\n\r\n")));
    assert!(said == [414] || said == [431], "{said:?}");
}

#[test]
fn every_version_and_method_has_its_answer() {
    if !have_adapter() {
        return;
    }
    let server = Running::shared();
    // HTTP/1.0 needs no host, and closes the connection unless the client wants to keep it.
    expect(server, &format!("GET /health/live HTTP/1.0\r\n\r\n{LAST}"), &[200]);
    let kept = format!("GET /health/live HTTP/1.0\r\nconnection: keep-alive\r\n\r\n{LAST}");
    expect(server, &kept, &[200, 200]);
    for line in ["GET /health/live", "GET /health/live HTTP/1.2", "GET /health/live HTTP/9.9"] {
        expect(server, &format!("{line}\r\nhost: x\r\n\r\n{LAST}"), &[400]);
    }
    // The server supports neither HTTP/2 nor TLS. It must close such connections, with the status 400 or without an
    // answer.
    for other in ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x16\x03\x01\0\u{5}\r\n\r\n"] {
        let said = statuses(&ask(server, other));
        assert!(said.is_empty() || said == [400], "{said:?}");
    }
    let head = |path: &str| {
        let said = ask(server, &format!("HEAD {path} HTTP/1.1\r\nhost: x\r\n\r\n{LAST}"));
        let rest = said.split_once("\r\n\r\n").unwrap().1.to_owned();
        assert!(rest.starts_with("HTTP/1.1 200"), "HEAD {path} has a body: {rest}");
        statuses(&said)[0]
    };
    assert_eq!(["/", "/docs", "/health/live", "/info"].map(head), [200; 4]);
    assert_eq!([head("/embed"), head("/nothing")], [405, 404]);
    for target in ["/", "*", "/embed", "/nothing"] {
        expect(server, &format!("OPTIONS {target} HTTP/1.1\r\nhost: x\r\n\r\n{LAST}"), &[200, 200]);
    }
    expect(server, &format!("TRACE / HTTP/1.1\r\nhost: x\r\n\r\n{LAST}"), &[405, 200]);
    expect(server, &format!("CONNECT x:80 HTTP/1.1\r\nhost: x\r\n\r\n{LAST}"), &[404, 200]);
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\n";
    let upgrade = format!("GET /health/live HTTP/1.1\r\nhost: x\r\n{upgrade}\r\n{LAST}");
    expect(server, &upgrade, &[200, 200]);
}

#[test]
fn no_path_leads_to_a_file() {
    if !have_adapter() {
        return;
    }
    let server = Running::shared();
    let paths = [
        "/..%2f..%2f..%2fetc/passwd",
        "/../../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..\\..\\etc\\passwd",
        "//etc/passwd",
        "//evil.example/docs",
        "/etc/passwd",
        "/C:/windows/win.ini",
        "/proc/self/environ",
        "/%00",
        "/docs%00",
        "/docs/",
        "/./docs",
        "/assets",
        "/assets/",
        "/assets/../Cargo.toml",
        "/assets/..%2f..%2fCargo.toml",
        "/assets/index.js%00.css",
        "/assets/index.js/",
        "/assets/INDEX.JS",
        "/assets/%69ndex.js",
        "/v1/models/../../etc/passwd",
        "/v1/models/%2fetc%2fpasswd",
        "/v1/models/embed/../../../etc/passwd",
        "/v1/models/embed%00",
        "/v1/models//",
    ];
    for path in paths {
        let code = server.get(path).error(404);
        assert!(["not_found", "model_not_found"].contains(&code.as_str()), "{path}: {code}");
    }
    let expected = server.get("/").body;
    for path in ["/?file=/etc/passwd", "/?../../etc/passwd", "/#/../etc/passwd"] {
        assert_eq!(server.get(path).body, expected, "{path}");
    }
    for target in ["file:///etc/passwd", "etc/passwd", "?"] {
        expect(server, &format!("GET {target} HTTP/1.1\r\nhost: x\r\n\r\n{LAST}"), &[400]);
    }
    // A model's name in a request is looked up among the served models, and never opened.
    let directory = super::support::fixture("bert_mean_norm");
    for model in [directory.to_str().unwrap(), "../bert_mean_norm", "file:///etc/passwd"] {
        let body = serde_json::json!({ "model": model, "input": "a" });
        assert_eq!(server.post("/v1/embeddings", &body).error(404), "model_not_found");
    }
}

#[test]
fn browsers_cannot_frame_or_script_any_response() {
    if !have_adapter() {
        return;
    }
    let server = Running::shared();
    let pages = ["/", "/docs", "/assets/index.js", "/assets/icon.svg"];
    for path in [&pages[..], &["/openapi.json", "/info", "/metrics", "/nothing"]].concat() {
        let answer = server.get(path);
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'"), "{path}: {policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{path}: {policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("x-frame-options"), Some("DENY"), "{path}");
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"), "{path}");
    }
    // An error quotes the request, but never as HTML.
    let answer = server.get("/%3Cscript%3Ealert(1)%3C/script%3E");
    assert_eq!(answer.error(404), "not_found");
    let named =
        serde_json::json!({ "model": "<img src=x onerror=alert(1)>\r\nx: y", "input": "a" });
    let answer = server.post("/v1/embeddings", &named);
    assert_eq!(answer.error(404), "model_not_found");
    assert!(answer.header("x").is_none());
}

/// Opens connections whose clients send or read nothing more, and checks that another client is served meanwhile, and
/// that the connections are closed.
#[test]
fn slow_clients_delay_nobody_and_are_disconnected() {
    if !have_adapter() {
        return;
    }
    let limit = Duration::from_millis(1500);
    let patient = ServerOptions { header_timeout: limit, body_timeout: limit, ..options() };
    let server = Running::start(patient, vec![Served::embedder("m", embedder("bert_mean_norm"))]);
    let open = |text: &str| {
        let client = server.connect();
        client.stream.set_nonblocking(true).unwrap();
        let _ = (&client.stream).write_all(text.as_bytes());
        client
    };
    let head = "POST /embed HTTP/1.1\r\nhost: x\r\n";
    let since = Instant::now();
    let mut slow: Vec<Client> = Vec::new();
    for _ in 0..50 {
        slow.push(open("GET /health/live HT"));
        slow.push(open(head));
        slow.push(open(&format!("{head}content-length: 14\r\n\r\n{{")));
        slow.push(open(&format!("{head}transfer-encoding: chunked\r\n\r\nffffff\r\n{{")));
    }
    // The responses are larger than the buffers of the sockets, so that the server cannot write all of them.
    let many = "GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(2000);
    slow.extend((0..10).map(|_| open(&many)));
    assert!(since.elapsed() < limit, "opening the connections took {:?}", since.elapsed());
    let asked = Instant::now();
    server.post("/embed", &serde_json::json!({ "inputs": "a" })).ok();
    let took = asked.elapsed();
    assert!(took < Duration::from_millis(700), "another client waited {took:?}");
    let connections = || {
        let text = String::from_utf8(server.get("/metrics").body).unwrap();
        let line = text.lines().find(|line| line.starts_with("vectile_connections "));
        line.and_then(|line| line.split(' ').nth(1)?.parse::<u64>().ok()).unwrap()
    };
    assert!(connections() > 200, "the slow connections are already closed");
    // One connection remains: the one that asks for the metrics.
    while connections() > 1 {
        assert!(since.elapsed() < Duration::from_secs(15), "{} are open", connections());
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(slow);
}
