//! Puts load on a running server. `tests/serve/short.rs` runs each check for seconds, and `benches/soak.rs` for
//! minutes.
//!
//! Every check prints its figures, and returns the faults that it found. Only the bench judges times, because a test
//! shares the machine with other tests.

pub mod disconnects;
pub mod garbage;
pub mod http;
pub mod memory;
pub mod overload;
pub mod pace;
pub mod signals;
pub mod throughput;

use std::net::SocketAddr;

use bytes::Bytes;
use serde_json::json;

/// The result of a check. An error says what is wrong.
pub type Found = Result<(), String>;

/// The size of checks, and whether they judge times.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// The duration of each measured phase in seconds.
    pub seconds: f64,
    /// The duration of the overload in seconds.
    pub overload: f64,
    /// Number of requests whose client disconnects.
    pub disconnects: usize,
    /// Number of times that the program is told to stop.
    pub signals: usize,
    /// Number of small requests, after which memory must not have grown.
    pub requests: usize,
    /// Number of rounds, each of which runs the server and then the library, or the reverse.
    pub rounds: usize,
    /// Whether a check fails if it is too slow.
    pub times: bool,
}

/// Runs a check on two threads, so that clients do not wait for each other.
pub fn block_on<T>(check: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(check)
}

/// Fails with the message of `otherwise` if the condition does not hold.
pub fn must(holds: bool, otherwise: impl FnOnce() -> String) -> Found {
    if holds { Ok(()) } else { Err(otherwise()) }
}

const WORDS: [&str; 16] = [
    "bread", "paper", "roof", "train", "password", "cat", "window", "river", "seven", "quickly",
    "under", "garden", "the", "of", "melt", "stone",
];

/// Returns `texts` random texts of `words` words each.
pub fn texts(texts: usize, words: usize, seed: u64) -> Vec<String> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut text = || {
        let words: Vec<&str> = (0..words).map(|_| WORDS[random.usize(..WORDS.len())]).collect();
        words.join(" ")
    };
    (0..texts).map(|_| text()).collect()
}

/// Returns bodies of embedding requests. Each has `count` texts of `words` words.
pub fn bodies(requests: usize, count: usize, words: usize) -> Vec<Bytes> {
    let body = |seed| {
        let input = texts(count, words, seed);
        json!({ "input": input, "encoding_format": "base64" }).to_string().into()
    };
    (0..requests as u64).map(body).collect()
}

/// Returns the value of a metric, summed over its labels.
pub async fn metric(address: SocketAddr, name: &str) -> Result<f64, String> {
    let text = http::Connection::open(address).await?.get("/metrics").await?.body;
    let text = String::from_utf8_lossy(&text).into_owned();
    let of = |line: &str| -> Option<f64> {
        let rest = line.strip_prefix(name)?;
        (rest.starts_with(['{', ' '])).then(|| rest.rsplit(' ').next()?.parse().ok())?
    };
    let found: Vec<f64> = text.lines().filter_map(of).collect();
    must(!found.is_empty(), || format!("the metric {name} is missing"))?;
    Ok(found.iter().sum())
}

/// Waits until no request is queued or in flight, except the request for the metrics itself.
pub async fn settled(address: SocketAddr, within: std::time::Duration) -> Found {
    let end = std::time::Instant::now() + within;
    loop {
        let mut left = Vec::new();
        let gauges = ["queue_requests", "queue_texts", "queue_tokens", "budget_used_tokens"];
        for name in gauges.map(|name| format!("vectile_{name}")) {
            left.push((metric(address, &name).await?, 0.0, name));
        }
        for name in ["vectile_requests_in_flight", "vectile_connections"] {
            left.push((metric(address, name).await?, 1.0, name.to_owned()));
        }
        left.retain(|(value, rest, _)| value > rest);
        if left.is_empty() {
            return Ok(());
        }
        must(std::time::Instant::now() < end, || format!("not idle within {within:?}: {left:?}"))?;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
