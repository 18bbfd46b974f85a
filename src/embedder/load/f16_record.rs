//! Stores the verdict of `vectile verify` on whether f16 is safe for a model, in a file in the cache directory or
//! beside the model.

#[cfg(feature = "lab")]
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::dtype::F16Verdict;
use crate::files::{ModelFiles, read_cached};

/// The name of the file in a model's directory that says whether f16 is safe for the model.
const BESIDE: &str = "vectile-f16.json";

/// The maximum length in bytes of a record in a model's directory. Vectile never writes a longer record.
const MAX_BYTES: u64 = 64 << 10;

/// The verdict of `vectile verify` on whether f16 is safe for a model, and the number of texts and tokens on which this
/// was measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct F16Record {
    /// The model's name, as messages show it, so that a person who reads the file can identify the model.
    pub model: String,
    /// The digest that is part of the record's file name in a cache directory; see `verdict_name`.
    pub name: String,
    /// The SHA-256 of the weights. The record does not apply to other weights.
    pub weights_sha256: String,
    /// The number of texts that were measured.
    pub texts: usize,
    /// The number of tokens in the measured texts.
    pub tokens: usize,
    /// The verdict on whether f16 is safe for the model.
    pub verdict: F16Verdict,
}

/// Returns the path of a model's record in a cache directory.
pub(crate) fn f16_record_path(cache: &Path, name: &str) -> PathBuf {
    cache.join(format!("f16-{name}.json"))
}

/// Returns the path of the record in the model's directory; `None` if the model's files are in memory.
#[cfg(feature = "lab")]
pub(crate) fn f16_record_beside(files: &ModelFiles) -> Option<PathBuf> {
    files.directory().map(|root| root.join(BESIDE))
}

/// Returns the records that may belong to this model: first the record in the cache directory, then the record beside
/// the model's files. A record that cannot be read or parsed is skipped.
pub(crate) fn read_f16_record(
    files: &ModelFiles,
    cache: Option<&Path>,
    name: &str,
) -> Vec<F16Record> {
    let cached = cache.and_then(|cache| read_cached(&f16_record_path(cache, name)));
    let beside = files.read(BESIDE, MAX_BYTES).ok().flatten();
    let record = |bytes: Vec<u8>| serde_json::from_slice::<F16Record>(&bytes).ok();
    [cached, beside].into_iter().flatten().filter_map(record).collect()
}

/// Writes a record to `path`.
///
/// # Errors
/// Returns an error of the file system if the record cannot be written.
#[cfg(feature = "lab")]
pub(crate) fn write_f16_record(path: &Path, record: &F16Record) -> io::Result<()> {
    let mut json = serde_json::to_vec_pretty(record)?;
    json.push(b'\n');
    crate::files::write_whole(path, &json)
}
