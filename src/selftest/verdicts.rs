//! The verdicts of self-tests. A cache directory holds them in a file of the form `{"adapter and test": passed}`, and
//! this process remembers the tests that passed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::executor::Executor;
use crate::files::{read_cached, write_whole};
use crate::gpu::shader;
use crate::kernels::ALL;

const FILE: &str = "shader-f16.json";

/// The keys of tests that passed in this process. Without them, a program that loads many models without a cache
/// directory would compile the same tests at each load.
static PASSED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// True if a test with this key has passed in this process.
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

/// The verdict that is cached under a key, if any.
pub(super) fn read(cache: &Path, key: &str) -> Option<bool> {
    read_all(cache).get(key).copied()
}

/// Caches a verdict. If the cache cannot be written, the next load repeats the test.
pub(super) fn write(cache: &Path, key: &str, passed: bool) {
    let mut verdicts = read_all(cache);
    verdicts.insert(key.to_owned(), passed);
    let Ok(json) = serde_json::to_vec_pretty(&verdicts) else { return };
    if let Err(error) = write_whole(&cache.join(FILE), &json) {
        tracing::debug!(%error, "the verdict of a self-test was not cached");
    }
}

/// The key of a verdict about the adapter of an executor: the adapter, its driver, and a digest of all kernels' text.
pub(super) fn key(executor: &Executor) -> String {
    let sources: Vec<&str> = ALL.iter().map(|kernel| kernel.source).collect();
    format!("{} | kernels {}", executor.adapter().key(), shader::digest(&sources))
}
