//! Heads that come with a transformer's checkpoint: sequence classification, which makes it a
//! reranker. [`CLASSIFIERS`] is all that names them.
//!
//! Dropout does nothing outside training and is left out.

use serde_json::Value;

use crate::config::{JsonFile, PoolingMode};
use crate::error::Error;
use crate::kernels::Activation;
use crate::models::layers::count_or;

/// A step of a head, in the order they are applied. Names are those of the checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// One row for each text.
    Pool(PoolingMode),
    /// `activation(x · weightᵀ + bias)`.
    Linear { name: String, bias: bool, inner: usize, columns: usize, activation: Activation },
}

/// A head of sequence classification.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Head {
    pub steps: Vec<Step>,
    /// Logits of a text: `num_labels`.
    pub labels: usize,
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
    Classifier { model_type: "distilbert", code: &[], read: |_, h, l| Ok(distilbert(h, l)) },
    Classifier { model_type: "electra", code: &[], read: |_, h, l| Ok(dense_out(GELU, h, l)) },
    Classifier { model_type: "mpnet", code: &[], read: |_, h, l| Ok(dense_out(TANH, h, l)) },
    Classifier { model_type: "roberta", code: &[], read: |_, h, l| Ok(dense_out(TANH, h, l)) },
    Classifier { model_type: "xlm-roberta", code: &[], read: |_, h, l| Ok(dense_out(TANH, h, l)) },
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
    Ok(Head { steps: (known.read)(config, hidden, labels)?, labels })
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
