//! [`MultiVectorEncoder`]: computes one vector for each token of a text, and scores texts by late interaction.

mod vector;

use std::collections::BTreeMap;

use crate::config::{KindConfig, ModelKind, ProjectionKind};
use crate::dtype::Precision;
use crate::embedder::embed::normalize;
use crate::embedder::load::ModelBuilder;
use crate::embedder::model::ModuleSummary;
use crate::embedder::options::{EmbedOptions, EmbedTask};
use crate::embedder::query_document::{QueryDocument, Role};
use crate::embedder::run::{Prepared, Runner};
use crate::embedder::text_model::{TextModel, encode_all};
use crate::error::Error;
use crate::files::ModelFiles;
use crate::gpu::adapter::AdapterSummary;
use crate::tokenize::QueryPadding;
pub use vector::MultiVector;

/// Computes one vector for each token of a text, on a GPU. This type runs models of sentence-transformers, PyLate and
/// Stanford's ColBERT, and gives the same vectors as sentence-transformers' `MultiVectorEncoder`. For bge-m3, the
/// vectors are the `colbert_vecs` of FlagEmbedding.
///
/// [`MultiVectorEncoder::builder`] makes an encoder, with the settings and guarantees of an
/// [`Embedder`](crate::Embedder). Queries and documents are treated differently: each role has its own prompt and
/// maximum length. Short queries may be padded with mask tokens, and some tokens get no vector.
#[derive(Debug)]
pub struct MultiVectorEncoder {
    runner: Runner,
    roles: QueryDocument,
    /// True if the score of a query and a document is divided by the number of query tokens.
    mean: bool,
    /// True if the first token of a text has no vector.
    without_first: bool,
}

/// The builder of a [`MultiVectorEncoder`].
pub type MultiVectorEncoderBuilder = ModelBuilder<MultiVectorEncoder>;

/// The token vectors of several texts, with one [`MultiVector`] for each text, in the order of the texts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MultiVectorEmbeddings {
    /// The number of values in each token vector.
    pub dim: usize,
    /// For each text, the vectors of its tokens.
    pub vectors: Vec<MultiVector>,
    /// The indices of the texts that were truncated to the maximum length of a query or a document.
    pub truncated: Vec<usize>,
    /// The number of texts that were run again with f32 activations.
    pub retried: usize,
    /// The number of batches that ran out of GPU memory, and were run again as smaller batches.
    pub halved: usize,
    /// The number of tokens of all texts, special tokens and mask tokens included.
    pub tokens: usize,
}

impl TextModel for MultiVectorEncoder {
    const KIND: ModelKind = ModelKind::MultiVector;
    type Input<'a> = &'a str;
    /// The options of a call. `task` is required, because it says whether texts are queries or documents.
    type Options = EmbedOptions;
    type Row = MultiVector;

    fn from_runner(runner: Runner) -> Result<Self, Error> {
        let KindConfig::MultiVector(multi) = &runner.model.config.kind else {
            return Err(Error::Internal(
                "a multi-vector encoder was loaded as another kind of model".into(),
            ));
        };
        let mean = multi.mean;
        let without_first = multi.projection == Some(ProjectionKind::BgeM3);
        let roles = QueryDocument::read(&runner.model)?;
        Ok(MultiVectorEncoder { runner, roles, mean, without_first })
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
        let role = self.roles.of(check_options(options)?);
        let prompt = self.runner.prompt(options.into())?;
        let tokenizer = &self.runner.model.tokenizer;
        let mut encoded = tokenizer.encode_batch_within(prompt, texts, role.limit);
        if let Some(padding) = role.padding {
            encoded = encoded.into_iter().map(|tokens| Ok(tokens?.padded(padding))).collect();
        }
        Ok(self.runner.check_all(first, encoded, options.on_too_long))
    }

    /// Leaves out the vectors of tokens that the model excludes for this role (query or document). Normalizes the other
    /// vectors if `options` request it.
    fn finish(
        &self,
        text: &Prepared,
        row: &[f32],
        options: &EmbedOptions,
    ) -> Result<MultiVector, Error> {
        let role = self.roles.of(check_options(options)?);
        let dim = self.dimension();
        let mut values = Vec::with_capacity(row.len());
        for (at, (id, vector)) in text.tokens.ids.iter().zip(row.chunks_exact(dim)).enumerate() {
            let left_out = role.left_out.contains(id) || (at == 0 && self.without_first);
            if !left_out {
                values.extend_from_slice(vector);
            }
        }
        if options.normalize {
            values.chunks_exact_mut(dim).for_each(normalize);
        }
        Ok(MultiVector { dim, values })
    }

    fn dimension(&self) -> usize {
        self.runner.dimension()
    }

    fn max_tokens(&self, options: &EmbedOptions) -> Option<usize> {
        self.max_seq_length(options.task.unwrap_or(EmbedTask::Document))
    }

    fn row_bytes(&self, options: &EmbedOptions) -> usize {
        let tokens = self.max_tokens(options).unwrap_or(self.runner.batch_tokens());
        self.dimension() * tokens * 4
    }

    fn similarity_name(&self) -> Option<&'static str> {
        Some(if self.mean { "meanmaxsim" } else { "maxsim" })
    }

    fn describe(&self) -> Vec<ModuleSummary> {
        let of = |kind: &str, role: &Role| ModuleSummary::new(kind, self.settings(role));
        vec![of("Queries", &self.roles.query), of("Documents", &self.roles.document)]
    }
}

impl MultiVectorEncoder {
    /// Starts building a multi-vector encoder from a model's files.
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

    /// Returns the number of values in a vector.
    pub fn dimension(&self) -> usize {
        self.runner.dimension()
    }

