//! Accepts connections up to a maximum, and times out slow ones. When the server stops, open connections
//! may finish.

mod open_files;
mod stalled;

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
use stalled::Stalled;

/// Size of a connection's read buffer in bytes, which is also the maximum size of a request's head (request line and
/// headers).
const BUFFER_BYTES: usize = 64 << 10;
/// Pause after an error of the listener, for example when the limit on open files is reached.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Minimum time between two messages about errors of the listener, so that a lasting error does not fill the log.
const WARNING_PAUSE: Duration = Duration::from_secs(10);
/// A stopping server closes its connections when no request has arrived for this time.
const QUIET: Duration = Duration::from_millis(250);
/// Time limit for sending the error 503 to a client that exceeds the maximum number of connections.
const REFUSAL_TIMEOUT: Duration = Duration::from_millis(500);
/// Maximum number of clients to which the error 503 is sent at the same time. Further connections are closed without an
/// answer.
const MAX_REFUSALS: usize = 64;

/// Accepts connections until `stop` is set, then finishes the requests in flight. Returns how many requests
/// were still unanswered when the time `drain` ran out.
pub(crate) async fn serve(
    listener: TcpListener,
    app: App,
    mut stop: watch::Receiver<bool>,
) -> usize {
    let router = router(app.clone());
    let graceful = GracefulShutdown::new();
    let connections = open_files::fit(app.options.max_connections).min(Semaphore::MAX_PERMITS);
    let slots = Arc::new(Semaphore::new(connections));
    let refusals = Arc::new(Semaphore::new(MAX_REFUSALS));
    let accept = |stream: TcpStream| match slots.clone().try_acquire_owned() {
        Ok(slot) => {
            let connection = connection(stream, router.clone(), &app);
            let connection = graceful.watch(connection);
            let counted = app.metrics.connection();
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a client's connection ended with an error");
                }
                drop((slot, counted));
            });
        }
        Err(_) => {
            app.metrics.connection_refused();
            if let Ok(permit) = refusals.clone().try_acquire_owned() {
                tokio::spawn(async move {
                    let _ = tokio::time::timeout(REFUSAL_TIMEOUT, refuse(stream)).await;
                    drop(permit);
                });
            }
        }
    };
    let mut warned: Option<Instant> = None;
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => accept(stream),
                Err(error) => {
                    if warned.is_none_or(|warned| warned.elapsed() >= WARNING_PAUSE) {
                        tracing::warn!(
                            %error,
                            "the server cannot accept connections, and tries again; if too many files are open, raise \
                             the limit with `ulimit -n` or lower --max-connections"
                        );
                        warned = Some(Instant::now());
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    app.stop();
    tracing::info!("the server stops after it has answered all accepted requests");
    // The system has already accepted the connections in its backlog, so the server serves them too.
    while let Ok(Ok((stream, _))) = tokio::time::timeout(Duration::ZERO, listener.accept()).await {
        accept(stream);
    }
    drop(listener);
    drain(&app, graceful).await
}

/// Waits until the server is told to stop.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // The server owns the sender, so `wait_for` fails only if the server has ended.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Serves HTTP/1 on one connection.
fn connection(
    stream: TcpStream,
    router: Router,
    app: &App,
) -> http1::Connection<TokioIo<Stalled<TcpStream>>, TowerToHyperService<Router>> {
    // Without TCP_NODELAY, the system may delay small responses to merge them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let stream = Stalled::new(stream, app.options.body_timeout);
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(app.options.header_timeout)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
}

/// Answers 503 on a connection that exceeds the maximum number, and then closes the connection.
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
        // All data from the client is read before the connection is closed. If a connection closes with unread data,
        // the system resets it, and the client loses the response.
        let mut rest = [0; 4096];
        while stream.read(&mut rest).await? > 0 {}
        Ok::<(), std::io::Error>(())
    };
    if let Err(error) = written.await {
        tracing::debug!(%error, "the server could not tell a client that too many connections are \
                                 open");
    }
}

/// Waits until no request is in flight and none has arrived for [`QUIET`], then closes the connections.
/// Waits for at most the time `drain`. Returns the number of unanswered requests.
///
/// While the server stops, responses carry `connection: close`, so busy clients disconnect by themselves.
/// No connection is therefore closed while a request is on its way.
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
        // Idle connections close immediately. A connection with an incomplete request head is dropped after [`QUIET`].
        let _ = tokio::time::timeout(QUIET, graceful.shutdown()).await;
    }
    abandoned
}
