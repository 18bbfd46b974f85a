//! Checks that clients that disconnect at any point leave neither memory nor open files behind.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::http::{self, Connection, written};
use super::{Found, Scale, bodies, metric, must, settled};
use crate::program::Program;
use crate::support::fixture;

const AT_ONCE: usize = 16;
/// The number of bytes that allocators may keep.
const SLACK: u64 = 8 << 20;

pub async fn check(scale: &Scale) -> Found {
    let program = Program::start(&[fixture("bert_mean_norm")], &[]);
    let address = program.address();
    let one = bodies(1, 3, 8).remove(0);
    let before = Connection::open(address).await?.post("/v1/embeddings", one.clone()).await?;
    // Allocators keep the memory that the first clients use, so memory is compared only from here on.
    disconnect(address, scale.disconnects.div_ceil(4), 1).await?;
    settled(address, Duration::from_secs(10)).await?;
    let files = rested(&program, None).await;
    let memory = program.resident();

    disconnect(address, scale.disconnects, 2).await?;
    settled(address, Duration::from_secs(10)).await?;
    let files_after = rested(&program, files).await;
    let memory_after = program.resident();
    let dropped = metric(address, "vectile_dropped_texts_total").await?;
    println!(
        "{} clients disconnected: memory {memory:?} to {memory_after:?} bytes, open files {files:?} to {files_after:?}; \
         {dropped} texts were dropped before they ran",
        scale.disconnects
    );
    must(files_after <= files, || "files or sockets stay open".to_owned())?;
    must(memory_after.unwrap_or(0) <= memory.unwrap_or(0) + SLACK, || {
        "memory is not released".to_owned()
    })?;
    let after = Connection::open(address).await?.post("/v1/embeddings", one).await?;
    must(before.status == 200 && before.body == after.body, || {
        "other vectors afterwards".to_owned()
    })
}

/// Returns the number of open files. Waits up to two seconds until it is as low as before, because the connection of
/// the latest request for metrics closes after its response.
async fn rested(program: &Program, before: Option<usize>) -> Option<usize> {
    let mut open = program.open_files();
    for _ in 0..20 {
        if open <= before {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        open = open.min(program.open_files());
    }
    open
}

/// Runs this many clients, some of them at once. Each disconnects at a random point of its request.
async fn disconnect(address: SocketAddr, clients: usize, seed: u64) -> Found {
    let requests: Vec<Vec<u8>> = bodies(8, 12, 24).iter().map(|body| written(body)).collect();
    let mut tasks = JoinSet::new();
    for worker in 0..AT_ONCE {
        let requests = requests.clone();
        let mut random = fastrand::Rng::with_seed(seed << 32 | worker as u64);
        let mine = clients / AT_ONCE + usize::from(worker < clients % AT_ONCE);
        tasks.spawn(async move {
            for _ in 0..mine {
                let request = &requests[random.usize(..requests.len())];
                // A third of the clients stop in the middle of their request.
                let sent =
                    if random.u8(..3) == 0 { random.usize(..request.len()) } else { request.len() };
                let patience = Duration::from_micros(random.u64(..30_000));
                let mut stream =
                    TcpStream::connect(address).await.map_err(|error| error.to_string())?;
                http::write(&mut stream, &request[..sent])
                    .await
                    .map_err(|error| error.to_string())?;
                tokio::time::sleep(patience).await;
            }
            Ok::<_, String>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.map_err(|error| error.to_string())??;
    }
    Ok(())
}
