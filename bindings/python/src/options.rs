//! The settings of a load and those of a call. Python passes each of them as a dictionary that has all keys.

use std::path::PathBuf;

use pyo3::prelude::*;
use vectile::{
    AdapterChoice, EmbedOptions, Error, Feature, HubOptions, ModelBuilder, ModelFiles,
    RerankOptions, TextModel,
};

use crate::error::OrRaise;

/// An adapter: its index, `cpu`, or a part of its name.
#[derive(FromPyObject, Clone)]
pub enum AdapterWord {
    Index(usize),
    Name(String),
}

impl From<AdapterWord> for AdapterChoice {
    fn from(word: AdapterWord) -> Self {
        match word {
            AdapterWord::Index(index) => AdapterChoice::Index(index),
            // The CPU needs no driver, and a search by name would open every driver.
            AdapterWord::Name(name) if name == "cpu" => AdapterChoice::Cpu,
            AdapterWord::Name(name) => AdapterChoice::Name(name),
        }
    }
}

/// The place from which a model is loaded.
#[derive(FromPyObject, Clone)]
#[pyo3(from_item_all)]
pub struct Source {
    /// A directory, or the name of a repository of the Hub.
    name: String,
    hub: bool,
    revision: Option<String>,
    cache_folder: Option<PathBuf>,
    local_files_only: bool,
    token: Option<String>,
}

impl Source {
    pub fn files(&self) -> Result<ModelFiles, Error> {
        if !self.hub {
            return ModelFiles::from_directory(&self.name);
        }
        let own = HubOptions::from_env();
        let options = HubOptions {
            revision: self.revision.clone(),
            offline: own.offline || self.local_files_only,
            cache_dir: self.cache_folder.clone(),
            token: self.token.clone(),
            ..own
        };
        ModelFiles::from_hub_with(&self.name, &options)
    }
}

/// The options of a load.
#[derive(FromPyObject, Clone)]
#[pyo3(from_item_all)]
pub struct LoadOptions {
    dtype: String,
    pub adapter: Option<AdapterWord>,
    half_fallback: Option<String>,
    activations: Option<String>,
    disable: Vec<String>,
    batch_tokens: Option<usize>,
    pub max_memory: Option<u64>,
    lora_task: Option<String>,
    pub cache_dir: Option<PathBuf>,
}

impl LoadOptions {
    pub fn adapter(&self) -> AdapterChoice {
        self.adapter.clone().map_or(AdapterChoice::Best, AdapterChoice::from)
    }

    pub fn disabled(&self) -> Result<Vec<Feature>, Error> {
        self.disable.iter().map(|name| name.parse()).collect()
    }

    pub fn apply<M: TextModel>(&self, builder: ModelBuilder<M>) -> Result<ModelBuilder<M>, Error> {
        let mut builder =
            builder.dtype(self.dtype.parse()?).adapter(self.adapter()).disable(self.disabled()?);
        if let Some(fallback) = &self.half_fallback {
            builder = builder.half_fallback(fallback.parse()?);
        }
        if let Some(activations) = &self.activations {
            builder = builder.activations(activations.parse()?);
        }
        if let Some(tokens) = self.batch_tokens {
            builder = builder.batch_tokens(tokens);
        }
        if let Some(bytes) = self.max_memory {
            builder = builder.max_memory(bytes);
        }
        if let Some(task) = &self.lora_task {
            builder = builder.lora_task(task);
        }
        if let Some(directory) = &self.cache_dir {
            builder = builder.cache_dir(directory.clone());
        }
        Ok(builder)
    }
}

/// The options of a call that encodes inputs.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct CallOptions {
    /// The prompt itself, or the empty string for no prompt.
    prompt: String,
    task: Option<String>,
    truncate_dim: Option<usize>,
    normalize: bool,
    max_seq_length: Option<usize>,
    on_too_long: String,
    /// The number format of the result; `float32` if it is `None`.
    pub precision: Option<String>,
    /// For a reranker: is true if logits are returned instead of scores.
    logits: bool,
    /// For a sparse encoder: the maximum number of weights of a vector.
    pub max_active_dims: Option<usize>,
    /// Is true if an input with an error gets null instead of a row. Otherwise, such an input ends the call.
    pub null_on_error: bool,
}

impl CallOptions {
    pub fn embed(&self, py: Python<'_>) -> PyResult<EmbedOptions> {
        let task = self.task.as_deref().map(str::parse).transpose().or_raise(py)?;
        Ok(EmbedOptions {
            prompt: Some(self.prompt.clone()),
            task,
            truncate_dim: self.truncate_dim,
            normalize: self.normalize,
            max_seq_length: self.max_seq_length,
            on_too_long: self.on_too_long.parse().or_raise(py)?,
            ..EmbedOptions::default()
        })
    }

    pub fn rerank(&self, py: Python<'_>) -> PyResult<RerankOptions> {
        Ok(RerankOptions {
            prompt: Some(self.prompt.clone()),
            logits: self.logits,
            max_length: self.max_seq_length,
            on_too_long: self.on_too_long.parse().or_raise(py)?,
            ..RerankOptions::default()
        })
    }
}
