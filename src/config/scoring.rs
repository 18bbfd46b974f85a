//! A reranker's directory: what sentence-transformers' `CrossEncoder` reads of it.

use std::collections::BTreeMap;

use crate::config::modules::{MODULES, entries};
use crate::config::{DenseActivation, Input, JsonFile, ModelConfig, OPTIONS, Purpose, transformer};
use crate::error::Error;
use crate::files::ModelFiles;

/// What a reranker's files say beside its transformer.
#[derive(Clone, Debug)]
pub(crate) struct Scoring {
    /// Applied to the logits. `None` where the files name none: sigmoid for one label, else nothing.
    pub activation: Option<DenseActivation>,
}

impl ModelConfig {
    /// Reads a reranker. A `modules.json` counts only where `config_sentence_transformers.json` says
    /// that a `CrossEncoder` was saved; otherwise the transformer in the directory itself is the model.
    pub fn load_scoring(files: &ModelFiles) -> Result<Self, Error> {
        let mut notes = Vec::new();
        let saved = saved_options(files)?;
        let listed = match saved {
            Some(_) => entries(files, &mut notes)?,
            None => None,
        };
        let first = listed.as_ref().and_then(|entries| entries.first());
        let module_code = first.and_then(|entry| entry.code.clone());
        let (prefix, options) = match (listed, saved) {
            (Some(entries), Some(options)) => (only_transformer(&entries)?, Some(options)),
            _ => (String::new(), None),
        };
        let config = transformer::load(files, &prefix)?;
        let settings = match options {
            Some(_) => transformer::settings(files, &prefix, &transformer::SCORES)?,
            None => {
                transformer::refuse_chat_template(files)?;
                None
            }
        };
        let activation = score_activation(options.as_ref(), &config)?;
        let mut model = ModelConfig {
            purpose: Purpose::Scores(Scoring { activation }),
            input: Input::Transformer,
            max_seq_length: transformer::max_seq_length(
                files,
                &prefix,
                &config,
                settings.as_ref(),
            )?,
            do_lower_case: transformer::do_lower_case(settings.as_ref())?,
            modules: Vec::new(),
            weights_prefix: prefix,
            transformer: config,
            module_code,
            prompts: BTreeMap::new(),
            default_prompt_name: None,
            truncate_dim: None,
            similarity: None,
            notes,
        };
        if let Some(options) = &options {
            model.apply_prompts(options)?;
        }
        Ok(model)
    }
}

/// `config_sentence_transformers.json`, where it is a `CrossEncoder`'s.
fn saved_options(files: &ModelFiles) -> Result<Option<JsonFile>, Error> {
    let Some(options) = JsonFile::load(files, OPTIONS)? else { return Ok(None) };
    let is = options.str("model_type")? == Some("CrossEncoder");
    Ok(is.then_some(options))
}

fn only_transformer(entries: &[super::modules::Entry]) -> Result<String, Error> {
    let supported = "a reranker is one Transformer with a sequence classification head";
    for (at, entry) in entries.iter().enumerate() {
        if (at, entry.kind.as_str()) != (0, "Transformer") {
            let field = format!("[{at}].type");
            return Err(Error::unsupported(MODULES, field, &entry.kind, supported));
        }
    }
    match entries.first().map(|entry| entry.path.as_str()) {
        None => Err(Error::file(MODULES, "lists no modules; download the model again")),
        Some("") => Ok(String::new()),
        Some(path) => Ok(format!("{path}/")),
    }
}

/// `activation_fn` of `config_sentence_transformers.json`, then of `config.json`, under the name it has
/// there since version 4 of sentence-transformers or before.
fn score_activation(
    options: Option<&JsonFile>,
    config: &JsonFile,
) -> Result<Option<DenseActivation>, Error> {
    if let Some(options) = options.filter(|options| options.has("activation_fn")) {
        return activation(options, "activation_fn").map(Some);
    }
    match config.object("sentence_transformers")? {
        Some(nested) if nested.has("activation_fn") => {
            activation(&nested, "activation_fn").map(Some)
        }
        Some(nested) if nested.map.contains_key("activation_fn") => Ok(None),
        _ => {
            let old = "sbert_ce_default_activation_function";
            config.has(old).then(|| activation(config, old)).transpose()
        }
    }
}

/// sentence-transformers replaces a class that is not PyTorch's own by the default; what the model was
/// trained with is then not computed, so that it is refused here.
fn activation(file: &JsonFile, field: &str) -> Result<DenseActivation, Error> {
    let class = file.str(field)?.unwrap_or_default();
    let name = class.strip_prefix("torch.nn.").and_then(|name| name.rsplit('.').next());
    match name {
        Some("Identity") => Ok(DenseActivation::Identity),
        Some("Sigmoid") => Ok(DenseActivation::Sigmoid),
        Some("Tanh") => Ok(DenseActivation::Tanh),
        Some("ReLU") => Ok(DenseActivation::Relu),
        _ => {
            let supported = "activations of scores are torch.nn's Identity, Sigmoid, Tanh and ReLU";
            Err(file.unsupported(field, supported))
        }
    }
}
