//! Connections: accepted up to a number, each with a limit to its patience, and finished before the
//! server ends.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::server::routes::{ApiError, App, router};

/// The head of a request and what is read of its body at once.
const BUFFER: usize = 64 << 10;
/// After an error of the listener, as when no more files may be open.
const REST: Duration = Duration::from_millis(50);
/// Connections on which nothing has come for so long since the server is to stop are closed.
const QUIET: Duration = Duration::from_millis(250);
/// For saying no to a connection too many.
const REFUSAL: Duration = Duration::from_millis(500);
/// Connections that are told no at once; others are closed without a word.
const REFUSALS: usize = 64;

/// Accepts connections until `stop`, and finishes what they have sent. Returns how many requests were
/// not answered in the time for that.
pub(crate) async fn serve(
    listener: TcpListener,
    app: App,
    mut stop: watch::Receiver<bool>,
) -> usize {
    let router = router(app.clone());
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(app.options.max_connections.min(Semaphore::MAX_PERMITS)));
    let refusals = Arc::new(Semaphore::new(REFUSALS));
    let accept = |stream: TcpStream| match places.clone().try_acquire_owned() {
        Ok(place) => {
            let connection = connection(stream, router.clone(), &app);
            let connection = graceful.watch(connection);
            let counted = app.metrics.connection();
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection ended");
                }
                drop((place, counted));
            });
        }
        Err(_) => {
            app.metrics.connection_refused();
            if let Ok(permit) = refusals.clone().try_acquire_owned() {
                tokio::spawn(async move {
                    let _ = tokio::time::timeout(REFUSAL, refuse(stream)).await;
                    drop(permit);
                });
            }
        }
    };
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => accept(stream),
                Err(error) => {
                    tracing::warn!(%error, "no connection can be accepted");
                    tokio::time::sleep(REST).await;
                }
            },
        }
    }
    app.stop();
    tracing::info!("stopping: what was accepted is finished");
    // Clients whose connection the system has taken already count as accepted.
    while let Ok(Ok((stream, _))) = tokio::time::timeout(Duration::ZERO, listener.accept()).await {
        accept(stream);
    }
    drop(listener);
    drain(&app, graceful).await
}

/// Waits until the server is to stop.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Its sender lives as long as the server; were it gone, that would be the end too.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// One connection, as HTTP/1.
fn connection(
    stream: TcpStream,
    router: Router,
    app: &App,
) -> http1::Connection<TokioIo<TcpStream>, TowerToHyperService<Router>> {
    // Small answers are not to wait for more.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY");
    }
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(app.options.header_timeout)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
}

/// Says that there are too many connections, and why closing it is no fault of the client.
async fn refuse(mut stream: TcpStream) {
    let error =
        ApiError::unavailable("too_many_connections", "too many connections are open; try again");
    let body = error.json();
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         retry-after: 1\r\nretry-after-ms: 1000\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let written = async {
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&body).await?;
        stream.shutdown().await?;
        // Closed before the client has sent all, it would not read what it was told.
        let mut rest = [0; 4096];
        while stream.read(&mut rest).await? > 0 {}
        Ok::<(), std::io::Error>(())
    };
    if let Err(error) = written.await {
        tracing::debug!(%error, "a connection was refused");
    }
}

/// Waits until no request is in flight and none has come for a while, then until connections are
/// closed; all of it no longer than the time for it.
///
/// Answers say `connection: close` by now, so that clients that keep asking leave by themselves, and
/// no connection is closed on a request that is already on its way.
async fn drain(app: &App, graceful: GracefulShutdown) -> usize {
    let end = Instant::now() + app.options.drain;
    let mut quiet_since = Instant::now();
    let mut seen = app.metrics.requests_seen();
    while graceful.count() > 0 && Instant::now() < end && quiet_since.elapsed() < QUIET {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let now = app.metrics.requests_seen();
        if app.metrics.requests_in_flight() > 0 || now != seen {
            (quiet_since, seen) = (Instant::now(), now);
        }
    }
    let abandoned = app.metrics.requests_in_flight();
    if abandoned == 0 {
        // Idle ones close at once; one that has sent half a head is not worth waiting for.
        let _ = tokio::time::timeout(QUIET, graceful.shutdown()).await;
    }
    abandoned
}
