//! [`HubOptions`]: the addresses of the Hub and of its cache, and whether the network may be used.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// The progress of a download, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DownloadProgress {
    /// How many bytes of the model's files are already on the disk.
    pub done: u64,
    /// The size of all the model's files in bytes.
    pub total: u64,
}

/// Options of [`ModelFiles::from_hub_with`](crate::ModelFiles::from_hub_with).
///
/// The description of each optional field names the environment variable or the default that applies if the field is
/// `None`.
#[derive(Clone, Default)]
pub struct HubOptions {
    /// A branch, tag or commit. `None` means `main`.
    pub revision: Option<String>,
    /// If true, models come from the cache only, and no network connection is opened.
    pub offline: bool,
    /// The Hub's address. `None` means `HF_ENDPOINT`, or else <https://huggingface.co>.
    pub endpoint: Option<String>,
    /// The cache's directory. `None` means `HF_HUB_CACHE`, or else `hub` in `HF_HOME`.
    pub cache_dir: Option<PathBuf>,
    /// The access token. `None` means `HF_TOKEN`, or else the token that `hf auth login` stored.
    pub token: Option<String>,
    /// A function that is called after each downloaded piece, on the downloading thread.
    pub on_progress: Option<Arc<dyn Fn(DownloadProgress) + Send + Sync>>,
}

/// Formats the options without the access token.
impl fmt::Debug for HubOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubOptions")
            .field("revision", &self.revision)
            .field("offline", &self.offline)
            .field("endpoint", &self.endpoint)
            .field("cache_dir", &self.cache_dir)
            .field("has_token", &self.token.is_some())
            .finish_non_exhaustive()
    }
}

impl HubOptions {
    /// Returns the options that environment variables set.
    ///
    /// `HF_HUB_OFFLINE`, or else `TRANSFORMERS_OFFLINE`, sets `offline` if its value is 1, true, yes or on. The other
    /// fields are `None`, so the variables that their descriptions name apply. The library reads no further environment
    /// variables.
    ///
    /// ```
    /// let options = vectile::HubOptions::from_env();
    /// assert!(options.revision.is_none());
    /// ```
    pub fn from_env() -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let value = set("HF_HUB_OFFLINE").or_else(|| set("TRANSFORMERS_OFFLINE"));
        HubOptions { offline: value.is_some_and(|value| is_true(&value)), ..HubOptions::default() }
    }
}

/// Returns true if the value of an environment variable enables a switch, by the rules of huggingface_hub.
fn is_true(value: &str) -> bool {
    ["1", "ON", "YES", "TRUE"].contains(&value.to_ascii_uppercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_are_read_as_in_huggingface_hub() {
        for (value, expected) in [
            ("1", true),
            ("true", true),
            ("Yes", true),
            ("ON", true),
            ("0", false),
            ("off", false),
            ("", false),
        ] {
            assert_eq!(is_true(value), expected, "{value:?}");
        }
    }
}
