//! Runs a server in this process, and a client that writes given bytes to a socket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use vectile::server::{Ended, Served, Server, ServerOptions, Stop};
use vectile::{Embedder, Error, MultiVectorEncoder, Reranker, SparseEncoder};

#[path = "../support/mod.rs"]
mod shared;

#[cfg(feature = "cli")]
pub use shared::vectile;
pub use shared::{
    adapter, build, contents, fixture, have_adapter, lacks, lacks_shaders, model_files as files,
    must_have, resident_memory,
};

pub fn embedder(name: &str) -> Arc<Embedder> {
    Arc::new(build(Embedder::builder(files(name))).unwrap())
}

pub fn reranker(name: &str) -> Arc<Reranker> {
    Arc::new(build(Reranker::builder(files(name))).unwrap())
}

pub fn sparse(name: &str) -> Arc<SparseEncoder> {
    Arc::new(build(SparseEncoder::builder(files(name))).unwrap())
}

pub fn multi_vector(name: &str) -> Arc<MultiVectorEncoder> {
    Arc::new(build(MultiVectorEncoder::builder(files(name))).unwrap())
}

/// A server on a thread of this process. It is stopped when this value is dropped.
pub struct Running {
    pub address: SocketAddr,
    pub stop: Stop,
    thread: Option<JoinHandle<Result<Ended, Error>>>,
}

/// Returns the default options, with a free port.
pub fn options() -> ServerOptions {
    ServerOptions { port: 0, ..ServerOptions::default() }
}

impl Running {
    /// Starts a server and waits until it is ready.
    pub fn start(options: ServerOptions, models: Vec<Served>) -> Self {
        let server = Server::bind(options).unwrap();
        let (address, stop) = (server.address(), server.stopper());
        let (sender, ready) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            server.run(move || Ok::<_, Error>(models), move |_| sender.send(()).unwrap())
        });
        let mut running = Running { address, stop, thread: Some(thread) };
        if ready.recv_timeout(Duration::from_secs(60)).is_err() {
            panic!("not ready: {:?}", running.end());
        }
        running
    }

    /// Starts a server with several kinds of model.
    pub fn all(options: ServerOptions) -> Self {
        let models = vec![
            Served::embedder("embed", embedder("bert_mean_norm")),
            Served::embedder("prompts", embedder("bert_prompts")),
            Served::reranker("rank", reranker("rerankers/bert_bare")),
            Served::sparse("sparse", sparse("sparse/bert")),
        ];
        Running::start(options, models)
    }

    /// Returns a server with several kinds of model and default options. All tests that do not change the server
    /// share it.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Running> = OnceLock::new();
        SHARED.get_or_init(|| Running::all(options()))
    }

    /// Stops the server and waits for its end.
    pub fn end(&mut self) -> Result<Ended, Error> {
        self.stop.stop();
        self.thread.take().unwrap().join().unwrap()
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.connect().send("GET", path, &[], b"")
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_bytes(path, body.to_string().as_bytes())
    }

    pub fn post_bytes(&self, path: &str, body: &[u8]) -> Answer {
        self.connect().send("POST", path, &[("content-type", "application/json")], body)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.thread.is_some() {
            let ended = self.end();
            if !std::thread::panicking() {
                assert!(ended.is_ok(), "{ended:?}");
            }
        }
    }
}

/// A response of the server.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// Returns the JSON of a successful response.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.header("content-type"), Some("application/json"));
        self.json()
    }

    /// Checks the status and the shape of an error, and returns its code.
    #[track_caller]
    pub fn error(&self, status: u16) -> String {
        let said = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "{said}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{said}");
        let body = self.json();
        let error = body["error"].as_object().expect("an object `error`");
        assert_eq!(body.as_object().unwrap().len(), 1, "{said}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{said}");
        assert!(error["type"].is_string() && error.contains_key("param"), "{said}");
        error["code"].as_str().unwrap().to_owned()
    }

    /// Returns the field that the error names.
    pub fn param(&self) -> Value {
        self.json()["error"]["param"].clone()
    }

    pub fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap().to_owned()
    }
}

/// A connection to the server.
pub struct Client {
    pub stream: TcpStream,
    read: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, read: Vec::new() }
    }

    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        // The server may respond and close the connection before everything is written, so errors are ignored.
        let _ = self.write(method, path, headers, body);
        self.answer().expect("an answer")
    }

    pub fn write(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> std::io::Result<()> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: test\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() || method == "POST" {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let whole = [head.as_bytes(), body].concat();
        self.stream.write_all(&whole)
    }

    /// Reads the next response, or returns `None` if the server has closed the connection.
    pub fn answer(&mut self) -> Option<Answer> {
        let end = loop {
            if let Some(at) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if self.fill() == 0 {
                assert!(
                    self.read.is_empty(),
                    "incomplete response: {}",
                    String::from_utf8_lossy(&self.read)
                );
                return None;
            }
        };
        let head = String::from_utf8(self.read.drain(..end).collect()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer { status, head, body: Vec::new() };
        let length: usize = answer.header("content-length").map_or(0, |n| n.parse().unwrap());
        while self.read.len() < length {
            assert!(self.fill() > 0, "the body is incomplete");
        }
        answer.body = self.read.drain(..length).collect();
        Some(answer)
    }

    fn fill(&mut self) -> usize {
        let mut piece = [0; 65536];
        let count = self.stream.read(&mut piece).unwrap_or(0);
        self.read.extend_from_slice(&piece[..count]);
        count
    }
}

/// Returns the bits of a list of numbers. JSON numbers are written such that parsing restores every bit.
pub fn bits(row: &Value) -> Vec<u32> {
    let number = |value: &Value| value.to_string().parse::<f32>().unwrap().to_bits();
    row.as_array().expect("a list of numbers").iter().map(number).collect()
}

pub fn bits_of(row: &[f32]) -> Vec<u32> {
    row.iter().map(|value| value.to_bits()).collect()
}

/// Returns the beginning of a text that has this many tokens, as the server's tokenizer cuts it.
pub fn first_tokens(server: &Running, text: &str, count: usize) -> String {
    let request = serde_json::json!({ "inputs": text, "add_special_tokens": false });
    let tokens = server.post("/tokenize", &request).ok();
    let end = tokens[0][count - 1]["stop"].as_u64().unwrap() as usize;
    assert!(end < text.len(), "{text} has more than {count} tokens");
    text[..end].to_owned()
}

/// Returns texts of many lengths.
pub fn texts(count: usize) -> Vec<String> {
    let words = ["cat", "sat", "roof", "the", "dog", "ran", "über", "naïve", "f16", "42"];
    let text = |at: usize| {
        let word = |i: usize| words[(at * 7 + i * 3 + i * i) % words.len()];
        let count = 1 + (at * 13) % 40;
        format!("{at} {}", (0..count).map(word).collect::<Vec<_>>().join(" "))
    };
    (0..count).map(text).collect()
}
