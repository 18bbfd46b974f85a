//! [`Embedder`]: computes one vector for each text.

use std::collections::BTreeMap;

use crate::config::ModelKind;
use crate::dtype::Precision;
use crate::embedder::load::ModelBuilder;
use crate::embedder::memory::MemoryEstimate;
use crate::embedder::model::ModuleSummary;
use crate::embedder::options::{EmbedOptions, EmbedTask};
use crate::embedder::run::{Prepared, Runner};
use crate::embedder::text_model::{TextModel, encode_all};
use crate::error::Error;
use crate::files::ModelFiles;
use crate::gpu::adapter::AdapterSummary;
use crate::similarity::{Similarities, SimilarityFunction};

/// Turns texts into vectors on a GPU. The vectors are the same as those of sentence-transformers' `encode`.
///
/// [`Embedder::builder`] makes an embedder. An embedder has one device. Concurrent calls take turns on the device. In
/// each turn, one batch runs.
#[derive(Debug)]
pub struct Embedder {
    runner: Runner,
}

/// The builder of an [`Embedder`].
pub type EmbedderBuilder = ModelBuilder<Embedder>;

/// The vectors of texts. There is one row for each text, in the order of the texts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Embeddings {
    /// The number of values in a row.
    pub dim: usize,
    /// All rows, one after the other. Every value is finite.
    pub values: Vec<f32>,
    /// The indices of the texts that were truncated to the model's `max_seq_length`.
    pub truncated: Vec<usize>,
    /// The number of texts that were run again with f32 activations, because an activation exceeded the range of 16
    /// bits.
    pub retried: usize,
    /// The number of batches that ran out of GPU memory, and were run again as smaller batches.
    pub halved: usize,
    /// The number of tokens of all texts, special tokens included.
    pub tokens: usize,
}

/// Checks that the rows of `a` and `b` have equal widths.
///
/// # Errors
/// Returns [`Error::Option`] with both widths if they differ.
pub(crate) fn check_widths(a: &Embeddings, b: &Embeddings) -> Result<(), Error> {
    if a.dim == b.dim || a.is_empty() || b.is_empty() {
        return Ok(());
    }
    let problem = format!(
        "rows of the first embeddings have {} values, and rows of the second have {}; embed both with the \
         same truncate_dim",
        a.dim, b.dim
    );
    Err(Error::option("embeddings", problem))
}

impl Embeddings {
    /// Returns the rows, in the order of the texts.
    pub fn rows(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.dim.max(1))
    }

    /// Returns the row of text `i`.
    ///
    /// # Panics
    /// Panics if there is no text `i`.
    pub fn row(&self, i: usize) -> &[f32] {
        &self.values[i * self.dim..(i + 1) * self.dim]
    }

    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.values.len() / self.dim.max(1)
    }

    /// Returns true if there are no rows.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

impl TextModel for Embedder {
    const KIND: ModelKind = ModelKind::Dense;
    type Input<'a> = &'a str;
    type Options = EmbedOptions;
    type Row = Vec<f32>;

    fn from_runner(runner: Runner) -> Result<Self, Error> {
        Ok(Embedder { runner })
    }

    fn runner(&self) -> &Runner {
        &self.runner
    }

    fn input<'a>(_query: &'a str, text: &'a str) -> &'a str {
        text
    }

    fn bytes(input: &str) -> usize {
        input.len()
    }

    fn prepare(
        &self,
        first: usize,
        texts: &[&str],
        options: &EmbedOptions,
    ) -> Result<Vec<Result<Prepared, Error>>, Error> {
        self.output_dimension(options)?;
        self.runner.prepare_texts(first, texts, options)
    }

    fn finish(
        &self,
        _text: &Prepared,
        row: &[f32],
        options: &EmbedOptions,
    ) -> Result<Vec<f32>, Error> {
        self.finish_row(row, options)
    }

    fn dimension(&self) -> usize {
        self.runner.dimension()
    }

    fn max_tokens(&self, _options: &EmbedOptions) -> Option<usize> {
        self.runner.max_seq_length()
    }

