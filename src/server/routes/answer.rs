//! Builds the JSON responses of all routes.

use std::sync::Arc;
use std::time::Instant;

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;

use super::error::ApiError;
use crate::server::metrics::Stage;
use crate::server::models::ServedModel;

/// Responses with at least this many numbers are serialized on a blocking thread.
const MANY: usize = 16 * 1024;

/// The header with the number of truncated texts, for APIs whose response body has no field for this
/// number.
const TRUNCATED: HeaderName = HeaderName::from_static("x-truncated-texts");

fn written<T: Serialize>(answer: &T) -> Result<Response, ApiError> {
    let body = serde_json::to_vec(answer)
        .map_err(|error| ApiError::internal(format!("cannot serialize the response: {error}")))?;
    Ok(json_text(body.into()))
}

/// Returns a response whose body is `body`, which must be JSON text.
pub(crate) fn json_text(body: Bytes) -> Response {
    let json = HeaderValue::from_static("application/json");
    ([(CONTENT_TYPE, json)], body).into_response()
}

/// Returns `answer` as a JSON response. The answer must be small, because it is serialized on this thread.
pub(crate) fn small<T: Serialize>(answer: &T) -> Result<Response, ApiError> {
    written(answer)
}

/// Returns a JSON response with `values` numbers. `answer` builds the content of the response.
pub(crate) async fn json<T: Serialize>(
    model: &Arc<ServedModel>,
    values: usize,
    answer: impl FnOnce() -> T + Send + 'static,
) -> Result<Response, ApiError> {
    let started = Instant::now();
    let response = if values < MANY {
        written(&answer())
    } else {
        let write = tokio::task::spawn_blocking(move || written(&answer()));
        write.await.map_err(|_| ApiError::internal("serializing the response panicked"))?
    };
    model.record(Stage::Write, started.elapsed());
    response
}

/// Adds to a response the header with the number of truncated texts, if there are any.
pub(crate) fn truncated_header(mut response: Response, texts: usize) -> Response {
    if texts > 0 {
        response.headers_mut().insert(TRUNCATED, HeaderValue::from(texts));
    }
    response
}
