//! Request bodies: read within limits of size and time, then parsed as JSON.

use std::time::Duration;

use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::error::Category;

use super::App;
use super::error::{ApiError, Dialect};
use crate::server::queue::Charge;

/// Bodies of at least this many bytes are parsed on a blocking thread.
const LONG: usize = 256 * 1024;

/// The request type of a route.
pub(crate) trait ApiRequest: DeserializeOwned + Send + 'static {
    /// The API whose conventions its errors follow.
    const DIALECT: Dialect;
}

/// Extractor: the request body, parsed as JSON.
pub(crate) struct Json<T>(pub T);

impl<T: ApiRequest> FromRequest<App> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        check_content_type(request.headers())?;
        let limits = &app.options;
        let read = read(request, limits.max_body_bytes, app);
        let body = tokio::time::timeout(limits.body_timeout, read);
        let (bytes, _charge) = body.await.map_err(|_| too_slow(limits.body_timeout))??;
        if bytes.len() < LONG {
            return parse(&bytes).map(Json);
        }
        let parsed = tokio::task::spawn_blocking(move || parse(&bytes)).await;
        parsed.map_err(|_| ApiError::internal("parsing the body panicked"))?.map(Json)
    }
}

/// Accepts every name of JSON, and a missing content type, which some clients do not send.
fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(given) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let given = given.to_str().unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_json = essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"));
    if is_json {
        return Ok(());
    }
    let message = format!("the content type is `{given}`; send JSON as `application/json`");
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message))
}

fn too_slow(limit: Duration) -> ApiError {
    let message = format!("the body did not arrive within {} s", limit.as_secs_f64());
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", message)
}

fn too_large(limit: usize) -> ApiError {
    let message = format!("the body has more than {limit} bytes; send fewer texts at a time");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
}

/// Reads the whole body. Bodies of all clients share a budget: the charge is held until the bytes are
/// parsed.
async fn read(request: Request, limit: usize, app: &App) -> Result<(Bytes, Charge), ApiError> {
    let mut body = request.into_body();
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large(limit));
    }
    let expected = usize::try_from(body.size_hint().lower()).unwrap_or(limit);
    let admit = app.bodies.admit(expected);
    let no_room = |_| {
        let message = "bodies of other requests fill the memory for bodies; retry";
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, "bodies_full", message)
            .retry_after(Duration::from_millis(200))
    };
    let mut charge = admit.map_err(no_room)?;
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            let message = format!("cannot read the body: {error}");
            ApiError::new(StatusCode::BAD_REQUEST, "body_unreadable", message)
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            return Err(too_large(limit));
        }
        bytes.extend_from_slice(&data);
        if bytes.len() > expected {
            charge.adjust(bytes.len()).map_err(no_room)?;
        }
    }
    Ok((bytes.freeze(), charge))
}

fn parse<T: ApiRequest>(bytes: &[u8]) -> Result<T, ApiError> {
    // serde would accept a list in place of an object, as its fields in order.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        let any = serde_json::from_slice::<IgnoredAny>(bytes);
        any.map_err(|error| not_json(bytes, &error))?;
        return Err(T::DIALECT.wrong("the body is JSON, but not an object; send an object"));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        match error.classify() {
            Category::Data => of_shape::<T>(&error, &path),
            _ => not_json(bytes, &error),
        }
    })?;
    json.end().map_err(|error| not_json(bytes, &error))?;
    Ok(value)
}

fn not_json(bytes: &[u8], error: &serde_json::Error) -> ApiError {
    let message = match bytes.is_empty() {
        true => "the body is empty; send a JSON object".to_owned(),
        false => format!("the body is not JSON: {error}"),
    };
    ApiError::new(StatusCode::BAD_REQUEST, "invalid_json", message)
}

/// The error for JSON of the wrong shape. `path` leads to the wrong value. For a missing, unknown or
/// duplicate field of the object itself, only serde's message names the field.
fn of_shape<T: ApiRequest>(error: &serde_json::Error, path: &str) -> ApiError {
    let message = error.to_string();
    let named = ["missing field `", "unknown field `", "duplicate field `"];
    let named = named.iter().find_map(|start| message.strip_prefix(start)?.split('`').next());
    let param = match (named, path) {
        (Some(field), "." | "") => field,
        (_, path) => path,
    }
    .to_owned();
    if matches!(param.as_str(), "." | "") {
        return T::DIALECT.wrong(message);
    }
    let message = if named.is_some() { message } else { format!("{param}: {message}") };
    T::DIALECT.wrong(message).param(param)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        number: u8,
        #[serde(default)]
        list: Vec<String>,
    }

    impl ApiRequest for Sample {
        const DIALECT: Dialect = Dialect::Tei;
    }

    #[test]
    fn errors_name_what_is_wrong_with_a_body() {
        let good: Sample = parse(br#" {"number": 3, "list": ["\u00e4"]} "#).unwrap();
        assert_eq!((good.number, good.list), (3, vec!["\u{e4}".to_owned()]));
        let syntax: &[&[u8]] = &[
            b"",
            b"{",
            br#"{"number": 3}{}"#,
            br#"{"number": NaN}"#,
            br#"{"number": 1e999}"#,
            br#"{"number": 3,}"#,
            br#"{"number": 3, "list": ["\ud800"]}"#,
            br#"{"number": 3, "list": ["\udc00\ud800"]}"#,
            b"{\"number\": 3, \"list\": [\"\xff\"]}",
            b"\xef\xbb\xbf{\"number\": 3}",
            &[b'['; 100_000],
        ];
        for body in syntax {
            let error = parse::<Sample>(body).unwrap_err();
            let start = String::from_utf8_lossy(&body[..body.len().min(40)]);
            assert_eq!(error.status(), StatusCode::BAD_REQUEST, "{start}");
            assert_eq!(error.code(), "invalid_json", "{start}");
        }
        let shapes = [
            ("{}", "number"),
            (r#"{"number": 3, "other": 1}"#, "other"),
            (r#"{"number": 3, "number": 3}"#, "number"),
            (r#"{"number": 300}"#, "number"),
            (r#"{"number": 3, "list": ["a", 5]}"#, "list[1]"),
        ];
        for (body, param) in shapes {
            let error = parse::<Sample>(body.as_bytes()).unwrap_err();
            assert_eq!(error.status(), StatusCode::UNPROCESSABLE_ENTITY, "{body}");
            let json: serde_json::Value = serde_json::from_slice(&error.json()).unwrap();
            assert_eq!(json["error"]["param"], param, "{body}");
        }
        assert_eq!(
            parse::<Sample>(b"null").unwrap_err().status(),
            StatusCode::UNPROCESSABLE_ENTITY
        );
    }
}
