//! Reads and discards the rest of a request body after an early response.
//!
//! Closing a connection with unread data resets it. A client that is still sending then sees a broken
//! connection instead of the error. The rest of the body is therefore read and discarded for a while. The
//! response is sent without waiting for it.

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

/// The time for which the rest of a body is read before the connection is closed.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Wraps the body, so that the part that the route leaves unread is read and discarded.
pub(crate) async fn linger(request: Request) -> Request {
    let asks_first = request.headers().contains_key(EXPECT);
    request.map(|body| Body::new(Lingering { body, wanted: !asks_first, ended: false }))
}

struct Lingering {
    body: Body,
    /// Whether the rest of the body may be read. If the client sent `expect: 100-continue`, it waits until
    /// the server starts to read. Reading then would tell it to send a body that nobody needs.
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
