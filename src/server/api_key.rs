//! [`ApiKey`], a key that clients of a server must send.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// A key that clients send with their requests. Only the SHA-256 of the key is stored.
///
/// All comparisons take the same time, whatever the keys have in common: their digests have the same length, and every
/// byte is compared. Logs and `Debug` never show the key.
///
/// ```
/// use vectile::server::ApiKey;
///
/// assert_eq!(ApiKey::from("secret"), ApiKey::from("secret".to_owned()));
/// assert_eq!(format!("{:?}", ApiKey::from("secret")), "ApiKey(..)");
/// ```
#[derive(Clone)]
pub struct ApiKey {
    digest: [u8; 32],
}

impl ApiKey {
    pub(crate) fn new(key: &[u8]) -> Self {
        ApiKey { digest: Sha256::digest(key).into() }
    }
}

impl From<&str> for ApiKey {
    fn from(key: &str) -> Self {
        ApiKey::new(key.as_bytes())
    }
}

impl From<String> for ApiKey {
    fn from(key: String) -> Self {
        ApiKey::new(key.as_bytes())
    }
}

impl ConstantTimeEq for ApiKey {
    fn ct_eq(&self, other: &Self) -> Choice {
        #[cfg(test)]
        COMPARISONS.with(|count| count.set(count.get() + 1));
        self.digest.ct_eq(&other.digest)
    }
}

impl PartialEq for ApiKey {
    fn eq(&self, other: &Self) -> bool {
        self.ct_eq(other).into()
    }
}

impl Eq for ApiKey {}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(..)")
    }
}

#[cfg(test)]
thread_local! {
    /// Number of comparisons in constant time on this thread.
    pub(crate) static COMPARISONS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}
