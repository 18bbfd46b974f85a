//! [`Reranker`]: computes scores of pairs of texts with a cross-encoder.

use std::collections::BTreeMap;

use crate::config::{DenseActivation, KindConfig, ModelKind};
use crate::dtype::Precision;
use crate::embedder::load::ModelBuilder;
use crate::embedder::model::{ModuleSummary, lower};
use crate::embedder::options::OnTooLong;
use crate::embedder::run::{Prepared, PromptChoice, Runner};
use crate::embedder::text_model::{TextModel, encode_all};
use crate::error::Error;
use crate::files::ModelFiles;
use crate::gpu::adapter::AdapterSummary;

/// Scores pairs of texts on a GPU. The scores are the same as those of sentence-transformers' `CrossEncoder`.
///
/// [`Reranker::builder`] makes a reranker, with the settings and guarantees of an [`Embedder`](crate::Embedder). If the
/// 16-bit activations of a pair overflow, the pair is run again with f32 activations. The scores of a pair are
/// bit-identical whatever other pairs are in its batch.
#[derive(Debug)]
pub struct Reranker {
    runner: Runner,
    activation: DenseActivation,
    labels: usize,
}

/// The builder of a [`Reranker`].
pub type RerankerBuilder = ModelBuilder<Reranker>;

/// Options for scoring pairs. Most fields have the name of an argument of sentence-transformers' `predict`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RerankOptions {
    /// The name of the model's prompt to put before the first text of each pair. If neither `prompt_name` nor `prompt`
    /// is set, the model's default prompt is used, if it has one. For a model with a chat template, the prompt is the
    /// message with the role `system`. Rerankers that follow instructions expect the instruction in this message. For
    /// example, Qwen3-Reranker's template writes it after `<Instruct>: `.
    pub prompt_name: Option<String>,
    /// The prompt itself, put before the first text of each pair. The empty string disables the default prompt.
    pub prompt: Option<String>,
    /// If true, scores are logits, to which the model's activation function is not applied.
    pub logits: bool,
    /// Truncates pairs to this number of tokens instead of the model's own maximum, special tokens included. The number
    /// cannot exceed the number of positions that the model has.
    pub max_length: Option<usize>,
    /// The treatment of pairs that are too long.
    pub on_too_long: OnTooLong,
}

/// The scores of pairs. There is one row for each pair, in the order of the pairs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scores {
    /// The number of scores of a pair, one for each label of the model.
    pub labels: usize,
    /// All rows, one after the other. Every value is finite.
    pub values: Vec<f32>,
    /// The indices of the pairs that were truncated to the maximum length. Tokens are removed from the longer text
    /// first. If a chat template renders pairs, the rendered text is truncated, and the template's own ending then
    /// replaces the last tokens.
    pub truncated: Vec<usize>,
    /// The number of pairs that were run again with f32 activations, because an activation exceeded the range of 16
    /// bits.
    pub retried: usize,
    /// The number of batches that ran out of GPU memory, and were run again as smaller batches.
    pub halved: usize,
    /// The number of tokens of all pairs, special tokens included.
    pub tokens: usize,
}

impl Scores {
    /// Returns the rows, in the order of the pairs.
    pub fn rows(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.labels.max(1))
    }

    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.values.len() / self.labels.max(1)
    }

    /// Returns true if there are no rows.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

/// A document and its relevance to a query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranked {
    /// The document's index in the caller's list.
    pub index: usize,
    /// The document's relevance to the query.
    pub score: f32,
}

impl TextModel for Reranker {
    const KIND: ModelKind = ModelKind::Reranker;
    type Input<'a> = (&'a str, &'a str);
    type Options = RerankOptions;
    type Row = Vec<f32>;

