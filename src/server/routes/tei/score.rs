//! Scores: `/rerank` and `/predict`.

use std::fmt;

use axum::extract::State;
use axum::response::Response;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{TEI, TruncationDirection, check_direction, refused};
use crate::config::ModelKind;
use crate::server::models::{ScoreScale, ScoredInput};
use crate::server::routes::answer::{small, truncated_header};
use crate::server::routes::body::{ApiRequest, Json};
use crate::server::routes::error::{ApiError, Dialect, ErrorBody};
use crate::server::routes::openai::on_too_long;
use crate::server::routes::{App, RANKING_KINDS, ranking};

/// A query and the texts to rank.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({
    "query": "Where is the cat?",
    "texts": ["A cat sat on the roof.", "The dog ran."],
}))]
pub(crate) struct RerankRequest {
    query: String,
    texts: Vec<String>,
    /// Set this to true (the default) to truncate pairs that are too long, or to false to refuse them.
    truncate: Option<bool>,
    /// The side on which texts are truncated. The model's own tokenizer must truncate on the same side.
    truncation_direction: Option<TruncationDirection>,
    /// Whether to return logits (true) or their sigmoid (false, the default). This field has no effect on a
    /// multi-vector model, whose scores are MaxSim values.
    #[serde(default)]
    raw_scores: bool,
    /// Whether to return each text with its score.
    #[serde(default)]
    return_text: bool,
    /// Name of a served model.
    model: Option<String>,
}

/// The score of a text.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Rank {
    /// Index of the text in the request.
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    score: f32,
}

/// Texts or pairs to classify.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({ "inputs": [["Where is the cat?", "A cat sat on the roof."]] }))]
pub(crate) struct PredictRequest {
    /// A text, a pair of texts, or a list whose items are lists of one or two texts.
    #[schema(value_type = Vec<Vec<String>>)]
    inputs: PredictInput,
    /// Set this to true (the default) to truncate texts that are too long, or to false to refuse them.
    truncate: Option<bool>,
    /// The side on which texts are truncated. The model's own tokenizer must truncate on the same side.
    truncation_direction: Option<TruncationDirection>,
    /// Whether to return logits (true) or probabilities (false, the default). The probabilities are the
    /// sigmoid of a single label, or the softmax over several labels.
    #[serde(default)]
    raw_scores: bool,
    /// Name of a served model.
    model: Option<String>,
}

/// The score of a label.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Prediction {
    score: f32,
    label: String,
}

/// The labels of one input with their scores, or a list of the labels of each input.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Predictions {
    Single(Vec<Prediction>),
    Batch(Vec<Vec<Prediction>>),
}

impl ApiRequest for RerankRequest {
    const DIALECT: Dialect = TEI;
}

impl ApiRequest for PredictRequest {
    const DIALECT: Dialect = TEI;
}

/// Rank texts for a query
///
/// Returns the texts' indices and scores, the highest score first. As in TEI, scores are the sigmoid of the
/// logit, whatever the model's own activation function is.
#[utoipa::path(
    post,
    path = "/rerank",
    tag = "text-embeddings-inference",
    request_body = RerankRequest,
    responses((status = OK, body = Vec<Rank>), (status = "default", body = ErrorBody)),
)]
pub(crate) async fn rerank(
    State(app): State<App>,
    Json(request): Json<RerankRequest>,
) -> Result<Response, ApiError> {
    let model = app.model(RANKING_KINDS, request.model.as_deref())?;
    app.check_count(TEI, "texts", request.texts.len())?;
    check_direction(&model, request.truncation_direction)?;
    let returned = request.return_text.then(|| request.texts.clone());
    let scores = model
        .rerank(
            request.query,
            request.texts,
            scale(request.raw_scores),
            on_too_long(request.truncate),
        )
        .await
        .map_err(|refusal| refused(refusal, "texts"))?;
    let text = |index: usize| returned.as_ref().and_then(|texts| texts.get(index).cloned());
    let ranked: Vec<Rank> = ranking(&scores.rows)
        .into_iter()
        .map(|(index, score)| Rank { index, text: text(index), score })
        .collect();
    Ok(truncated_header(small(&ranked)?, scores.truncated.len()))
}

