#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use super::*;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

const FILES: [(&str, &str); 9] = [
    ("config.json", r#"{"hidden_size": 8}"#),
    (
        "modules.json",
        r#"[{"path": "", "type": "sentence_transformers.models.Transformer"}, {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]"#,
    ),
    ("1_Pooling/config.json", r#"{"embedding_dimension": 8}"#),
    ("sentence_bert_config.json", r#"{"max_seq_length": 7}"#),
    ("model.safetensors", "weights"),
    ("model-00001-of-00002.safetensors", "shard"),
    ("pytorch_model.bin", "pickle"),
    ("onnx/model.onnx", "onnx"),
    ("onnx/config.json", "{}"),
];

/// Answers as the Hub does, for one repository, until the test ends.
fn hub() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || answer(stream.unwrap()));
        }
    });
    endpoint
}

fn answer(mut stream: TcpStream) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(request)) = lines.next() else { return };
    for line in lines {
        if line.unwrap_or_default().is_empty() {
            break;
        }
    }
    let mut words = request.split_whitespace();
    let (method, url) = (words.next().unwrap(), words.next().unwrap());
    let path = url.split('?').next().unwrap();
    let (status, body) = reply(path);
    let etag = path.replace(|c: char| !c.is_ascii_alphanumeric(), "");
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nETag: \"{etag}\"\r\nX-Repo-Commit: {COMMIT}\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes());
    if method != "HEAD" {
        let _ = stream.write_all(body.as_bytes());
    }
}

fn reply(path: &str) -> (&'static str, String) {
    if let Some(name) = path.strip_prefix(&format!("/owner/name/resolve/{COMMIT}/")) {
        let file = FILES.iter().find(|(listed, _)| *listed == name);
        return file
            .map_or(("404 Not Found", String::new()), |(_, text)| ("200 OK", text.to_string()));
    }
    match path {
        "/api/models/owner/gated/tree/main" => ("401 Unauthorized", "{}".into()),
        "/api/models/owner/name/revision/main" => ("200 OK", format!(r#"{{"sha": "{COMMIT}"}}"#)),
        _ if path.starts_with("/api/models/owner/name/tree/") && !path.ends_with("absent") => {
            let entry = |(name, text): &(&str, &str)| serde_json::json!({"type": "file", "oid": "0", "size": text.len(), "path": name});
            (
                "200 OK",
                serde_json::Value::from(FILES.iter().map(entry).collect::<Vec<_>>()).to_string(),
            )
        }
        _ => ("404 Not Found", r#"{"error": "not found"}"#.into()),
    }
}

fn options(endpoint: &str, cache: &Path) -> HubOptions {
    HubOptions { endpoint: Some(endpoint.into()), cache: Some(cache.into()) }
}

#[test]
fn only_what_is_needed_is_fetched_and_kept() {
    let cache = tempfile::tempdir().unwrap();
    let snapshot = fetch("owner/name", None, &options(&hub(), cache.path())).unwrap();
    let files = ModelFiles::from_directory(&snapshot).unwrap();
    for (name, text) in &FILES[..5] {
        assert_eq!(files.read(name, 1000).unwrap().unwrap(), text.as_bytes(), "{name}");
    }
    for (name, _) in &FILES[5..] {
        assert!(!files.exists(name).unwrap(), "{name}");
    }
    // Nobody listens on port 1: the cache answers.
    let offline = options("http://127.0.0.1:1", cache.path());
    assert_eq!(fetch("owner/name", None, &offline).unwrap(), snapshot);
    assert_eq!(fetch("owner/name", Some(COMMIT), &offline).unwrap(), snapshot);
    let message = fetch("owner/name", Some("v2"), &offline).unwrap_err().to_string();
    assert!(message.contains("v2 is not in the cache"), "{message}");
}

#[test]
fn refusals_say_what_to_do() {
    let cache = tempfile::tempdir().unwrap();
    let options = options(&hub(), cache.path());
    for (repo, revision, words) in [
        ("owner/gated", None, "hf auth login"),
        ("owner/unknown", None, "does not exist"),
        ("owner/name", Some("absent"), "absent"),
        ("owner/name", Some("../x"), "no branch"),
        ("a/b/c", None, "no repository name"),
        ("../x", None, "no repository name"),
        ("", None, "no repository name"),
        ("owner/", None, "no repository name"),
        ("models/all MiniLM", None, "no repository name"),
    ] {
        let message = fetch(repo, revision, &options).unwrap_err().to_string();
        assert!(message.contains(words), "{repo}: {message}");
    }
}
