//! Checks that small requests leave no memory behind.

use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::http::Connection;
use super::{Found, Scale, must, settled, texts};
use crate::program::Program;
use crate::support::fixture;

const WORKERS: usize = 16;
const PARTS: usize = 10;
/// The number of bytes by which memory may grow after the first fifth of the requests. In the bench, a leak of 100
/// bytes per request exceeds it.
const SLACK: u64 = 6 << 20;

pub async fn check(scale: &Scale) -> Found {
    let program = Program::start(&[fixture("bert_mean_norm")], &[]);
    let address = program.address();
    let mut seen = Vec::new();
    let started = std::time::Instant::now();
    for part in 0..PARTS {
        let mut tasks = JoinSet::new();
        for worker in 0..WORKERS {
            let mine = (scale.requests / PARTS).div_ceil(WORKERS);
            tasks.spawn(async move {
                let mut connection = Connection::open(address).await?;
                for n in 0..mine {
                    let input =
                        texts(1, 1 + n % 12, (part * WORKERS + worker) as u64 ^ (n as u64) << 20);
                    let body = Bytes::from(serde_json::json!({ "input": input }).to_string());
                    let status = connection.post("/v1/embeddings", body).await?.status;
                    must(status == 200, || format!("a small request ended as {status}"))?;
                }
                Ok::<_, String>(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.map_err(|error| error.to_string())??;
        }
        seen.extend(program.resident());
    }
    let rate = scale.requests as f64 / started.elapsed().as_secs_f64();
    let mib: Vec<String> =
        seen.iter().map(|bytes| format!("{:.1}", *bytes as f64 / f64::from(1 << 20))).collect();
    println!(
        "{} small requests, {rate:.0}/s: memory by tenths {} MiB",
        scale.requests,
        mib.join(" ")
    );
    if let (Some(early), Some(late)) = (seen.get(1), seen.iter().skip(2).max()) {
        must(*late <= early + SLACK, || "memory grows with requests".to_owned())?;
    }
    settled(address, Duration::from_secs(10)).await
}
