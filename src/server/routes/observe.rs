//! Counts, times and logs every request, and gives it an id.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::CONNECTION;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tracing::Instrument;

use super::App;
use crate::server::metrics::{Counted, Metrics};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Middleware that counts, times and logs a request, and sets `x-request-id` on its response.
pub(crate) async fn observe(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let id = own_or_new_id(request.headers());
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let route = match request.extensions().get::<MatchedPath>() {
        Some(path) => path.as_str().to_owned(),
        None => "other".to_owned(),
    };
    let method = known(request.method());
    let span = tracing::info_span!("request", id = id.to_str().unwrap_or_default(), method, %route);
    let in_flight = app.metrics.request_in_flight();
    let mut seen =
        Seen { metrics: app.metrics.clone(), route, method, since: Instant::now(), done: false };
    let mut response = next.run(request).instrument(span.clone()).await;
    let status = response.status();
    seen.answered(status.as_u16());
    let millis = seen.since.elapsed().as_secs_f64() * 1e3;
    span.in_scope(|| match status.as_u16() {
        _ if seen.is_probe() => tracing::debug!(status = status.as_u16(), millis, "answered"),
        500.. => tracing::error!(status = status.as_u16(), millis, "answered"),
        _ => tracing::info!(status = status.as_u16(), millis, "answered"),
    });
    response.headers_mut().insert(REQUEST_ID, id);
    if app.is_stopping() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    // The body holds the guard, so the request counts as in flight until its response is sent.
    response.map(|body| Body::new(Held { body, _in_flight: in_flight }))
}

/// Returns the client's id if it has 1 to 128 printable ASCII characters, or else a new id.
fn own_or_new_id(headers: &HeaderMap) -> HeaderValue {
    let own = headers.get(REQUEST_ID).filter(|id| {
        let id = id.as_bytes();
        (1..=128).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
    });
    own.cloned().unwrap_or_else(new_id)
}

/// Returns the id of a request that has passed [`observe`].
pub(super) fn request_id(headers: &HeaderMap) -> String {
    let id = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    id.unwrap_or_default().to_owned()
}

/// Returns a new id: 16 hexadecimal digits for the process and 16 for the request.
fn new_id() -> HeaderValue {
    static PROCESS: OnceLock<u64> = OnceLock::new();
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let process = PROCESS.get_or_init(|| RandomState::new().build_hasher().finish());
    let id = format!("{process:016x}{:016x}", NEXT.fetch_add(1, Ordering::Relaxed));
    // Hexadecimal digits are valid in a header, so this cannot fail.
    HeaderValue::try_from(id).unwrap_or_else(|_| HeaderValue::from_static("0"))
}

/// Returns the method's name as a label of metrics. All unknown methods share the label `OTHER`, so clients
/// cannot create new labels.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        _ => "OTHER",
    }
}

/// A request that is being answered. If this value is dropped before the request is answered, the client has
/// disconnected, and the request is counted with status 499.
struct Seen {
    metrics: Arc<Metrics>,
    route: String,
    method: &'static str,
    since: Instant,
    done: bool,
}

impl Seen {
    fn answered(&mut self, status: u16) {
        self.done = true;
        self.metrics.answered(&self.route, self.method, status, self.since.elapsed());
    }

    /// Returns true if monitoring programs poll this route. Such requests would flood the log, so they are logged only
    /// at level debug.
    fn is_probe(&self) -> bool {
        self.route.starts_with("/health") || self.route == "/metrics"
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        if !self.done {
            self.answered(499);
            let millis = self.since.elapsed().as_secs_f64() * 1e3;
            tracing::info!(route = self.route, millis, "client disconnected");
        }
    }
}

/// A response body whose request counts as in flight until the whole body is sent.
struct Held {
    body: Body,
    _in_flight: Counted,
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_ids_of_clients_are_kept_and_others_replaced() {
        let id = |given: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_bytes(given).unwrap());
            own_or_new_id(&headers)
        };
        assert_eq!(id(b"abc-123"), "abc-123");
        let [first, second] = [id(b"has space"), id(&[b'a'; 129])];
        assert!(first.len() == 32 && second.len() == 32 && first != second);
        assert_eq!(id("\u{e4}".as_bytes()).len(), 32);
    }
}