    fn from_runner(runner: Runner) -> Result<Self, Error> {
        let KindConfig::Reranker(scoring) = &runner.model.config.kind else {
            return Err(Error::Internal(
                "a reranker was loaded as another kind of model".to_owned(),
            ));
        };
        runner.model.tokenizer.check_pairs()?;
        // A language model computes one logit for each of its two answers, and these logits become a single score.
        let labels = if scoring.answers.is_some() { 1 } else { runner.model.dimension };
        let default = match labels {
            1 => DenseActivation::Sigmoid,
            _ => DenseActivation::Identity,
        };
        let activation = scoring.activation.unwrap_or(default);
        runner.model.check_types(&runner.model.tokenizer.encode_pair("", "a", "b")?)?;
        Ok(Reranker { runner, activation, labels })
    }

    fn runner(&self) -> &Runner {
        &self.runner
    }

    fn input<'a>(query: &'a str, text: &'a str) -> (&'a str, &'a str) {
        (query, text)
    }

    fn bytes((first, second): (&str, &str)) -> usize {
        first.len() + second.len()
    }

    fn prepare(
        &self,
        first: usize,
        pairs: &[(&str, &str)],
        options: &RerankOptions,
    ) -> Result<Vec<Result<Prepared, Error>>, Error> {
        let choice = PromptChoice {
            prompt: options.prompt.as_deref(),
            name: options.prompt_name.as_deref(),
            task: None,
        };
        let prompt = self.runner.prompt(choice)?.unwrap_or_default();
        let limit = self.limit_of(options.max_length)?;
        let encoded = self.runner.model.tokenizer.encode_pairs_within(prompt, pairs, limit);
        Ok(self.runner.check_all(first, encoded, options.on_too_long))
    }

    /// Returns the scores that a row of logits gives under the call's options.
    fn finish(
        &self,
        _pair: &Prepared,
        row: &[f32],
        options: &RerankOptions,
    ) -> Result<Vec<f32>, Error> {
        let activation = if options.logits { DenseActivation::Identity } else { self.activation };
        Ok(self.activated(row, activation))
    }

    fn dimension(&self) -> usize {
        self.labels
    }

    fn max_tokens(&self, _options: &RerankOptions) -> Option<usize> {
        self.runner.max_seq_length()
    }

    fn row_bytes(&self, _options: &RerankOptions) -> usize {
        self.runner.dimension() * 4
    }

    fn describe(&self) -> Vec<ModuleSummary> {
        vec![ModuleSummary::new("Activation", lower(&self.activation))]
    }
}

impl Reranker {
    /// Starts building a reranker from a model's files.
    ///
    /// ```no_run
    /// use vectile::{ModelFiles, Reranker, block_on};
    ///
    /// let files = ModelFiles::from_directory("models/ms-marco-MiniLM-L6-v2")?;
    /// let reranker = block_on(Reranker::builder(files).build())?;
    /// # Ok::<(), vectile::Error>(())
    /// ```
    pub fn builder(files: ModelFiles) -> RerankerBuilder {
        ModelBuilder::new(files)
    }

    /// Returns the precision in which the model runs, the precision that was requested, and the reasons for the choice.
    pub fn precision(&self) -> &Precision {
        self.runner.precision()
    }

    /// Returns the adapter that the model runs on.
    pub fn adapter(&self) -> &AdapterSummary {
        self.runner.adapter()
    }

    /// Returns notes for the user. The notes state the assumptions that Vectile made where the model's files give no
    /// value.
    pub fn notes(&self) -> &[String] {
        self.runner.notes()
    }

    /// Returns the number of scores of a pair: one for a reranker, several for a classifier.
    pub fn labels(&self) -> usize {
        self.labels
    }

    /// Returns the maximum number of tokens of a pair, including special tokens. Longer pairs are truncated. Returns
    /// `None` if the model states no limit.
    pub fn max_seq_length(&self) -> Option<usize> {
        self.runner.max_seq_length()
    }

    /// Returns the model's prompts by name.
    pub fn prompts(&self) -> &BTreeMap<String, String> {
        self.runner.prompts()
    }

