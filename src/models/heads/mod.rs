//! Heads that are stored in a transformer's checkpoint.
//!
//! A model with a head for sequence classification or for the next token is a reranker. A model with the head of a
//! masked language model is a sparse encoder. A model with linear layers on each token is a multi-vector encoder.
//! [`TABLE`](crate::models::TABLE) lists the heads of each architecture.
//!
//! Heads have no step for dropout, because dropout has no effect outside training.

mod classifier;
mod language_model;

pub(super) use classifier::Classifier;
pub(crate) use classifier::classifier;
pub(super) use language_model::MaskedLm;
pub(crate) use language_model::{causal_lm, masked_lm};

use crate::config::{COLBERT_LINEAR, JsonFile, PoolingMode, ProjectionKind, SPARSE_LINEAR};
use crate::error::Error;
use crate::kernels::Activation;
use crate::weights::WeightFiles;

/// A step of a head, with the tensor names of the checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// Reduces the rows of a text to one row.
    Pool(PoolingMode),
    /// Computes `activation(x · weightᵀ + bias)`.
    Linear { name: String, bias: bool, inner: usize, columns: usize, activation: Activation },
    /// Applies a layer normalisation.
    Norm { name: String, bias: bool, width: usize, eps: f32 },
    /// Computes the logits of all vocabulary entries for each token, and takes each entry's maximum over the tokens of
    /// a text. `weight` is `[labels, inner]`.
    Vocabulary { weight: String, bias: Option<String>, inner: usize, labels: usize },
    /// Computes the logits of some vocabulary entries. `rows` are the rows of these entries in `weight`, which is
    /// `[vocabulary, inner]`.
    Tokens { weight: String, rows: Vec<usize>, inner: usize, vocabulary: usize },
}

/// A head: a list of steps that are applied to the hidden states in order. Without a pooling step, the result has one
/// row for each token.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Head {
    pub steps: Vec<Step>,
    /// The number of values in a result row.
    pub labels: usize,
    /// The padding token that last-token pooling skips at the end of a text. In a causal model no token attends to a
    /// later token, so padding at the end can be dropped.
    pub skipped_at_end: Option<u32>,
}

/// Returns an error if the head has custom code that is not in `known`. `class` is the head's key in `auto_map`.
fn refuse_custom_head(config: &JsonFile, class: &str, known: &[&str]) -> Result<(), Error> {
    let Some(map) = config.object("auto_map")? else { return Ok(()) };
    let Some(code) = map.raw(class) else { return Ok(()) };
    if code.as_str().is_some_and(|code| known.contains(&code)) {
        return Ok(());
    }
    let supported = "the head is defined by Python code from the model's repository, which Vectile does not run";
    Err(map.unsupported(class, supported))
}

/// Returns the linear layer that turns hidden states into token vectors. The width of these vectors is the number of
/// rows of the layer's weight.
///
/// # Errors
/// Returns [`Error::Tensor`] if the weight is missing.
pub(crate) fn projection(
    projection: ProjectionKind,
    weights: &WeightFiles,
    hidden: usize,
) -> Result<Head, Error> {
    let (name, bias) = match projection {
        ProjectionKind::Stanford => ("linear", false),
        ProjectionKind::BgeM3 => (COLBERT_LINEAR, true),
    };
    let labels = weights.shape(&format!("{name}.weight"))?.first().copied().unwrap_or(0);
    let (name, activation) = (name.to_owned(), Activation::None);
    let step = Step::Linear { name, bias, inner: hidden, columns: labels, activation };
    Ok(Head { steps: vec![step], labels, skipped_at_end: None })
}

/// Returns the linear layer and ReLU that turn each token's hidden state into a non-negative weight.
pub(crate) fn token_weight(hidden: usize) -> Head {
    let steps = vec![linear(SPARSE_LINEAR, hidden, 1, Activation::Relu)];
    Head { steps, labels: 1, skipped_at_end: None }
}

/// Returns a linear layer with a bias.
fn linear(name: &str, inner: usize, columns: usize, activation: Activation) -> Step {
    Step::Linear { name: name.to_owned(), bias: true, inner, columns, activation }
}
