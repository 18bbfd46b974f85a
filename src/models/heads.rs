//! Heads that come with a transformer's checkpoint: sequence classification and the language model's,
//! which make it a reranker; the masked language model's, which makes it a sparse encoder; and linear
//! layers for each token. [`CLASSIFIERS`], [`CAUSAL`] and [`MASKED`] are all that names the first three.
//!
//! Dropout does nothing outside training and is left out.

use serde_json::Value;

use crate::config::{COLBERT_LINEAR, JsonFile, PoolingMode, Projection, SPARSE_LINEAR};
use crate::error::Error;
use crate::kernels::Activation;
use crate::models::jina_reranker;
use crate::models::layers::{count_or, epsilon, hidden_act};
use crate::weights::WeightFiles;

/// A step of a head, in the order they are applied. Names are those of the checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// One row for each text.
    Pool(PoolingMode),
    /// `activation(x · weightᵀ + bias)`.
    Linear { name: String, bias: bool, inner: usize, columns: usize, activation: Activation },
    /// A layer normalisation.
    Norm { name: String, bias: bool, width: usize, eps: f32 },
    /// The largest logit of each token of the vocabulary over the tokens of a text. `weight` is
    /// `[labels, inner]`.
    Vocabulary { weight: String, bias: Option<String>, inner: usize, labels: usize },
    /// The logits of some tokens of the vocabulary: rows of `weight`, which is `[vocabulary, inner]`.
    Tokens { weight: String, rows: Vec<usize>, inner: usize, vocabulary: usize },
}

/// A head: steps after the hidden states. Without a pooling among them there is a row for each token.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Head {
    pub steps: Vec<Step>,
    /// Values of a row: `num_labels`, the vocabulary or the tokens of it that are looked at, or the columns
    /// of a linear layer.
    pub labels: usize,
    /// Tokens of this id that end a text are passed over: the last token before them is pooled. No token
    /// of a causal model sees what follows it, so that they can be left out.
    pub passed_over: Option<u32>,
}

/// The classification head of a `model_type`.
struct Classifier {
    model_type: &'static str,
    /// Python code that comes with checkpoints and that this head computes.
    code: &'static [&'static str],
    /// The steps, from the width of the hidden states and the number of labels.
    read: fn(&JsonFile, usize, usize) -> Result<Vec<Step>, Error>,
}

const CLASSIFIERS: &[Classifier] = &[
    Classifier { model_type: "albert", code: &[], read: |_, h, l| Ok(pooler("albert", h, l)) },
    Classifier { model_type: "bert", code: &[], read: |_, h, l| Ok(pooler("bert", h, l)) },
    Classifier { model_type: "camembert", code: &[], read: |_, h, l| Ok(dense_out(TANH, h, l)) },
    Classifier { model_type: "deberta-v2", code: &[], read: deberta },
    Classifier { model_type: "distilbert", code: &[], read: |_, h, l| Ok(distilbert(h, l)) },
    Classifier { model_type: "electra", code: &[], read: |_, h, l| Ok(dense_out(GELU, h, l)) },
    Classifier { model_type: "gte", code: &[], read: |_, h, l| Ok(pooler("gte", h, l)) },
    Classifier { model_type: "llama", code: &[], read: last_token },
    Classifier { model_type: "mistral", code: &[], read: last_token },
    Classifier { model_type: "modernbert", code: &[], read: modernbert },
    Classifier { model_type: "mpnet", code: &[], read: |_, h, l| Ok(dense_out(TANH, h, l)) },
    Classifier { model_type: "new", code: NEW, read: |_, h, l| Ok(pooler("new", h, l)) },
    Classifier { model_type: "qwen2", code: &[], read: last_token },
    Classifier { model_type: "qwen3", code: &[], read: last_token },
    Classifier { model_type: "roberta", code: &[], read: |_, h, l| Ok(dense_out(TANH, h, l)) },
    Classifier {
        model_type: "xlm-roberta",
        code: jina_reranker::HEAD,
        read: |_, h, l| Ok(dense_out(TANH, h, l)),
    },
];

