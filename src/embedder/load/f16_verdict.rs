//! Finds the verdict on f16 that `vectile verify` stored for a model.
//!
//! A verdict is found by a name, which is a digest of the model's small files and of the headers of its weights. This
//! is cheap if no verdict is stored. A stored verdict counts only if the digest of every byte of the weights matches
//! as well. A model that was changed in place therefore has no verdict.

use std::path::Path;

use crate::dtype::F16Verdict;
use crate::embedder::load::f16_record::{F16Record, read_f16_record};
use crate::embedder::model::Model;
use crate::error::Error;

/// Returns the record of this model in the cache directory, or else the record beside its files.
///
/// # Errors
/// [`Error::File`] if the model's files can no longer be read.
pub(in crate::embedder) fn record(
    model: &Model,
    cache: Option<&Path>,
) -> Result<Option<F16Record>, Error> {
    let name = model.verdict_name()?;
    let found = read_f16_record(&model.files, cache, &name);
    if found.is_empty() {
        return Ok(None);
    }
    let sha256 = model.weights_sha256()?;
    Ok(found.into_iter().find(|record| record.name == name && record.weights_sha256 == sha256))
}

/// Returns the stored verdict on this model.
///
/// # Errors
/// The errors of [`record`].
pub(super) fn read(model: &Model, cache: Option<&Path>) -> Result<Option<F16Verdict>, Error> {
    Ok(record(model, cache)?.map(|record| record.verdict))
}
