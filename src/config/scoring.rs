//! Reads the settings of a reranker as sentence-transformers' `CrossEncoder` does.

use std::collections::BTreeMap;

use crate::config::chat::{ChatTemplate, chat_template};
use crate::config::modules::{MODULES, ModuleEntry, entries};
use crate::config::{
    DenseActivation, FirstModule, JsonFile, KindConfig, ModelConfig, OPTIONS, transformer,
};
use crate::error::Error;
use crate::files::ModelFiles;

/// The settings of a reranker, without its transformer.
#[derive(Clone, Debug)]
pub(crate) struct RerankerConfig {
    /// The activation function that is applied to the logits. `None` means the default: sigmoid for one label, and no
    /// function for several labels.
    pub activation: Option<DenseActivation>,
    /// The tokens whose logits give a language model's score; `None` for a classification head.
    pub answers: Option<Answers>,
    /// The template that renders a pair as one text. `None` means that the tokenizer joins the two texts of a pair.
    pub chat: Option<ChatTemplate>,
}

/// The tokens whose logits are the answer of a language model to a pair of texts. The score is the logit of the
/// positive token, minus the logit of the negative token if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answers {
    /// The tokens `yes` and `no` of the vocabulary.
    YesNo,
    /// The ids of the positive and the negative token.
    Ids([usize; 2]),
    /// The id of the positive token, for a model without a negative token.
    Id(usize),
}

const SUPPORTED: &str = "a reranker must be a single Transformer with a sequence classification \
                         head, or a single Transformer with a language-model head followed by a \
                         LogitScore module";

impl ModelConfig {
    /// Returns the settings of a reranker. If `config_sentence_transformers.json` says that a `CrossEncoder` was saved,
    /// `modules.json` is read. Otherwise the model consists of the transformer in the model's own directory.
    pub fn load_scoring(files: &ModelFiles) -> Result<Self, Error> {
        let mut notes = Vec::new();
        let saved = saved_options(files)?;
        let listed = match saved {
            Some(_) => entries(files, &mut notes)?,
            None => None,
        };
        let first = listed.as_ref().and_then(|entries| entries.first());
        let module_code = first.and_then(|entry| entry.code.clone());
        let (listed, options) = match (listed, saved) {
            (Some(entries), Some(options)) => (Some(modules(files, &entries)?), Some(options)),
            _ => (None, None),
        };
        let prefix = listed.as_ref().map_or_else(String::new, |(prefix, _)| prefix.clone());
        let config = transformer::load(files, &prefix)?;
        let (settings, answers) = match listed {
            Some((_, answers)) => (settings(files, &prefix, answers)?, answers),
            None => (None, default_answers(&config)?),
        };
        let activation = score_activation(options.as_ref(), &config)?;
        let chat = chat_template(files, &prefix, settings.as_ref())?;
        let mut model = ModelConfig {
            kind: KindConfig::Reranker(RerankerConfig { activation, answers, chat }),
            input: FirstModule::Transformer,
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

/// Returns the contents of `config_sentence_transformers.json`. Returns `None` if the file is missing or does not say
/// that a `CrossEncoder` was saved.
fn saved_options(files: &ModelFiles) -> Result<Option<JsonFile>, Error> {
    let Some(options) = JsonFile::load(files, OPTIONS)? else { return Ok(None) };
    let is = options.str("model_type")? == Some("CrossEncoder");
    Ok(is.then_some(options))
}

/// Returns the directory prefix of the transformer, and the answer tokens of the `LogitScore` module; `None` if there
/// is no such module.
fn modules(
    files: &ModelFiles,
    entries: &[ModuleEntry],
) -> Result<(String, Option<Answers>), Error> {
    let kinds: Vec<&str> = entries.iter().map(|entry| entry.kind.as_str()).collect();
    let answers = match kinds[..] {
        [] => return Err(Error::file(MODULES, "lists no modules; download the model again")),
        ["Transformer"] => None,
        ["Transformer", "LogitScore"] => Some(logit_score(&entries[1].required(files)?)?),
        _ => {
            let known = ["Transformer", "LogitScore"];
            let same = kinds.iter().zip(known).take_while(|(kind, known)| *kind == known).count();
            let at = same.min(kinds.len() - 1);
            return Err(Error::unsupported(MODULES, format!("[{at}].type"), kinds[at], SUPPORTED));
        }
    };
    let prefix = match entries[0].path.as_str() {
        "" => String::new(),
        path => format!("{path}/"),
    };
    Ok((prefix, answers))
}

fn logit_score(file: &JsonFile) -> Result<Answers, Error> {
    let input = "module_input_name";
    if file.str(input)?.is_some_and(|name| name != "causal_logits") {
        return Err(file.unsupported(input, "supported: causal_logits"));
    }
    let yes = file.required_usize("true_token_id")?;
    Ok(match file.usize("false_token_id")? {
        Some(no) => Answers::Ids([yes, no]),
        None => Answers::Id(yes),
    })
}

fn settings(
    files: &ModelFiles,
    prefix: &str,
    answers: Option<Answers>,
) -> Result<Option<JsonFile>, Error> {
    let Some(_) = answers else {
        return transformer::settings(files, prefix, &transformer::SCORES);
    };
    let settings = transformer::settings(files, prefix, &transformer::NEXT_TOKEN)?;
    match &settings {
        Some(file) if file.has("transformer_task") => Ok(settings),
        _ => {
            let problem = "is missing, but the LogitScore module needs the task `text-generation`; \
                           download the model again";
            let file = settings.map_or("sentence_bert_config.json".to_owned(), |file| file.name);
            Err(Error::config(file, "transformer_task", problem))
        }
    }
}

/// Returns the answer tokens of a language model without `modules.json`: `yes` and `no`, as in sentence-transformers.
/// Returns `None` for other models.
fn default_answers(config: &JsonFile) -> Result<Option<Answers>, Error> {
    let architectures = config.strings("architectures")?.unwrap_or_default();
    let causal = architectures.first().is_some_and(|name| name.ends_with("ForCausalLM"));
    Ok(causal.then_some(Answers::YesNo))
}

/// Returns the activation that the field `activation_fn` of `config_sentence_transformers.json` names, or else the
/// activation that `config.json` names. Version 4 of sentence-transformers renamed the field in `config.json`, so both
/// names are read.
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

/// Returns an activation, which must be a class of PyTorch. sentence-transformers replaces any other class with the
/// default, which gives scores that the model was not trained for.
fn activation(file: &JsonFile, field: &str) -> Result<DenseActivation, Error> {
    let class = file.str(field)?.unwrap_or_default();
    let name = class.strip_prefix("torch.nn.").and_then(|name| name.rsplit('.').next());
    match name {
        Some("Identity") => Ok(DenseActivation::Identity),
        Some("Sigmoid") => Ok(DenseActivation::Sigmoid),
        Some("Tanh") => Ok(DenseActivation::Tanh),
        Some("ReLU") => Ok(DenseActivation::Relu),
        _ => {
            let supported = "supported activation functions of scores are torch.nn's Identity, \
                             Sigmoid, Tanh and ReLU";
            Err(file.unsupported(field, supported))
        }
    }
}
