//! [`SparseEncoder`]: computes for each text the weights of some tokens of the vocabulary.

mod static_queries;
mod vector;

use std::collections::HashSet;

use crate::config::{KindConfig, ModelKind, Weighting};
use crate::dtype::Precision;
use crate::embedder::load::ModelBuilder;
use crate::embedder::model::ModuleSummary;
use crate::embedder::options::EmbedOptions;
use crate::embedder::run::{Prepared, Runner};
use crate::embedder::text_model::{TextModel, encode_all};
use crate::error::Error;
use crate::files::ModelFiles;
use crate::gpu::adapter::AdapterSummary;
use crate::similarity::SimilarityFunction;
use static_queries::StaticQueryTable;
pub use vector::SparseVector;

/// Turns texts into sparse vectors over the vocabulary, on a GPU. This type runs SPLADE models, and models that look up
/// the weights of queries in a table. The vectors are the same as those of sentence-transformers' `SparseEncoder`. For
/// bge-m3, the vectors are the `lexical_weights` that FlagEmbedding computes.
///
/// [`SparseEncoder::builder`] makes an encoder, with the settings and guarantees of an [`Embedder`](crate::Embedder).
#[derive(Debug)]
pub struct SparseEncoder {
    runner: Runner,
    weighting: Weighting,
    max_active_dims: Option<usize>,
    /// The number of tokens in the vocabulary.
    dim: usize,
    /// The ids of the special tokens. A model that weights only the tokens of a text, such as bge-m3, gives them no
    /// weight.
    special: HashSet<u32>,
    queries: Option<StaticQueryTable>,
}

/// The builder of a [`SparseEncoder`].
pub type SparseEncoderBuilder = ModelBuilder<SparseEncoder>;

/// The sparse vectors of texts. There is one vector for each text, in the order of the texts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SparseEmbeddings {
    /// The number of tokens in the vocabulary. Every index is below this number.
    pub dim: usize,
    /// The vector of each text.
    pub vectors: Vec<SparseVector>,
    /// The indices of the texts that were truncated to the model's `max_seq_length`.
    pub truncated: Vec<usize>,
    /// The number of texts that were run again with f32 activations.
    pub retried: usize,
    /// The number of batches that ran out of GPU memory, and were run again as smaller batches.
    pub halved: usize,
    /// The number of tokens of all texts, special tokens included.
    pub tokens: usize,
}

impl TextModel for SparseEncoder {
    const KIND: ModelKind = ModelKind::Sparse;
    type Input<'a> = &'a str;
    type Options = EmbedOptions;
    type Row = SparseVector;

    fn from_runner(runner: Runner) -> Result<Self, Error> {
        let model = &runner.model;
        let KindConfig::Sparse(sparse) = &model.config.kind else {
            return Err(Error::Internal(
                "a sparse encoder was loaded as another kind of model".into(),
            ));
        };
        let dim = match sparse.weighting {
            Weighting::Splade { .. } => model.dimension,
            Weighting::Lexical => model.transformer.facts().table_rows,
        };
        let roles = ["cls_token", "eos_token", "pad_token", "unk_token"];
        let special = roles.iter().filter_map(|role| model.tokenizer.role(role)).collect();
        let queries = sparse.queries.as_ref().map(|queries| StaticQueryTable::load(model, queries));
        let (queries, weighting) = (queries.transpose()?, sparse.weighting);
        let max_active_dims = sparse.max_active_dims;
        Ok(SparseEncoder { runner, weighting, max_active_dims, dim, special, queries })
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
        check_options(options)?;
        let Some(table) = self.query_table(options) else {
            return self.runner.prepare_texts(first, texts, options);
        };
        let prompt = self.runner.prompt(options.into())?.unwrap_or_default();
        let prepare = |(i, text): (usize, &&str)| {
            let tokens =
                table.tokens(first + i, &format!("{prompt}{text}"), options.on_too_long)?;
            Ok(Prepared { tokens, text: first + i, needs_device: false })
        };
        Ok(texts.iter().enumerate().map(prepare).collect())
    }

    fn finish(
        &self,
        text: &Prepared,
        row: &[f32],
        options: &EmbedOptions,
    ) -> Result<SparseVector, Error> {
        let ids = &text.tokens.ids;
        if let Some(table) = self.query_table(options) {
            return Ok(SparseVector::largest(table.weights(ids), self.max_active_dims));
        }
        Ok(match self.weighting {
            Weighting::Splade { twice } => {
                SparseVector::of_logits(row, twice, self.max_active_dims)
            }
            Weighting::Lexical => SparseVector::of_tokens(ids, row, &self.special),
        })
    }

    fn dimension(&self) -> usize {
        self.dim
    }

    fn max_tokens(&self, options: &EmbedOptions) -> Option<usize> {
        self.query_table(options).map_or(self.max_seq_length(), StaticQueryTable::limit)
    }

    fn row_bytes(&self, _options: &EmbedOptions) -> usize {
        self.dim * 4
    }

    fn similarity_name(&self) -> Option<&'static str> {
        Some(self.similarity_function().name())
    }

    fn describe(&self) -> Vec<ModuleSummary> {
        let weight = match self.weighting {
            Weighting::Splade { twice: false } => "log(1 + max(0, x))",
            Weighting::Splade { twice: true } => "log(1 + log(1 + max(0, x)))",
            Weighting::Lexical => "the largest value for each token of the text",
        };
        let settings = match self.max_active_dims {
            None => weight.to_owned(),
            Some(most) => format!("{weight}; each text keeps only its {most} largest weights"),
        };
        vec![ModuleSummary::new("Weights", settings)]
    }
}

