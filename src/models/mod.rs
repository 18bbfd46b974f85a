//! The model architectures. Each model family has a source file, and [`blocks`] has the parts that families share.
//! [`TABLE`] is the only list of `model_type`s. The code of a model states facts about the architecture and builds
//! graphs. This code does not choose dtypes and does not access the GPU.

mod albert;
mod bert;
mod blocks;
mod deberta;
mod distilbert;
mod electra;
mod gemma;
mod gte;
mod heads;
mod jina;
mod jina_reranker;
mod llama;
mod modernbert;
mod mpnet;
mod nomic;
mod qwen;
mod roberta;
mod static_embedding;
mod t5;
mod unread;

use std::fmt;

use serde_json::Value;

use crate::batch::PackedBatch;
use crate::config::JsonFile;
use crate::dtype::F16Facts;
use crate::error::Error;
use crate::kernels::{Activations, Builder};
use crate::weights::{Loader, WeightFiles};

pub(crate) use blocks::fields::dense_activation;
use heads::{Classifier, MaskedLm};
pub(crate) use heads::{Head, Step, causal_lm, classifier, masked_lm, projection, token_weight};
pub(crate) use static_embedding::read as static_embedding;
pub(crate) use unread::unused_tensors;

/// An architecture: its name in `config.json`, the function that reads its config, and its heads.
struct Architecture {
    model_type: &'static str,
    /// The published Python code that is equivalent to this architecture. The list has entries of `auto_map` in
    /// `config.json` (`owner/repository--module.Class` or `module.Class`), and classes of modules in `modules.json`.
    code: &'static [&'static str],
    read: Read,
    /// The head for sequence classification, if the architecture has one. A model with this head is a reranker.
    classifier: Option<&'static Classifier>,
    /// The head for masked language modelling, if the architecture has one. A model with this head is a sparse encoder.
    masked_lm: Option<&'static MaskedLm>,
    /// True if the architecture has a language model head that is one linear layer without a bias, named `lm_head`.
    causal_lm: bool,
}

type Read = fn(&JsonFile, &WeightFiles) -> Result<Box<dyn Transformer>, Error>;

impl Architecture {
    /// Returns an architecture that needs no custom code and has no heads.
    const fn new(model_type: &'static str, read: Read) -> Self {
        let (classifier, masked_lm) = (None, None);
        Architecture { model_type, code: &[], read, classifier, masked_lm, causal_lm: false }
    }

    const fn code(self, code: &'static [&'static str]) -> Self {
        Architecture { code, ..self }
    }

    const fn classifier(self, classifier: &'static Classifier) -> Self {
        Architecture { classifier: Some(classifier), ..self }
    }

    const fn masked_lm(self, masked_lm: &'static MaskedLm) -> Self {
        Architecture { masked_lm: Some(masked_lm), ..self }
    }

    const fn causal_lm(self) -> Self {
        Architecture { causal_lm: true, ..self }
    }
}

