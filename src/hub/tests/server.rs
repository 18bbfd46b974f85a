//! A local server that answers as the Hub does, for one repository.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// The faults that the server imitates, all of them off by default.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// The server closes the connection after the first number of bytes of a file's body. It does so the second
    /// number of times.
    pub cut: Option<(usize, usize)>,
    /// If true, the bodies of weights do not match their ETag.
    pub damaged: bool,
    /// If true, the listing states a wrong size for the weights.
    pub wrong_size: bool,
    /// The server answers the listing with this status and body.
    pub status: Option<(&'static str, String)>,
    /// If true, requests are accepted and never answered.
    pub silent: bool,
    /// If true, a request for a range gets the whole file.
    pub no_ranges: bool,
}

#[derive(Default)]
pub struct Seen {
    pub connections: AtomicUsize,
    /// Method, path and range of each request.
    pub requests: Mutex<Vec<String>>,
    cuts: AtomicUsize,
}

pub struct Hub {
    pub endpoint: String,
    pub seen: Arc<Seen>,
}

/// Returns 5000 bytes that take the place of weights.
pub fn weights() -> Vec<u8> {
    (0..5000u32).map(|i| (i * 7 % 251) as u8).collect()
}

pub fn files() -> Vec<(&'static str, Vec<u8>)> {
    let modules = r#"[{"path": "", "type": "sentence_transformers.models.Transformer"}, {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]"#;
    vec![
        ("config.json", br#"{"hidden_size": 8}"#.to_vec()),
        ("modules.json", modules.into()),
        ("1_Pooling/config.json", br#"{"embedding_dimension": 8}"#.to_vec()),
        ("sentence_bert_config.json", br#"{"max_seq_length": 7}"#.to_vec()),
        ("added_tokens.json", br#"{"[NEW]": 9}"#.to_vec()),
        ("model.safetensors", weights()),
        ("model-00001-of-00002.safetensors", b"shard".to_vec()),
        ("pytorch_model.bin", b"pickle".to_vec()),
        ("onnx/model.onnx", b"onnx".to_vec()),
        ("onnx/config.json", b"{}".to_vec()),
    ]
}

/// The number of files in a complete download.
pub const WANTED: usize = 6;

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Starts the server. It runs until the tests end.
pub fn hub(faults: Faults) -> Hub {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let seen = Arc::new(Seen::default());
    let shared = seen.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (faults, seen) = (faults.clone(), shared.clone());
            seen.connections.fetch_add(1, Ordering::SeqCst);
            std::thread::spawn(move || answer(stream.unwrap(), &faults, &seen));
        }
    });
    Hub { endpoint, seen }
}

fn answer(mut stream: TcpStream, faults: &Faults, seen: &Seen) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(request)) = lines.next() else { return };
    let mut range = None;
    for line in lines {
        let line = line.unwrap_or_default().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(bytes) = line.strip_prefix("range: bytes=") {
            range = bytes.split('-').next().and_then(|start| start.parse::<usize>().ok());
        }
    }
    if faults.silent {
        std::thread::sleep(std::time::Duration::from_secs(600));
    }
    let mut words = request.split_whitespace();
    let (method, url) = (words.next().unwrap(), words.next().unwrap());
    let path = url.split('?').next().unwrap();
    seen.requests.lock().unwrap().push(format!("{method} {path} {range:?}"));
    let (status, more, body) = reply(path, faults);
    let range = range.filter(|_| !faults.no_ranges && status == "200 OK");
    let (status, body) = match range {
        Some(start) => ("206 Partial Content", body[start..].to_vec()),
        None => (status, body),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n{more}X-Repo-Commit: {COMMIT}\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes());
    if method == "HEAD" {
        return;
    }
    let sent = match faults.cut {
        Some((bytes, times))
            if body.len() > 1000 && seen.cuts.fetch_add(1, Ordering::SeqCst) < times =>
        {
            bytes.min(body.len())
        }
        _ => body.len(),
    };
    let _ = stream.write_all(&body[..sent]);
}

fn reply(path: &str, faults: &Faults) -> (&'static str, String, Vec<u8>) {
    if let Some(name) = path.strip_prefix(&format!("/owner/name/resolve/{COMMIT}/")) {
        let Some((_, bytes)) = files().into_iter().find(|(listed, _)| *listed == name) else {
            return ("404 Not Found", String::new(), Vec::new());
        };
        let etag = sha256(&bytes);
        let body = match faults.damaged && name == "model.safetensors" {
            true => bytes.iter().map(|byte| byte ^ 1).collect(),
            false => bytes,
        };
        return ("200 OK", format!("ETag: \"{etag}\"\r\n"), body);
    }
    let json = |value: serde_json::Value| ("200 OK", String::new(), value.to_string().into_bytes());
    match path {
        "/api/models/owner/gated/tree/main" => ("401 Unauthorized", String::new(), b"{}".to_vec()),
        "/api/models/owner/refused/tree/main" => ("403 Forbidden", String::new(), b"{}".to_vec()),
        "/api/models/owner/name/revision/main" | "/api/models/owner/name/revision/v1" => {
            json(serde_json::json!({"sha": COMMIT}))
        }
        _ if path.starts_with("/api/models/owner/name/tree/") && !path.ends_with("absent") => {
            if let Some((status, body)) = &faults.status {
                return (status, "Retry-After: 7\r\n".into(), body.clone().into_bytes());
            }
            let entry = |(name, bytes): (&str, Vec<u8>)| {
                let wrong = usize::from(faults.wrong_size && name == "model.safetensors");
                serde_json::json!({"type": "file", "oid": "0", "size": bytes.len() + wrong, "path": name})
            };
            json(files().into_iter().map(entry).collect())
        }
        _ => ("404 Not Found", String::new(), br#"{"error": "not found"}"#.to_vec()),
    }
}
