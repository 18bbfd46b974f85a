//! Reads and discards the unread part of a request body if the response is sent early.
//!
//! If a connection is closed while it has unread data, the system resets it. A client that is still sending then sees a
//! broken connection instead of the error. The unread part of the body is therefore read and discarded for some time.
//! The response is sent without waiting for the end of the body.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::EXPECT;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::runtime::Handle;

/// The maximum time for which the unread part of a body is read before the connection is closed.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Wraps the body of a request. When the wrapper is dropped, the unread part of the body is read and discarded.
pub(crate) async fn linger(request: Request) -> Request {
    let asks_first = request.headers().contains_key(EXPECT);
    request.map(|body| Body::new(Lingering { body, wanted: !asks_first, ended: false }))
}

struct Lingering {
    body: Body,
    /// Is true if the unread part of the body may be read. A client that sent `expect: 100-continue` waits until the
    /// server starts to read. Reading would make this client send a body that is not needed.
    wanted: bool,
    ended: bool,
}

impl http_body::Body for Lingering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.wanted = true;
        let polled = Pin::new(&mut self.body).poll_frame(context);
        self.ended |= matches!(polled, Poll::Ready(None | Some(Err(_))));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        if self.ended || !self.wanted || self.body.is_end_stream() {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        let mut rest = std::mem::take(&mut self.body);
        runtime.spawn(tokio::time::timeout(TIMEOUT, async move {
            while let Some(Ok(_)) = rest.frame().await {}
        }));
    }
}