/// Every architecture that Vectile computes. A `model_type` may have several entries. The first entry whose `code`
/// includes all custom code that the config names is used.
const TABLE: &[Architecture] = &[
    Architecture::new("albert", albert::read).classifier(&Classifier::ALBERT),
    Architecture::new("bert", bert::read).classifier(&Classifier::BERT).masked_lm(&MaskedLm::BERT),
    Architecture::new("bert", jina::read_v2)
        .code(jina::V2)
        .classifier(&Classifier::BERT)
        .masked_lm(&MaskedLm::BERT),
    Architecture::new("bert", jina::read_v2_code)
        .code(jina::V2_CODE)
        .classifier(&Classifier::BERT)
        .masked_lm(&MaskedLm::BERT),
    Architecture::new("camembert", roberta::read)
        .classifier(&Classifier::ROBERTA)
        .masked_lm(&MaskedLm::ROBERTA),
    Architecture::new("deberta-v2", deberta::read).classifier(&Classifier::DEBERTA),
    Architecture::new("distilbert", distilbert::read)
        .classifier(&Classifier::DISTILBERT)
        .masked_lm(&MaskedLm::DISTILBERT),
    Architecture::new("electra", electra::read).classifier(&Classifier::ELECTRA),
    Architecture::new("eurobert", llama::eurobert).code(llama::EUROBERT),
    Architecture::new("gemma3_text", gemma::read),
    Architecture::new("gte", gte::read_native).code(gte::CODE).classifier(&Classifier::GTE),
    Architecture::new("jina_embeddings_v3", jina::read_v3),
    Architecture::new("llama", llama::llama).classifier(&Classifier::DECODER).causal_lm(),
    Architecture::new("mistral", llama::mistral).classifier(&Classifier::DECODER).causal_lm(),
    Architecture::new("modernbert", modernbert::read).classifier(&Classifier::MODERNBERT),
    Architecture::new("mpnet", mpnet::read)
        .classifier(&Classifier::ROBERTA)
        .masked_lm(&MaskedLm::MPNET),
    Architecture::new("mt5", t5::read_mt5),
    Architecture::new("new", gte::read).code(gte::CODE).classifier(&Classifier::NEW),
    Architecture::new("nomic_bert", nomic::read).code(nomic::CODE),
    Architecture::new("qwen2", qwen::qwen2).classifier(&Classifier::DECODER).causal_lm(),
    Architecture::new("qwen2", qwen::qwen2_with_code)
        .code(qwen::GTE_QWEN2)
        .classifier(&Classifier::DECODER)
        .causal_lm(),
    Architecture::new("qwen3", qwen::qwen3).classifier(&Classifier::DECODER).causal_lm(),
    Architecture::new("roberta", roberta::read)
        .classifier(&Classifier::ROBERTA)
        .masked_lm(&MaskedLm::ROBERTA),
    Architecture::new("t5", t5::read),
    Architecture::new("umt5", t5::read_umt5),
    Architecture::new("xlm-roberta", roberta::read)
        .classifier(&Classifier::XLM_ROBERTA)
        .masked_lm(&MaskedLm::ROBERTA),
    Architecture::new("xlm-roberta", jina::read_v3)
        .code(jina::V3)
        .classifier(&Classifier::XLM_ROBERTA)
        .masked_lm(&MaskedLm::ROBERTA),
    Architecture::new("xlm-roberta", jina_reranker::read)
        .code(jina_reranker::CODE)
        .classifier(&Classifier::XLM_ROBERTA)
        .masked_lm(&MaskedLm::ROBERTA),
];

/// A transformer whose config and tensor shapes have been read, but whose weights have not been loaded.
pub(crate) trait Transformer: fmt::Debug + Send + Sync {
    /// Returns the facts that code outside the model families needs.
    fn facts(&self) -> Facts;

    /// Returns a description of the transformer's sizes in one line.
    fn describe(&self) -> String;

    /// Selects a task. [`Transformer::load`] then adds the LoRA of this task to the weights.
    ///
    /// # Errors
    /// Returns [`Error::Option`] if the model has no LoRA for this task.
    fn set_task(&mut self, task: &str) -> Result<(), Error> {
        Err(no_tasks(task))
    }

    /// Returns the number of preceding tokens in the smallest attention window of all layers; `None` if no layer has a
    /// window.
    fn reach(&self) -> Option<usize> {
        None
    }

    /// Loads the weights through `loader`.
    fn load(&self, loader: &mut Loader) -> Result<Box<dyn LoadedTransformer>, Error>;
}

/// A transformer whose weights are loaded into the memory of the adapter.
pub(crate) trait LoadedTransformer: fmt::Debug + Send + Sync {
    /// Adds the forward pass of a batch to the graph. Returns the hidden states, `[tokens, hidden]`.
    fn forward(&self, builder: &mut Builder, batch: &PackedBatch) -> Activations;
}

/// The facts about a transformer that code outside the model families needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The width of the hidden states.
    pub hidden: usize,
    /// The width of the layers, if a projection in the checkpoint changes it to `hidden`.
    pub projected_from: Option<usize>,
    /// The width of the widest activation, including padding. This width bounds the memory of a batch.
    pub widest: usize,
    /// The number of rows of the token table. Every token id must be below this number.
    pub table_rows: usize,
    /// The number of rows of the token type table; `None` if there is no such table. Every token type must be below
    /// this number.
    pub type_rows: Option<usize>,
    /// The maximum number of tokens that have a position; `None` if there is no position table.
    pub positions: Option<usize>,
    /// Whether the activations may exceed the range of f16.
    pub f16: F16Facts,
}

