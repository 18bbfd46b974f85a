//! Models without a transformer: sentence-transformers' `StaticEmbedding` module, and directories of
//! model2vec, which come without `modules.json`.

use crate::config::modules::MODULES;
use crate::config::{JsonFile, Module};
use crate::error::Error;
use crate::files::ModelFiles;

/// What turns texts into tokens and tokens into hidden states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// A transformer, whose tokens are those of transformers' tokenizers.
    Transformer,
    /// A table of token vectors, whose tokens are those of `tokenizer.json` as it stands, without
    /// special tokens.
    StaticEmbedding,
    /// The same by model2vec's rules: unknown tokens are left out, and long texts are cut to a number
    /// of characters before they are cut to a number of tokens.
    Model2vec,
}

impl Input {
    /// The module that does it.
    pub fn module(self) -> &'static str {
        match self {
            Input::Transformer => "Transformer",
            Input::StaticEmbedding => "StaticEmbedding",
            Input::Model2vec => "model2vec",
        }
    }
}

/// model2vec's own.
const MAX_LENGTH: usize = 512;

/// A `StaticEmbedding` module has no config; model2vec's may lie beside it.
pub(super) fn load(files: &ModelFiles, prefix: &str) -> Result<JsonFile, Error> {
    let found = JsonFile::load(files, &format!("{prefix}config.json"))?;
    Ok(found.unwrap_or_else(|| JsonFile::new(MODULES, serde_json::Map::new())))
}

/// True for the `config.json` of a model2vec directory.
pub(super) fn is_model2vec(config: &JsonFile) -> Result<bool, Error> {
    let architectures = config.strings("architectures")?.unwrap_or_default();
    Ok(config.str("model_type")? == Some("model2vec") || architectures == ["StaticModel"])
}

/// Tokens of a text, at most, and what follows the mean, as model2vec's config says.
pub(super) fn model2vec(config: &JsonFile) -> Result<(Option<usize>, Vec<Module>), Error> {
    let max_length = match config.map.get("max_length") {
        None => Some(MAX_LENGTH),
        Some(value) if value.is_null() => None,
        Some(_) => Some(config.required_size("max_length")?),
    };
    let normalize = config.bool("normalize")?.unwrap_or(false);
    Ok((max_length, normalize.then_some(Module::Normalize).into_iter().collect()))
}
