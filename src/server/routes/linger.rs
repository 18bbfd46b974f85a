//! Bodies that were refused before they had come whole.
//!
//! A system that closes a connection on bytes nobody has read resets it, and a client that is still
//! sending then learns of a broken connection, not why it was refused. So what is left of a body is
//! taken in, for a while, and thrown away; the answer does not wait for it.

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

/// Clients that send for longer after they were refused are cut off.
const PATIENCE: Duration = Duration::from_secs(5);

/// Takes in what a route leaves of the body.
pub(crate) async fn linger(request: Request) -> Request {
    let asks_first = request.headers().contains_key(EXPECT);
    request.map(|body| Body::new(Lingering { body, wanted: !asks_first, ended: false }))
}

struct Lingering {
    body: Body,
    /// The client sends it: at once, or because it has been read from. One that asks first would be
    /// told to go on by the reading itself.
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
        runtime.spawn(tokio::time::timeout(PATIENCE, async move {
            while let Some(Ok(_)) = rest.frame().await {}
        }));
    }
}
