//! Heads for sequence classification, one for each structure that several model families share.

use serde_json::Value;

use super::{Head, Step, linear, refuse_custom_head};
use crate::config::{JsonFile, PoolingMode};
use crate::error::Error;
use crate::kernels::Activation;
use crate::models::blocks::fields::{count_or, epsilon, hidden_act};
use crate::models::{architecture, jina_reranker, names};

/// The classification head of a model family.
pub(in crate::models) struct Classifier {
    /// The classes of published Python code that are equivalent to this head.
    code: &'static [&'static str],
    /// Returns the steps of the head for a hidden width and a number of labels.
    steps: fn(&JsonFile, usize, usize) -> Result<Vec<Step>, Error>,
}

/// The class names of Alibaba's head of GTE v1.5, on the Hub and in models that have a copy of its Python code.
const NEW_CODE: &[&str] = &[
    "Alibaba-NLP/new-impl--modeling.NewForSequenceClassification",
    "modeling.NewForSequenceClassification",
];

type Steps = fn(&JsonFile, usize, usize) -> Result<Vec<Step>, Error>;

const ROBERTA_STEPS: Steps = |_, h, l| Ok(dense_out(Activation::Tanh, h, l));

impl Classifier {
    pub const ALBERT: Self = Self::new(|_, h, l| Ok(pooler("albert.pooler", h, l)));
    pub const BERT: Self = Self::new(|_, h, l| Ok(pooler("bert.pooler.dense", h, l)));
    pub const DEBERTA: Self = Self::new(deberta);
    /// A decoder's head, which is applied to the last token of a text.
    pub const DECODER: Self = Self::new(last_token);
    pub const DISTILBERT: Self = Self::new(|_, h, l| Ok(distilbert(h, l)));
    pub const ELECTRA: Self = Self::new(|_, h, l| Ok(dense_out(Activation::Gelu, h, l)));
    pub const GTE: Self = Self::new(|_, h, l| Ok(pooler("gte.pooler.dense", h, l)));
    pub const MODERNBERT: Self = Self::new(modernbert);
    pub const NEW: Self =
        Classifier { code: NEW_CODE, ..Self::new(|_, h, l| Ok(pooler("new.pooler.dense", h, l))) };
    pub const ROBERTA: Self = Self::new(ROBERTA_STEPS);
    pub const XLM_ROBERTA: Self =
        Classifier { code: jina_reranker::HEAD, ..Self::new(ROBERTA_STEPS) };

    /// Returns a head that no custom code defines.
    const fn new(steps: Steps) -> Self {
        Classifier { code: &[], steps }
    }
}

/// Reads the classification head of a checkpoint whose hidden states have `hidden` values.
///
/// # Errors
/// Returns [`Error::Unsupported`] for a checkpoint without a classification head, or with a head that Vectile does not
/// compute.
pub(crate) fn classifier(config: &JsonFile, hidden: usize) -> Result<Head, Error> {
    let architectures = config.strings("architectures")?.unwrap_or_default();
    if !architectures.iter().any(|name| name.ends_with("ForSequenceClassification")) {
        let supported = "a reranker needs an architecture whose name ends with ForSequenceClassification, \
                         which has a classification head";
        return Err(config.unsupported("architectures", supported));
    }
    let Some(known) = architecture(config, None)?.classifier else {
        let supported = format!(
            "rerankers are supported for these model types: {}",
            names(|a| a.classifier.is_some())
        );
        return Err(config.unsupported("model_type", supported));
    };
    refuse_custom_head(config, "AutoModelForSequenceClassification", known.code)?;
    let labels = labels(config)?;
    let steps = (known.steps)(config, hidden, labels)?;
    let pools_last = steps.first() == Some(&Step::Pool(PoolingMode::LastToken));
    let padding = config.usize("pad_token_id")?.and_then(|id| u32::try_from(id).ok());
    Ok(Head { steps, labels, skipped_at_end: padding.filter(|_| pools_last) })
}

/// Returns the number of labels: the number of names in `id2label`, or else `num_labels`, or else two.
fn labels(config: &JsonFile) -> Result<usize, Error> {
    let count = match config.raw("id2label") {
        Some(Value::Object(names)) => names.len(),
        Some(_) => {
            return Err(config.error(
                "id2label",
                "is not an object; expected: an object that gives the label of each id",
            ));
        }
        None => return count_or(config, "num_labels", 2, 1 << 16),
    };
    match count {
        1..=65536 => Ok(count),
        _ => Err(config.error("id2label", format!("has {count} labels; expected: 1 to 65536"))),
    }
}

