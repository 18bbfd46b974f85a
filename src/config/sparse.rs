//! A sparse encoder's directory: what sentence-transformers' `SparseEncoder` reads of it.

use crate::config::modules::{Entry, MODULES, entries};
use crate::config::{Input, JsonFile, ModelConfig, OPTIONS, Purpose, default_prompts, transformer};
use crate::error::Error;
use crate::files::ModelFiles;

/// What a sparse encoder's files say beside its transformer (SPLADE, Formal et al. 2021,
/// <https://arxiv.org/abs/2109.10086>).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sparse {
    /// log(1 + x) is applied twice: `activation_function` is `log1p_relu`.
    pub twice: bool,
    /// At most so many of the largest weights are kept.
    pub max_active_dims: Option<usize>,
}

const SUPPORTED: &str = "a sparse encoder is a Transformer with its masked language model's head, \
                         then a SpladePooling";

impl ModelConfig {
    /// Reads a sparse encoder. A `modules.json` counts only where `config_sentence_transformers.json`
    /// says that a `SparseEncoder` was saved; otherwise the masked language model in the directory
    /// itself is pooled by maximum, as sentence-transformers does.
    pub fn load_sparse(files: &ModelFiles) -> Result<Self, Error> {
        let mut notes = Vec::new();
        let options = JsonFile::load(files, OPTIONS)?;
        let saved = match &options {
            Some(options) if options.str("model_type")? == Some("SparseEncoder") => Some(options),
            _ => None,
        };
        let listed = match saved {
            Some(_) => entries(files, &mut notes)?,
            None => None,
        };
        let mut sparse = Sparse::default();
        let mut prefix = String::new();
        if let Some(entries) = &listed {
            sparse.twice = pooling(files, entries)?;
            if let Some(path) = entries.first().map(|first| &first.path).filter(|p| !p.is_empty()) {
                prefix = format!("{path}/");
            }
        } else {
            transformer::refuse_chat_template(files)?;
            notes.push(format!(
                "no {MODULES} of a SparseEncoder: SPLADE pooling by maximum, as sentence-transformers does"
            ));
        }
        let config = transformer::load(files, &prefix)?;
        let settings = match &listed {
            Some(_) => transformer::settings(files, &prefix, &transformer::TOKEN_LOGITS)?,
            None => None,
        };
        let mut model = ModelConfig {
            purpose: Purpose::Sparse(sparse),
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
            module_code: listed.as_ref().and_then(|entries| entries.first()?.code.clone()),
            prompts: default_prompts(),
            default_prompt_name: None,
            truncate_dim: None,
            similarity: None,
            notes,
        };
        if let (Some(options), Some(_)) = (saved, &listed) {
            model.apply_prompts(options)?;
            if options.has("max_active_dims") {
                sparse.max_active_dims = Some(options.required_size("max_active_dims")?);
                model.purpose = Purpose::Sparse(sparse);
            }
        }
        Ok(model)
    }
}

/// Checks the modules; true where the pooling takes the logarithm twice.
fn pooling(files: &ModelFiles, entries: &[Entry]) -> Result<bool, Error> {
    let kinds: [&[&str]; 2] = [&["Transformer", "MLMTransformer"], &["SpladePooling"]];
    for (at, entry) in entries.iter().enumerate() {
        if !kinds.get(at).is_some_and(|kinds| kinds.contains(&entry.kind.as_str())) {
            let field = format!("[{at}].type");
            return Err(Error::unsupported(MODULES, field, &entry.kind, SUPPORTED));
        }
    }
    let Some(entry) = entries.get(1) else {
        return Err(Error::config(MODULES, "type", format!("has no SpladePooling; {SUPPORTED}")));
    };
    let file = entry.required(files)?;
    if file.str("pooling_strategy")?.is_some_and(|strategy| strategy != "max") {
        return Err(file.unsupported("pooling_strategy", "max is"));
    }
    match file.str("activation_function")?.unwrap_or("relu") {
        "relu" => Ok(false),
        "log1p_relu" => Ok(true),
        _ => Err(file.unsupported("activation_function", "relu and log1p_relu are")),
    }
}
