//! [`Embedder`]: the only place that knows the whole way from texts to vectors.

mod assembly;
mod build;
mod drive;
mod estimate;
mod f16_record;
mod inspect;
mod kept;
#[cfg(feature = "lab")]
mod measure;
mod multi_vector;
mod opening;
mod prepared;
#[cfg(feature = "lab")]
pub(crate) mod probe;
mod ready;
mod rerank;
mod rows;
mod run;
#[cfg(feature = "server")]
mod served;
#[cfg(feature = "server")]
mod serving;
mod sides;
mod sparse;
mod static_queries;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use async_lock::Mutex;

use crate::batch::PackedBatch;
use crate::config::Module;
use crate::dtype::Precision;
use crate::error::Error;
use crate::gpu::adapter::AdapterSummary;
use crate::tokenize::Tokens;

pub use build::{Built, EmbedderBuilder, ModelBuilder};
pub use estimate::MemoryEstimate;
#[cfg(feature = "lab")]
#[cfg(feature = "lab")]
pub(crate) use f16_record::F16Record;
pub use inspect::{DispatchSummary, Inspection, KernelChoice, ModuleSummary, TensorSummary};
pub use multi_vector::{
    MultiVector, MultiVectorEmbeddings, MultiVectorEncoder, MultiVectorEncoderBuilder,
};
pub(crate) use opening::Opening;
use prepared::Chunks;
pub(crate) use prepared::Prepared;
#[cfg(feature = "lab")]
pub(crate) use ready::Ready;
pub use rerank::{Ranked, RerankOptions, Reranker, RerankerBuilder, Scores};
use run::{Model, Runtime};
pub use sparse::{SparseEmbeddings, SparseEncoder, SparseEncoderBuilder, SparseVector};

/// Rows of a batch take at most so many bytes: those of a sparse encoder are as wide as the vocabulary.
const MOST_ROW_BYTES: u64 = 64 << 20;

/// Turns texts into vectors on a GPU: the same vectors as sentence-transformers' `encode`.
///
/// Made by [`Embedder::builder`]. One embedder has one device; calls from several tasks take turns.
#[derive(Debug)]
pub struct Embedder {
    model: Model,
    precision: Precision,
    adapter: AdapterSummary,
    batch_tokens: usize,
    memory: MemoryEstimate,
    runtime: Mutex<Runtime>,
    /// How often its device was lost.
    #[cfg_attr(not(feature = "server"), expect(dead_code, reason = "a server asks for it"))]
    losses: Arc<AtomicU64>,
}

/// What to do with a text that has more tokens than the model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum OnTooLong {
    /// Cut it to `max_seq_length`, as sentence-transformers does, and report it.
    #[default]
    Truncate,
    /// Fail with [`Error::TooLong`].
    Error,
}

impl FromStr for OnTooLong {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name.to_ascii_lowercase().as_str() {
            "truncate" => Ok(OnTooLong::Truncate),
            "error" => Ok(OnTooLong::Error),
            _ => {
                let problem = format!("`{name}` is unknown; use truncate or error");
                Err(Error::option("on-too-long", problem))
            }
        }
    }
}

/// Which side of a search texts are on: the `task` of sentence-transformers' `encode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EmbedTask {
    /// What is looked for: `encode_query`.
    Query,
    /// What is found: `encode_document`.
    Document,
}

impl FromStr for EmbedTask {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name.to_ascii_lowercase().as_str() {
            "query" => Ok(EmbedTask::Query),
            "document" => Ok(EmbedTask::Document),
            _ => {
                let problem = format!("`{name}` is unknown; use query or document");
                Err(Error::option("as", problem))
            }
        }
    }
}

impl EmbedTask {
    /// The prompts that sentence-transformers looks for, in its order.
    fn prompt_names(self) -> &'static [&'static str] {
        match self {
            EmbedTask::Query => &["query"],
            EmbedTask::Document => &["document", "passage", "corpus"],
        }
    }
}

