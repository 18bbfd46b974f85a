//! [`MultiVectorEncoder`]: a vector for each token of a text, and the scores of late interaction.

use std::collections::BTreeMap;

use crate::config::{KindConfig, ModelKind, Projection};
use crate::dtype::Precision;
use crate::embedder::build::{Built, ModelBuilder};
use crate::embedder::prepared::{Chunks, Prepared};
use crate::embedder::sides::{Side, sides};
use crate::embedder::{EmbedOptions, EmbedTask, Embedder, normalize_rows, note};
use crate::error::Error;
use crate::files::ModelFiles;
use crate::gpu::adapter::AdapterSummary;
use crate::tokenize::QueryPadding;

/// Turns texts into vectors of their tokens on a GPU: the same as sentence-transformers'
/// `MultiVectorEncoder` gives of its own models, of PyLate's and of Stanford's ColBERT; and the
/// `colbert_vecs` of bge-m3.
///
/// Made by [`MultiVectorEncoder::builder`], with the settings that an [`Embedder`] takes; what holds for
/// an embedder holds here. Queries and documents differ: in their prompts, in their lengths, in the
/// masks that fill a short query up, and in the tokens that are left out.
#[derive(Debug)]
pub struct MultiVectorEncoder {
    runs: Embedder,
    query: Side,
    document: Side,
    mean: bool,
    /// The first token has no vector.
    without_first: bool,
}

/// Makes a [`MultiVectorEncoder`].
pub type MultiVectorEncoderBuilder = ModelBuilder<MultiVectorEncoder>;

/// The vectors of a text's tokens.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MultiVector {
    /// Values of a vector.
    pub dim: usize,
    /// All vectors, one after the other, in the order of the tokens. Every value is finite.
    pub values: Vec<f32>,
}

/// Vectors of tokens, a [`MultiVector`] per text, in the order of the texts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MultiVectorEmbeddings {
    /// Values of a vector.
    pub dim: usize,
    /// The vectors of each text.
    pub vectors: Vec<MultiVector>,
    /// Indices of the texts that were cut to the length of their side.
    pub truncated: Vec<usize>,
    /// How many texts were run again with f32 activations.
    pub retried: usize,
    /// How often a batch was run again in smaller ones, because the GPU's memory ran out.
    pub halved: usize,
    /// Tokens of all texts, special tokens and masks included.
    pub tokens: usize,
}

/// The score of a document without vectors: below any other, as in sentence-transformers.
const NOTHING: f64 = -1e9;

