//! Reads models without a transformer: sentence-transformers' `StaticEmbedding` module and model2vec
//! directories, which have no `modules.json`.

use crate::config::modules::MODULES;
use crate::config::{JsonFile, ModelConfig, Module};
use crate::error::Error;
use crate::files::ModelFiles;

/// The part of a model that turns texts into tokens and tokens into hidden states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FirstModule {
    /// A transformer. Texts become the same tokens as in the transformers library.
    Transformer,
    /// A table of token vectors. `tokenizer.json` is used unchanged, and no special tokens are added.
    StaticEmbedding,
    /// Like `StaticEmbedding`, with the rules of model2vec. Unknown tokens are dropped. Long texts are cut to a number
    /// of characters, and then to a number of tokens.
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

/// Reads the optional config of a static model. model2vec writes one; a `StaticEmbedding` module has none.
pub(super) fn load(files: &ModelFiles, prefix: &str) -> Result<JsonFile, Error> {
    let found = JsonFile::load(files, &format!("{prefix}config.json"))?;
    Ok(found.unwrap_or_else(|| JsonFile::new(MODULES, serde_json::Map::new())))
}

impl ModelConfig {
    /// Applies the rules of model2vec to a `StaticEmbedding` whose table holds 8-bit integers. model2vec writes a
    /// `modules.json` beside such a table, but sentence-transformers does not load it.
    ///
    /// Returns false if model2vec did not write the model.
    pub fn read_as_model2vec(&mut self) -> Result<bool, Error> {
        if self.input != FirstModule::StaticEmbedding || !is_model2vec(&self.transformer)? {
            return Ok(false);
        }
        (self.max_seq_length, self.modules) = model2vec(&self.transformer)?;
        self.input = FirstModule::Model2vec;
        self.notes.push(format!(
            "{MODULES}: the table holds 8-bit integers, which sentence-transformers does not load; the model is read as model2vec reads it"
        ));
        Ok(true)
    }
}

/// Returns true if a `config.json` belongs to a model2vec directory.
pub(super) fn is_model2vec(config: &JsonFile) -> Result<bool, Error> {
    let architectures = config.strings("architectures")?.unwrap_or_default();
    Ok(config.str("model_type")? == Some("model2vec") || architectures == ["StaticModel"])
}

/// Returns the maximum number of tokens, and the modules after the mean, as model2vec's config requests them.
pub(super) fn model2vec(config: &JsonFile) -> Result<(Option<usize>, Vec<Module>), Error> {
    let max_length = match config.map.get("max_length") {
        None => Some(MAX_LENGTH),
        Some(value) if value.is_null() => None,
        Some(_) => Some(config.required_size("max_length")?),
    };
    let normalize = config.bool("normalize")?.unwrap_or(false);
    Ok((max_length, normalize.then_some(Module::Normalize).into_iter().collect()))
}
