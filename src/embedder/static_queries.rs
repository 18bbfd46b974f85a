//! Queries of sparse encoders for documents alone: a weight for each token, and nothing to run.

use crate::config::{ModelConfig, StaticQueries};
use crate::embedder::run::Model;
use crate::embedder::sparse::SparseVector;
use crate::embedder::{EmbedTask, OnTooLong};
use crate::error::Error;
use crate::tokenize::{Tokenizer, Tokens};
use crate::weights::WeightFiles;

/// A tokenizer and the weight of each of its tokens.
#[derive(Debug)]
pub(super) struct Lookup {
    tokenizer: Tokenizer,
    weights: Vec<f32>,
    by_default: bool,
}

impl Lookup {
    /// Loads what a model has for queries.
    ///
    /// # Errors
    /// Any that names a file or tensor.
    pub fn load(model: &Model, queries: &StaticQueries) -> Result<Self, Error> {
        let prefix = &queries.prefix;
        let files = WeightFiles::open(&model.files, prefix)?;
        let (name, entry) = files.find("weight")?;
        let wrong = |problem: String| Error::tensor(files.file_of(entry), &name, problem);
        let dim = model.dimension;
        if entry.shape != [dim] {
            let shape = &entry.shape;
            return Err(wrong(format!("has shape {shape:?}; documents have {dim} weights")));
        }
        let weights = files.values(&name, entry, 0, dim)?;
        if let Some(weight) = weights.iter().find(|weight| !weight.is_finite() || **weight < 0.0) {
            return Err(wrong(format!("holds {weight}; weights from 0 on are expected")));
        }
        let config = ModelConfig {
            weights_prefix: prefix.clone(),
            max_seq_length: queries.max_seq_length,
            do_lower_case: false,
            ..model.config.clone()
        };
        let tokenizer = Tokenizer::load(&model.files, &config, dim, None)?;
        Ok(Lookup { tokenizer, weights, by_default: queries.by_default })
    }

    /// True where texts of this side are looked up.
    pub fn takes(&self, side: Option<EmbedTask>) -> bool {
        side.map_or(self.by_default, |side| side == EmbedTask::Query)
    }

    /// Tokens of a query, at most.
    pub fn limit(&self) -> Option<usize> {
        self.tokenizer.limit()
    }

    /// The weights of a query's tokens, each once, and the tokens. `text` is its index in the caller's
    /// list.
    pub fn vector(
        &self,
        prompt: &str,
        (text, query): (usize, &str),
        on_too_long: OnTooLong,
    ) -> Result<(Vec<(u32, f32)>, Tokens), Error> {
        let tokens = self.tokenizer.encode_bare(&format!("{prompt}{query}"))?;
        let (limit, all) = (tokens.ids.len(), tokens.untruncated);
        if all > limit && on_too_long == OnTooLong::Error {
            return Err(Error::TooLong { text, tokens: all, limit });
        }
        let mut ids = tokens.ids.clone();
        ids.sort_unstable();
        ids.dedup();
        // Every id is below the number of weights: the tokenizer was checked.
        let weighted = ids.into_iter().map(|id| (id, self.weights[id as usize]));
        Ok((weighted.filter(|(_, weight)| *weight > 0.0).collect(), tokens))
    }
}

impl SparseVector {
    /// Of weights above zero by ascending index, at most `most` of the largest; of equals the earlier token
    /// stays.
    pub(super) fn largest(mut active: Vec<(u32, f32)>, most: Option<usize>) -> Self {
        if let Some(most) = most.filter(|most| *most < active.len()) {
            active.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            active.truncate(most);
            active.sort_by_key(|(index, _)| *index);
        }
        let (indices, values) = active.into_iter().unzip();
        SparseVector { indices, values }
    }
}
