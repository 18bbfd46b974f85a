//! Error responses, in the JSON format of OpenAI's API.

use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{Error, plain};
use crate::server::models::Refusal;

/// The header with the time to wait before a retry, in milliseconds. OpenAI's clients prefer this header to
/// `retry-after`.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// The body of every error response.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    error: ErrorObject,
}

/// Details of an error.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ErrorObject {
    /// A sentence that says what is wrong and how to fix it.
    #[schema(example = "`input` is missing")]
    message: String,
    /// Type of the error: `invalid_request_error`, `authentication_error`, `rate_limit_error` or
    /// `server_error`.
    #[schema(example = "invalid_request_error")]
    r#type: &'static str,
    /// Name of the request's field that is wrong, or null if the error is not about a field.
    #[schema(example = "input")]
    param: Option<String>,
    /// A code that programs can check.
    #[schema(example = "invalid_json")]
    code: Option<&'static str>,
}

/// An error response that was not sent yet.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    status: StatusCode,
    object: ErrorObject,
    retry_after: Option<Duration>,
}

/// The conventions that an API has for invalid requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    OpenAi,
    /// The API of Hugging Face's text-embeddings-inference.
    Tei,
    Ollama,
    Cohere,
}

impl Dialect {
    /// Returns the status for a request that is well-formed JSON but invalid.
    fn status(self) -> StatusCode {
        match self {
            Dialect::OpenAi | Dialect::Ollama | Dialect::Cohere => StatusCode::BAD_REQUEST,
            Dialect::Tei => StatusCode::UNPROCESSABLE_ENTITY,
        }
    }

    /// Returns true if the API's own server ignores unknown fields, as the JSON parsers of TEI and Ollama do.
    pub fn ignores_unknown_fields(self) -> bool {
        matches!(self, Dialect::Tei | Dialect::Ollama)
    }

    /// Returns true if the API's own server reads JSON whatever the content type is, as Ollama's server does. The
    /// curl examples in Ollama's documentation set no header, so curl sends
    /// `application/x-www-form-urlencoded`.
    pub fn takes_any_content_type(self) -> bool {
        self == Dialect::Ollama
    }

    /// Returns the error for an invalid request.
    pub fn wrong(self, message: impl Into<String>) -> ApiError {
        ApiError::new(self.status(), "invalid_value", message)
    }

    /// Returns the error for an invalid field.
    pub fn invalid(self, param: impl Into<String>, message: impl Into<String>) -> ApiError {
        self.wrong(message).param(param)
    }

    /// Returns the response for an error of the library.
    pub fn refused(self, error: &Error) -> ApiError {
        let message = error.to_string();
        match error {
            Error::Option { option, .. } => self.invalid(option.as_str(), message),
            Error::TooLong { text, .. } => {
                ApiError::new(self.status(), "context_length_exceeded", message)
                    .param(format!("input[{text}]"))
            }
            // The same text would fail again, so the status is a client error, which clients do not retry.
            Error::NonFinite { text, .. } => {
                ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "non_finite", message)
                    .param(format!("input[{text}]"))
            }
            Error::Tokenizer { .. } => {
                ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "tokenizer", message)
            }
            Error::Unsupported { .. } => ApiError::new(self.status(), "unsupported", message),
            Error::OutOfMemory { .. } => ApiError::unavailable("out_of_memory", message),
            Error::DeviceLost { .. } | Error::Adapter { .. } => {
                ApiError::unavailable("device_lost", message)
            }
            _ => ApiError::internal(message),
        }
    }

    /// Returns the response for a request that was refused or failed.
    pub fn error(self, refusal: Refusal) -> ApiError {
        match refusal {
            Refusal::Failed(error) => self.refused(&error),
            Refusal::Full { full, retry_after } => {
                let message = format!(
                    "the queue is full: {} of {} tokens are waiting, so this request does not fit; no \
                     part of it was processed; retry in {} ms",
                    full.used,
                    full.limit,
                    retry_after.as_millis()
                );
                ApiError::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", message)
                    .retry_after(retry_after)
            }
            Refusal::Stopped => {
                ApiError::unavailable("shutting_down", "the server is shutting down")
            }
        }
    }
}

impl ApiError {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let r#type = match status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            _ if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        // Messages quote the client's input, so `plain` escapes control characters.
        let message = plain(message);
        let object = ErrorObject { message, r#type, param: None, code: Some(code) };
        ApiError { status, object, retry_after: None }
    }

    pub fn param(mut self, param: impl Into<String>) -> Self {
        self.object.param = Some(plain(param));
        self
    }

    /// Replaces the library's name for an option or a list of texts by the name of the field in the request.
    pub fn renamed(mut self, ours: &str, theirs: &str) -> Self {
        match self.object.param.as_deref().and_then(|param| param.strip_prefix(ours)) {
            Some("") => {
                self.object.param = Some(theirs.to_owned());
                self.object.message = self.object.message.replacen(ours, theirs, 1);
            }
            Some(index) if index.starts_with('[') => {
                self.object.param = Some(format!("{theirs}{index}"));
            }
            _ => {}
        }
        self
    }

    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Returns the response 503 for a temporary failure, after which a retry may succeed.
    pub fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
            .retry_after(Duration::from_secs(1))
    }

    pub fn internal(message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    #[cfg(test)]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    #[cfg(test)]
    pub fn code(&self) -> &'static str {
        self.object.code.unwrap_or_default()
    }

    /// Returns the response body as JSON.
    pub fn json(self) -> Vec<u8> {
        // The body holds only strings, so serialization cannot fail.
        serde_json::to_vec(&ErrorBody { error: self.object }).unwrap_or_default()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, retry_after) = (self.status, self.retry_after);
        let json = HeaderValue::from_static("application/json");
        let mut response = (status, [(CONTENT_TYPE, json)], self.json()).into_response();
        if let Some(after) = retry_after {
            let millis = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            let headers = response.headers_mut();
            headers.insert(RETRY_AFTER, HeaderValue::from(millis.div_ceil(1000)));
            headers.insert(RETRY_AFTER_MS, HeaderValue::from(millis));
        }
        if status == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(axum::http::header::WWW_AUTHENTICATE, bearer);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_shape_that_clients_read() {
        let error = Dialect::OpenAi.invalid("input[3]", "is\nwrong");
        assert_eq!(error.status(), StatusCode::BAD_REQUEST);
        let body: serde_json::Value = serde_json::from_slice(&error.json()).unwrap();
        let expected = serde_json::json!({ "error": {
            "message": "is\\nwrong",
            "type": "invalid_request_error",
            "param": "input[3]",
            "code": "invalid_value",
        }});
        assert_eq!(body, expected);
        assert_eq!(Dialect::Tei.invalid("inputs", "").status(), StatusCode::UNPROCESSABLE_ENTITY);
    }

    #[test]
    fn temporary_errors_say_when_to_retry() {
        let error = ApiError::unavailable("device_lost", "gone");
        let response = error.retry_after(Duration::from_millis(1250)).into_response();
        assert_eq!(response.headers()[RETRY_AFTER], "2");
        assert_eq!(response.headers()[RETRY_AFTER_MS], "1250");
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
    }
}
