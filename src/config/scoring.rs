//! A reranker's directory: what sentence-transformers' `CrossEncoder` reads of it.

use std::collections::BTreeMap;

use crate::config::chat::{ChatTemplate, chat_template};
use crate::config::modules::{Entry, MODULES, entries};
use crate::config::{
    DenseActivation, Input, JsonFile, KindConfig, ModelConfig, OPTIONS, transformer,
};
use crate::error::Error;
use crate::files::ModelFiles;

/// What a reranker's files say beside its transformer.
#[derive(Clone, Debug)]
pub(crate) struct Scoring {
    /// Applied to the logits. `None` where the files name none: sigmoid for one label, else nothing.
    pub activation: Option<DenseActivation>,
    /// The tokens whose logits make the score, of a language model; `None` for a classification head.
    pub answers: Option<Answers>,
    /// How a pair becomes one text. `None` where the tokenizer joins the two.
    pub chat: Option<ChatTemplate>,
}

/// The tokens that a language model may answer a pair with. The score is the logit of the one that
/// means relevance, less that of the other where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answers {
    /// The tokens that the vocabulary calls `yes` and `no`.
    YesNo,
    /// Their ids.
    Ids([usize; 2]),
    /// One id.
    Id(usize),
}

const SUPPORTED: &str = "a reranker is one Transformer with a sequence classification head, or one with a language model's and a LogitScore";

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
            kind: KindConfig::Reranker(Scoring { activation, answers, chat }),
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

/// Where the transformer's files are, and what a LogitScore after it reads.
fn modules(files: &ModelFiles, entries: &[Entry]) -> Result<(String, Option<Answers>), Error> {
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
        return Err(file.unsupported(input, "causal_logits is"));
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
            let problem = "is missing, and a LogitScore reads the logits of `text-generation`; download the model again";
            let file = settings.map_or("sentence_bert_config.json".to_owned(), |file| file.name);
            Err(Error::config(file, "transformer_task", problem))
        }
    }
}

/// sentence-transformers scores a language model that comes without modules by `yes` and `no`.
fn default_answers(config: &JsonFile) -> Result<Option<Answers>, Error> {
    let architectures = config.strings("architectures")?.unwrap_or_default();
    let causal = architectures.first().is_some_and(|name| name.ends_with("ForCausalLM"));
    Ok(causal.then_some(Answers::YesNo))
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
