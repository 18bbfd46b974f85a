//! [`Reranker`]: scores of pairs of texts by a cross-encoder.

use std::collections::BTreeMap;

use crate::config::{DenseActivation, KindConfig, ModelKind};
use crate::dtype::Precision;
use crate::embedder::build::{Built, ModelBuilder};
use crate::embedder::prepared::{Chunks, Prepared};
use crate::embedder::{EmbedOptions, Embedder, OnTooLong, note};
use crate::error::Error;
use crate::files::ModelFiles;
use crate::gpu::adapter::AdapterSummary;

/// Scores pairs of texts on a GPU: the same scores as sentence-transformers' `CrossEncoder`.
///
/// Made by [`Reranker::builder`], with the settings that an [`Embedder`] takes. What holds for an
/// embedder holds here: the dtype policy, texts run again where 16 bits do not reach, a lost device won
/// back, and a pair's score having the same bits in any batch.
#[derive(Debug)]
pub struct Reranker {
    runs: Embedder,
    activation: DenseActivation,
    labels: usize,
}

/// Makes a [`Reranker`].
pub type RerankerBuilder = ModelBuilder<Reranker>;

/// How pairs are scored: the arguments of sentence-transformers' `predict` of the same names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RerankOptions {
    /// The model's prompt of this name is put before the first text of each pair. Without it and
    /// without `prompt`, the model's default prompt is used, if it has one. A model with a chat template
    /// takes it as the message of the role `system`, which is where rerankers that follow instructions
    /// have theirs: Qwen3-Reranker's template writes it after `<Instruct>: `.
    pub prompt_name: Option<String>,
    /// As `prompt_name`, spelt out; the empty string turns the default prompt off.
    pub prompt: Option<String>,
    /// What to do with pairs that are too long.
    pub on_too_long: OnTooLong,
}

/// Scores, a row per pair, in the order of the pairs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scores {
    /// Scores of a pair: the model's labels.
    pub labels: usize,
    /// All rows, one after the other. Every value is finite.
    pub values: Vec<f32>,
    /// Indices of the pairs that were cut to the model's length: the longer text first, or the rendered
    /// text at its end, where what a chat template writes last stays.
    pub truncated: Vec<usize>,
    /// How many pairs were run again with f32 activations, because some activation passed the range
    /// of 16 bits.
    pub retried: usize,
    /// How often a batch was run again in smaller ones, because the GPU's memory ran out.
    pub halved: usize,
    /// Tokens of all pairs, special tokens included.
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

    /// True where there are no rows.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

/// A document and its score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranked {
    /// Its place in the caller's list.
    pub index: usize,
    /// How relevant it is to the query.
    pub score: f32,
}

impl Built for Reranker {
    const KIND: ModelKind = ModelKind::Reranker;

    fn built(runs: Embedder) -> Result<Self, Error> {
        let KindConfig::Reranker(scoring) = &runs.model.config.kind else {
            return Err(Error::Internal("a reranker was loaded as something else".to_owned()));
        };
        runs.model.tokenizer.check_pairs()?;
        // The logits of a language model's answers make one score.
        let labels = if scoring.answers.is_some() { 1 } else { runs.model.dimension };
        let one = match labels {
            1 => DenseActivation::Sigmoid,
            _ => DenseActivation::Identity,
        };
        let activation = scoring.activation.unwrap_or(one);
        runs.model.check_types(&runs.model.tokenizer.encode_pair("", "a", "b")?)?;
        Ok(Reranker { runs, activation, labels })
    }
}

impl Reranker {
    /// Starts making a reranker of a model.
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

    /// How the model runs: what was asked for, what was chosen, and why.
    pub fn precision(&self) -> &Precision {
        self.runs.precision()
    }

    /// The adapter it runs on.
    pub fn adapter(&self) -> &AdapterSummary {
        self.runs.adapter()
    }

    /// What is worth saying aloud of this model: what was assumed because its files do not say.
    pub fn notes(&self) -> &[String] {
        self.runs.notes()
    }

    /// Scores of a pair: one for a reranker, several for a classifier.
    pub fn labels(&self) -> usize {
        self.labels
    }

    /// Tokens a pair may have, special tokens included; longer ones are truncated. `None` where the
    /// model names no limit.
    pub fn max_seq_length(&self) -> Option<usize> {
        self.runs.max_seq_length()
    }

    /// The model's prompts by name.
    pub fn prompts(&self) -> &BTreeMap<String, String> {
        self.runs.prompts()
    }

    /// The scores of pairs, as [`Reranker::predict_with`] gives them under default options.
    ///
    /// # Errors
    /// As [`Reranker::predict_with`].
    pub async fn predict<A: AsRef<str>, B: AsRef<str>>(
        &self,
        pairs: &[(A, B)],
    ) -> Result<Scores, Error> {
        self.predict_with(pairs, &RerankOptions::default()).await
    }