/// Alibaba's head of GTE v1.5, as the Hub and a model that carries it along name it.
const NEW: &[&str] = &[
    "Alibaba-NLP/new-impl--modeling.NewForSequenceClassification",
    "modeling.NewForSequenceClassification",
];
const TANH: Activation = Activation::Tanh;
const GELU: Activation = Activation::Gelu;
const CLASS: &str = "AutoModelForSequenceClassification";

/// Reads the classification head of a checkpoint whose hidden states are `hidden` wide.
///
/// # Errors
/// [`Error::Unsupported`] for a checkpoint without one, or one that is not computed.
pub(crate) fn classifier(config: &JsonFile, hidden: usize) -> Result<Head, Error> {
    let architectures = config.strings("architectures")?.unwrap_or_default();
    if !architectures.iter().any(|name| name.ends_with("ForSequenceClassification")) {
        let supported = "a reranker is a …ForSequenceClassification, a transformer with its head";
        return Err(config.unsupported("architectures", supported));
    }
    let model_type = config.str("model_type")?.unwrap_or_default();
    let Some(known) = CLASSIFIERS.iter().find(|known| known.model_type == model_type) else {
        let names: Vec<&str> = CLASSIFIERS.iter().map(|known| known.model_type).collect();
        let supported = format!("rerankers are computed of {}", names.join(", "));
        return Err(config.unsupported("model_type", supported));
    };
    if let Some(map) = config.object("auto_map")?
        && let Some(code) = map.raw(CLASS)
        && !code.as_str().is_some_and(|code| known.code.contains(&code))
    {
        let supported = "this head is Python code that comes with the model, and Vectile runs none";
        return Err(map.unsupported(CLASS, supported));
    }
    let labels = labels(config)?;
    let steps = (known.read)(config, hidden, labels)?;
    let last = steps.first() == Some(&Step::Pool(PoolingMode::LastToken));
    let padding = config.usize("pad_token_id")?.and_then(|id| u32::try_from(id).ok());
    Ok(Head { steps, labels, passed_over: padding.filter(|_| last) })
}

/// Names of labels count; without them there are `num_labels`, two where the config does not say.
fn labels(config: &JsonFile) -> Result<usize, Error> {
    let count = match config.raw("id2label") {
        Some(Value::Object(names)) => names.len(),
        Some(_) => return Err(config.error("id2label", "is no object of labels")),
        None => return count_or(config, "num_labels", 2, 1 << 16),
    };
    match count {
        1..=65536 => Ok(count),
        _ => Err(config.error("id2label", format!("has {count} labels; 1 to 65536 are expected"))),
    }
}

fn linear(name: &str, inner: usize, columns: usize, activation: Activation) -> Step {
    Step::Linear { name: name.to_owned(), bias: true, inner, columns, activation }
}

fn logits(name: &str, hidden: usize, labels: usize) -> Step {
    linear(name, hidden, labels, Activation::None)
}

/// BERT's: the pooler of the transformer, then a linear layer.
fn pooler(transformer: &str, hidden: usize, labels: usize) -> Vec<Step> {
    let dense = match transformer {
        "albert" => "albert.pooler".to_owned(),
        other => format!("{other}.pooler.dense"),
    };
    let first = Step::Pool(PoolingMode::Cls);
    vec![first, linear(&dense, hidden, hidden, TANH), logits("classifier", hidden, labels)]
}

/// RoBERTa's: a hidden layer of its own.
fn dense_out(activation: Activation, hidden: usize, labels: usize) -> Vec<Step> {
    let dense = linear("classifier.dense", hidden, hidden, activation);
    let first = Step::Pool(PoolingMode::Cls);
    vec![first, dense, logits("classifier.out_proj", hidden, labels)]
}