    /// Returns a digest of all inputs that determine the scores; see
    /// [`Embedder::fingerprint`](crate::Embedder::fingerprint).
    ///
    /// # Errors
    /// Returns the errors of [`Embedder::fingerprint`](crate::Embedder::fingerprint).
    pub fn fingerprint(&self) -> Result<String, Error> {
        self.runner.fingerprint()
    }

    /// Returns the scores of pairs, computed with default options; see [`Reranker::predict_with`].
    ///
    /// # Errors
    /// Returns the errors of [`Reranker::predict_with`].
    pub async fn predict<A: AsRef<str>, B: AsRef<str>>(
        &self,
        pairs: &[(A, B)],
    ) -> Result<Scores, Error> {
        self.predict_with(pairs, &RerankOptions::default()).await
    }

    /// Returns the scores of pairs, with the shape `[pairs, labels]`. A score is a logit of the model's classification
    /// head, to which an activation function is applied. The model's files name this function; the default is sigmoid
    /// for one label, and no function for several labels. A language model's score is the logit of `yes` minus the
    /// logit of `no`. If the activation function is sigmoid, the score is the probability of `yes` against `no`. If the
    /// module `LogitScore` names only one token, the score is the logit of that token.
    ///
    /// If a model has a chat template, the template renders each pair as a text, as in sentence-transformers. If the
    /// template leaves out one of the texts, the model is refused when it is loaded.
    ///
    /// On one adapter, equal pairs with the same options have bit-identical scores, whatever other pairs are computed
    /// in the same call.
    ///
    /// # Errors
    /// Returns the errors of [`Embedder::embed_with`](crate::Embedder::embed_with). In the messages of these errors,
    /// "text" means a pair.
    pub async fn predict_with<A: AsRef<str>, B: AsRef<str>>(
        &self,
        pairs: &[(A, B)],
        options: &RerankOptions,
    ) -> Result<Scores, Error> {
        let pairs: Vec<(&str, &str)> =
            pairs.iter().map(|(a, b)| (a.as_ref(), b.as_ref())).collect();
        let mut values = Vec::with_capacity(pairs.len() * self.labels);
        let counts =
            encode_all(self, &pairs, options, |row| values.extend_from_slice(&row)).await?;
        Ok(Scores {
            labels: self.labels,
            values,
            truncated: counts.truncated,
            retried: counts.retried,
            halved: counts.halved,
            tokens: counts.tokens,
        })
    }

    /// Returns the scores that a row of logits gives with the model's activation function.
    #[cfg(any(test, feature = "server"))]
    pub(crate) fn scores(&self, row: &[f32]) -> Vec<f32> {
        self.activated(row, self.activation)
    }

    fn activated(&self, row: &[f32], activation: DenseActivation) -> Vec<f32> {
        let score = |logit| activate(activation, logit);
        match *row {
            [yes, no] if self.labels == 1 => vec![score(f64::from(yes) - f64::from(no))],
            _ => row.iter().map(|logit| score(f64::from(*logit))).collect(),
        }
    }

    /// Returns the documents in order of their relevance to a query, the most relevant first. If two scores are
    /// equal, the earlier document comes first.
    ///
    /// ```
    /// use vectile::{ModelFiles, Reranker, block_on};
    ///
    /// # if block_on(vectile::adapters()).is_empty() { return Ok(()); }
    /// # let directory = "tests/fixtures/rerankers/bert";
    /// let files = ModelFiles::from_directory(directory)?;
    /// let reranker = block_on(Reranker::builder(files).build())?;
    /// let documents = ["A cat sat on the roof.", "The dog ran."];
    /// let ranked = block_on(reranker.rank("Where is the cat?", &documents))?;
    /// assert_eq!(ranked.len(), 2);
    /// assert!(ranked[0].score >= ranked[1].score);
    /// # Ok::<(), vectile::Error>(())
    /// ```
    ///
    /// # Errors
    /// Returns [`Error::Unsupported`] if the model has several labels, because it then has no single score of
    /// relevance. Otherwise returns the errors of [`Reranker::predict_with`].
    pub async fn rank<T: AsRef<str>>(
        &self,
        query: &str,
        documents: &[T],
    ) -> Result<Vec<Ranked>, Error> {
        self.check_ranks()?;
        let pairs: Vec<(&str, &str)> =
            documents.iter().map(|document| (query, document.as_ref())).collect();
        let scores = self.predict(&pairs).await?;
        let mut ranked: Vec<Ranked> = scores
            .values
            .iter()
            .enumerate()
            .map(|(index, score)| Ranked { index, score: *score })
            .collect();
        ranked.sort_by(|a, b| b.score.total_cmp(&a.score));
        Ok(ranked)
    }

