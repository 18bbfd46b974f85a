//! Verdicts of the f16 self-test, kept in a small file of the cache directory.

use std::collections::BTreeMap;
use std::path::Path;

const FILE: &str = "shader-f16.json";

fn read(cache: &Path) -> BTreeMap<String, bool> {
    let bytes = std::fs::read(cache.join(FILE)).unwrap_or_default();
    // A file that cannot be read or is not ours is as good as none: the test runs again.
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// The verdict kept under a key, if there is one.
pub(crate) fn read_verdict(cache: &Path, key: &str) -> Option<bool> {
    read(cache).get(key).copied()
}

/// Keeps a verdict. A cache that cannot be written costs a test at the next load, nothing more.
pub(crate) fn write_verdict(cache: &Path, key: &str, passed: bool) {
    let mut verdicts = read(cache);
    verdicts.insert(key.to_owned(), passed);
    let Ok(json) = serde_json::to_vec_pretty(&verdicts) else { return };
    let part = cache.join(format!("{FILE}.{}", std::process::id()));
    let written = std::fs::create_dir_all(cache)
        .and_then(|()| std::fs::write(&part, json))
        .and_then(|()| std::fs::rename(&part, cache.join(FILE)));
    if let Err(error) = written {
        tracing::debug!(%error, "the self-test's verdict was not kept");
    }
}