fn distilbert(hidden: usize, labels: usize) -> Vec<Step> {
    let dense = linear("pre_classifier", hidden, hidden, Activation::Relu);
    vec![Step::Pool(PoolingMode::Cls), dense, logits("classifier", hidden, labels)]
}

/// The context pooler: the first token, a dense layer as wide as `pooler_hidden_size`, an activation.
fn deberta(config: &JsonFile, hidden: usize, labels: usize) -> Result<Vec<Step>, Error> {
    let width = count_or(config, "pooler_hidden_size", hidden, 65536)?;
    if width != hidden {
        let problem = format!("is {width}, and hidden_size is {hidden}; they are the same");
        return Err(config.error("pooler_hidden_size", problem));
    }
    let activation = hidden_act(config, "pooler_hidden_act", "gelu")?;
    let dense = linear("pooler.dense", hidden, hidden, activation);
    Ok(vec![Step::Pool(PoolingMode::Cls), dense, logits("classifier", hidden, labels)])
}

/// A decoder's: one layer over the last token that is no padding.
fn last_token(config: &JsonFile, hidden: usize, labels: usize) -> Result<Vec<Step>, Error> {
    if config.bool("is_causal")? == Some(false) {
        let supported = "of rerankers that are decoders causal ones are";
        return Err(config.unsupported("is_causal", supported));
    }
    let (name, activation) = ("score".to_owned(), Activation::None);
    let score = Step::Linear { name, bias: false, inner: hidden, columns: labels, activation };
    Ok(vec![Step::Pool(PoolingMode::LastToken), score])
}

/// The prediction head: dense, activation, norm.
fn modernbert(config: &JsonFile, hidden: usize, labels: usize) -> Result<Vec<Step>, Error> {
    let pooling = match config.str("classifier_pooling")?.unwrap_or("cls") {
        "cls" => PoolingMode::Cls,
        "mean" => PoolingMode::Mean,
        _ => return Err(config.unsupported("classifier_pooling", "supported are cls and mean")),
    };
    let bias = config.bool("classifier_bias")?.unwrap_or(false);
    let activation = hidden_act(config, "classifier_activation", "gelu")?;
    let name = "head.dense".to_owned();
    let dense = Step::Linear { name, bias, inner: hidden, columns: hidden, activation };
    let eps = epsilon(config, "norm_eps", 1e-5)?;
    let bias = config.bool("norm_bias")?.unwrap_or(false);
    let norm = Step::Norm { name: "head.norm".to_owned(), bias, width: hidden, eps };
    Ok(vec![Step::Pool(pooling), dense, norm, logits("classifier", hidden, labels)])
}

/// Language models whose head is one layer without a bias, `lm_head`.
const CAUSAL: &[&str] = &["llama", "mistral", "qwen2", "qwen3"];

/// Reads the head of a language model whose hidden states are `hidden` wide: of its logits for the token
/// that follows a text, those of `tokens`.
///
/// # Errors
/// [`Error::Unsupported`] for a model whose head is not computed; [`Error::Tensor`] where its weights are
/// missing or have no row for a token.
pub(crate) fn causal_lm(
    config: &JsonFile,
    weights: &WeightFiles,
    hidden: usize,
    tokens: &[usize],
) -> Result<Head, Error> {
    let model_type = config.str("model_type")?.unwrap_or_default();
    if !CAUSAL.contains(&model_type) {
        let supported =
            format!("rerankers by a token's logit are computed of {}", CAUSAL.join(", "));
        return Err(config.unsupported("model_type", supported));
    }
    if let Some(map) = config.object("auto_map")?
        && map.has("AutoModelForCausalLM")
    {
        let supported = "this head is Python code that comes with the model, and Vectile runs none";
        return Err(map.unsupported("AutoModelForCausalLM", supported));
    }
    // Where a checkpoint has both and they differ, transformers does not tie them.
    let table = "embed_tokens.weight";
    let weight = match config.bool("tie_word_embeddings")?.unwrap_or(false) {
        true if !weights.has("lm_head.weight") => format!("{}{table}", weights.prefix_of(table)?),
        _ => "lm_head.weight".to_owned(),
    };
    let (name, entry) = weights.find(&weight)?;
    let vocabulary = entry.shape.first().copied().unwrap_or(0);
    if let Some(token) = tokens.iter().find(|token| **token >= vocabulary) {
        let problem = format!(
            "has {vocabulary} rows, and the score is the logit of token {token}; they are of different models"
        );
        return Err(Error::tensor(weights.file_of(entry), name, problem));
    }
    let step = Step::Tokens { weight, rows: tokens.to_vec(), inner: hidden, vocabulary };
    let steps = vec![Step::Pool(PoolingMode::LastToken), step];
    Ok(Head { steps, labels: tokens.len(), passed_over: None })
}