/// Classify texts or pairs
///
/// Returns the labels of each input with their scores, the highest score first.
#[utoipa::path(
    post,
    path = "/predict",
    tag = "text-embeddings-inference",
    request_body = PredictRequest,
    responses((status = OK, body = Predictions), (status = "default", body = ErrorBody)),
)]
pub(crate) async fn predict(
    State(app): State<App>,
    Json(request): Json<PredictRequest>,
) -> Result<Response, ApiError> {
    let model = app.model(&[ModelKind::Reranker], request.model.as_deref())?;
    let PredictInput { inputs, single } = request.inputs;
    app.check_count(TEI, "inputs", inputs.len())?;
    check_direction(&model, request.truncation_direction)?;
    let scores = model
        .predict(inputs, scale(request.raw_scores), on_too_long(request.truncate))
        .await
        .map_err(|refusal| refused(refusal, "inputs"))?;
    let labels = model.describe().labels;
    let predictions = |scores: &Vec<f32>| -> Vec<Prediction> {
        let label = |index: usize| labels.get(index).cloned().unwrap_or_default();
        let ranked = ranking(scores).into_iter();
        ranked.map(|(index, score)| Prediction { score, label: label(index) }).collect()
    };
    let mut all: Vec<Vec<Prediction>> = scores.rows.iter().map(predictions).collect();
    let answer = match single {
        true => Predictions::Single(all.pop().unwrap_or_default()),
        false => Predictions::Batch(all),
    };
    Ok(truncated_header(small(&answer)?, scores.truncated.len()))
}

fn scale(raw_scores: bool) -> ScoreScale {
    if raw_scores { ScoreScale::Raw } else { ScoreScale::Probability }
}

/// The inputs of `/predict`.
#[derive(Debug, PartialEq, Eq)]
struct PredictInput {
    inputs: Vec<ScoredInput>,
    /// Is true if the client sent one input instead of a list.
    single: bool,
}

impl<'de> Deserialize<'de> for PredictInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PredictVisitor)
    }
}

struct PredictVisitor;

/// An item of a list of inputs: a text, or a list of one or two texts.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a text, or a list of one or two texts")]
enum Item {
    Text(String),
    Texts(Vec<String>),
}

fn input_of<E: Error>(mut texts: Vec<String>) -> Result<ScoredInput, E> {
    let count = texts.len();
    match (count, texts.pop(), texts.pop()) {
        (1, Some(text), None) => Ok(ScoredInput::Text(text)),
        (2, Some(second), Some(first)) => Ok(ScoredInput::Pair(first, second)),
        _ => Err(E::custom(format!("has {count} texts; an input is one text or a pair"))),
    }
}

impl<'de> Visitor<'de> for PredictVisitor {
    type Value = PredictInput;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a pair of texts, or a list of lists of one or two texts")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<PredictInput, E> {
        self.visit_string(text.to_owned())
    }

    fn visit_string<E: Error>(self, text: String) -> Result<PredictInput, E> {
        Ok(PredictInput { inputs: vec![ScoredInput::Text(text)], single: true })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<PredictInput, A::Error> {
        let Some(first) = list.next_element::<Item>()? else {
            return Err(A::Error::custom("is an empty list; give at least one text"));
        };
        match first {
            Item::Text(first) => {
                let mut texts = vec![first];
                while let Some(text) = list.next_element::<String>()? {
                    texts.push(text);
                }
                Ok(PredictInput { inputs: vec![input_of(texts)?], single: true })
            }
            Item::Texts(first) => {
                let mut inputs = vec![input_of(first)?];
                while let Some(texts) = list.next_element::<Vec<String>>()? {
                    inputs.push(input_of(texts)?);
                }
                Ok(PredictInput { inputs, single: false })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<PredictInput, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn inputs_are_texts_pairs_or_lists_of_both() {
        let text = |text: &str| ScoredInput::Text(text.to_owned());
        let pair = |a: &str, b: &str| ScoredInput::Pair(a.to_owned(), b.to_owned());
        let single = |input| Ok(PredictInput { inputs: vec![input], single: true });
        assert_eq!(read(r#""a""#), single(text("a")));
        assert_eq!(read(r#"["a"]"#), single(text("a")));
        assert_eq!(read(r#"["a", "b"]"#), single(pair("a", "b")));
        let inputs = vec![text("a"), pair("b", "c")];
        assert_eq!(read(r#"[["a"], ["b", "c"]]"#), Ok(PredictInput { inputs, single: false }));
    }

    #[test]
    fn other_inputs_are_refused_with_a_reason() {
        for (json, words) in [
            ("5", "expected a text, a pair of texts"),
            ("[]", "empty list"),
            ("[5]", "expected a text, or a list"),
            (r#"["a", "b", "c"]"#, "has 3 texts"),
            (r#"[["a", "b", "c"]]"#, "has 3 texts"),
            ("[[]]", "has 0 texts"),
            (r#"[["a"], "b"]"#, "expected a sequence"),
            (r#"["a", ["b"]]"#, "expected a string"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(words), "{json}: {error}");
        }
    }
}