/// How texts are embedded: the arguments of sentence-transformers' `encode` of the same names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EmbedOptions {
    /// The model's prompt of this name is put before each text. Without it and without `prompt`,
    /// the model's default prompt is used, if it has one.
    pub prompt_name: Option<String>,
    /// This is put before each text; the empty string turns the default prompt off.
    pub prompt: Option<String>,
    /// Without `prompt_name` and `prompt`, the prompt of this side is used instead of the default one:
    /// `query`; `document`, `passage` or `corpus`, the first that the model has. Every model has
    /// `query` and `document`, empty where its files do not set them.
    pub task: Option<EmbedTask>,
    /// Vectors are cut to this many dimensions, after the model's own normalisation. Without it,
    /// the model's own `truncate_dim` applies, if it has one.
    pub truncate_dim: Option<usize>,
    /// Vectors are scaled to length one, after cutting. Those of a model that does so itself stay as they
    /// are, unless they are cut.
    pub normalize: bool,
    /// What to do with texts that are too long.
    pub on_too_long: OnTooLong,
}

/// Vectors, a row per text, in the order of the texts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Embeddings {
    /// Values of a row.
    pub dim: usize,
    /// All rows, one after the other. Every value is finite.
    pub values: Vec<f32>,
    /// Indices of the texts that were cut to the model's `max_seq_length`.
    pub truncated: Vec<usize>,
    /// How many texts were run again with f32 activations, because some activation passed the range
    /// of 16 bits.
    pub retried: usize,
    /// How often a batch was run again in smaller ones, because the GPU's memory ran out.
    pub halved: usize,
    /// Tokens embedded, special tokens included.
    pub tokens: usize,
}

impl Embeddings {
    /// The rows, in the order of the texts.
    pub fn rows(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.dim.max(1))
    }

    /// The row of text `i`.
    ///
    /// # Panics
    /// Where there is no text `i`.
    pub fn row(&self, i: usize) -> &[f32] {
        &self.values[i * self.dim..(i + 1) * self.dim]
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.values.len() / self.dim.max(1)
    }

    /// True where there are no rows.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

impl Embedder {
    /// How the model runs: what was asked for, what was chosen, and why.
    pub fn precision(&self) -> &Precision {
        &self.precision
    }

    /// The adapter it runs on.
    pub fn adapter(&self) -> &AdapterSummary {
        &self.adapter
    }

    /// What it takes of memory, as it was estimated before it was loaded.
    pub fn memory(&self) -> MemoryEstimate {
        self.memory
    }

    /// What is worth saying aloud of this model: what was assumed because its files do not say.
    pub fn notes(&self) -> &[String] {
        &self.model.config.notes
    }

    /// Values of a vector, before `truncate_dim`.
    pub fn dimension(&self) -> usize {
        self.model.dimension
    }

    /// Tokens a text may have, special tokens and prompt included; longer ones are truncated.
    /// `None` where the model names no limit.
    pub fn max_seq_length(&self) -> Option<usize> {
        self.model.tokenizer.limit()
    }

    /// The model's prompts by name.
    pub fn prompts(&self) -> &BTreeMap<String, String> {
        &self.model.config.prompts
    }

    /// The name of the prompt that is used where the caller names none.
    pub fn default_prompt_name(&self) -> Option<&str> {
        self.model.config.default_prompt_name.as_deref()
    }

    /// SHA-256 of everything about the model that decides its vectors: what was read of its configuration, the
    /// tokenizer and every byte of the weights, which are read for it. It is the same for the same files and
    /// version of Vectile.
    ///
    /// # Errors
    /// [`Error::File`] where the files cannot be read any more.
    pub fn fingerprint(&self) -> Result<String, Error> {
        self.model.fingerprint()
    }

    /// The vectors of `texts`, as [`Embedder::embed_with`] gives them under default options.
    ///
    /// # Errors
    /// As [`Embedder::embed_with`].
    pub async fn embed<T: AsRef<str>>(&self, texts: &[T]) -> Result<Embeddings, Error> {
        self.embed_with(texts, &EmbedOptions::default()).await
    }

