//! Request bodies: read within limits of size and time, then parsed as JSON.

mod parse;

use std::time::Duration;

use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;

use super::App;
use super::error::{ApiError, Dialect};
use crate::server::queue::Charge;
use parse::{Leniency, parse};

/// Bodies of at least this many bytes are parsed on a blocking thread.
const LONG: usize = 256 * 1024;

/// The request type of a route.
pub(crate) trait ApiRequest: DeserializeOwned + Send + 'static {
    /// The API whose conventions the errors of this route follow.
    const DIALECT: Dialect;
}

/// An extractor that returns the request body, parsed as JSON.
pub(crate) struct Json<T>(pub T);

impl<T: ApiRequest> FromRequest<App> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        if !T::DIALECT.takes_any_content_type() {
            check_content_type(request.headers())?;
        }
        let (body, _charge) = read_in_time(request, app).await?;
        parse_on_thread(body, app).await
    }
}

/// An extractor that returns the body as bytes, for a route whose request type depends on the content of the body.
pub(crate) struct JsonBytes {
    pub bytes: Bytes,
    _charge: Charge,
}

impl FromRequest<App> for JsonBytes {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        check_content_type(request.headers())?;
        let (bytes, _charge) = read_in_time(request, app).await?;
        Ok(JsonBytes { bytes, _charge })
    }
}

/// Parses a body, on a blocking thread if it is long.
pub(crate) async fn parse_on_thread<T: ApiRequest>(
    bytes: Bytes,
    app: &App,
) -> Result<Json<T>, ApiError> {
    let leniency = Leniency {
        ignore_unknown_fields: app.options.ignore_unknown_fields,
        lossy: app.options.lossy,
    };
    if bytes.len() < LONG {
        return parse(&bytes, leniency).map(Json);
    }
    let parsed = tokio::task::spawn_blocking(move || parse(&bytes, leniency)).await;
    parsed.map_err(|_| ApiError::internal("parsing the body panicked"))?.map(Json)
}

/// Reads a few fields of a body, on a blocking thread if it is long. Returns the default value if the body has no such
/// fields or if they cannot be parsed.
pub(crate) async fn peek<T>(bytes: Bytes) -> T
where
    T: DeserializeOwned + Default + Send + 'static,
{
    let read = |bytes: &[u8]| serde_json::from_slice(bytes).unwrap_or_default();
    if bytes.len() < LONG {
        return read(&bytes);
    }
    tokio::task::spawn_blocking(move || read(&bytes)).await.unwrap_or_default()
}

/// Checks that the content type is JSON. A request without a content type is accepted too, because some clients send no
/// content type.
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

async fn read_in_time(request: Request, app: &App) -> Result<(Bytes, Charge), ApiError> {
    let limits = &app.options;
    let read = read(request, limits.max_body_bytes, app);
    let body = tokio::time::timeout(limits.body_timeout, read);
    body.await.map_err(|_| too_slow(limits.body_timeout))?
}

/// Reads the whole body. The bodies of all clients are charged to one budget. The charge ends when the bytes are
/// parsed.
async fn read(request: Request, limit: usize, app: &App) -> Result<(Bytes, Charge), ApiError> {
    let mut body = request.into_body();
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large(limit));
    }
    let expected = usize::try_from(body.size_hint().lower()).unwrap_or(limit);
    let admit = app.bodies.admit(expected);
    let no_room = |_| {
        let message = "the bodies of other requests fill the memory for request bodies; retry";
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