    /// Returns the maximum number of tokens of a query or a document, including special tokens and the prompt. Longer
    /// texts are truncated. Returns `None` if the model states no limit.
    pub fn max_seq_length(&self, task: EmbedTask) -> Option<usize> {
        self.roles.of(task).limit
    }

    /// Returns a digest of all inputs that determine the vectors; see
    /// [`Embedder::fingerprint`](crate::Embedder::fingerprint).
    ///
    /// # Errors
    /// Returns the errors of [`Embedder::fingerprint`](crate::Embedder::fingerprint).
    pub fn fingerprint(&self) -> Result<String, Error> {
        self.runner.fingerprint()
    }

    /// Returns the model's prompts by name.
    pub fn prompts(&self) -> &BTreeMap<String, String> {
        self.runner.prompts()
    }

    /// Returns a description, in words, of how texts of this role are treated.
    fn settings(&self, Role { limit, padding, left_out }: &Role) -> String {
        let mut parts = vec![match limit {
            Some(limit) => format!("at most {limit} tokens"),
            None => "of any length".to_owned(),
        }];
        if let Some(QueryPadding { token, length, seen }) = padding {
            let token = self.runner.model.tokenizer.token(*token).unwrap_or_default();
            let attend = if *seen { "attend" } else { "do not attend" };
            parts.push(format!(
                "queries padded to {length} tokens with {token:?}, to which the other tokens \
                 {attend}"
            ));
        }
        if !left_out.is_empty() {
            parts.push(format!(
                "without the vectors of {} tokens of the vocabulary",
                left_out.len()
            ));
        }
        if self.without_first {
            parts.push("without the first token's vector".to_owned());
        }
        parts.join(", ")
    }

    /// Returns the vectors of queries, like sentence-transformers' `encode_query`. This method calls
    /// [`MultiVectorEncoder::encode_with`] with [`EmbedTask::Query`].
    ///
    /// # Errors
    /// Returns the errors of [`MultiVectorEncoder::encode_with`].
    pub async fn encode_query<T: AsRef<str>>(
        &self,
        texts: &[T],
    ) -> Result<MultiVectorEmbeddings, Error> {
        let task = Some(EmbedTask::Query);
        self.encode_with(texts, &EmbedOptions { task, ..EmbedOptions::default() }).await
    }

    /// Returns the vectors of documents, like sentence-transformers' `encode_document`. This method calls
    /// [`MultiVectorEncoder::encode_with`] with [`EmbedTask::Document`].
    ///
    /// # Errors
    /// Returns the errors of [`MultiVectorEncoder::encode_with`].
    pub async fn encode_document<T: AsRef<str>>(
        &self,
        texts: &[T],
    ) -> Result<MultiVectorEmbeddings, Error> {
        let task = Some(EmbedTask::Document);
        self.encode_with(texts, &EmbedOptions { task, ..EmbedOptions::default() }).await
    }

    /// Returns the vectors of `texts`: for each text, one vector per token, except for tokens that the model leaves
    /// out. The option `task` says whether the texts are queries or documents. Special tokens and the mask tokens of a
    /// query also have vectors.
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
    /// On one adapter, equal texts with the same options have bit-identical vectors, whatever other texts are computed
    /// in the same call.
    ///
    /// # Errors
    /// Returns [`Error::Option`] if `task` is missing, or if `truncate_dim` is set, which does not apply to token
    /// vectors. Otherwise returns the errors of [`Embedder::embed_with`](crate::Embedder::embed_with).
    pub async fn encode_with<T: AsRef<str>>(
        &self,
        texts: &[T],
        options: &EmbedOptions,
    ) -> Result<MultiVectorEmbeddings, Error> {
        let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
        let mut vectors = Vec::with_capacity(texts.len());
        let counts = encode_all(self, &texts, options, |row| vectors.push(row)).await?;
        Ok(MultiVectorEmbeddings {
            dim: self.dimension(),
            vectors,
            truncated: counts.truncated,
            retried: counts.retried,
            halved: counts.halved,
            tokens: counts.tokens,
        })
    }

    /// Returns the relevance of a document to a query: the [`MultiVector::max_sim`] of the two. For bge-m3, and for
    /// models whose `similarity_fn_name` is `meanmaxsim`, this score is divided by the number of query tokens.
    pub fn similarity(&self, query: &MultiVector, document: &MultiVector) -> f64 {
        let tokens = if self.mean { query.len().max(1) as f64 } else { 1.0 };
        query.max_sim(document) / tokens
    }

    /// Returns the token ids of each text as the model receives them, including the prompt, special tokens and mask
    /// tokens.
    ///
    /// # Errors
    /// Returns the errors of [`MultiVectorEncoder::encode_with`].
    #[doc(hidden)]
    pub fn tokenize(&self, texts: &[&str], task: EmbedTask) -> Result<Vec<Vec<u32>>, Error> {
        let options = EmbedOptions { task: Some(task), ..EmbedOptions::default() };
        let prepared = self.prepare(0, texts, &options)?;
        prepared.into_iter().map(|text| Ok(text?.tokens.ids)).collect()
    }
}

fn check_options(options: &EmbedOptions) -> Result<EmbedTask, Error> {
    if options.truncate_dim.is_some() {
        return Err(Error::option(
            "truncate_dim",
            "does not apply to token vectors; leave the option out",
        ));
    }
    if options.max_seq_length.is_some() {
        let problem = "does not apply to a multi-vector encoder, whose files set the lengths of \
                       queries and documents; leave the option out";
        return Err(Error::option("max_seq_length", problem));
    }
    options.task.ok_or_else(|| {
        let problem = "is missing; say whether texts are queries or documents";
        Error::option("task", problem)
    })
}
