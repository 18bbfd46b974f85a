//! Encodes queries for sparse encoders whose transformer encodes documents only. A table holds the weight of each query
//! token.

use crate::config::{ModelConfig, StaticQueries};
use crate::embedder::model::Model;
use crate::embedder::options::{EmbedTask, OnTooLong};
use crate::error::Error;
use crate::tokenize::{Tokenizer, Tokens};
use crate::weights::WeightFiles;

/// The tokenizer for queries, and the weight of each of its tokens.
#[derive(Debug)]
pub(super) struct StaticQueryTable {
    tokenizer: Tokenizer,
    weights: Vec<f32>,
    by_default: bool,
}

impl StaticQueryTable {
    /// Loads the table of weights for queries from a model's files.
    ///
    /// # Errors
    /// Returns an error that names the file or tensor at fault.
    pub fn load(model: &Model, queries: &StaticQueries) -> Result<Self, Error> {
        let prefix = &queries.prefix;
        let files = WeightFiles::open(&model.files, prefix)?;
        let (name, entry) = files.find("weight")?;
        let wrong = |problem: String| Error::tensor(files.file_of(entry), &name, problem);
        let dim = model.dimension;
        if entry.shape != [dim] {
            let shape = &entry.shape;
            return Err(wrong(format!(
                "has shape {shape:?}; expected one weight for each of the {dim} values of a document's \
                 vector"
            )));
        }
        let weights = files.values(&name, entry, 0, dim)?;
        if let Some(weight) = weights.iter().find(|weight| !weight.is_finite() || **weight < 0.0) {
            return Err(wrong(format!("holds {weight}; weights must not be negative")));
        }
        let config = ModelConfig {
            weights_prefix: prefix.clone(),
            max_seq_length: queries.max_seq_length,
            do_lower_case: false,
            ..model.config.clone()
        };
        let tokenizer = Tokenizer::load(&model.files, &config, dim, None, None)?;
        Ok(StaticQueryTable { tokenizer, weights, by_default: queries.by_default })
    }

    /// Returns true if texts with this task are looked up in the table.
    pub fn serves(&self, task: Option<EmbedTask>) -> bool {
        task.map_or(self.by_default, |task| task == EmbedTask::Query)
    }

    /// Returns the maximum number of tokens of a query; `None` if there is no limit.
    pub fn limit(&self) -> Option<usize> {
        self.tokenizer.limit()
    }

    /// Returns the tokens of a query, without special tokens. `text` is the query's index in the caller's list.
    pub fn tokens(
        &self,
        text: usize,
        query: &str,
        on_too_long: OnTooLong,
    ) -> Result<Tokens, Error> {
        let tokens = self.tokenizer.encode_bare(query)?;
        let (limit, all) = (tokens.ids.len(), tokens.untruncated);
        if all > limit && on_too_long == OnTooLong::Error {
            return Err(Error::TooLong { text, tokens: all, limit });
        }
        Ok(tokens)
    }

    /// Returns the distinct token ids whose weight is above zero, each with its weight, sorted by id.
    pub fn weights(&self, ids: &[u32]) -> Vec<(u32, f32)> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        // The load has checked that every id is below the number of weights.
        let weighted = ids.into_iter().map(|id| (id, self.weights[id as usize]));
        weighted.filter(|(_, weight)| *weight > 0.0).collect()
    }
}
