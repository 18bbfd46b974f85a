//! Sends many requests, either one after another on each connection or at a given rate.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::JoinSet;

use super::http::Connection;

const PATH: &str = "/v1/embeddings";

/// A finished request. The status 0 means that it got no response.
#[derive(Debug, Clone, Copy)]
pub struct Done {
    /// The time at which the request was due, from the start.
    pub due: Duration,
    /// The time from when the request was due to the last byte of its response.
    pub took: Duration,
    pub status: u16,
    /// Whether the response says when the client may retry.
    pub retry_after: bool,
}

/// Pause before a refused client sends again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Runs `workers` connections. Each sends its next request after it has the response to the last one.
pub async fn closed(
    address: SocketAddr,
    bodies: &[Bytes],
    workers: usize,
    time: Duration,
) -> Result<Vec<Done>, String> {
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for worker in 0..workers {
        let bodies = bodies.to_vec();
        tasks.spawn(async move {
            let mut connection = Connection::open(address).await?;
            let mut done = Vec::new();
            for body in bodies.iter().cycle().skip(worker) {
                let due = start.elapsed();
                if due >= time {
                    break;
                }
                let answer = connection.post(PATH, body.clone()).await?;
                let took = start.elapsed() - due;
                done.push(Done {
                    due,
                    took,
                    status: answer.status,
                    retry_after: answer.retry_after,
                });
                if answer.status == 429 {
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
            Ok::<_, String>(done)
        });
    }
    let mut all = Vec::new();
    while let Some(done) = tasks.join_next().await {
        all.extend(done.map_err(|error| error.to_string())??);
    }
    Ok(all)
}

/// Sends `rate` requests per second on average, without waiting for earlier responses. The times between requests are
/// exponential, as with many independent clients.
pub async fn paced(address: SocketAddr, bodies: &[Bytes], rate: f64, time: Duration) -> Vec<Done> {
    let start = Instant::now();
    let free: Arc<Mutex<Vec<Connection>>> = Arc::default();
    let mut tasks = JoinSet::new();
    let mut all = Vec::new();
    let mut random = fastrand::Rng::with_seed(5);
    let mut due = Duration::ZERO;
    for body in bodies.iter().cycle() {
        due += Duration::from_secs_f64(-(1.0 - random.f64()).ln() / rate);
        if due >= time {
            break;
        }
        tokio::time::sleep_until((start + due).into()).await;
        let (free, body) = (free.clone(), body.clone());
        tasks.spawn(async move {
            let kept = free.lock().ok().and_then(|mut free| free.pop()).filter(Connection::is_open);
            let asked = async {
                let mut connection = match kept {
                    Some(connection) => connection,
                    None => Connection::open(address).await?,
                };
                let answer = connection.post(PATH, body).await?;
                if let Ok(mut free) = free.lock() {
                    free.push(connection);
                }
                Ok::<_, String>((answer.status, answer.retry_after))
            };
            let (status, retry_after) = asked.await.unwrap_or_default();
            Done { due, took: start.elapsed() - due, status, retry_after }
        });
        while let Some(done) = tasks.try_join_next() {
            all.extend(done);
        }
    }
    while let Some(done) = tasks.join_next().await {
        all.extend(done);
    }
    all
}

/// Returns the requests that got this status.
pub fn with_status(done: &[Done], status: u16) -> Vec<Done> {
    done.iter().copied().filter(|one| one.status == status).collect()
}

/// Returns a quantile of the requests' times, or zero if there are none.
pub fn quantile(done: &[Done], share: f64) -> Duration {
    let mut took: Vec<Duration> = done.iter().map(|one| one.took).collect();
    took.sort_unstable();
    let at = ((took.len() as f64 * share).ceil() as usize).max(1) - 1;
    took.get(at.min(took.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// Returns a time as text in milliseconds.
pub fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}
