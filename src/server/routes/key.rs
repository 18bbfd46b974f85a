//! Refuses requests without a valid API key.

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::{Choice, ConstantTimeEq};

use super::{ApiError, App};
use crate::server::api_key::ApiKey;

/// Middleware that refuses requests without a valid key, if the server has keys.
pub(super) async fn check_key(State(app): State<App>, request: Request, next: Next) -> Response {
    let keys = &app.options.api_keys;
    if keys.is_empty() || carries_key(request.headers(), keys) {
        return next.run(request).await;
    }
    let message = "a valid API key is needed: send one of the server's keys as \
                   `Authorization: Bearer KEY`";
    ApiError::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message).into_response()
}

/// Compares the given key with every valid key. The time depends neither on the position at which keys differ, nor
/// on which key is equal.
fn carries_key(headers: &HeaderMap, keys: &[ApiKey]) -> bool {
    let bearer = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.as_bytes().split_at_checked(7))
        .and_then(|(scheme, key)| scheme.eq_ignore_ascii_case(b"bearer ").then_some(key));
    let plain = headers.get("x-api-key").or_else(|| headers.get("api-key"));
    let Some(given) = bearer.or(plain.map(HeaderValue::as_bytes)) else { return false };
    let given = ApiKey::new(given);
    keys.iter().map(|key| key.ct_eq(&given)).fold(Choice::from(0), |any, this| any | this).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::api_key::COMPARISONS;

    fn carries(keys: &[ApiKey], name: &'static str, value: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_static(value));
        carries_key(&headers, keys)
    }

    #[test]
    fn keys_are_found_in_their_headers() {
        let keys = ["secret", "other"].map(ApiKey::from);
        let carries = |name, value| carries(&keys, name, value);
        assert!(carries("authorization", "Bearer secret"));
        assert!(carries("authorization", "bearer other"));
        assert!(carries("x-api-key", "secret") && carries("api-key", "other"));
        for value in ["Bearer secre", "Bearer secrets", "secret", "Bearer ", "Basic secret", ""] {
            assert!(!carries("authorization", value), "{value}");
        }
        assert!(!carries("cookie", "secret"));
    }

    /// If the search ended at the first equal key, or if it compared keys in another way, the count would differ.
    #[test]
    fn every_key_is_compared_in_constant_time_whatever_is_given() {
        let keys = ["first", "second", "third"].map(ApiKey::from);
        for (given, valid) in [("Bearer first", true), ("Bearer third", true), ("Bearer x", false)]
        {
            let before = COMPARISONS.get();
            assert_eq!(carries(&keys, "authorization", given), valid, "{given}");
            assert_eq!(COMPARISONS.get() - before, keys.len(), "{given}");
        }
    }
}
