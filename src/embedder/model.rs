//! A model on the host: its configuration, its tokenizer, and the headers of its weights.

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::config::{KindConfig, ModelConfig, Module, SparseConfig, Weighting};
use crate::dtype::CheckpointDtype;
use crate::error::Error;
use crate::files::ModelFiles;
use crate::models::{Head, Step, Transformer};
use crate::tokenize::{Tokenizer, Tokens};
use crate::weights::{WeightFiles, digest_source, hex};

/// The number of columns in a block of the vocabulary. Memory holds the logits of one block at a time, for all tokens
/// of a batch. A block has fewer columns than the intermediate layer of a base model, such as bert-base (3072).
pub(super) const VOCABULARY_BLOCK: usize = 2048;

/// The parts of a model that are on the host.
#[derive(Debug)]
pub(super) struct Model {
    pub files: ModelFiles,
    pub config: ModelConfig,
    pub weights: WeightFiles,
    /// The weights of each module after the transformer; `None` for a module without weights.
    pub module_weights: Vec<Option<WeightFiles>>,
    pub transformer: Box<dyn Transformer>,
    /// The head that is stored with the transformer's checkpoint; `None` if the kind of model uses no such head.
    pub head: Option<Head>,
    pub tokenizer: Tokenizer,
    /// The number of values in an output row of the device, before the host truncates the row.
    pub dimension: usize,
    /// False if pooling leaves out the prompt's tokens.
    pub include_prompt: bool,
}

/// The description of a module, for reports.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModuleSummary {
    /// The kind of module: `Transformer`, `StaticEmbedding`, `model2vec`, `Pooling`, `Dense`, `LayerNorm` or
    /// `Normalize`. A step of a head may also be `Vocabulary` or `LogitScore`. The steps on the host are `Activation`
    /// (of rerankers), `Weights` (of sparse encoders), and `Queries` and `Documents` (of multi-vector encoders).
    pub kind: String,
    /// The module's settings, in words, such as `384 → 768, tanh`.
    pub settings: String,
}

impl ModuleSummary {
    pub(super) fn new(kind: &str, settings: impl Into<String>) -> Self {
        ModuleSummary { kind: kind.to_owned(), settings: settings.into() }
    }
}

impl Model {
    /// Returns the dtype that the checkpoint declares, or else the dtype of its first floating-point tensor.
    pub fn checkpoint_dtype(&self) -> CheckpointDtype {
        CheckpointDtype::find(
            |field| self.config.transformer.raw(field),
            self.weights.first_floating(),
        )
    }

    /// Returns the number of values per token in the widest activation of the model.
    pub fn widest(&self) -> usize {
        let widest = self.transformer.facts().widest;
        let columns = |module: &Module| match module {
            Module::Dense { out_features, .. } => *out_features,
            _ => 0,
        };
        match self.config.kind {
            KindConfig::Sparse(SparseConfig { weighting: Weighting::Splade { .. }, .. }) => {
                widest.max(VOCABULARY_BLOCK)
            }
            KindConfig::MultiVector(_) => {
                let dense = self.config.modules.iter().map(columns).max().unwrap_or(0);
                widest.max(dense.max(self.dimension).next_multiple_of(4))
            }
            KindConfig::Dense | KindConfig::Reranker(_) | KindConfig::Sparse(_) => widest,
        }
    }

    /// Checks that every token type has a row in the model's table. For an unknown type, a GPU would read a wrong row
    /// without an error.
    pub fn check_types(&self, tokens: &Tokens) -> Result<(), Error> {
        let rows = self.transformer.facts().type_rows.map_or(u32::MAX, |rows| rows as u32);
        let Some(id) = tokens.type_ids.iter().find(|id| **id >= rows) else { return Ok(()) };
        let problem = format!(
            "gives a token the token type {id}, but the model has only {rows} token types; \
             download the model again"
        );
        Err(Error::tokenizer(format!("{}tokenizer.json", self.config.weights_prefix), problem))
    }

    /// Returns all weight files: first the files of the transformer, then the files of the modules.
    pub fn weight_files(&self) -> impl Iterator<Item = &WeightFiles> {
        std::iter::once(&self.weights).chain(self.module_weights.iter().flatten())
    }