/// The head of a masked language model.
struct Masked {
    model_type: &'static str,
    /// The dense layer and the norm before the logits, and the logits' own weight and bias.
    names: [&'static str; 4],
    /// The token table, which is the weight where that is not stored, and the decoder's own bias.
    tied: [&'static str; 2],
    /// The config field of the activation; GELU where there is none.
    activation: Option<&'static str>,
    eps: Option<&'static str>,
}

const BERT_LM: [&str; 4] = [
    "cls.predictions.transform.dense",
    "cls.predictions.transform.LayerNorm",
    "cls.predictions.decoder.weight",
    "cls.predictions.bias",
];
const ROBERTA_LM: [&str; 4] =
    ["lm_head.dense", "lm_head.layer_norm", "lm_head.decoder.weight", "lm_head.bias"];
const DISTILBERT_LM: [&str; 4] =
    ["vocab_transform", "vocab_layer_norm", "vocab_projector.weight", "vocab_projector.bias"];

const fn roberta_lm(model_type: &'static str, table: &'static str) -> Masked {
    let tied = [table, "lm_head.decoder.bias"];
    Masked { model_type, names: ROBERTA_LM, tied, activation: None, eps: Some("layer_norm_eps") }
}

const MASKED: &[Masked] = &[
    Masked {
        model_type: "bert",
        names: BERT_LM,
        tied: ["bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.bias"],
        activation: Some("hidden_act"),
        eps: Some("layer_norm_eps"),
    },
    roberta_lm("camembert", "roberta.embeddings.word_embeddings.weight"),
    Masked {
        model_type: "distilbert",
        names: DISTILBERT_LM,
        tied: ["distilbert.embeddings.word_embeddings.weight", "vocab_projector.bias"],
        activation: Some("activation"),
        eps: None,
    },
    roberta_lm("mpnet", "mpnet.embeddings.word_embeddings.weight"),
    roberta_lm("roberta", "roberta.embeddings.word_embeddings.weight"),
    roberta_lm("xlm-roberta", "roberta.embeddings.word_embeddings.weight"),
];

/// Reads the head of a masked language model whose hidden states are `hidden` wide.
///
/// # Errors
/// [`Error::Unsupported`] for a checkpoint without one, or one that is not computed; [`Error::Tensor`]
/// where its weights are missing.
pub(crate) fn masked_lm(
    config: &JsonFile,
    weights: &WeightFiles,
    hidden: usize,
) -> Result<Head, Error> {
    let architectures = config.strings("architectures")?.unwrap_or_default();
    if !architectures.iter().any(|name| name.ends_with("ForMaskedLM")) {
        let supported = "a sparse encoder is a …ForMaskedLM, a transformer with its head";
        return Err(config.unsupported("architectures", supported));
    }
    let model_type = config.str("model_type")?.unwrap_or_default();
    let Some(known) = MASKED.iter().find(|known| known.model_type == model_type) else {
        let names: Vec<&str> = MASKED.iter().map(|known| known.model_type).collect();
        let supported = format!("sparse encoders are computed of {}", names.join(", "));
        return Err(config.unsupported("model_type", supported));
    };
    if let Some(map) = config.object("auto_map")?
        && map.has("AutoModelForMaskedLM")
    {
        let supported = "this head is Python code that comes with the model, and Vectile runs none";
        return Err(map.unsupported("AutoModelForMaskedLM", supported));
    }
    let [dense, norm, weight, bias] = known.names;
    let [table, other_bias] = known.tied;
    let activation = match known.activation {
        Some(field) => hidden_act(config, field, "gelu")?,
        None => Activation::Gelu,
    };
    let eps = match known.eps {
        Some(field) => epsilon(config, field, if model_type == "bert" { 1e-12 } else { 1e-5 })?,
        None => 1e-12,
    };
    // The decoder's own count where they are stored; a tied model stores the table and the head's bias.
    let weight = if weights.has(weight) { weight } else { table };
    let bias = if weights.has(other_bias) { other_bias } else { bias };
    let labels = weights.shape(weight)?.first().copied().unwrap_or(0);
    let (weight, bias) = (weight.to_owned(), Some(bias.to_owned()));
    let steps = vec![
        linear(dense, hidden, hidden, activation),
        Step::Norm { name: norm.to_owned(), bias: true, width: hidden, eps },
        Step::Vocabulary { weight, bias, inner: hidden, labels },
    ];
    Ok(Head { steps, labels, passed_over: None })
}

/// The linear layer that makes token vectors of hidden states, as wide as its weight is.
///
/// # Errors
/// [`Error::Tensor`] where it is missing.
pub(crate) fn projection(
    projection: Projection,
    weights: &WeightFiles,
    hidden: usize,
) -> Result<Head, Error> {
    let (name, bias) = match projection {
        Projection::Stanford => ("linear", false),
        Projection::BgeM3 => (COLBERT_LINEAR, true),
    };
    let labels = weights.shape(&format!("{name}.weight"))?.first().copied().unwrap_or(0);
    let (name, activation) = (name.to_owned(), Activation::None);
    let step = Step::Linear { name, bias, inner: hidden, columns: labels, activation };
    Ok(Head { steps: vec![step], labels, passed_over: None })
}

/// The linear layer that makes a weight of each token's hidden state: none below zero.
pub(crate) fn token_weight(hidden: usize) -> Head {
    let steps = vec![linear(SPARSE_LINEAR, hidden, 1, Activation::Relu)];
    Head { steps, labels: 1, passed_over: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> JsonFile {
        let Ok(Value::Object(map)) = serde_json::from_str(json) else { panic!("{json}") };
        JsonFile::new("config.json", map)
    }

    #[test]
    fn labels_are_counted_as_transformers_does() {
        for (json, expected) in [
            ("{}", 2),
            (r#"{"num_labels": 3}"#, 3),
            (r#"{"id2label": {"0": "LABEL_0"}}"#, 1),
            (r#"{"id2label": {"0": "LABEL_0"}, "num_labels": 3}"#, 1),
        ] {
            assert_eq!(labels(&config(json)).unwrap(), expected, "{json}");
        }
    }

    #[test]
    fn what_is_no_reranker_is_refused_by_field() {
        let head = r#""architectures": ["BertForSequenceClassification"]"#;
        for (json, field) in [
            (
                r#"{"model_type": "bert", "architectures": ["BertModel"]}"#.to_owned(),
                "architectures",
            ),
            (r#"{"model_type": "bert"}"#.to_owned(), "architectures"),
            (format!(r#"{{"model_type": "fnet", {head}}}"#), "model_type"),
            (format!(r#"{{"model_type": "bert", "id2label": {{}}, {head}}}"#), "id2label"),
            (
                format!(r#"{{"model_type": "bert", "auto_map": {{"{CLASS}": "m.Head"}}, {head}}}"#),
                "auto_map.AutoModelForSequenceClassification",
            ),
        ] {
            let message = classifier(&config(&json), 4).unwrap_err().to_string();
            assert!(message.contains(field) && message.contains("config.json"), "{message}");
        }
    }
}
