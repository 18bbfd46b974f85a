//! What `vectile verify` measured of a model's range and kept: found again by what the model is.
//!
//! A verdict is looked up by a name made of the small files and the headers of the weights, which
//! costs nothing where there is none. One that is found counts only if the digest of every byte of the
//! weights is the one that was measured: a model that was changed in place has no verdict.

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::dtype::F16Verdict;
use crate::embedder::f16_record::{F16Record, read_f16_record};
use crate::embedder::run::Model;
use crate::error::Error;
use crate::weights::{digest_source, hex};

impl Model {
    /// SHA-256 of every byte of the weights, the transformer's files first, in order of their names,
    /// then those of the modules. For a model of one file it is that file's.
    pub fn weights_sha256(&self) -> Result<String, Error> {
        let mut digest = Sha256::new();
        self.weights.digest_whole(&mut digest)?;
        for weights in self.module_weights.iter().flatten() {
            weights.digest_whole(&mut digest)?;
        }
        Ok(hex(digest))
    }

    /// SHA-256 of everything about the model that decides its vectors: what was read of its configuration, the
    /// tokenizer and every byte of the weights.
    pub fn fingerprint(&self) -> Result<String, Error> {
        let mut digest = Sha256::new_with_prefix(self.verdict_name()?);
        digest.update(format!("\n{:?}\n", self.config));
        digest.update(self.weights_sha256()?);
        Ok(hex(digest))
    }

    /// A name for the model's verdict that is cheap to make: version of Vectile, config, tokenizer,
    /// and the weights' names, lengths and headers.
    pub fn verdict_name(&self) -> Result<String, Error> {
        let mut digest = Sha256::new_with_prefix(env!("CARGO_PKG_VERSION"));
        let prefix = &self.config.weights_prefix;
        for name in ["config.json", "tokenizer.json"].map(|name| format!("{prefix}{name}")) {
            if let Some(source) = self.files.open(&name)? {
                digest.update(format!("\n{name} {}\n", source.len()));
                digest_source(&source, u64::MAX, &mut digest)?;
            }
        }
        self.weights.digest_headers(&mut digest)?;
        for weights in self.module_weights.iter().flatten() {
            weights.digest_headers(&mut digest)?;
        }
        Ok(hex(digest)[..32].to_owned())
    }
}

/// The record of this model in the cache directory, else the one that lies beside its files.
///
/// # Errors
/// [`Error::File`] where the model's files cannot be read any more.
pub(super) fn record(model: &Model, cache: Option<&Path>) -> Result<Option<F16Record>, Error> {
    let name = model.verdict_name()?;
    let found = read_f16_record(&model.files, cache, &name);
    if found.is_empty() {
        return Ok(None);
    }
    let sha256 = model.weights_sha256()?;
    Ok(found.into_iter().find(|record| record.name == name && record.weights_sha256 == sha256))
}

/// The verdict that is known of this model.
///
/// # Errors
/// As [`record`].
pub(super) fn read(model: &Model, cache: Option<&Path>) -> Result<Option<F16Verdict>, Error> {
    Ok(record(model, cache)?.map(|record| record.verdict))
}