    /// Returns the SHA-256 of every byte of the weights. The transformer's files come first, in order of their names,
    /// and then the modules' files. For a model with one weight file, the result is the digest of that file.
    pub fn weights_sha256(&self) -> Result<String, Error> {
        let mut digest = Sha256::new();
        for weights in self.weight_files() {
            weights.digest_whole(&mut digest)?;
        }
        Ok(hex(digest))
    }

    /// Returns a SHA-256 digest of all inputs that determine the model's vectors: the parsed configuration, the
    /// tokenizer, and every byte of the weights.
    pub fn fingerprint(&self) -> Result<String, Error> {
        let mut digest = Sha256::new_with_prefix(self.verdict_name()?);
        digest.update(format!("\n{:?}\n", self.config));
        digest.update(self.weights_sha256()?);
        Ok(hex(digest))
    }

    /// Returns the name under which `vectile verify` stores its verdict on the model. The name is a digest of Vectile's
    /// version, the config, the tokenizer, and the names, lengths and headers of the weight files. The digest is cheap,
    /// because it does not read the weights.
    pub fn verdict_name(&self) -> Result<String, Error> {
        let mut digest = Sha256::new_with_prefix(env!("CARGO_PKG_VERSION"));
        let prefix = &self.config.weights_prefix;
        for name in ["config.json", "tokenizer.json"].map(|name| format!("{prefix}{name}")) {
            if let Some(source) = self.files.open(&name)? {
                digest.update(format!("\n{name} {}\n", source.len()));
                digest_source(&source, u64::MAX, &mut digest)?;
            }
        }
        for weights in self.weight_files() {
            weights.digest_headers(&mut digest)?;
        }
        Ok(hex(digest)[..32].to_owned())
    }

    /// Returns descriptions of the transformer, the steps of its head and the modules, in the order of application.
    pub fn summaries(&self) -> Vec<ModuleSummary> {
        let transformer =
            ModuleSummary::new(self.config.input.module(), self.transformer.describe());
        let steps = self.head.iter().flat_map(|head| &head.steps).map(step_summary);
        let modules = self.config.modules.iter().map(module_summary);
        std::iter::once(transformer).chain(steps).chain(modules).collect()
    }
}

fn step_summary(step: &Step) -> ModuleSummary {
    match step {
        Step::Pool(mode) => ModuleSummary::new("Pooling", lower(mode)),
        Step::Linear { bias, inner, columns, activation, .. } => {
            let bias = if *bias { ", bias" } else { "" };
            let activation = lower(activation);
            ModuleSummary::new("Dense", format!("{inner} → {columns}, {activation}{bias}"))
        }
        Step::Norm { width, .. } => ModuleSummary::new("LayerNorm", format!("{width} values")),
        Step::Vocabulary { inner, labels, .. } => {
            let settings = format!("{inner} → {labels}, the largest value over all tokens");
            ModuleSummary::new("Vocabulary", settings)
        }
        Step::Tokens { rows, inner, vocabulary, .. } => {
            let rows: Vec<String> = rows.iter().map(usize::to_string).collect();
            let settings = format!(
                "{inner} → the logits of tokens {} in a vocabulary of {vocabulary}",
                rows.join(" and ")
            );
            ModuleSummary::new("LogitScore", settings)
        }
    }
}

fn module_summary(module: &Module) -> ModuleSummary {
    match module {
        Module::Pooling(pooling) => {
            let modes: Vec<String> = pooling.modes.iter().map(lower).collect();
            let prompt = if pooling.include_prompt { "" } else { ", without the prompt" };
            let width = pooling.output_dimension();
            let settings = format!("{}{prompt}, {width} values", modes.join(" and "));
            ModuleSummary::new("Pooling", settings)
        }
        Module::Dense { in_features, out_features, bias, activation, residual, .. } => {
            let bias = if *bias { ", bias" } else { "" };
            let residual = if *residual { ", residual" } else { "" };
            let activation = lower(activation);
            let settings = format!("{in_features} → {out_features}, {activation}{bias}{residual}");
            ModuleSummary::new("Dense", settings)
        }
        Module::LayerNorm { dimension, .. } => {
            ModuleSummary::new("LayerNorm", format!("{dimension} values"))
        }
        Module::Normalize => ModuleSummary::new("Normalize", "to length one"),
    }
}

/// Returns the name of an enum variant in lower case, as in model files.
pub(super) fn lower(name: &impl std::fmt::Debug) -> String {
    format!("{name:?}").to_lowercase()
}