    /// The scores of pairs, `[pairs, labels]`: the logits of the model's classification head under
    /// its activation function, which is what its files name, else sigmoid for one label and nothing
    /// for several. Of a language model it is how much rather it answers `yes` than `no`: the difference
    /// of the two logits, or the one logit where its LogitScore names no other; under sigmoid that is
    /// the probability of `yes` among the two.
    ///
    /// A language model and others with a chat template read a pair as that writes it, as
    /// sentence-transformers does; a template that leaves out one of the texts is refused when the model
    /// is loaded.
    ///
    /// A pair's scores have the same bits whatever pairs they are computed with, on one adapter.
    ///
    /// # Errors
    /// As [`Embedder::embed_with`]; a "text" of a message is a pair.
    pub async fn predict_with<A: AsRef<str>, B: AsRef<str>>(
        &self,
        pairs: &[(A, B)],
        options: &RerankOptions,
    ) -> Result<Scores, Error> {
        let mut scores = Scores { labels: self.labels(), ..Scores::default() };
        let mut chunks = Chunks::new(pairs, self.runs.batch_tokens);
        let more = || {
            let bytes = |(a, b): &(A, B)| a.as_ref().len() + b.as_ref().len();
            let Some((first, pairs)) = chunks.next(bytes) else { return Ok(None) };
            let prepared = self.prepare_from(first, pairs, options)?;
            let prepared = prepared.into_iter().collect::<Result<Vec<_>, _>>()?;
            note(&prepared, &mut scores.truncated, &mut scores.tokens);
            Ok(Some(prepared))
        };
        let take = |_: &Prepared, row: Result<&[f32], Error>| {
            scores.values.extend(self.scores(row?));
            Ok(())
        };
        let met = self.runs.drive(more, take).await?;
        Ok(Scores { retried: met.retried, halved: met.halved, ..scores })
    }

    /// The tokens of each pair under `options`, or what is wrong with that pair; see
    /// [`Embedder::prepare`].
    pub(crate) fn prepare<A: AsRef<str>, B: AsRef<str>>(
        &self,
        pairs: &[(A, B)],
        options: &RerankOptions,
    ) -> Result<Vec<Result<Prepared, Error>>, Error> {
        self.prepare_from(0, pairs, options)
    }

    fn prepare_from<A: AsRef<str>, B: AsRef<str>>(
        &self,
        first: usize,
        pairs: &[(A, B)],
        options: &RerankOptions,
    ) -> Result<Vec<Result<Prepared, Error>>, Error> {
        let prompts = EmbedOptions {
            prompt_name: options.prompt_name.clone(),
            prompt: options.prompt.clone(),
            ..EmbedOptions::default()
        };
        let prompt = self.runs.prompt(&prompts)?.unwrap_or_default();
        let pairs: Vec<(&str, &str)> =
            pairs.iter().map(|(a, b)| (a.as_ref(), b.as_ref())).collect();
        let encoded = self.runs.model.tokenizer.encode_pairs(prompt, &pairs);
        Ok(self.runs.checked(first, encoded, options.on_too_long))
    }

    /// What runs prepared pairs.
    pub(crate) fn runs(&self) -> &Embedder {
        &self.runs
    }

    pub(super) fn activation(&self) -> DenseActivation {
        self.activation
    }

    /// The scores of a row of logits.
    pub(crate) fn finish(&self, row: Vec<f32>) -> Vec<f32> {
        self.scores(&row)
    }

    fn scores(&self, row: &[f32]) -> Vec<f32> {
        let score = |logit| activate(self.activation, logit);
        match *row {
            // The model says yes rather than no.
            [yes, no] if self.labels == 1 => vec![score(f64::from(yes) - f64::from(no))],
            _ => row.iter().map(|logit| score(f64::from(*logit))).collect(),
        }
    }

    /// The documents by their relevance to a query, the most relevant first; of equals the earlier.
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
    /// [`Error::Unsupported`] where the model has several labels: no one of them is the relevance. As
    /// [`Reranker::predict_with`] otherwise.
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

    /// Refuses a model whose pairs have several scores.
    ///
    /// # Errors
    /// [`Error::Unsupported`], which names the field.
    pub fn check_ranks(&self) -> Result<(), Error> {
        match self.labels() {
            1 => Ok(()),
            labels => {
                let config = &self.runs.model.config.transformer;
                let field = if config.has("id2label") { "id2label" } else { "num_labels" };
                let value = format!("{labels} labels");
                let supported = "ranking takes a model with one; `predict` gives all scores";
                Err(Error::unsupported(&config.name, field, value, supported))
            }
        }
    }

    /// Destroys the device, as a driver reset does: for tests of what follows.
    #[doc(hidden)]
    pub async fn lose_device(&self) {
        self.runs.lose_device().await;
    }

    /// The token ids and token types of each pair as the model sees them.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] where tokenizing fails.
    #[doc(hidden)]
    pub fn tokenize(&self, pairs: &[(&str, &str)]) -> Result<Vec<[Vec<u32>; 2]>, Error> {
        let options = EmbedOptions::default();
        let prompt = self.runs.prompt(&options)?.unwrap_or_default();
        let encoded = self.runs.model.tokenizer.encode_pairs(prompt, pairs);
        encoded.into_iter().map(|t| t.map(|t| [t.ids, t.type_ids])).collect()
    }
}

/// In f64, and back: as near to exact as f32 holds.
fn activate(activation: DenseActivation, x: f64) -> f32 {
    let y = match activation {
        DenseActivation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        DenseActivation::Tanh => x.tanh(),
        DenseActivation::Relu => x.max(0.0),
        // What else a Dense module may have is refused when the config is read.
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
