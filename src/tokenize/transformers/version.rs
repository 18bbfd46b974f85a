//! Determines the major version of transformers whose tokenization rules apply to a model.

use std::fmt;
use std::str::FromStr;

use crate::config::{JsonFile, OPTIONS};
use crate::error::Error;
use crate::files::ModelFiles;

/// The major version of Hugging Face's transformers library whose tokenization rules apply.
///
/// The two versions interpret some fields of the tokenizer's files differently. For example, if `add_eos_token` is
/// true, version 4 appends an end token to each text, and version 5 does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransformersVersion {
    /// The rules of transformers 4 and earlier.
    V4,
    /// The rules of transformers 5.
    V5,
}

impl fmt::Display for TransformersVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TransformersVersion::V4 => "4",
            TransformersVersion::V5 => "5",
        })
    }
}

impl FromStr for TransformersVersion {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "4" => Ok(TransformersVersion::V4),
            "5" => Ok(TransformersVersion::V5),
            _ => Err(Error::option(
                "transformers_version",
                format!("is {text:?}; supported: 4 and 5"),
            )),
        }
    }
}

impl TransformersVersion {
    /// Returns the other of the two versions.
    pub(super) fn other(self) -> Self {
        match self {
            TransformersVersion::V4 => TransformersVersion::V5,
            TransformersVersion::V5 => TransformersVersion::V4,
        }
    }

    /// Returns the version with which a model was published, and a description of the source of this information.
    ///
    /// The version is named by `transformers_version` in `config.json` and by `__version__.transformers` in
    /// `config_sentence_transformers.json`. If the two fields differ, the older version is used, because a newer
    /// version may have rewritten a file of a published model. If neither field exists, the model is older than the
    /// fields, and the result is version 4.
    pub(super) fn of_model(files: &ModelFiles, config: &JsonFile) -> Result<(Self, String), Error> {
        let options = JsonFile::load(files, OPTIONS)?;
        let versions =
            options.as_ref().map(|file| file.object("__version__")).transpose()?.flatten();
        let named = [
            (config.map.get("transformers_version"), &config.name, "transformers_version"),
            (
                versions.as_ref().and_then(|file| file.map.get("transformers")),
                &OPTIONS.to_owned(),
                "__version__.transformers",
            ),
        ];
        let found = named.into_iter().filter_map(|(value, file, field)| {
            let text = value?.as_str()?;
            let major: u32 = text.split('.').next()?.parse().ok()?;
            let version =
                if major >= 5 { TransformersVersion::V5 } else { TransformersVersion::V4 };
            Some((major, version, format!("{file}: `{field}` is {text}")))
        });
        Ok(match found.min_by_key(|(major, ..)| *major) {
            Some((_, version, source)) => (version, source),
            None => (
                TransformersVersion::V4,
                "no file of the model names a version of transformers".to_owned(),
            ),
        })
    }
}
