//! Checks a program that is told to stop under load. It must answer every request that it has received, and exit with
//! 0.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::http::{self, written};
use super::{Found, Scale, bodies, must};
use crate::program::Program;
use crate::support::fixture;

const CLIENTS: usize = 8;
/// The server must have read a request this long after the request's last byte was sent.
const GRACE: Duration = Duration::from_millis(150);
/// The maximum time for the program to end.
const LIMIT: Duration = Duration::from_secs(30);

/// A request and its result.
struct Sent {
    /// The time at which the request's last byte was sent.
    at: Instant,
    ended: Instant,
    answer: Result<u16, String>,
}

pub async fn check(scale: &Scale) -> Found {
    let mut random = fastrand::Rng::with_seed(3);
    let (mut answered, mut in_flight, mut slowest) = (0, 0, Duration::ZERO);
    for n in 0..scale.signals {
        let mut program = Program::start(&[fixture("bert_mean_norm")], &[]);
        let over = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            clients.spawn(load(program.address(), client, over.clone()));
        }
        tokio::time::sleep(Duration::from_millis(300 + random.u64(..400))).await;
        let signal = Instant::now();
        program.signal("TERM");
        let status = tokio::task::spawn_blocking(move || program.ended(LIMIT)).await;
        let status = status.map_err(|error| error.to_string())?;
        slowest = slowest.max(signal.elapsed());
        over.store(true, Ordering::SeqCst);
        let status = status.ok_or_else(|| format!("signal {n}: still there after {LIMIT:?}"))?;
        must(status.success(), || format!("signal {n}: {status}"))?;
        while let Some(sent) = clients.join_next().await {
            for one in sent.map_err(|error| error.to_string())? {
                match one.answer {
                    Ok(200) => {
                        answered += 1;
                        in_flight += usize::from(one.at < signal && one.ended > signal);
                    }
                    // The request was refused with a status, and not dropped.
                    Ok(429 | 503) => {}
                    Err(_) if one.at + GRACE > signal => {}
                    other => {
                        let since = signal.saturating_duration_since(one.at);
                        return Err(format!("signal {n}: sent {since:?} before it: {other:?}"));
                    }
                }
            }
        }
    }
    println!(
        "{} times SIGTERM: {answered} requests answered, {in_flight} of them in flight at the signal, none dropped; \
         the slowest exit took {slowest:?}",
        scale.signals
    );
    must(in_flight >= scale.signals, || "too few requests were in flight to tell".to_owned())
}

/// Sends one request after another until the server is gone.
async fn load(address: SocketAddr, client: usize, over: Arc<AtomicBool>) -> Vec<Sent> {
    let requests: Vec<Vec<u8>> = bodies(4, 24, 24).iter().map(|body| written(body)).collect();
    let mut all = Vec::new();
    let mut stream = None;
    for request in requests.iter().cycle().skip(client) {
        if over.load(Ordering::SeqCst) {
            break;
        }
        let mut open = match stream.take() {
            Some(open) => open,
            None => match TcpStream::connect(address).await {
                Ok(open) => open,
                Err(_) => break,
            },
        };
        if http::write(&mut open, request).await.is_err() {
            continue;
        }
        let at = Instant::now();
        let answer = http::read(&mut open).await;
        let ended = Instant::now();
        if answer.is_ok() {
            stream = Some(open);
        }
        all.push(Sent { at, ended, answer: answer.map(|answer| answer.status) });
    }
    all
}