    fn row_bytes(&self, _options: &EmbedOptions) -> usize {
        self.dimension() * 4
    }

    fn similarity_name(&self) -> Option<&'static str> {
        Some(self.similarity_function().name())
    }

    fn describe(&self) -> Vec<ModuleSummary> {
        Vec::new()
    }
}

impl Embedder {
    /// Starts building an embedder from a model's files.
    ///
    /// ```no_run
    /// use vectile::{Embedder, ModelFiles, block_on};
    ///
    /// let files = ModelFiles::from_directory("models/all-MiniLM-L6-v2")?;
    /// let embedder = block_on(Embedder::builder(files).dtype("float16".parse()?).build())?;
    /// println!("{}", embedder.precision());
    /// # Ok::<(), vectile::Error>(())
    /// ```
    pub fn builder(files: ModelFiles) -> EmbedderBuilder {
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

    /// Returns the estimate, made before loading, of the memory that the model needs.
    pub fn memory(&self) -> MemoryEstimate {
        self.runner.memory()
    }

    /// Returns notes for the user. The notes state the assumptions that Vectile made where the model's files give no
    /// value.
    pub fn notes(&self) -> &[String] {
        self.runner.notes()
    }

    /// Returns the number of values in a vector, before `truncate_dim`.
    pub fn dimension(&self) -> usize {
        self.runner.dimension()
    }

    /// Returns the maximum number of tokens of a text, including special tokens and the prompt. Longer texts are
    /// truncated. Returns `None` if the model states no limit.
    pub fn max_seq_length(&self) -> Option<usize> {
        self.runner.max_seq_length()
    }

    /// Returns the model's prompts by name.
    pub fn prompts(&self) -> &BTreeMap<String, String> {
        self.runner.prompts()
    }

    /// Returns the name of the prompt that is used if the caller names none.
    pub fn default_prompt_name(&self) -> Option<&str> {
        self.runner.default_prompt_name()
    }

    /// Returns a SHA-256 digest of all inputs that determine the model's vectors: the parsed configuration, the
    /// tokenizer, and every byte of the weights. The call reads all weights. If two models have equal files, the same
    /// version of Vectile gives them equal fingerprints.
    ///
    /// # Errors
    /// Returns [`Error::File`] if the files can no longer be read.
    pub fn fingerprint(&self) -> Result<String, Error> {
        self.runner.fingerprint()
    }

    /// Returns the vectors of `texts`, computed with default options; see [`Embedder::embed_with`].
    ///
    /// # Errors
    /// Returns the errors of [`Embedder::embed_with`].
    pub async fn embed<T: AsRef<str>>(&self, texts: &[T]) -> Result<Embeddings, Error> {
        self.embed_with(texts, &EmbedOptions::default()).await
    }

    /// Returns the vectors of queries, like sentence-transformers' `encode_query`. This method calls
    /// [`Embedder::embed_with`] with [`EmbedTask::Query`].
    ///
    /// # Errors
    /// Returns the errors of [`Embedder::embed_with`].
    pub async fn embed_query<T: AsRef<str>>(&self, texts: &[T]) -> Result<Embeddings, Error> {
        let task = Some(EmbedTask::Query);
        self.embed_with(texts, &EmbedOptions { task, ..EmbedOptions::default() }).await
    }

    /// Returns the vectors of documents, like sentence-transformers' `encode_document`. This method calls
    /// [`Embedder::embed_with`] with [`EmbedTask::Document`].
    ///
    /// # Errors
    /// Returns the errors of [`Embedder::embed_with`].
    pub async fn embed_document<T: AsRef<str>>(&self, texts: &[T]) -> Result<Embeddings, Error> {
        let task = Some(EmbedTask::Document);
        self.embed_with(texts, &EmbedOptions { task, ..EmbedOptions::default() }).await
    }

    /// Returns the vectors of `texts`, with the shape `[texts, dimension]`.
    ///
    /// ```
    /// use vectile::{EmbedOptions, Embedder, ModelFiles, block_on};
    ///
    /// # if block_on(vectile::adapters()).is_empty() { return Ok(()); }
    /// # let directory = "tests/fixtures/bert_prompts";
    /// let files = ModelFiles::from_directory(directory)?;
    /// let embedder = block_on(Embedder::builder(files).build())?;
    /// let options = EmbedOptions {
    ///     prompt_name: Some("query".into()),
    ///     truncate_dim: Some(16),
    ///     normalize: true,
    ///     ..EmbedOptions::default()
    /// };
    /// let embeddings = block_on(embedder.embed_with(&["what is f16?"], &options))?;
    /// assert_eq!(embeddings.row(0).len(), 16);
    /// # Ok::<(), vectile::Error>(())
    /// ```
    ///
    /// On one adapter, equal texts always have bit-identical vectors. The vector of a text does not depend on the other
    /// texts, their order or the batch size. An empty text has a vector, as in sentence-transformers.
    ///
    /// # Errors
    /// Returns [`Error::Option`] for an unknown prompt or an impossible dimension. Returns [`Error::TooLong`] for a
    /// text that is too long, if the options forbid truncation. Returns [`Error::NonFinite`] if a vector contains an
    /// infinity or NaN even when computed in f32. Returns [`Error::OutOfMemory`] or [`Error::DeviceLost`] if the GPU
    /// runs out of memory or is lost. If one text has an error, the call returns no vectors of the other texts either.
    pub async fn embed_with<T: AsRef<str>>(
        &self,
        texts: &[T],
        options: &EmbedOptions,
    ) -> Result<Embeddings, Error> {
        let dim = self.output_dimension(options)?;
        let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
        let mut values = Vec::with_capacity(texts.len() * dim);
        let counts =
            encode_all(self, &texts, options, |row| values.extend_from_slice(&row)).await?;
        Ok(Embeddings {
            dim,
            values,
            truncated: counts.truncated,
            retried: counts.retried,
            halved: counts.halved,
            tokens: counts.tokens,
        })
    }

    /// Returns the similarity function of the model's vectors. The model's field `similarity_fn_name` names it; the
    /// default is the cosine.
    pub fn similarity_function(&self) -> SimilarityFunction {
        self.runner.model.config.similarity.unwrap_or_default()
    }

    /// Returns the similarity of every row of `a` with every row of `b`, computed with the model's
    /// [`similarity_function`](Self::similarity_function).
    ///
    /// ```
    /// use vectile::{Embedder, ModelFiles, block_on};
    ///
    /// # if block_on(vectile::adapters()).is_empty() { return Ok(()); }
    /// # let directory = "tests/fixtures/bert_mean_norm";
    /// let files = ModelFiles::from_directory(directory)?;
    /// let embedder = block_on(Embedder::builder(files).build())?;
    /// let queries = block_on(embedder.embed_query(&["Where is the cat?"]))?;
    /// let documents = block_on(embedder.embed_document(&["A cat sat.", "The dog ran."]))?;
    /// let similarities = embedder.similarity(&queries, &documents)?;
    /// assert_eq!(similarities.rows().next().map(<[f32]>::len), Some(2));
    /// # Ok::<(), vectile::Error>(())
    /// ```
    ///
    /// # Errors
    /// Returns [`Error::Option`] if the rows of `a` and `b` have different widths.
    pub fn similarity(&self, a: &Embeddings, b: &Embeddings) -> Result<Similarities, Error> {
        check_widths(a, b)?;
        let function = self.similarity_function();
        let scores = |a| b.rows().map(move |b| function.score(a, b) as f32);
        Ok(Similarities { columns: b.len(), values: a.rows().flat_map(scores).collect() })
    }

    /// Returns the similarity of each row of `a` with the row of `b` at the same index.
    ///
    /// # Errors
    /// Returns [`Error::Option`] if `a` and `b` differ in the width of a row or in the number of rows.
    pub fn similarity_pairwise(&self, a: &Embeddings, b: &Embeddings) -> Result<Vec<f32>, Error> {
        check_widths(a, b)?;
        if a.len() != b.len() {
            let problem = format!(
                "{} rows cannot be paired with {} rows; give the same number of rows in both \
                 arguments",
                a.len(),
                b.len()
            );
            return Err(Error::option("embeddings", problem));
        }
        let function = self.similarity_function();
        Ok(a.rows().zip(b.rows()).map(|(a, b)| function.score(a, b) as f32).collect())
    }

    /// Returns the token ids of each text as the model receives them. The ids include the prompt and special tokens,
    /// and are truncated to `max_seq_length`.
    ///
    /// # Errors
    /// Returns [`Error::Option`] for an unknown prompt, and [`Error::Tokenizer`] if tokenizing fails.
    pub fn tokenize<T: AsRef<str>>(
        &self,
        texts: &[T],
        options: &EmbedOptions,
    ) -> Result<Vec<Vec<u32>>, Error> {
        let prompt = self.runner.prompt(options.into())?;
        let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
        let limit = self.runner.limit_of(options.max_seq_length)?;
        let encoded = self.runner.model.tokenizer.encode_batch_within(prompt, &texts, limit);
        encoded.into_iter().map(|tokens| tokens.map(|tokens| tokens.ids)).collect()
    }

    /// Truncates a row to fewer values and then scales it to length one, if `options` request these steps.
    ///
    /// # Errors
    /// Returns [`Error::Option`] for an impossible dimension.
    pub(crate) fn finish_row(
        &self,
        row: &[f32],
        options: &EmbedOptions,
    ) -> Result<Vec<f32>, Error> {
        let dim = self.output_dimension(options)?;
        let mut row = row[..dim].to_vec();
        // If the model itself normalises its rows, the row is not scaled again.
        if options.normalize && !self.runner.normalizes(dim) {
            normalize(&mut row);
        }
        Ok(row)
    }

    #[cfg(feature = "lab")]
    pub(super) fn runner_mut(&mut self) -> &mut Runner {
        &mut self.runner
    }

    /// Prepares texts like [`TextModel::prepare`], but takes each text as token ids.
    ///
    /// # Errors
    /// Returns an error if an option is invalid.
    #[cfg(feature = "server")]
    pub(crate) fn prepare_ids(
        &self,
        texts: Vec<Vec<u32>>,
        options: &EmbedOptions,
    ) -> Result<Vec<Result<Prepared, Error>>, Error> {
        self.output_dimension(options)?;
        self.runner.prepare_ids(texts, options)
    }

    /// Returns the number of values that a vector has under `options`: `truncate_dim`, or the model's own
    /// `truncate_dim`, or the full width ([`dimension`](Self::dimension)).
    ///
    /// # Errors
    /// Returns [`Error::Option`] for a `truncate_dim` of 0 or above the full width.
    pub fn output_dimension(&self, options: &EmbedOptions) -> Result<usize, Error> {
        let all = self.runner.dimension();
        match options.truncate_dim {
            None => Ok(self.runner.default_dimension()),
            Some(dim) if (1..=all).contains(&dim) => Ok(dim),
            Some(dim) => {
                let problem = format!(
                    "is {dim}; expected a number from 1 to {all}, the width of the model's vectors"
                );
                Err(Error::option("truncate_dim", problem))
            }
        }
    }

    /// Returns the transformer's hidden states of a text under the model's default prompt, with the shape `[tokens,
    /// hidden]`. The hidden states help to find the step at which a vector becomes wrong.
    #[doc(hidden)]
    pub async fn hidden_states(&self, text: &str) -> Result<Vec<f32>, Error> {
        self.runner.hidden_states(text).await
    }

    /// Destroys the device, as a driver reset does, so that tests can check that Vectile opens it again.
    #[doc(hidden)]
    pub async fn lose_device(&self) {
        self.runner.lose_device().await;
    }
}

/// Scales a row to Euclidean length one. A row of zeros stays unchanged.
pub(super) fn normalize(row: &mut [f32]) {
    let squares: f64 = row.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
    let norm = squares.sqrt().max(1e-12);
    row.iter_mut().for_each(|v| *v = (f64::from(*v) / norm) as f32);
}
