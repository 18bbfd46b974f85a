//! Reads the settings in a model's JSON files, with the rules and defaults of sentence-transformers.
//!
//! Two formats of the files are supported. Before version 6, sentence-transformers wrote the fields `pooling_mode_*`
//! and `max_seq_length`. Since version 6, it writes `pooling_mode` and `modality_config`, and the maximum length is in
//! `tokenizer_config.json`.

mod chat;
mod json;
mod kind;
mod modules;
mod multi_vector;
mod pooling;
mod scoring;
mod sparse;
mod statics;
mod transformer;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub(crate) use chat::ChatTemplate;
pub(crate) use json::{JsonFile, brief};
pub(crate) use kind::KindConfig;
pub use kind::ModelKind;
pub(crate) use modules::{DenseActivation, Module};
pub(crate) use multi_vector::{COLBERT_LINEAR, MultiVectorConfig, ProjectionKind};
pub(crate) use pooling::{Pooling, PoolingMode};
pub(crate) use scoring::{Answers, RerankerConfig};
pub(crate) use sparse::{SPARSE_LINEAR, SparseConfig, StaticQueries, Weighting};
pub(crate) use statics::FirstModule;
pub(crate) use transformer::tokenizer_arguments;

use crate::error::Error;
use crate::files::ModelFiles;
use crate::similarity::SimilarityFunction;
use modules::{
    MODULES, after_static, after_transformer, check_widths, check_widths_after, entries,
};

/// The settings of a model, after checks that they are consistent.
#[derive(Clone, Debug)]
pub(crate) struct ModelConfig {
    /// The settings that are specific to the kind of model.
    pub kind: KindConfig,
    /// The kind of the first module.
    pub input: FirstModule,
    /// The contents of the transformer's `config.json`.
    pub transformer: JsonFile,
    /// The name of the transformer module's class, if this class is Python code that is published with the model.
    pub module_code: Option<String>,
    /// The directory prefix of the transformer's files: empty, or `0_Transformer/`.
    pub weights_prefix: String,
    /// The maximum number of tokens of a text, special tokens included, determined as in sentence-transformers.
    pub max_seq_length: Option<usize>,
    /// True if texts are lowercased before the tokenizer's normalizer runs.
    pub do_lower_case: bool,
    /// The modules after the transformer, in the order in which they are applied. The first module is the pooling. For
    /// a static model, [`ModelConfig::pool_static`] adds the pooling.
    pub modules: Vec<Module>,
    /// The prompts by name. The prompts `query` and `document` always exist, and are empty if the model does not set
    /// them.
    pub prompts: BTreeMap<String, String>,
    pub default_prompt_name: Option<String>,
    pub truncate_dim: Option<usize>,
    /// The function that the field `similarity_fn_name` names. The value is `None` if the field is null or names a
    /// function for another kind of model.
    pub similarity: Option<SimilarityFunction>,
    /// The assumptions that Vectile made where the model's files give no value. The assumptions are shown to the user.
    pub notes: Vec<String>,
}

/// Returns the model's own directory, and then the directories that `modules.json` names. A download needs files from
/// all of these directories.
#[cfg(feature = "hub")]
pub(crate) fn module_paths(files: &ModelFiles) -> Result<Vec<String>, Error> {
    let entries = entries(files, &mut Vec::new())?.unwrap_or_default();
    let mut paths = vec![String::new()];
    for router in entries.iter().filter(|entry| entry.kind == "Router") {
        let routes = modules::Routes::load(files, router)?.routes;
        paths.extend(routes.into_iter().flat_map(|(_, route)| route).map(|entry| entry.path));
    }
    paths.extend(entries.into_iter().map(|entry| entry.path).filter(|path| !path.is_empty()));
    paths.dedup();
    Ok(paths)
}

/// The name of the file in which sentence-transformers stores the settings of the whole model.
pub(crate) const OPTIONS: &str = "config_sentence_transformers.json";

impl ModelConfig {
    /// Returns the settings of a model that will be loaded as a model of the given kind.
    pub fn load_as(files: &ModelFiles, kind: ModelKind) -> Result<Self, Error> {
        match kind {
            ModelKind::Dense => Self::load(files),
            ModelKind::Reranker => Self::load_scoring(files),
            ModelKind::Sparse => Self::load_sparse(files),
            ModelKind::MultiVector => Self::load_multi_vector(files),
        }
    }

    pub fn load(files: &ModelFiles) -> Result<Self, Error> {
        let mut notes = Vec::new();
        match entries(files, &mut notes)? {
            Some(entries) => Self::load_modules(files, &entries, notes),
            None => Self::load_bare(files, notes),
        }
    }