fn logits(name: &str, hidden: usize, labels: usize) -> Step {
    linear(name, hidden, labels, Activation::None)
}

/// Returns BERT's head: the transformer's pooler, applied to the first token, then a linear layer.
fn pooler(dense: &str, hidden: usize, labels: usize) -> Vec<Step> {
    let first = Step::Pool(PoolingMode::Cls);
    let dense = linear(dense, hidden, hidden, Activation::Tanh);
    vec![first, dense, logits("classifier", hidden, labels)]
}

/// Returns RoBERTa's head: a dense layer of the head, applied to the first token, then a linear layer.
fn dense_out(activation: Activation, hidden: usize, labels: usize) -> Vec<Step> {
    let dense = linear("classifier.dense", hidden, hidden, activation);
    let first = Step::Pool(PoolingMode::Cls);
    vec![first, dense, logits("classifier.out_proj", hidden, labels)]
}

fn distilbert(hidden: usize, labels: usize) -> Vec<Step> {
    let dense = linear("pre_classifier", hidden, hidden, Activation::Relu);
    vec![Step::Pool(PoolingMode::Cls), dense, logits("classifier", hidden, labels)]
}

/// Returns DeBERTa's head: a context pooler, applied to the first token, then a linear layer. The context pooler is a
/// dense layer of `pooler_hidden_size` values and an activation.
fn deberta(config: &JsonFile, hidden: usize, labels: usize) -> Result<Vec<Step>, Error> {
    let width = count_or(config, "pooler_hidden_size", hidden, 65536)?;
    if width != hidden {
        let problem = format!("is {width}, but hidden_size is {hidden}; they must be equal");
        return Err(config.error("pooler_hidden_size", problem));
    }
    let activation = hidden_act(config, "pooler_hidden_act", "gelu")?;
    let dense = linear("pooler.dense", hidden, hidden, activation);
    Ok(vec![Step::Pool(PoolingMode::Cls), dense, logits("classifier", hidden, labels)])
}

/// Returns a decoder's head: one linear layer, applied to the last token that is not padding.
fn last_token(config: &JsonFile, hidden: usize, labels: usize) -> Result<Vec<Step>, Error> {
    for (field, causal) in [("is_causal", true), ("use_bidirectional_attention", false)] {
        if config.bool(field)? == Some(!causal) {
            let supported = format!(
                "a reranker that is a decoder supports only the value {causal} of this field"
            );
            return Err(config.unsupported(field, supported));
        }
    }
    let (name, activation) = ("score".to_owned(), Activation::None);
    let score = Step::Linear { name, bias: false, inner: hidden, columns: labels, activation };
    Ok(vec![Step::Pool(PoolingMode::LastToken), score])
}

/// Returns ModernBERT's head: a dense layer, an activation, a norm, then a linear layer.
fn modernbert(config: &JsonFile, hidden: usize, labels: usize) -> Result<Vec<Step>, Error> {
    let pooling = match config.str("classifier_pooling")?.unwrap_or("cls") {
        "cls" => PoolingMode::Cls,
        "mean" => PoolingMode::Mean,
        _ => return Err(config.unsupported("classifier_pooling", "supported: cls and mean")),
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
    fn a_model_that_is_not_a_reranker_is_refused_by_field() {
        let head = r#""architectures": ["BertForSequenceClassification"]"#;
        for (json, field) in [
            (
                r#"{"model_type": "bert", "architectures": ["BertModel"]}"#.to_owned(),
                "architectures",
            ),
            (r#"{"model_type": "bert"}"#.to_owned(), "architectures"),
            (format!(r#"{{"model_type": "fnet", {head}}}"#), "model_type"),
            (format!(r#"{{"model_type": "t5", {head}}}"#), "model_type"),
            (format!(r#"{{"model_type": "bert", "id2label": {{}}, {head}}}"#), "id2label"),
            (
                format!(
                    r#"{{"model_type": "bert",
                        "auto_map": {{"AutoModelForSequenceClassification": "m.Head"}}, {head}}}"#
                ),
                "auto_map.AutoModelForSequenceClassification",
            ),
        ] {
            let message = classifier(&config(&json), 4).unwrap_err().to_string();
            assert!(message.contains(field) && message.contains("config.json"), "{message}");
        }
    }
}
