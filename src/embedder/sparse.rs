//! [`SparseEncoder`]: a weight for some tokens of the vocabulary, for each text.

use std::collections::{BTreeMap, HashSet};

use crate::config::{KindConfig, ModelKind, Weighting};
use crate::dtype::Precision;
use crate::embedder::build::{Built, ModelBuilder};
use crate::embedder::prepared::{Chunks, Prepared};
use crate::embedder::static_queries::Lookup;
use crate::embedder::{EmbedOptions, Embedder, note};
use crate::error::Error;
use crate::files::ModelFiles;
use crate::gpu::adapter::AdapterSummary;
use crate::tokenize::Tokens;

/// Turns texts into sparse vectors over the vocabulary on a GPU: the same vectors as
/// sentence-transformers' `SparseEncoder` gives of SPLADE models, and of those whose queries are not run but
/// looked up in a table of weights; and the `lexical_weights` that FlagEmbedding gives of bge-m3.
///
/// Made by [`SparseEncoder::builder`], with the settings that an [`Embedder`] takes; what holds for
/// an embedder holds here.
#[derive(Debug)]
pub struct SparseEncoder {
    runs: Embedder,
    weighting: Weighting,
    max_active_dims: Option<usize>,
    /// Tokens of the vocabulary.
    dim: usize,
    /// Special tokens, which have no weight in the text's own.
    special: HashSet<u32>,
    queries: Option<Lookup>,
}

/// Makes a [`SparseEncoder`].
pub type SparseEncoderBuilder = ModelBuilder<SparseEncoder>;

/// The weights of a text that are not zero.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SparseVector {
    /// Token ids, ascending.
    pub indices: Vec<u32>,
    /// The weight of each, above zero.
    pub values: Vec<f32>,
}

/// Sparse vectors, one per text, in the order of the texts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SparseEmbeddings {
    /// Tokens of the vocabulary: every index is below.
    pub dim: usize,
    /// The vectors.
    pub vectors: Vec<SparseVector>,
    /// Indices of the texts that were cut to the model's `max_seq_length`.
    pub truncated: Vec<usize>,
    /// How many texts were run again with f32 activations.
    pub retried: usize,
    /// How often a batch was run again in smaller ones, because the GPU's memory ran out.
    pub halved: usize,
    /// Tokens of all texts, special tokens included.
    pub tokens: usize,
}

impl SparseVector {
    /// The sum of the products of weights that both have: how alike two texts are.
    pub fn dot(&self, other: &SparseVector) -> f64 {
        let mut sum = 0.0;
        let mut theirs = other.indices.iter().zip(&other.values).peekable();
        for (index, value) in self.indices.iter().zip(&self.values) {
            while theirs.next_if(|(other, _)| *other < index).is_some() {}
            if let Some((_, other)) = theirs.next_if(|(other, _)| *other == index) {
                sum += f64::from(*value) * f64::from(*other);
            }
        }
        sum
    }

    /// Of a row of logits, the largest over the tokens of a text.
    fn of_logits(logits: &[f32], twice: bool, most: Option<usize>) -> Self {
        let log1p = |x: f64| if twice { x.ln_1p().ln_1p() } else { x.ln_1p() };
        let active = logits
            .iter()
            .enumerate()
            .filter(|(_, logit)| **logit > 0.0)
            .map(|(index, logit)| (index as u32, log1p(f64::from(*logit)) as f32))
            .filter(|(_, weight)| *weight > 0.0)
            .collect();
        SparseVector::largest(active, most)
    }

    /// Of a weight for each token of a text, the largest for each token of the vocabulary that is not
    /// among the `special`.
    fn of_tokens(ids: &[u32], weights: &[f32], special: &HashSet<u32>) -> Self {
        let mut largest: BTreeMap<u32, f32> = BTreeMap::new();
        for (id, weight) in ids.iter().zip(weights) {
            if *weight > 0.0 && !special.contains(id) {
                let known = largest.entry(*id).or_default();
                *known = known.max(*weight);
            }
        }
        SparseVector::largest(largest.into_iter().collect(), None)
    }
}

/// The vector and the tokens of a text that is looked up, or what is wrong with it.
pub(crate) type LookedUp = Result<(SparseVector, Tokens), Error>;

impl Built for SparseEncoder {
    const KIND: ModelKind = ModelKind::Sparse;

