//! Refuses requests that a proxy in front of the server might understand differently from the server. Adds headers to
//! every response that protect browsers.

use axum::extract::Request;
use axum::http::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, HOST, REFERRER_POLICY,
    TRANSFER_ENCODING, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::ApiError;

/// Headers that are added to a response if its route has not set them. With them, browsers neither guess another
/// content type, nor show the response in a frame, nor run a script in it.
const PROTECTION: [(HeaderName, HeaderValue); 4] = [
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    ),
];

/// Middleware that checks the head of a request and protects the response.
pub(super) async fn guard(request: Request, next: Next) -> Response {
    let (version, headers) = (request.version(), request.headers());
    let mut response = if let Err(error) = check_framing(version, headers) {
        let mut response = error.into_response();
        // The next bytes on the connection may be a request that somebody hid in this one.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        response
    } else if let Err(error) = check_coding(headers) {
        let mut response = error.into_response();
        response.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        response
    } else {
        next.run(request).await
    };
    for (name, value) in PROTECTION {
        response.headers_mut().entry(name).or_insert(value);
    }
    response
}

/// Checks the headers that say where a request ends and which host it is for. hyper has already refused a wrong
/// `content-length`. If a request has both `content-length` and `transfer-encoding`, hyper ignores the former and
/// closes the connection after the response, as RFC 9112 (section 6.1) requires.
fn check_framing(version: Version, headers: &HeaderMap) -> Result<(), ApiError> {
    let wrong = |message: String| {
        Err(ApiError::new(StatusCode::BAD_REQUEST, "invalid_request_head", message))
    };
    let hosts = headers.get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && version == Version::HTTP_11) {
        return wrong(format!("the request has {hosts} `host` headers; send exactly one"));
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let coding = codings.next().map(HeaderValue::as_bytes);
    let is_chunked = coding.is_none_or(|coding| coding.eq_ignore_ascii_case(b"chunked"));
    if !is_chunked || codings.next().is_some() {
        let message = "the only supported `transfer-encoding` is `chunked`; send it once, or send a \
                       `content-length` instead";
        return wrong(message.to_owned());
    }
    Ok(())
}

/// Refuses compressed bodies, which could be much larger than [`max_body_bytes`] after decompression.
///
/// [`max_body_bytes`]: crate::server::ServerOptions::max_body_bytes
fn check_coding(headers: &HeaderMap) -> Result<(), ApiError> {
    let other = |coding: &&HeaderValue| !coding.as_bytes().eq_ignore_ascii_case(b"identity");
    let Some(coding) = headers.get_all(CONTENT_ENCODING).iter().find(other) else { return Ok(()) };
    let message = format!(
        "the body has the content encoding `{}`; send it uncompressed",
        String::from_utf8_lossy(coding.as_bytes())
    );
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_content_encoding", message))
}