    fn load_modules(
        files: &ModelFiles,
        entries: &[modules::ModuleEntry],
        mut notes: Vec<String>,
    ) -> Result<Self, Error> {
        let Some((first, rest)) = entries.split_first() else {
            return Err(Error::file(MODULES, "lists no modules; download the model again"));
        };
        let prefix = match first.path.as_str() {
            "" => String::new(),
            path => format!("{path}/"),
        };
        match first.kind.as_str() {
            "Transformer" => {}
            "StaticEmbedding" => return Self::load_static(files, &prefix, rest, notes),
            other => {
                let supported = "the first module must be a Transformer or a StaticEmbedding";
                return Err(Error::unsupported(MODULES, "[0].type", other, supported));
            }
        }
        let transformer = transformer::load(files, &prefix)?;
        let settings = transformer::settings(files, &prefix, &transformer::TOKEN_EMBEDDINGS)?;
        let mut config = ModelConfig {
            kind: KindConfig::Dense,
            input: FirstModule::Transformer,
            max_seq_length: transformer::max_seq_length(
                files,
                &prefix,
                &transformer,
                settings.as_ref(),
            )?,
            do_lower_case: transformer::do_lower_case(settings.as_ref())?,
            modules: after_transformer(files, rest, &mut notes)?,
            weights_prefix: prefix,
            transformer,
            module_code: first.code.clone(),
            prompts: default_prompts(),
            default_prompt_name: None,
            truncate_dim: None,
            similarity: None,
            notes,
        };
        config.check_hidden_size()?;
        if let Some(options) = JsonFile::load(files, OPTIONS)? {
            config.apply_options(&options)?;
        }
        Ok(config)
    }

    /// Reads a transformer without `modules.json`. As in sentence-transformers, `config_sentence_transformers.json` and
    /// `sentence_bert_config.json` are ignored.
    fn load_bare(files: &ModelFiles, mut notes: Vec<String>) -> Result<Self, Error> {
        let transformer = transformer::load(files, "")?;
        if statics::is_model2vec(&transformer)? {
            let (max_seq_length, modules) = statics::model2vec(&transformer)?;
            notes.push(format!(
                "there is no {MODULES}, so unknown tokens are dropped and texts are cut as in model2vec"
            ));
            let config = Self::of_static(FirstModule::Model2vec, transformer, "", modules, notes);
            return Ok(ModelConfig { max_seq_length, ..config });
        }
        transformer::refuse_chat_template(files)?;
        let (mode, how) = transformer::bare_pooling(&transformer)?;
        notes.push(format!(
            "there is no {MODULES}, so vectors are made by {how} and not normalised, as in \
             sentence-transformers for a transformer without modules"
        ));
        let dimension = transformer::hidden_size(&transformer)?.ok_or_else(|| {
            transformer.error("hidden_size", "is missing; expected a whole number")
        })?;
        let pooling = Pooling { modes: vec![mode], include_prompt: true, dimension };
        Ok(ModelConfig {
            kind: KindConfig::Dense,
            input: FirstModule::Transformer,
            max_seq_length: transformer::max_seq_length(files, "", &transformer, None)?,
            do_lower_case: false,
            modules: vec![Module::Pooling(pooling)],
            weights_prefix: String::new(),
            transformer,
            module_code: None,
            prompts: default_prompts(),
            default_prompt_name: None,
            truncate_dim: None,
            similarity: None,
            notes,
        })
    }

    fn load_static(
        files: &ModelFiles,
        prefix: &str,
        rest: &[modules::ModuleEntry],
        mut notes: Vec<String>,
    ) -> Result<Self, Error> {
        let modules = after_static(files, rest, &mut notes)?;
        let transformer = statics::load(files, prefix)?;
        let mut config =
            Self::of_static(FirstModule::StaticEmbedding, transformer, prefix, modules, notes);
        if let Some(options) = JsonFile::load(files, OPTIONS)? {
            config.apply_options(&options)?;
        }
        Ok(config)
    }

    fn of_static(
        input: FirstModule,
        transformer: JsonFile,
        prefix: &str,
        modules: Vec<Module>,
        notes: Vec<String>,
    ) -> Self {
        ModelConfig {
            kind: KindConfig::Dense,
            input,
            transformer,
            module_code: None,
            weights_prefix: prefix.to_owned(),
            max_seq_length: None,
            do_lower_case: false,
            modules,
            prompts: default_prompts(),
            default_prompt_name: None,
            truncate_dim: None,
            similarity: None,
            notes,
        }
    }

