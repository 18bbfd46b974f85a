//! Answers as JSON.

use std::sync::Arc;
use std::time::Instant;

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;

use super::error::ApiError;
use crate::server::metrics::Stage;
use crate::server::models::Model;

/// Answers of more values are written by a thread that may take its time.
const MANY: usize = 16 * 1024;

/// Texts that were cut, for APIs whose answers have no place for them.
const TRUNCATED: HeaderName = HeaderName::from_static("x-truncated-texts");

fn written<T: Serialize>(answer: &T) -> Result<Response, ApiError> {
    let body = serde_json::to_vec(answer)
        .map_err(|error| ApiError::internal(format!("the answer has no form in JSON: {error}")))?;
    Ok(json_text(body.into()))
}

/// JSON that is written already.
pub(crate) fn json_text(body: Bytes) -> Response {
    let json = HeaderValue::from_static("application/json");
    ([(CONTENT_TYPE, json)], body).into_response()
}

/// An answer of a few values.
pub(crate) fn small<T: Serialize>(answer: &T) -> Result<Response, ApiError> {
    written(answer)
}

/// An answer of `values` numbers, which `answer` makes.
pub(crate) async fn json<T: Serialize>(
    model: &Arc<Model>,
    values: usize,
    answer: impl FnOnce() -> T + Send + 'static,
) -> Result<Response, ApiError> {
    let started = Instant::now();
    let response = if values < MANY {
        written(&answer())
    } else {
        let write = tokio::task::spawn_blocking(move || written(&answer()));
        write.await.map_err(|_| ApiError::internal("writing the answer failed"))?
    };
    model.metrics.stage(Stage::Write, started.elapsed());
    response
}

/// Says how many texts were cut.
pub(crate) fn truncated_header(mut response: Response, texts: usize) -> Response {
    if texts > 0 {
        response.headers_mut().insert(TRUNCATED, HeaderValue::from(texts));
    }
    response
}