    /// The vectors of queries: sentence-transformers' `encode_query`. As [`Embedder::embed_with`]
    /// under [`EmbedTask::Query`].
    ///
    /// # Errors
    /// As [`Embedder::embed_with`].
    pub async fn embed_query<T: AsRef<str>>(&self, texts: &[T]) -> Result<Embeddings, Error> {
        let task = Some(EmbedTask::Query);
        self.embed_with(texts, &EmbedOptions { task, ..EmbedOptions::default() }).await
    }

    /// The vectors of documents: sentence-transformers' `encode_document`. As
    /// [`Embedder::embed_with`] under [`EmbedTask::Document`].
    ///
    /// # Errors
    /// As [`Embedder::embed_with`].
    pub async fn embed_document<T: AsRef<str>>(&self, texts: &[T]) -> Result<Embeddings, Error> {
        let task = Some(EmbedTask::Document);
        self.embed_with(texts, &EmbedOptions { task, ..EmbedOptions::default() }).await
    }

    /// The vectors of `texts`, `[texts, dimension]`.
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
    /// A text's vector has the same bits whatever texts it is embedded with, in whatever order and
    /// batch size, on one adapter. An empty text has a vector, as in sentence-transformers.
    ///
    /// # Errors
    /// [`Error::Option`] for an unknown prompt or an impossible dimension, [`Error::TooLong`] where
    /// truncation is refused, [`Error::NonFinite`] where a vector came out infinite or not a number
    /// and could not be saved, [`Error::OutOfMemory`] and [`Error::DeviceLost`] from the GPU. No
    /// vector is returned then.
    pub async fn embed_with<T: AsRef<str>>(
        &self,
        texts: &[T],
        options: &EmbedOptions,
    ) -> Result<Embeddings, Error> {
        let dim = self.output_dimension(options)?;
        let mut embeddings = Embeddings { dim, ..Embeddings::default() };
        embeddings.values.reserve(texts.len() * dim);
        let mut chunks = Chunks::new(texts, self.batch_tokens);
        let mut truncated = Vec::new();
        let mut tokens = 0;
        let more = || {
            let Some((first, texts)) = chunks.next(|text| text.as_ref().len()) else {
                return Ok(None);
            };
            let prepared = self.prepare_from(first, texts, options)?;
            let prepared = prepared.into_iter().collect::<Result<Vec<_>, _>>()?;
            note(&prepared, &mut truncated, &mut tokens);
            Ok(Some(prepared))
        };
        let take = |_: &Prepared, row: Result<&[f32], Error>| {
            embeddings.values.extend_from_slice(&row?[..dim]);
            Ok(())
        };
        let met = self.drive(more, take).await?;
        embeddings = Embeddings {
            truncated,
            tokens,
            retried: met.retried,
            halved: met.halved,
            ..embeddings
        };
        self.scale(&mut embeddings.values, dim, options);
        Ok(embeddings)
    }

    /// The token ids of each text as the model sees them: prompt and special tokens included, cut to
    /// `max_seq_length`.
    ///
    /// # Errors
    /// [`Error::Option`] for an unknown prompt, [`Error::Tokenizer`] where tokenizing fails.
    pub fn tokenize<T: AsRef<str>>(
        &self,
        texts: &[T],
        options: &EmbedOptions,
    ) -> Result<Vec<Vec<u32>>, Error> {
        let prompt = self.prompt(options)?;
        let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
        let encoded = self.model.tokenizer.encode_batch(prompt, &texts);
        encoded.into_iter().map(|tokens| tokens.map(|tokens| tokens.ids)).collect()
    }

    /// Texts of a batch.
    fn most_texts(&self) -> usize {
        most_texts(self.model.dimension, &self.adapter)
    }