    /// Returns the maximum number of tokens of a pair: `length`, or the model's own maximum if `length` is `None`.
    fn limit_of(&self, length: Option<usize>) -> Result<Option<usize>, Error> {
        let limit = self.runner.limit_of(length)?;
        let added = self.runner.model.tokenizer.added_to_pair();
        match length.filter(|length| *length <= added) {
            None => Ok(limit),
            Some(length) => {
                let problem = format!(
                    "is {length}, but every pair has {added} special tokens; give a larger number"
                );
                Err(Error::option("max_length", problem))
            }
        }
    }

    /// Checks that the model can rank documents, which needs one score for each pair.
    ///
    /// # Errors
    /// Returns [`Error::Unsupported`] with the name of the config field if the model has several labels.
    pub fn check_ranks(&self) -> Result<(), Error> {
        match self.labels() {
            1 => Ok(()),
            labels => {
                let config = &self.runner.model.config.transformer;
                let field = if config.has("id2label") { "id2label" } else { "num_labels" };
                let value = format!("{labels} labels");
                let supported = "ranking needs a model with one label; `predict` gives the scores of all \
                                 labels";
                Err(Error::unsupported(&config.name, field, value, supported))
            }
        }
    }

    /// Destroys the device, as a driver reset does, so that tests can check that Vectile opens it again.
    #[doc(hidden)]
    pub async fn lose_device(&self) {
        self.runner.lose_device().await;
    }

    /// Returns the token ids and token types of each pair as the model receives them.
    ///
    /// # Errors
    /// Returns [`Error::Tokenizer`] if tokenizing fails.
    #[doc(hidden)]
    pub fn tokenize(&self, pairs: &[(&str, &str)]) -> Result<Vec<[Vec<u32>; 2]>, Error> {
        let prompt = self.runner.prompt(PromptChoice::default())?.unwrap_or_default();
        let tokenizer = &self.runner.model.tokenizer;
        let encoded = tokenizer.encode_pairs_within(prompt, pairs, tokenizer.limit());
        encoded.into_iter().map(|t| t.map(|t| [t.ids, t.type_ids])).collect()
    }
}

/// Returns the activation function's value at `x`. The computation is in f64, so that only the result is rounded to
/// f32.
fn activate(activation: DenseActivation, x: f64) -> f32 {
    let y = match activation {
        DenseActivation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        DenseActivation::Tanh => x.tanh(),
        DenseActivation::Relu => x.max(0.0),
        // This arm is reached for the identity only, because the config reader refuses all other activations.
        _ => x,
    };
    y as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activations_are_finite_everywhere() {
        for logit in [0.0, 1e-8, -3.0, 200.0, -200.0, f32::MAX, f32::MIN].map(f64::from) {
            for activation in [
                DenseActivation::Sigmoid,
                DenseActivation::Tanh,
                DenseActivation::Relu,
                DenseActivation::Identity,
            ] {
                assert!(activate(activation, logit).is_finite(), "{activation:?} of {logit}");
            }
        }
        assert_eq!(activate(DenseActivation::Sigmoid, 0.0), 0.5);
        assert_eq!(activate(DenseActivation::Relu, -3.0), 0.0);
    }
}
