//! Heads that predict tokens. A model with the head of a causal language model is a reranker. A model with the head of
//! a masked language model is a sparse encoder.

use super::{Head, Step, linear, refuse_custom_head};
use crate::config::{JsonFile, PoolingMode};
use crate::error::Error;
use crate::kernels::Activation;
use crate::models::blocks::fields::{epsilon, hidden_act};
use crate::models::{architecture, names};
use crate::weights::WeightFiles;

/// Reads the head of a causal language model whose hidden states have `hidden` values. The head computes the logits of
/// `tokens` for the position after a text.
///
/// # Errors
/// Returns [`Error::Unsupported`] for a model whose head Vectile does not compute. Returns [`Error::Tensor`] if the
/// head's weights are missing or have no row for a token.
pub(crate) fn causal_lm(
    config: &JsonFile,
    weights: &WeightFiles,
    hidden: usize,
    tokens: &[usize],
) -> Result<Head, Error> {
    if !architecture(config, None)?.causal_lm {
        let supported = format!(
            "rerankers that score by a token's logit are supported for these model types: {}",
            names(|a| a.causal_lm)
        );
        return Err(config.unsupported("model_type", supported));
    }
    refuse_custom_head(config, "AutoModelForCausalLM", &[])?;
    // transformers does not tie `lm_head.weight` to the token table if the checkpoint has both tensors and their values
    // differ. So the checkpoint's own `lm_head.weight` takes precedence.
    let table = "embed_tokens.weight";
    let weight = match config.bool("tie_word_embeddings")?.unwrap_or(false) {
        true if !weights.has("lm_head.weight") => format!("{}{table}", weights.prefix_of(table)?),
        _ => "lm_head.weight".to_owned(),
    };
    let (name, entry) = weights.find(&weight)?;
    let vocabulary = entry.shape.first().copied().unwrap_or(0);
    if let Some(token) = tokens.iter().find(|token| **token >= vocabulary) {
        let problem = format!(
            "has {vocabulary} rows, but the score is the logit of token {token}; the tokenizer and \
             the weights belong to different models"
        );
        return Err(Error::tensor(weights.file_of(entry), name, problem));
    }
    let step = Step::Tokens { weight, rows: tokens.to_vec(), inner: hidden, vocabulary };
    let steps = vec![Step::Pool(PoolingMode::LastToken), step];
    Ok(Head { steps, labels: tokens.len(), skipped_at_end: None })
}

/// The tensor names and settings of a model family's masked language model head.
pub(in crate::models) struct MaskedLm {
    /// The dense layer before the logits.
    dense: &'static str,
    /// The layer normalisation after the dense layer.
    norm: &'static str,
    /// The names of the logits' weight and bias, if a checkpoint stores them separately from the token table.
    decoder: LogitNames,
    /// The names of the token table and of the head's bias, which give the logits if a checkpoint ties the weight to
    /// the token table.
    tied: LogitNames,
    /// The config field of the activation; `None` if the activation is always GELU.
    activation: Option<&'static str>,
    /// The config field of epsilon; `None` if the config has no such field.
    eps_field: Option<&'static str>,
    /// The epsilon to use if the config does not set it.
    eps: f64,
}

/// The names of the weight and the bias from which the logits are computed.
struct LogitNames {
    weight: &'static str,
    bias: &'static str,
}

impl MaskedLm {
    pub const BERT: Self = MaskedLm {
        dense: "cls.predictions.transform.dense",
        norm: "cls.predictions.transform.LayerNorm",
        decoder: LogitNames {
            weight: "cls.predictions.decoder.weight",
            bias: "cls.predictions.decoder.bias",
        },
        tied: LogitNames {
            weight: "bert.embeddings.word_embeddings.weight",
            bias: "cls.predictions.bias",
        },
        activation: Some("hidden_act"),
        eps_field: Some("layer_norm_eps"),
        eps: 1e-12,
    };
    pub const DISTILBERT: Self = MaskedLm {
        dense: "vocab_transform",
        norm: "vocab_layer_norm",
        decoder: LogitNames { weight: "vocab_projector.weight", bias: "vocab_projector.bias" },
        tied: LogitNames {
            weight: "distilbert.embeddings.word_embeddings.weight",
            bias: "vocab_projector.bias",
        },
        activation: Some("activation"),
        eps_field: None,
        eps: 1e-12,
    };
    pub const MPNET: Self = Self::roberta("mpnet.embeddings.word_embeddings.weight");
    pub const ROBERTA: Self = Self::roberta("roberta.embeddings.word_embeddings.weight");

    /// Returns RoBERTa's head. `table` is the name of the token table.
    const fn roberta(table: &'static str) -> Self {
        MaskedLm {
            dense: "lm_head.dense",
            norm: "lm_head.layer_norm",
            decoder: LogitNames { weight: "lm_head.decoder.weight", bias: "lm_head.decoder.bias" },
            tied: LogitNames { weight: table, bias: "lm_head.bias" },
            activation: None,
            eps_field: Some("layer_norm_eps"),
            eps: 1e-5,
        }
    }
}

/// Reads the head of a masked language model whose hidden states have `hidden` values.
///
/// # Errors
/// Returns [`Error::Unsupported`] for a checkpoint without a masked language model head, or with a head that Vectile does
/// not compute. Returns [`Error::Tensor`] if the head's weights are missing.
pub(crate) fn masked_lm(
    config: &JsonFile,
    weights: &WeightFiles,
    hidden: usize,
) -> Result<Head, Error> {
    let architectures = config.strings("architectures")?.unwrap_or_default();
    if !architectures.iter().any(|name| name.ends_with("ForMaskedLM")) {
        let supported = "a sparse encoder needs an architecture whose name ends with ForMaskedLM, which \
                         has a masked language model's head";
        return Err(config.unsupported("architectures", supported));
    }
    let Some(known) = architecture(config, None)?.masked_lm else {
        let supported = format!(
            "sparse encoders are supported for these model types: {}",
            names(|a| a.masked_lm.is_some())
        );
        return Err(config.unsupported("model_type", supported));
    };
    refuse_custom_head(config, "AutoModelForMaskedLM", &[])?;
    let activation = match known.activation {
        Some(field) => hidden_act(config, field, "gelu")?,
        None => Activation::Gelu,
    };
    let eps = match known.eps_field {
        Some(field) => epsilon(config, field, known.eps)?,
        None => known.eps as f32,
    };
    // A checkpoint stores either a separate weight and bias of the logits, or only the token table and the bias of the
    // head.
    let stored = |own: &'static str, tied| if weights.has(own) { own } else { tied };
    let weight = stored(known.decoder.weight, known.tied.weight).to_owned();
    let bias = Some(stored(known.decoder.bias, known.tied.bias).to_owned());
    let labels = weights.shape(&weight)?.first().copied().unwrap_or(0);
    let steps = vec![
        linear(known.dense, hidden, hidden, activation),
        Step::Norm { name: known.norm.to_owned(), bias: true, width: hidden, eps },
        Step::Vocabulary { weight, bias, inner: hidden, labels },
    ];
    Ok(Head { steps, labels, skipped_at_end: None })
}
