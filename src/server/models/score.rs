//! Computes the scores of a request: of documents for a query, or of labels for texts or pairs.

use std::sync::Arc;

use super::ServedModel;
use super::loaded::Row;
use super::requests::{Refusal, RequestRows, queued, strs};
use crate::embedder::{
    EmbedOptions, EmbedTask, MultiVectorEncoder, OnTooLong, RerankOptions, Reranker, TextModel,
};
use crate::error::Error;
use crate::server::served::LoadedModel;

/// The scale of a reranker's scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScoreScale {
    /// Scores from the model's own activation function, as sentence-transformers' `predict` returns them.
    Model,
    /// Logits, to which no activation function is applied.
    Raw,
    /// Probabilities, as in text-embeddings-inference: the sigmoid of a single label, or the softmax over
    /// several labels. The model's own activation function is not used.
    Probability,
}

/// A text or a pair to be scored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ScoredInput {
    Text(String),
    Pair(String, String),
}

impl ScoreScale {
    fn apply(self, reranker: &Reranker, row: Vec<f32>) -> Vec<f32> {
        match self {
            ScoreScale::Model => reranker.scores(&row),
            ScoreScale::Raw => reranker.logits(&row),
            ScoreScale::Probability => probabilities(&reranker.logits(&row)),
        }
    }
}

/// Returns the sigmoid of a single logit, or the softmax of several, computed in f64.
fn probabilities(logits: &[f32]) -> Vec<f32> {
    if let [logit] = *logits {
        return vec![(1.0 / (1.0 + (-f64::from(logit)).exp())) as f32];
    }
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponent = |logit: &f32| (f64::from(*logit) - f64::from(largest)).exp();
    let sum: f64 = logits.iter().map(exponent).sum();
    logits.iter().map(|logit| (exponent(logit) / sum) as f32).collect()
}

impl ServedModel {
    /// Returns the score of each document for a query. `scale` is the scale of a reranker's scores. A multi-vector
    /// encoder ignores the scale, because its scores are similarities (MaxSim).
    pub async fn rerank(
        &self,
        query: String,
        documents: Vec<String>,
        scale: ScoreScale,
        on_too_long: OnTooLong,
    ) -> Result<RequestRows<f32>, Refusal> {
        match &self.model {
            LoadedModel::Reranker(reranker) => {
                reranker.check_ranks()?;
                let pair = |document| ScoredInput::Pair(query.clone(), document);
                let pairs = documents.into_iter().map(pair).collect();
                let rows = self.score(reranker, pairs, scale, on_too_long).await?;
                let first = |scores: Vec<f32>| {
                    let missing = || {
                        Error::Internal(
                            "the model returned no score for a pair of texts".to_owned(),
                        )
                    };
                    scores.first().copied().ok_or_else(missing)
                };
                Ok(rows.try_map(first)?)
            }
            LoadedModel::MultiVector(encoder) => {
                self.late_interaction(encoder, query, documents, on_too_long).await
            }
            LoadedModel::Dense(_) | LoadedModel::Sparse(_) => {
                Err(self.wrong_kind("this route needs a model of kind reranker or multi-vector"))
            }
        }
    }

    /// Returns the scores of each text or pair, one for each label of a reranker or classifier.
    pub async fn predict(
        &self,
        inputs: Vec<ScoredInput>,
        scale: ScoreScale,
        on_too_long: OnTooLong,
    ) -> Result<RequestRows<Vec<f32>>, Refusal> {
        let LoadedModel::Reranker(reranker) = &self.model else {
            return Err(self.wrong_kind("this route needs a model of kind reranker"));
        };
        self.score(reranker, inputs, scale, on_too_long).await
    }

    async fn score(
        &self,
        reranker: &Arc<Reranker>,
        inputs: Vec<ScoredInput>,
        scale: ScoreScale,
        on_too_long: OnTooLong,
    ) -> Result<RequestRows<Vec<f32>>, Refusal> {
        let bytes = |input: &ScoredInput| match input {
            ScoredInput::Text(text) => text.len(),
            ScoredInput::Pair(first, second) => first.len() + second.len(),
        };
        let estimate = self.estimate(inputs.iter().map(bytes));
        let tokenizes = reranker.clone();
        let prepare = move || {
            let options = RerankOptions { on_too_long, ..RerankOptions::default() };
            let mut prepared = Vec::with_capacity(inputs.len());
            for (i, input) in inputs.iter().enumerate() {
                let one = match input {
                    ScoredInput::Text(text) => tokenizes.prepare_text(i, text, &options)?,
                    ScoredInput::Pair(first, second) => {
                        tokenizes.prepare(i, &[(first, second)], &options)?
                    }
                };
                prepared.extend(one);
            }
            queued(prepared, &Arc::default())
        };
        let rows = self.run(Some(estimate), prepare).await?;
        Ok(rows.try_map(|row| Ok::<_, Error>(scale.apply(reranker, row.into_values()?)))?)
    }

    /// Computes scores by late interaction. The query and the documents are encoded in one request.
    async fn late_interaction(
        &self,
        encoder: &Arc<MultiVectorEncoder>,
        query: String,
        documents: Vec<String>,
        on_too_long: OnTooLong,
    ) -> Result<RequestRows<f32>, Refusal> {
        let bytes = documents.iter().map(String::len).chain([query.len()]);
        let estimate = self.estimate(bytes);
        let tokenizes = encoder.clone();
        let prepare = move || {
            let options = |task| {
                let task = Some(task);
                Arc::new(EmbedOptions { task, on_too_long, ..EmbedOptions::default() })
            };
            let (of_query, of_documents) =
                (options(EmbedTask::Query), options(EmbedTask::Document));
            let mut texts =
                queued(tokenizes.prepare(0, &strs(&documents), &of_documents)?, &of_documents)?;
            texts.extend(queued(tokenizes.prepare(0, &[&query], &of_query)?, &of_query)?);
            Ok(texts)
        };
        let mut rows = self.run(Some(estimate), prepare).await?.try_map(Row::into_multi_vector)?;
        // The query comes after the documents, so that the index of a truncated text is also the index of its document.
        let query = rows.rows.pop().unwrap_or_default();
        let documents = rows.rows.len();
        rows.truncated.retain(|text| *text < documents);
        Ok(rows.try_map(|document| Ok::<_, Error>(encoder.similarity(&query, &document) as f32))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_label_has_a_sigmoid_and_several_a_softmax() {
        assert_eq!(probabilities(&[0.0]), [0.5]);
        let [two, minus] = [probabilities(&[2.0])[0], probabilities(&[-2.0])[0]];
        assert!((two - 0.880_797_1).abs() < 1e-7 && (two + minus - 1.0).abs() < 1e-7);
        assert_eq!(probabilities(&[1.0, 1.0]), [0.5, 0.5]);
        let three = probabilities(&[1.0, 2.0, 3.0]);
        for (found, expected) in three.iter().zip([0.090_030_57, 0.244_728_47, 0.665_240_96]) {
            assert!((found - expected).abs() < 1e-7, "{three:?}");
        }
    }

    #[test]
    fn large_logits_do_not_overflow() {
        assert_eq!(probabilities(&[1000.0]), [1.0]);
        assert_eq!(probabilities(&[-1000.0]), [0.0]);
        assert_eq!(probabilities(&[-1000.0, 1000.0]), [0.0, 1.0]);
        assert_eq!(probabilities(&[-3e38, -3e38]), [0.5, 0.5]);
    }
}
