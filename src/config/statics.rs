//! Reads the settings of models without a transformer: sentence-transformers' `StaticEmbedding` module, and model2vec
//! directories, which have no `modules.json`.

use crate::config::modules::MODULES;
use crate::config::{JsonFile, ModelConfig, Module};
use crate::error::Error;
use crate::files::ModelFiles;

/// The first module of a model, which tokenizes texts and computes a vector for each token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FirstModule {
    /// A transformer. Texts are tokenized as in the transformers library.
    Transformer,
    /// A table of token vectors. The rules of `tokenizer.json` are used unchanged, and no special tokens are added.
    StaticEmbedding,
    /// A table of token vectors with the rules of model2vec. Unknown tokens are dropped. Long texts are truncated to a
    /// number of characters, and then to a number of tokens.
    Model2vec,
}

impl FirstModule {
    /// Returns the name of the module for reports.
    pub fn module(self) -> &'static str {
        match self {
            FirstModule::Transformer => "Transformer",
            FirstModule::StaticEmbedding => "StaticEmbedding",
            FirstModule::Model2vec => "model2vec",
        }
    }
}

/// The maximum number of tokens of a text that model2vec uses by default.
const MAX_LENGTH: usize = 512;

/// Returns the `config.json` of a static model, or an empty config if there is none. model2vec writes this file, and a
/// `StaticEmbedding` module has none.
pub(super) fn load(files: &ModelFiles, prefix: &str) -> Result<JsonFile, Error> {
    let found = JsonFile::load(files, &format!("{prefix}config.json"))?;
    Ok(found.unwrap_or_else(|| JsonFile::new(MODULES, serde_json::Map::new())))
}

impl ModelConfig {
    /// Applies the rules of model2vec to a `StaticEmbedding` whose table holds 8-bit integers. model2vec writes a
    /// `modules.json` with such a table, but sentence-transformers cannot load the model.
    ///
    /// If model2vec did not write the model, this function changes nothing and returns false.
    pub fn read_as_model2vec(&mut self) -> Result<bool, Error> {
        if self.input != FirstModule::StaticEmbedding || !is_model2vec(&self.transformer)? {
            return Ok(false);
        }
        (self.max_seq_length, self.modules) = model2vec(&self.transformer)?;
        self.input = FirstModule::Model2vec;
        self.notes.push(format!(
            "{MODULES} is not used: the embedding table holds 8-bit integers, which sentence-transformers cannot load, so the model is read as model2vec reads it"
        ));
        Ok(true)
    }
}

/// Returns true if the `config.json` says that model2vec saved the model.
pub(super) fn is_model2vec(config: &JsonFile) -> Result<bool, Error> {
    let architectures = config.strings("architectures")?.unwrap_or_default();
    Ok(config.str("model_type")? == Some("model2vec") || architectures == ["StaticModel"])
}

/// Returns the maximum number of tokens, and the modules after mean pooling, that a model2vec config requests.
pub(super) fn model2vec(config: &JsonFile) -> Result<(Option<usize>, Vec<Module>), Error> {
    let max_length = match config.map.get("max_length") {
        None => Some(MAX_LENGTH),
        Some(value) if value.is_null() => None,
        Some(_) => Some(config.required_size("max_length")?),
    };
    let normalize = config.bool("normalize")?.unwrap_or(false);
    Ok((max_length, normalize.then_some(Module::Normalize).into_iter().collect()))
}
