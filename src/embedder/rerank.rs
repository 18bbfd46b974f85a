//! [`Reranker`]: scores of pairs of texts by a cross-encoder.

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
/// [`Reranker::builder`] makes a reranker, with the settings and guarantees of an [`Embedder`](crate::Embedder). A
/// reranker follows the dtype policy, runs pairs again in f32 if 16 bits do not suffice, and recovers a lost device.
/// Scores are bit-identical in any batch.
#[derive(Debug)]
pub struct Reranker {
    runner: Runner,
    activation: DenseActivation,
    labels: usize,
}

/// The builder of a [`Reranker`].
pub type RerankerBuilder = ModelBuilder<Reranker>;

/// Options for scoring pairs. Fields have the names of the arguments of sentence-transformers' `predict`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RerankOptions {
    /// The name of the model's prompt to put before the first text of each pair. If neither `prompt_name` nor
    /// `prompt` is set, the model's default prompt is used, if it has one. A model with a chat template takes the
    /// prompt as the message with the role `system`. Rerankers that follow instructions expect the instruction there.
    /// Qwen3-Reranker's template writes it after `<Instruct>: `.
    pub prompt_name: Option<String>,
    /// The prompt itself, put before the first text of each pair. The empty string disables the default prompt.
    pub prompt: Option<String>,
    /// Returns logits, without the model's activation function.
    pub logits: bool,
    /// Cuts pairs to this number of tokens instead of the model's own maximum, special tokens included. It cannot
    /// exceed the positions that the model has.
    pub max_length: Option<usize>,
    /// The treatment of pairs that are too long.
    pub on_too_long: OnTooLong,
}

/// Scores, one row for each pair, in the order of the pairs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scores {
    /// The number of scores of a pair, one for each label of the model.
    pub labels: usize,
    /// All rows, one after the other. Every value is finite.
    pub values: Vec<f32>,
    /// Indices of the pairs that were cut to the model's length. The longer text is cut first. If a chat template
    /// rendered the pair, the cut comes before the ending that the template writes.
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
    /// The rows, in the order of the pairs.
    pub fn rows(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.labels.max(1))
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.values.len() / self.labels.max(1)
    }

    /// True if there are no rows.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

/// A document and its score.
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
            return Err(Error::Internal("a reranker was loaded as another kind".to_owned()));
        };
        runner.model.tokenizer.check_pairs()?;
        // A language model gives one logit for each answer, and these logits become a single score.
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

    /// Returns the scores of a row of logits.
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

    /// Returns how the model runs: the precision requested, the precision chosen, and the reasons.
    pub fn precision(&self) -> &Precision {
        self.runner.precision()
    }

    /// The adapter that the model runs on.
    pub fn adapter(&self) -> &AdapterSummary {
        self.runner.adapter()
    }

    /// Notes for the user: assumptions made where the model's files are silent.
    pub fn notes(&self) -> &[String] {
        self.runner.notes()
    }

    /// The number of scores of a pair: one for a reranker, several for a classifier.
    pub fn labels(&self) -> usize {
        self.labels
    }

    /// The maximum number of tokens of a pair, including special tokens. Longer pairs are cut. `None` if the model
    /// names no limit.
    pub fn max_seq_length(&self) -> Option<usize> {
        self.runner.max_seq_length()
    }

    /// The model's prompts by name.
    pub fn prompts(&self) -> &BTreeMap<String, String> {
        self.runner.prompts()
    }

    /// The digest of everything that determines the scores; see
    /// [`Embedder::fingerprint`](crate::Embedder::fingerprint).
    ///
    /// # Errors
    /// The errors of [`Embedder::fingerprint`](crate::Embedder::fingerprint).
    pub fn fingerprint(&self) -> Result<String, Error> {
        self.runner.fingerprint()
    }

    /// Returns the scores of pairs under default options; see [`Reranker::predict_with`].
    ///
    /// # Errors
    /// The errors of [`Reranker::predict_with`].
    pub async fn predict<A: AsRef<str>, B: AsRef<str>>(
        &self,
        pairs: &[(A, B)],
    ) -> Result<Scores, Error> {
        self.predict_with(pairs, &RerankOptions::default()).await
    }

    /// Returns the scores of pairs, with the shape `[pairs, labels]`. A score is a logit of the model's
    /// classification head after the activation function that the model's files name. If they name none, it is
    /// sigmoid for one label and no function for several. A language model's score is the logit of `yes` minus the
    /// logit of `no`. Under sigmoid, this difference becomes the probability of `yes` among the two answers. If its
    /// `LogitScore` names only one token, the score is the logit of that token.
    ///
    /// A model with a chat template reads each pair as its template renders it, as in sentence-transformers. If the
    /// template leaves out one of the texts, the model is refused when it is loaded.
    ///
    /// On one adapter, a pair's scores are bit-identical, whatever other pairs are computed with it.
    ///
    /// # Errors
    /// The errors of [`Embedder::embed_with`](crate::Embedder::embed_with). In their messages, a "text" is a pair.
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

    /// Returns the scores of a row of logits.
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
    /// [`Error::Unsupported`] if the model has several labels, because none of them is the relevance. Otherwise the
    /// errors of [`Reranker::predict_with`].
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

    /// The maximum number of tokens of a pair: the caller's, or else the model's.
    fn limit_of(&self, length: Option<usize>) -> Result<Option<usize>, Error> {
        let limit = self.runner.limit_of(length)?;
        let added = self.runner.model.tokenizer.added_to_pair();
        match length.filter(|length| *length <= added) {
            None => Ok(limit),
            Some(length) => {
                let problem = format!(
                    "is {length}, but a pair has {added} special tokens already; give a larger \
                     number"
                );
                Err(Error::option("max_length", problem))
            }
        }
    }

    /// Refuses a model with several scores for a pair.
    ///
    /// # Errors
    /// [`Error::Unsupported`], which names the config field.
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

    /// Destroys the device, as a driver reset does, so that tests can check the recovery.
    #[doc(hidden)]
    pub async fn lose_device(&self) {
        self.runner.lose_device().await;
    }

    /// Returns the token ids and token types of each pair as the model receives them.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if tokenizing fails.
    #[doc(hidden)]
    pub fn tokenize(&self, pairs: &[(&str, &str)]) -> Result<Vec<[Vec<u32>; 2]>, Error> {
        let prompt = self.runner.prompt(PromptChoice::default())?.unwrap_or_default();
        let tokenizer = &self.runner.model.tokenizer;
        let encoded = tokenizer.encode_pairs_within(prompt, pairs, tokenizer.limit());
        encoded.into_iter().map(|t| t.map(|t| [t.ids, t.type_ids])).collect()
    }
}

/// Applies the function in f64, so that only the result is rounded.
fn activate(activation: DenseActivation, x: f64) -> f32 {
    let y = match activation {
        DenseActivation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        DenseActivation::Tanh => x.tanh(),
        DenseActivation::Relu => x.max(0.0),
        // Only the identity reaches this arm, because the config reader refuses all other activations.
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
