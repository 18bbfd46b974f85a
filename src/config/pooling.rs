//! Reads the settings of the `Pooling` module, in both of its file formats. Pooling computes one vector from token
//! vectors.

use serde_json::Value;

use crate::config::JsonFile;
use crate::error::Error;

/// The settings of a `Pooling` module.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pooling {
    /// The pooling modes, at least one. The results of several modes are concatenated in this order.
    pub modes: Vec<PoolingMode>,
    /// If false, every mode leaves out the prompt's tokens.
    pub include_prompt: bool,
    /// The width of a token vector. The pooled vector has this width times the number of modes.
    pub dimension: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PoolingMode {
    /// The vector of the first token that is not left out.
    Cls,
    Max,
    Mean,
    /// The sum of the token vectors, divided by the square root of the number of tokens.
    MeanSqrtLen,
    /// The mean of the token vectors, weighted by their positions in the text, which begin at 1. The tokens of a prompt
    /// have positions even if pooling leaves out the prompt.
    WeightedMean,
    LastToken,
}

/// For each mode, its name before version 6 of sentence-transformers, and its name since version 6. The results of
/// several modes are concatenated in the order of this list.
const NAMES: [(&str, &str, PoolingMode); 6] = [
    ("pooling_mode_cls_token", "cls", PoolingMode::Cls),
    ("pooling_mode_max_tokens", "max", PoolingMode::Max),
    ("pooling_mode_mean_tokens", "mean", PoolingMode::Mean),
    ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens", PoolingMode::MeanSqrtLen),
    ("pooling_mode_weightedmean_tokens", "weightedmean", PoolingMode::WeightedMean),
    ("pooling_mode_lasttoken", "lasttoken", PoolingMode::LastToken),
];

const SUPPORTED: &str =
    "supported pooling modes are cls, max, mean, mean_sqrt_len_tokens, weightedmean and lasttoken";

impl Pooling {
    pub(super) fn parse(file: &JsonFile, notes: &mut Vec<String>) -> Result<Self, Error> {
        refuse_unknown_fields(file)?;
        let dimension = if file.has("embedding_dimension") || !file.has("word_embedding_dimension")
        {
            file.required_width("embedding_dimension")?
        } else {
            file.required_width("word_embedding_dimension")?
        };
        Ok(Pooling {
            modes: modes(file, notes)?,
            include_prompt: file.bool("include_prompt")?.unwrap_or(true),
            dimension,
        })
    }

    /// Returns the width of the pooled vector.
    pub fn output_dimension(&self) -> usize {
        self.dimension.saturating_mul(self.modes.len())
    }
}

/// Returns the pooling modes. The field `pooling_mode` takes precedence over the older fields, as in
/// sentence-transformers.
fn modes(file: &JsonFile, notes: &mut Vec<String>) -> Result<Vec<PoolingMode>, Error> {
    if let Some(Value::String(name)) = file.raw("pooling_mode") {
        return Ok(vec![mode(file, name)?]);
    }
    if let Some(names) = file.strings("pooling_mode")? {
        if names.is_empty() {
            return Err(file.error("pooling_mode", format!("is empty; {SUPPORTED}")));
        }
        return names.into_iter().map(|name| mode(file, name)).collect();
    }
    let mut modes = Vec::new();
    for (old, _, mode) in NAMES {
        if file.bool(old)?.unwrap_or(false) {
            modes.push(mode);
        }
    }
    if modes.is_empty() {
        notes.push(format!(
            "{}: no pooling mode is set, so mean pooling is used, as in sentence-transformers",
            file.name
        ));
        modes.push(PoolingMode::Mean);
    }
    Ok(modes)
}

fn mode(file: &JsonFile, name: &str) -> Result<PoolingMode, Error> {
    let known = NAMES.iter().find(|(_, new, _)| *new == name);
    known.map(|(.., mode)| *mode).ok_or_else(|| file.unsupported("pooling_mode", SUPPORTED))
}

/// Returns an error for an unknown field, because the field may request another kind of pooling.
fn refuse_unknown_fields(file: &JsonFile) -> Result<(), Error> {
    let other =
        ["embedding_dimension", "word_embedding_dimension", "pooling_mode", "include_prompt"];
    for field in file.map.keys() {
        let known = other.contains(&field.as_str()) || NAMES.iter().any(|(old, ..)| old == field);
        if !known {
            return Err(file.unsupported(field, SUPPORTED));
        }
    }
    Ok(())
}