impl MultiVector {
    /// The vectors, in the order of the tokens.
    pub fn rows(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.dim.max(1))
    }

    /// The number of vectors.
    pub fn len(&self) -> usize {
        self.values.len() / self.dim.max(1)
    }

    /// True where there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// MaxSim: for each vector of this query the largest product with a vector of the document, and
    /// the sum of these. It grows with the tokens of the query; -1e9 for a document without vectors.
    pub fn max_sim(&self, document: &MultiVector) -> f64 {
        if document.is_empty() {
            return NOTHING;
        }
        let largest = |query: &[f32]| {
            document.rows().map(|row| dot(query, row)).fold(f64::NEG_INFINITY, f64::max)
        };
        self.rows().map(largest).sum()
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

impl Built for MultiVectorEncoder {
    const KIND: ModelKind = ModelKind::MultiVector;

    fn built(runs: Embedder) -> Result<Self, Error> {
        let KindConfig::MultiVector(multi) = &runs.model.config.kind else {
            return Err(Error::Internal("token vectors were loaded as something else".into()));
        };
        let mean = multi.mean;
        let without_first = multi.projection == Some(Projection::BgeM3);
        let [query, document] = sides(&runs.model)?;
        Ok(MultiVectorEncoder { runs, query, document, mean, without_first })
    }
}

impl MultiVectorEncoder {
    /// Starts making a multi-vector encoder of a model.
    ///
    /// ```no_run
    /// use vectile::{ModelFiles, MultiVectorEncoder, block_on};
    ///
    /// let files = ModelFiles::from_directory("models/GTE-ModernColBERT-v1")?;
    /// let encoder = block_on(MultiVectorEncoder::builder(files).build())?;
    /// # Ok::<(), vectile::Error>(())
    /// ```
    pub fn builder(files: ModelFiles) -> MultiVectorEncoderBuilder {
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

    /// Values of a vector.
    pub fn dimension(&self) -> usize {
        self.runs.dimension()
    }

    /// Tokens a text of this side may have, special tokens and prompt included; longer ones are
    /// truncated. `None` where the model names no limit.
    pub fn max_seq_length(&self, side: EmbedTask) -> Option<usize> {
        self.side(side).limit
    }

    /// As [`Embedder::fingerprint`].
    ///
    /// # Errors
    /// As [`Embedder::fingerprint`].
    pub fn fingerprint(&self) -> Result<String, Error> {
        self.runs.fingerprint()
    }

    /// The model's prompts by name.
    pub fn prompts(&self) -> &BTreeMap<String, String> {
        self.runs.prompts()
    }

    /// What becomes of the texts of a side, in words.
    pub(super) fn describe(&self, task: EmbedTask) -> String {
        let Side { limit, filling, left_out } = self.side(task);
        let mut parts = vec![match limit {
            Some(limit) => format!("at most {limit} tokens"),
            None => "of any length".to_owned(),
        }];
        if let Some(QueryPadding { token, length, seen }) = filling {
            let token = self.runs.model.tokenizer.token(*token).unwrap_or_default();
            let seen = if *seen { "seen" } else { "not seen" };
            parts.push(format!("filled up to {length} with {token:?}, {seen} by the others"));
        }
        if !left_out.is_empty() {
            parts.push(format!("{} tokens of the vocabulary left out", left_out.len()));
        }
        if self.without_first {
            parts.push("without the first token".to_owned());
        }
        parts.join(", ")
    }

    /// The vectors of queries: sentence-transformers' `encode_query`. As
    /// [`MultiVectorEncoder::encode_with`] under [`EmbedTask::Query`].
    ///
    /// # Errors
    /// As [`MultiVectorEncoder::encode_with`].
    pub async fn encode_query<T: AsRef<str>>(
        &self,
        texts: &[T],
    ) -> Result<MultiVectorEmbeddings, Error> {
        let task = Some(EmbedTask::Query);
        self.encode_with(texts, &EmbedOptions { task, ..EmbedOptions::default() }).await
    }

    /// The vectors of documents: sentence-transformers' `encode_document`. As
    /// [`MultiVectorEncoder::encode_with`] under [`EmbedTask::Document`].
    ///
    /// # Errors
    /// As [`MultiVectorEncoder::encode_with`].
    pub async fn encode_document<T: AsRef<str>>(
        &self,
        texts: &[T],
    ) -> Result<MultiVectorEmbeddings, Error> {
        let task = Some(EmbedTask::Document);
        self.encode_with(texts, &EmbedOptions { task, ..EmbedOptions::default() }).await
    }

    /// The vectors of `texts`, which are on the side that `task` says: one for each token that the model
    /// keeps, the special tokens and the masks of a query among them.
    ///
    /// ```
    /// use vectile::{ModelFiles, MultiVectorEncoder, block_on};
    ///
    /// # if block_on(vectile::adapters()).is_empty() { return Ok(()); }
    /// # let directory = "tests/fixtures/multi_vector/bert";
    /// let files = ModelFiles::from_directory(directory)?;
    /// let encoder = block_on(MultiVectorEncoder::builder(files).build())?;
    /// let query = block_on(encoder.encode_query(&["Where is the cat?"]))?;
    /// let documents = block_on(encoder.encode_document(&["A cat sat on the roof.", "The dog ran."]))?;
    /// for document in &documents.vectors {
    ///     println!("{}", encoder.similarity(&query.vectors[0], document));
    /// }
    /// # Ok::<(), vectile::Error>(())
    /// ```
    ///
    /// A text's vectors have the same bits whatever texts they are computed with, on one adapter.
    ///
    /// # Errors
    /// [`Error::Option`] where `task` is missing, and for `truncate_dim`, which token vectors do not have;
    /// else as [`Embedder::embed_with`].
    pub async fn encode_with<T: AsRef<str>>(
        &self,
        texts: &[T],
        options: &EmbedOptions,
    ) -> Result<MultiVectorEmbeddings, Error> {
        check_options(options)?;
        let mut embeddings =
            MultiVectorEmbeddings { dim: self.dimension(), ..MultiVectorEmbeddings::default() };
        let mut chunks = Chunks::new(texts, self.runs.batch_tokens());
        let more = || {
            let Some((first, texts)) = chunks.next(|text| text.as_ref().len()) else {
                return Ok(None);
            };
            let prepared = self.prepare_from(first, texts, options)?;
            let prepared = prepared.into_iter().collect::<Result<Vec<_>, _>>()?;
            note(&prepared, &mut embeddings.truncated, &mut embeddings.tokens);
            Ok(Some(prepared))
        };
        let take = |text: &Prepared, row: Result<&[f32], Error>| {
            embeddings.vectors.push(self.finish(text, row?, options)?);
            Ok(())
        };
        let met = self.runs().drive(more, take).await?;
        Ok(MultiVectorEmbeddings { retried: met.retried, halved: met.halved, ..embeddings })
    }

    /// How relevant a document is to a query: their [`MultiVector::max_sim`], divided by the tokens of the
    /// query where the model says so (`similarity_fn_name` is `meanmaxsim`, and bge-m3).
    pub fn similarity(&self, query: &MultiVector, document: &MultiVector) -> f64 {
        let tokens = if self.mean { query.len().max(1) as f64 } else { 1.0 };
        query.max_sim(document) / tokens
    }

    fn side(&self, task: EmbedTask) -> &Side {
        match task {
            EmbedTask::Query => &self.query,
            EmbedTask::Document => &self.document,
        }
    }

    /// The tokens of each text under `options`, or what is wrong with that text; see
    /// [`Embedder::prepare`].
    pub(crate) fn prepare<T: AsRef<str>>(
        &self,
        texts: &[T],
        options: &EmbedOptions,
    ) -> Result<Vec<Result<Prepared, Error>>, Error> {
        self.prepare_from(0, texts, options)
    }

    fn prepare_from<T: AsRef<str>>(
        &self,
        first: usize,
        texts: &[T],
        options: &EmbedOptions,
    ) -> Result<Vec<Result<Prepared, Error>>, Error> {
        let side = self.side(check_options(options)?);
        let prompt = self.runs.prompt(options)?;
        let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
        let mut encoded = self.runs.model.tokenizer.encode_batch_within(prompt, &texts, side.limit);
        if let Some(filling) = side.filling {
            encoded = encoded.into_iter().map(|tokens| Ok(tokens?.padded(filling))).collect();
        }
        Ok(self.runs.checked(first, encoded, options.on_too_long))
    }

    /// What runs prepared texts.
    pub(crate) fn runs(&self) -> &Embedder {
        &self.runs
    }

    /// The vectors that are kept of the row of a prepared text, which has one for each of its tokens.
    ///
    /// # Errors
    /// [`Error::Option`] as [`MultiVectorEncoder::prepare`].
    pub(crate) fn finish(
        &self,
        text: &Prepared,
        row: &[f32],
        options: &EmbedOptions,
    ) -> Result<MultiVector, Error> {
        let side = self.side(check_options(options)?);
        let dim = self.dimension();
        let mut values = Vec::with_capacity(row.len());
        for (at, (id, vector)) in text.tokens.ids.iter().zip(row.chunks_exact(dim)).enumerate() {
            let left_out = side.left_out.contains(id) || (at == 0 && self.without_first);
            if !left_out {
                values.extend_from_slice(vector);
            }
        }
        if options.normalize {
            normalize_rows(&mut values, dim);
        }
        Ok(MultiVector { dim, values })
    }

    /// The token ids of each text as the model sees them: prompt, special tokens and masks included.
    ///
    /// # Errors
    /// As [`MultiVectorEncoder::encode_with`].
    #[doc(hidden)]
    pub fn tokenize(&self, texts: &[&str], task: EmbedTask) -> Result<Vec<Vec<u32>>, Error> {
        let options = EmbedOptions { task: Some(task), ..EmbedOptions::default() };
        let prepared = self.prepare(texts, &options)?;
        prepared.into_iter().map(|text| Ok(text?.tokens.ids)).collect()
    }
}

fn check_options(options: &EmbedOptions) -> Result<EmbedTask, Error> {
    if options.truncate_dim.is_some() {
        return Err(Error::option("truncate_dim", "is not for token vectors; leave it out"));
    }
    options.task.ok_or_else(|| {
        let problem = "is missing; token vectors are those of queries or of documents";
        Error::option("task", problem)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_sim_is_the_sum_of_the_largest_products() {
        let of = |values: &[f32]| MultiVector { dim: 2, values: values.to_vec() };
        let query = of(&[1.0, 0.0, 0.0, 2.0]);
        assert_eq!(query.max_sim(&of(&[0.5, 0.25, -1.0, 3.0])), 0.5 + 6.0);
        assert_eq!(query.max_sim(&of(&[-1.0, -1.0])), -3.0);
        assert_eq!(query.max_sim(&of(&[])), -1e9);
        assert_eq!(of(&[]).max_sim(&query), 0.0);
        assert_eq!((query.len(), query.rows().count(), of(&[]).is_empty()), (2, 2, true));
    }
}