impl SparseEncoder {
    /// Starts building a sparse encoder from a model's files.
    pub fn builder(files: ModelFiles) -> SparseEncoderBuilder {
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

    /// Returns the number of tokens in the vocabulary, which is the width of a vector.
    pub fn dimension(&self) -> usize {
        self.dim
    }

    /// Returns the maximum number of tokens of a text. Longer texts are truncated. Returns `None` if the model states
    /// no limit.
    pub fn max_seq_length(&self) -> Option<usize> {
        self.runner.max_seq_length()
    }

    /// Returns the maximum number of tokens of a text under these options. For queries that are looked up in a table,
    /// this is the table's own limit. For other texts, it is the limit of [`SparseEncoder::max_seq_length`].
    pub fn max_seq_length_of(&self, options: &EmbedOptions) -> Option<usize> {
        self.max_tokens(options)
    }

    /// Returns a digest of all inputs that determine the vectors; see
    /// [`Embedder::fingerprint`](crate::Embedder::fingerprint).
    ///
    /// # Errors
    /// Returns the errors of [`Embedder::fingerprint`](crate::Embedder::fingerprint).
    pub fn fingerprint(&self) -> Result<String, Error> {
        self.runner.fingerprint()
    }

    /// Returns the text of the token at `index` in the vocabulary. Returns `None` if there is no such token.
    pub fn token(&self, index: u32) -> Option<String> {
        self.runner.model.tokenizer.token(index)
    }

    /// Returns the similarity function of the model's vectors. The model's field `similarity_fn_name` names it; the
    /// default is the dot product, as in sentence-transformers.
    pub fn similarity_function(&self) -> SimilarityFunction {
        self.runner.model.config.similarity.unwrap_or(SimilarityFunction::Dot)
    }

    /// Returns the similarity of two vectors, computed with the model's
    /// [`similarity_function`](Self::similarity_function).
    pub fn similarity(&self, a: &SparseVector, b: &SparseVector) -> f64 {
        a.similarity(b, self.similarity_function())
    }

    /// Returns the vectors of `texts`, computed with default options; see [`SparseEncoder::encode_with`].
    ///
    /// # Errors
    /// Returns the errors of [`SparseEncoder::encode_with`].
    pub async fn encode<T: AsRef<str>>(&self, texts: &[T]) -> Result<SparseEmbeddings, Error> {
        self.encode_with(texts, &EmbedOptions::default()).await
    }

    /// Returns the vectors of `texts`. A SPLADE model gives each token of the vocabulary the weight log(1 + max(0, l)).
    /// Here l is the token's largest logit over all positions of the text. bge-m3 gives each token of the text the
    /// largest weight among its occurrences, and gives special tokens no weight. If the model has a table of weights
    /// for queries, the weights of a query's tokens come from this table. Queries are texts with the task
    /// [`EmbedTask::Query`](crate::EmbedTask).
    ///
    /// ```
    /// use vectile::{ModelFiles, SparseEncoder, block_on};
    ///
    /// # if block_on(vectile::adapters()).is_empty() { return Ok(()); }
    /// # let directory = "tests/fixtures/sparse/bert";
    /// let files = ModelFiles::from_directory(directory)?;
    /// let encoder = block_on(SparseEncoder::builder(files).build())?;
    /// let embeddings = block_on(encoder.encode(&["A cat sat on the roof."]))?;
    /// let vector = &embeddings.vectors[0];
    /// for (index, weight) in vector.indices.iter().zip(&vector.values) {
    ///     println!("{} {weight}", encoder.token(*index).unwrap_or_default());
    /// }
    /// # Ok::<(), vectile::Error>(())
    /// ```
    ///
    /// # Errors
    /// Returns [`Error::Option`] if `truncate_dim` or `normalize` is set, because these options do not apply to sparse
    /// vectors. Otherwise returns the errors of [`Embedder::embed_with`](crate::Embedder::embed_with).
    pub async fn encode_with<T: AsRef<str>>(
        &self,
        texts: &[T],
        options: &EmbedOptions,
    ) -> Result<SparseEmbeddings, Error> {
        let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
        let mut vectors = Vec::with_capacity(texts.len());
        let counts = encode_all(self, &texts, options, |row| vectors.push(row)).await?;
        Ok(SparseEmbeddings {
            dim: self.dim,
            vectors,
            truncated: counts.truncated,
            retried: counts.retried,
            halved: counts.halved,
            tokens: counts.tokens,
        })
    }

    /// Returns true if texts with these options are looked up in a table, which does not need the GPU.
    #[cfg(feature = "server")]
    pub(crate) fn looks_up(&self, options: &EmbedOptions) -> bool {
        self.query_table(options).is_some()
    }

    /// Returns the table in which texts with these options are looked up; `None` if the transformer encodes them.
    fn query_table(&self, options: &EmbedOptions) -> Option<&StaticQueryTable> {
        self.queries.as_ref().filter(|table| table.serves(options.task))
    }
}

fn check_options(options: &EmbedOptions) -> Result<(), Error> {
    for (option, given) in
        [("truncate_dim", options.truncate_dim.is_some()), ("normalize", options.normalize)]
    {
        if given {
            return Err(Error::option(
                option,
                "does not apply to sparse vectors; leave the option out",
            ));
        }
    }
    Ok(())
}
