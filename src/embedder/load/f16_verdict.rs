//! Finds the verdict that `vectile verify` stored: whether f16 is safe for a model.
//!
//! The file name of a verdict contains a digest of the model's small files and of the headers of its weights. The
//! look-up is therefore cheap if no verdict is stored. A stored verdict applies only if the digest of all bytes of the
//! weights matches too. After the weights change, the stored verdict no longer applies.

use std::path::Path;

use crate::dtype::F16Verdict;
use crate::embedder::load::f16_record::{F16Record, read_f16_record};
use crate::embedder::model::Model;
use crate::error::Error;

/// Returns the record of this model in the cache directory, or else the record in the model's directory. Returns `None`
/// if neither exists.
///
/// # Errors
/// Returns [`Error::File`] if the model's files can no longer be read.
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

/// Returns the stored verdict on whether f16 is safe for this model.
///
/// # Errors
/// Returns the errors of [`record`].
pub(super) fn read(model: &Model, cache: Option<&Path>) -> Result<Option<F16Verdict>, Error> {
    Ok(record(model, cache)?.map(|record| record.verdict))
}