    /// Inserts mean pooling before the other modules of a static model, whose files do not list the pooling. `width` is
    /// the width of the model's embedding table, which no config file states.
    pub fn pool_static(&mut self, width: usize) -> Result<(), Error> {
        let modes = vec![PoolingMode::Mean];
        let pooling = Pooling { modes, include_prompt: true, dimension: width };
        self.modules.insert(0, Module::Pooling(pooling));
        check_widths(&self.modules)
    }

    /// Sets the width of the vectors that pooling expects to `width`, if the model's files state `projected_from`. The
    /// transformer's own projection changes the width of hidden states from `projected_from` to `width`.
    pub fn pool_projected(&mut self, projected_from: usize, width: usize) {
        if let Some(Module::Pooling(pooling)) = self.modules.first_mut()
            && pooling.dimension == projected_from
        {
            pooling.dimension = width;
        }
    }

    /// Checks that the modules for token vectors accept hidden states of this width.
    pub fn check_token_widths(&self, hidden: usize) -> Result<(), Error> {
        check_widths_after(&self.modules, hidden)
    }

    fn check_hidden_size(&self) -> Result<(), Error> {
        let hidden = transformer::hidden_size(&self.transformer)?;
        let (Some(hidden), Some(Module::Pooling(pooling))) = (hidden, self.modules.first()) else {
            return Ok(());
        };
        // A checkpoint may project hidden states to `num_labels` values. The existence of this projection is checked
        // when the weights are read.
        let projected = self.transformer.usize("num_labels")?;
        if hidden == pooling.dimension || projected == Some(pooling.dimension) {
            return Ok(());
        }
        let problem = format!(
            "Pooling expects token vectors of {} values, but {} gives {hidden}",
            pooling.dimension, self.transformer.name
        );
        Err(Error::config(MODULES, "[1]", problem))
    }

    fn apply_prompts(&mut self, options: &JsonFile) -> Result<(), Error> {
        if let Some(prompts) = options.object("prompts")? {
            for name in prompts.map.keys() {
                let text = prompts.str(name)?.unwrap_or_default().to_string();
                self.prompts.insert(name.clone(), text);
            }
        }
        if let Some(name) = options.str("default_prompt_name")? {
            if !self.prompts.contains_key(name) {
                let known: Vec<&str> = self.prompts.keys().map(String::as_str).collect();
                let problem = format!(
                    "{name:?} is not a prompt of the model; its prompts are {}",
                    known.join(", ")
                );
                return Err(options.error("default_prompt_name", problem));
            }
            self.default_prompt_name = Some(name.to_string());
        }
        Ok(())
    }

    /// Reads the field `similarity_fn_name`. If the field names a function for another kind of model, the default is
    /// used, as in sentence-transformers.
    fn apply_similarity(&mut self, options: &JsonFile) -> Result<(), Error> {
        let name = options.str("similarity_fn_name")?;
        let all = SimilarityFunction::ALL.into_iter();
        self.similarity = name.and_then(|name| all.clone().find(|known| known.name() == name));
        Ok(())
    }

    fn apply_options(&mut self, options: &JsonFile) -> Result<(), Error> {
        if options.str("model_type")?.is_some_and(|kind| kind != "SentenceTransformer") {
            let supported = "only SentenceTransformer is supported, which gives one vector per \
                             text";
            return Err(options.unsupported("model_type", supported));
        }
        self.apply_prompts(options)?;
        if options.has("truncate_dim") {
            self.truncate_dim = Some(options.required_size("truncate_dim")?);
        }
        self.apply_similarity(options)?;
        Ok(())
    }
}

/// Returns an error if a model's head is stored only as a pickle, because Vectile never opens pickles.
fn pickled_head(files: &ModelFiles, name: &str) -> Result<(), Error> {
    let [weights, pickle] = ["safetensors", "pt"].map(|end| format!("{name}.{end}"));
    if files.exists(&weights)? {
        return Ok(());
    }
    let problem = format!(
        "is missing; {pickle} is a Python pickle, which can run code when it is opened. Convert it once, in the \
         model's directory: python -c \"import torch; from safetensors.torch import save_file; \
         save_file(torch.load('{pickle}', weights_only=True), '{weights}')\""
    );
    Err(Error::file(weights, problem))
}

/// Returns the prompts that `encode_query` and `encode_document` use if the model does not set them. Both are empty.
fn default_prompts() -> BTreeMap<String, String> {
    ["query", "document"].map(|name| (name.to_string(), String::new())).into()
}