    fn built(runs: Embedder) -> Result<Self, Error> {
        let model = &runs.model;
        let KindConfig::Sparse(sparse) = &model.config.kind else {
            return Err(Error::Internal("a sparse encoder was loaded as something else".into()));
        };
        let dim = match sparse.weighting {
            Weighting::Splade { .. } => model.dimension,
            Weighting::Lexical => model.transformer.facts().table_rows,
        };
        let roles = ["cls_token", "eos_token", "pad_token", "unk_token"];
        let special = roles.iter().filter_map(|role| model.tokenizer.role(role)).collect();
        let queries = sparse.queries.as_ref().map(|queries| Lookup::load(model, queries));
        let (queries, weighting) = (queries.transpose()?, sparse.weighting);
        let max_active_dims = sparse.max_active_dims;
        Ok(SparseEncoder { runs, weighting, max_active_dims, dim, special, queries })
    }
}

impl SparseEncoder {
    /// Starts making a sparse encoder of a model.
    pub fn builder(files: ModelFiles) -> SparseEncoderBuilder {
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

    /// Tokens of the vocabulary: the width of a vector.
    pub fn dimension(&self) -> usize {
        self.dim
    }

    /// Tokens a text may have; longer ones are truncated. `None` where the model names no limit.
    pub fn max_seq_length(&self) -> Option<usize> {
        self.runs.max_seq_length()
    }

    /// As [`SparseEncoder::max_seq_length`], of texts under these options: queries that are looked up have
    /// a limit of their own.
    pub fn max_seq_length_of(&self, options: &EmbedOptions) -> Option<usize> {
        self.lookup(options).map_or(self.max_seq_length(), Lookup::limit)
    }

    /// As [`Embedder::fingerprint`].
    ///
    /// # Errors
    /// As [`Embedder::fingerprint`].
    pub fn fingerprint(&self) -> Result<String, Error> {
        self.runs.fingerprint()
    }

    /// The token of an index, as the tokenizer writes it.
    pub fn token(&self, index: u32) -> Option<String> {
        self.runs.model.tokenizer.token(index)
    }

    /// What the host makes of a row, in words.
    pub(super) fn describe(&self) -> String {
        let weight = match self.weighting {
            Weighting::Splade { twice: false } => "log(1 + max(0, x))",
            Weighting::Splade { twice: true } => "log(1 + log(1 + max(0, x)))",
            Weighting::Lexical => "the largest of each token of the text",
        };
        match self.max_active_dims {
            None => weight.to_owned(),
            Some(most) => format!("{weight}, the {most} largest"),
        }
    }

    /// The vectors of `texts`, as [`SparseEncoder::encode_with`] gives them under default options.
    ///
    /// # Errors
    /// As [`SparseEncoder::encode_with`].
    pub async fn encode<T: AsRef<str>>(&self, texts: &[T]) -> Result<SparseEmbeddings, Error> {
        self.encode_with(texts, &EmbedOptions::default()).await
    }

    /// The vectors of `texts`: for each token of the vocabulary log(1 + max(0, l)), where l is its
    /// largest logit over the tokens of the text. Of bge-m3: for each token of the text the largest of
    /// its weights, special tokens left out. Where the model has a table for queries, texts under
    /// [`EmbedTask::Query`](crate::EmbedTask) have the weights of their tokens in it.
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
    /// [`Error::Option`] for `truncate_dim` and `normalize`, which sparse vectors do not have; else as
    /// [`Embedder::embed_with`].
    pub async fn encode_with<T: AsRef<str>>(
        &self,
        texts: &[T],
        options: &EmbedOptions,
    ) -> Result<SparseEmbeddings, Error> {
        check_options(options)?;
        let mut embeddings =
            SparseEmbeddings { dim: self.dimension(), ..SparseEmbeddings::default() };
        if let Some(found) = self.look_up(texts, options)? {
            for (i, found) in found.into_iter().enumerate() {
                let (vector, tokens) = found?;
                embeddings.vectors.push(vector);
                embeddings.tokens += tokens.ids.len();
                embeddings.truncated.extend((tokens.untruncated > tokens.ids.len()).then_some(i));
            }
            return Ok(embeddings);
        }
        let mut chunks = Chunks::new(texts, self.runs.batch_tokens);
        let more = || {
            let Some((first, texts)) = chunks.next(|text| text.as_ref().len()) else {
                return Ok(None);
            };
            let prepared = self.runs.prepare_from(first, texts, options)?;
            let prepared = prepared.into_iter().collect::<Result<Vec<_>, _>>()?;
            note(&prepared, &mut embeddings.truncated, &mut embeddings.tokens);
            Ok(Some(prepared))
        };
        let take = |text: &Prepared, row: Result<&[f32], Error>| {
            embeddings.vectors.push(self.finish(text, row?));
            Ok(())
        };
        let met = self.runs.drive(more, take).await?;
        Ok(SparseEmbeddings { retried: met.retried, halved: met.halved, ..embeddings })
    }

    /// True where texts under these options are looked up in a table: they cannot be prepared, and
    /// [`SparseEncoder::encode_with`] does not use the GPU for them.
    #[cfg(feature = "server")]
    pub(crate) fn looks_up(&self, options: &EmbedOptions) -> bool {
        self.lookup(options).is_some()
    }

    /// The table for texts under `options`, where they are not run.
    fn lookup(&self, options: &EmbedOptions) -> Option<&Lookup> {
        self.queries.as_ref().filter(|lookup| lookup.takes(options.task))
    }

    /// The vector and the tokens of each text, where texts are looked up and not run.
    ///
    /// # Errors
    /// As [`SparseEncoder::encode_with`]; what is wrong with one text is its own.
    pub(crate) fn look_up<T: AsRef<str>>(
        &self,
        texts: &[T],
        options: &EmbedOptions,
    ) -> Result<Option<Vec<LookedUp>>, Error> {
        check_options(options)?;
        let Some(lookup) = self.lookup(options) else { return Ok(None) };
        let prompt = self.runs.prompt(options)?.unwrap_or_default();
        let found = texts.iter().enumerate().map(|(i, text)| {
            let place = (i, text.as_ref());
            let (active, tokens) = lookup.vector(prompt, place, options.on_too_long)?;
            Ok((SparseVector::largest(active, self.max_active_dims), tokens))
        });
        Ok(Some(found.collect()))
    }

    /// The tokens of each text under `options`, or what is wrong with that text; see
    /// [`Embedder::prepare`]. Queries that are looked up cannot be prepared: they are not run.
    pub(crate) fn prepare<T: AsRef<str>>(
        &self,
        texts: &[T],
        options: &EmbedOptions,
    ) -> Result<Vec<Result<Prepared, Error>>, Error> {
        check_options(options)?;
        if self.lookup(options).is_some() {
            let problem = "is query, and this model's queries are looked up, not run";
            return Err(Error::option("task", problem));
        }
        self.runs.prepare(texts, options)
    }

    /// What runs prepared texts.
    pub(crate) fn runs(&self) -> &Embedder {
        &self.runs
    }

    /// The vector of the row of a prepared text.
    pub(crate) fn finish(&self, text: &Prepared, row: &[f32]) -> SparseVector {
        match self.weighting {
            Weighting::Splade { twice } => {
                SparseVector::of_logits(row, twice, self.max_active_dims)
            }
            Weighting::Lexical => SparseVector::of_tokens(&text.tokens.ids, row, &self.special),
        }
    }
}

fn check_options(options: &EmbedOptions) -> Result<(), Error> {
    for (option, given) in
        [("truncate_dim", options.truncate_dim.is_some()), ("normalize", options.normalize)]
    {
        if given {
            return Err(Error::option(option, "is not for sparse vectors; leave it out"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_above_zero_are_kept_in_order() {
        let logits = [0.0, -1.0, 1.0, 1e-30, 3.0, 3.0, f32::MAX];
        let all = SparseVector::of_logits(&logits, false, None);
        assert_eq!(all.indices, [2, 3, 4, 5, 6]);
        assert_eq!(all.values[..2], [2f64.ln() as f32, 1e-30]);
        let two = SparseVector::of_logits(&logits, true, Some(2));
        assert_eq!(two.indices, [4, 6]);
        assert_eq!(two.values[0], 4f64.ln().ln_1p() as f32);
    }

    #[test]
    fn tokens_have_the_largest_of_their_weights() {
        let weights = [0.5, 1.0, 3.0, 2.0, 0.0, -1.0];
        let vector = SparseVector::of_tokens(&[9, 4, 2, 4, 7, 8], &weights, &[2].into());
        assert_eq!((vector.indices, vector.values), (vec![4, 9], vec![2.0, 0.5]));
    }

    #[test]
    fn products_are_of_tokens_that_both_have() {
        let vector = |pairs: &[(u32, f32)]| {
            let (indices, values) = pairs.iter().copied().unzip();
            SparseVector { indices, values }
        };
        let a = vector(&[(1, 2.0), (4, 3.0), (9, 1.0)]);
        let b = vector(&[(0, 5.0), (4, 0.5), (9, 4.0), (12, 7.0)]);
        assert_eq!(a.dot(&b), 5.5);
        assert_eq!(a.dot(&vector(&[])), 0.0);
    }
}
