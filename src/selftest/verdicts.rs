//! The results of self-tests. A cache directory holds them in a file such as `{"adapter and test": passed}`, and this
//! process remembers the tests that passed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::executor::Executor;
use crate::files::{read_cached, write_whole};
use crate::gpu::shader;
use crate::kernels::ALL;

const FILE: &str = "shader-f16.json";

/// The keys of tests that passed in this process. Without this set, a program that loads many models without a cache
/// directory would run the same tests at each load.
static PASSED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Is true if the test with this key has passed in this process.
pub(super) fn has_passed(key: &str) -> bool {
    PASSED.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
}

/// Remembers in this process that a test passed.
pub(super) fn remember_pass(key: &str) {
    PASSED.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned());
}

fn read_all(cache: &Path) -> BTreeMap<String, bool> {
    let bytes = read_cached(&cache.join(FILE)).unwrap_or_default();
    // A cache file that does not parse counts as empty, so the tests run again.
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// Returns whether the test with this key passed; `None` if the cache has no result.
pub(super) fn read(cache: &Path, key: &str) -> Option<bool> {
    read_all(cache).get(key).copied()
}

/// Caches whether the test with this key passed. If the cache cannot be written, the next load repeats the test.
pub(super) fn write(cache: &Path, key: &str, passed: bool) {
    let mut verdicts = read_all(cache);
    verdicts.insert(key.to_owned(), passed);
    let Ok(json) = serde_json::to_vec_pretty(&verdicts) else { return };
    if let Err(error) = write_whole(&cache.join(FILE), &json) {
        tracing::debug!(%error, "the result of a self-test was not cached");
    }
}

/// Returns the key of a test on the adapter of an executor: the adapter, its driver, and a digest of all kernels' WGSL
/// sources.
pub(super) fn key(executor: &Executor) -> String {
    let sources: Vec<&str> = ALL.iter().map(|kernel| kernel.source).collect();
    format!("{} | kernels {}", executor.adapter().key(), shader::digest(&sources))
}