fn no_tasks(task: &str) -> Error {
    Error::option(
        "lora_task",
        format!("is {task}, but the model has no LoRA for tasks; leave the option out"),
    )
}

/// Reads `config.json` and the shapes of tensors. `module` is the class of the first module in `modules.json`, or
/// `None` if that class is part of sentence-transformers.
///
/// # Errors
/// Returns [`Error::Unsupported`] for quantized weights, for a `model_type` or custom code that is not in [`TABLE`],
/// and for an unknown or unsupported option. Returns [`Error::Config`] for impossible sizes.
pub(crate) fn read(
    config: &JsonFile,
    weights: &WeightFiles,
    module: Option<&str>,
) -> Result<Box<dyn Transformer>, Error> {
    let architecture = architecture(config, module)?;
    weights.check_not_quantized(config)?;
    let transformer = (architecture.read)(config, weights)?;
    unread::check_fields(config)?;
    Ok(transformer)
}

/// Returns the entry of [`TABLE`] for a config.
fn architecture(config: &JsonFile, module: Option<&str>) -> Result<&'static Architecture, Error> {
    let supported = || format!("supported: {}", names(|_| true));
    let Some(model_type) = config.str("model_type")? else {
        return Err(config.error("model_type", format!("is missing; {}", supported())));
    };
    let custom = custom_code(config)?;
    let lines = || TABLE.iter().filter(|a| a.model_type == model_type);
    if lines().next().is_none() {
        return Err(config.unsupported("model_type", supported()));
    }
    if let Some(class) = module
        && !lines().any(|line| line.code.contains(&class))
    {
        let supported = "the module is Python code from the model's repository, which Vectile does \
                         not run; use a model with sentence-transformers' own modules only";
        return Err(Error::unsupported("modules.json", "[0].type", class, supported));
    }
    let knows = |line: &Architecture| {
        custom.iter().map(|(_, code)| *code).chain(module).all(|code| line.code.contains(&code))
    };
    lines().find(|line| knows(line)).ok_or_else(|| {
        let known: Vec<&str> = lines().flat_map(|line| line.code).copied().collect();
        let unknown = custom.iter().find(|(_, code)| !known.contains(code)).or(custom.first());
        let (class, code) = unknown.copied().unwrap_or_default();
        let mut supported = "the model is defined by Python code from its repository, which \
                             Vectile does not run"
            .to_owned();
        if !known.is_empty() {
            supported += &format!("; supported code: {}", known.join(", "));
        }
        Error::unsupported(&config.name, format!("auto_map.{class}"), code, supported)
    })
}

/// Returns the `model_type`s of the entries for which `has` is true, for error messages.
fn names(has: impl Fn(&Architecture) -> bool) -> String {
    let mut names: Vec<&str> = TABLE.iter().filter(|a| has(a)).map(|a| a.model_type).collect();
    names.dedup();
    names.join(", ")
}

/// Returns the `model_type` of every entry of [`TABLE`].
#[cfg(test)]
pub(crate) fn model_types() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|architecture| architecture.model_type)
}

/// Returns the entries of `auto_map` that affect hidden states, as pairs of class and code. The entries of heads (such
/// as `AutoModelForMaskedLM`) are left out, since embeddings do not use heads.
fn custom_code(config: &JsonFile) -> Result<Vec<(&str, &str)>, Error> {
    let Some(Value::Object(map)) = config.raw("auto_map") else {
        return config.object("auto_map").map(|_| Vec::new());
    };
    map.iter()
        .filter(|(class, code)| !class.starts_with("AutoModelFor") && !code.is_null())
        .map(|(class, code)| match code.as_str() {
            Some(code) => Ok((class.as_str(), code)),
            None => {
                let field = format!("auto_map.{class}");
                Err(config.error(&field, format!("is {code}; expected: the name of a class")))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests;
