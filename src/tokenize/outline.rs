//! Reads the parts of `tokenizer.json` that are needed before the tokenizers crate parses the file.

use serde::Deserialize;
use serde_json::Value;
use tokenizers::TruncationDirection;

use super::model2vec::Unknown;
use crate::error::Error;
use crate::files::sniff;

/// The maximum number of added tokens. Published tokenizers have a few thousand at most. The number is limited because
/// the tokenizer searches every text for each added token.
const MAX_ADDED_TOKENS: usize = 100_000;

/// The fields of `tokenizer.json` that this module reads and checks.
#[derive(Deserialize)]
pub(super) struct Outline {
    #[serde(default)]
    pub added_tokens: Vec<AddedToken>,
    pub truncation: Option<Truncation>,
    pub normalizer: Option<Value>,
    pub model: Option<Unknown>,
}

/// An entry of `added_tokens`.
#[derive(Deserialize)]
pub(super) struct AddedToken {
    pub content: String,
    #[serde(default)]
    pub special: bool,
}

/// The settings in the field `truncation`, which come from the tokenizer's training.
#[derive(Deserialize)]
pub(super) struct Truncation {
    #[serde(default)]
    pub direction: TruncationDirection,
    pub max_length: Option<usize>,
}

/// Returns the fields of a `tokenizer.json` that this module reads. Returns an error if the file is not a
/// `tokenizer.json`, or if it has too many added tokens.
pub(super) fn outline(file: &str, contents: &[u8]) -> Result<Outline, Error> {
    let outline: Outline = serde_json::from_slice(contents).map_err(|error| {
        let problem = match sniff(contents) {
            Some(what) => what.to_string(),
            None if contents.trim_ascii().is_empty() => "is empty".to_string(),
            None => format!("is not a tokenizer.json: {error}"),
        };
        Error::tokenizer(file, problem)
    })?;
    if outline.added_tokens.len() > MAX_ADDED_TOKENS {
        let problem = format!(
            "has {} added tokens; at most {MAX_ADDED_TOKENS} are allowed",
            outline.added_tokens.len()
        );
        return Err(Error::tokenizer(file, problem));
    }
    Ok(outline)
}