    fn pack<'a>(&self, tokens: impl IntoIterator<Item = &'a Tokens>) -> PackedBatch {
        PackedBatch::pack(tokens, !self.model.include_prompt)
    }

    fn non_finite(&self, text: usize) -> Error {
        let advice = match self.precision.activations {
            crate::dtype::Storage::F32 => "the model itself overflows f32 on it; check its weights",
            _ => "use auto or float32, or f32 activations",
        };
        Error::NonFinite {
            text,
            problem: format!(
                "its activations pass the range of {} (precision: {}); {advice}",
                self.precision.activations, self.precision
            ),
        }
    }

    /// The prompt that a call uses; the empty one is none.
    fn prompt<'a>(&'a self, options: &'a EmbedOptions) -> Result<Option<&'a str>, Error> {
        let prompts = &self.model.config.prompts;
        let prompt = match (&options.prompt, &options.prompt_name) {
            (Some(_), Some(_)) => {
                let problem = "a prompt is given as well; give one of them";
                return Err(Error::option("prompt_name", problem));
            }
            (Some(prompt), None) => Some(prompt.as_str()),
            (None, Some(name)) => Some(prompts.get(name).map(String::as_str).ok_or_else(|| {
                let names: Vec<&str> = prompts.keys().map(String::as_str).collect();
                let problem =
                    format!("`{name}` is not a prompt of this model; it has {}", names.join(", "));
                Error::option("prompt_name", problem)
            })?),
            (None, None) => {
                let names = options.task.map_or(&[][..], EmbedTask::prompt_names);
                let of_task = names.iter().find_map(|name| prompts.get(*name));
                let default = self.model.config.default_prompt_name.as_ref();
                of_task.or_else(|| prompts.get(default?)).map(String::as_str)
            }
        };
        Ok(prompt.filter(|prompt| !prompt.is_empty()))
    }

    fn output_dimension(&self, options: &EmbedOptions) -> Result<usize, Error> {
        let all = self.model.dimension;
        match options.truncate_dim {
            // The model's own may exceed its vectors and then cuts nothing, as in
            // sentence-transformers.
            None => Ok(self.model.config.truncate_dim.map_or(all, |dim| dim.min(all))),
            Some(dim) if (1..=all).contains(&dim) => Ok(dim),
            Some(dim) => {
                let problem = format!("is {dim}; between 1 and the model's {all} is expected");
                Err(Error::option("truncate_dim", problem))
            }
        }
    }

    /// True where rows of so many values are the model's whole ones and its last module scales those to
    /// length one.
    fn are_unit(&self, dim: usize) -> bool {
        dim == self.model.dimension
            && matches!(self.model.config.modules.last(), Some(Module::Normalize))
    }

    /// Scales rows to length one where `options` ask for it. Those that have it already keep their bits.
    fn scale(&self, values: &mut [f32], dim: usize, options: &EmbedOptions) {
        if options.normalize && !self.are_unit(dim) {
            normalize_rows(values, dim);
        }
    }

    /// The transformer's hidden states of a text, `[tokens, hidden]`, under the model's default
    /// prompt: for tests that look for where a vector goes wrong.
    #[doc(hidden)]
    pub async fn hidden_states(&self, text: &str) -> Result<Vec<f32>, Error> {
        let options = EmbedOptions::default();
        let tokens = self.model.tokenizer.encode(self.prompt(&options)?, text)?;
        let mut runtime = self.runtime.lock().await;
        runtime.hidden_states(&self.precision, &self.pack([&tokens])).await
    }

    /// Destroys the device, as a driver reset does: for tests of what follows.
    #[doc(hidden)]
    pub async fn lose_device(&self) {
        self.runtime.lock().await.destroy();
    }
}

/// Counts what a call reports of its texts.
fn note(prepared: &[Prepared], truncated: &mut Vec<usize>, tokens: &mut usize) {
    *tokens += prepared.iter().map(Prepared::tokens).sum::<usize>();
    truncated.extend(prepared.iter().filter(|text| text.truncated()).map(|text| text.text));
}

/// Texts of a batch: their rows fit one binding.
fn most_texts(dimension: usize, adapter: &AdapterSummary) -> usize {
    let row = (dimension.next_multiple_of(4) * 4) as u64;
    let bytes = adapter.max_binding_bytes.min(MOST_ROW_BYTES);
    usize::try_from(bytes / row).unwrap_or(usize::MAX).max(1)
}

fn normalize_rows(values: &mut [f32], dim: usize) {
    for row in values.chunks_exact_mut(dim) {
        let squares: f64 = row.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
        let norm = squares.sqrt().max(1e-12);
        row.iter_mut().for_each(|v| *v = (f64::from(*v) / norm) as f32);
    }
}
