//! What was found out about adapters and models, kept in small files of the cache directory.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::dtype::F16Verdict;
#[cfg(feature = "lab")]
use crate::error::Error;
use crate::files::ModelFiles;
use crate::kernels::tuned::Tuned;

/// Verdicts of the f16 self-test by adapter.
const FILE: &str = "shader-f16.json";

/// A verdict on f16 that lies beside a model's own files.
const BESIDE: &str = "vectile-f16.json";

/// Longer files are not ours.
const MOST: u64 = 64 << 10;

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
    if let Err(error) = replace(&cache.join(FILE), &json) {
        tracing::debug!(%error, "the self-test's verdict was not kept");
    }
}

/// Which forms of kernels were fastest, by adapter.
const TUNED: &str = "kernels.json";

fn all_tuned(cache: &Path) -> BTreeMap<String, Tuned> {
    let bytes = std::fs::read(cache.join(TUNED)).unwrap_or_default();
    // As good as none where it is not ours: what suits the class of adapter is taken then.
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// What was found on an adapter under a key, if anything.
pub(crate) fn read_tuned(cache: &Path, key: &str) -> Option<Tuned> {
    all_tuned(cache).remove(key)
}

/// Keeps what was found, beside what is known of other work; returns the file.
///
/// # Errors
/// [`Error::File`] where it cannot be written.
#[cfg(feature = "lab")]
pub(crate) fn write_tuned(cache: &Path, key: &str, found: Tuned) -> Result<PathBuf, Error> {
    let path = cache.join(TUNED);
    let mut all = all_tuned(cache);
    all.entry(key.to_owned()).or_default().take(found);
    let written = serde_json::to_vec_pretty(&all)
        .map_err(io::Error::from)
        .and_then(|json| replace(&path, &json));
    match written {
        Ok(()) => Ok(path),
        Err(error) => {
            Err(Error::file(path.display().to_string(), format!("cannot be written: {error}")))
        }
    }
}

/// Longer files of pipelines are not ours, and none is written.
const MOST_PIPELINES: usize = 256 << 20;

/// What a file of compiled pipelines holds.
pub(crate) fn read_pipelines(path: &Path) -> Option<Vec<u8>> {
    let bytes = std::fs::metadata(path).ok()?.len();
    (bytes <= MOST_PIPELINES as u64).then(|| std::fs::read(path).ok()).flatten()
}

/// Keeps compiled pipelines. A cache that cannot be written costs compiling at the next load, nothing more.
pub(crate) fn write_pipelines(path: &Path, bytes: &[u8]) {
    if bytes.len() > MOST_PIPELINES {
        return;
    }
    if let Err(error) = replace(path, bytes) {
        tracing::debug!(%error, "compiled pipelines were not kept");
    }
}

/// What was measured of a model's range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct F16Record {
    /// What messages call the model, for people who look into the file.
    pub model: String,
    /// The model's name among verdicts.
    pub name: String,
    /// SHA-256 of its weights: of any others the verdict says nothing.
    pub weights_sha256: String,
    /// Texts that were measured.
    pub texts: usize,
    /// Tokens of them.
    pub tokens: usize,
    /// The verdict.
    pub verdict: F16Verdict,
}

/// Where a model's record lies in a cache directory.
pub(crate) fn f16_record_path(cache: &Path, name: &str) -> PathBuf {
    cache.join(format!("f16-{name}.json"))
}

/// The records that may be of this model: the cache's, then the one beside its files. What cannot
/// be read or is not ours is as good as none.
pub(crate) fn read_f16_record(
    files: &ModelFiles,
    cache: Option<&Path>,
    name: &str,
) -> Vec<F16Record> {
    let kept = cache.and_then(|cache| std::fs::read(f16_record_path(cache, name)).ok());
    let beside = files.read(BESIDE, MOST).ok().flatten();
    let record = |bytes: Vec<u8>| serde_json::from_slice::<F16Record>(&bytes).ok();
    [kept, beside].into_iter().flatten().filter_map(record).collect()
}

/// Writes a record into a cache directory or beside a model's files.
///
/// # Errors
/// What the file system says.
#[cfg(feature = "lab")]
pub(crate) fn write_f16_record(path: &Path, record: &F16Record) -> io::Result<()> {
    let mut json = serde_json::to_vec_pretty(record)?;
    json.push(b'\n');
    replace(path, &json)
}

impl ModelFiles {
    /// Where a verdict on f16 lies beside the model's files; `None` for files in memory.
    #[cfg(feature = "lab")]
    pub(crate) fn f16_record_path(&self) -> Option<PathBuf> {
        self.directory().map(|root| root.join(BESIDE))
    }
}

/// Writes a file whole or not at all.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let mut part = path.as_os_str().to_owned();
    part.push(format!(".{}", std::process::id()));
    std::fs::write(&part, content)?;
    std::fs::rename(&part, path)
}
