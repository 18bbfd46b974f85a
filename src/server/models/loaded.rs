//! A loaded model of any kind, as the queue's thread uses it. The thread passes in tokenized texts and gets
//! rows.

use std::sync::Arc;

use crate::config::ModelKind;
use crate::embedder::{EmbedOptions, MultiVector, Prepared, Runner, SparseVector, TextModel};
use crate::error::Error;
use crate::server::served::LoadedModel;

/// A tokenized text in the queue, and the options on which its row depends.
#[derive(Debug)]
pub(super) struct QueuedText {
    pub prepared: Prepared,
    pub options: Arc<EmbedOptions>,
    /// Is true if the text's row is the hidden states of its tokens. Such a text runs alone and not in a batch, when
    /// its turn in the queue comes.
    pub states: bool,
}

impl QueuedText {
    /// Returns the same text, but with the hidden states of its tokens as its row.
    pub fn for_states(self) -> Self {
        QueuedText { prepared: self.prepared.outside_batches(), states: true, ..self }
    }
}

/// The output of a model for one text.
#[derive(Debug, Clone)]
pub(super) enum Row {
    /// A dense vector, or the logits of a pair.
    Values(Vec<f32>),
    Sparse(SparseVector),
    MultiVector(MultiVector),
}

impl LoadedModel {
    pub(super) fn kind(&self) -> ModelKind {
        match self {
            LoadedModel::Dense(_) => ModelKind::Dense,
            LoadedModel::Reranker(_) => ModelKind::Reranker,
            LoadedModel::Sparse(_) => ModelKind::Sparse,
            LoadedModel::MultiVector(_) => ModelKind::MultiVector,
        }
    }

    /// Returns the loaded model and its device.
    pub(super) fn runner(&self) -> &Runner {
        match self {
            LoadedModel::Dense(embedder) => embedder.runner(),
            LoadedModel::Reranker(reranker) => reranker.runner(),
            LoadedModel::Sparse(encoder) => encoder.runner(),
            LoadedModel::MultiVector(encoder) => encoder.runner(),
        }
    }

    /// Returns the part of a text's output that its request needs. The output of a sparse encoder is as wide as the
    /// vocabulary. The output of a multi-vector encoder includes vectors of tokens that the result leaves out. For
    /// these two kinds, only the needed values are therefore copied.
    pub(super) fn keep(&self, text: &QueuedText, row: &[f32]) -> Result<Row, Error> {
        if text.states {
            let states = pollster::block_on(self.runner().token_states(&text.prepared));
            return states.map(Row::MultiVector);
        }
        Ok(match self {
            LoadedModel::Dense(_) | LoadedModel::Reranker(_) => Row::Values(row.to_vec()),
            LoadedModel::Sparse(encoder) => {
                Row::Sparse(encoder.finish(&text.prepared, row, &text.options)?)
            }
            LoadedModel::MultiVector(encoder) => {
                Row::MultiVector(encoder.finish(&text.prepared, row, &text.options)?)
            }
        })
    }
}

impl Row {
    pub fn into_values(self) -> Result<Vec<f32>, Error> {
        match self {
            Row::Values(values) => Ok(values),
            _ => Err(wrong_row("values")),
        }
    }

    pub fn into_sparse(self) -> Result<SparseVector, Error> {
        match self {
            Row::Sparse(vector) => Ok(vector),
            _ => Err(wrong_row("a sparse vector")),
        }
    }

    pub fn into_multi_vector(self) -> Result<MultiVector, Error> {
        match self {
            Row::MultiVector(vectors) => Ok(vectors),
            _ => Err(wrong_row("token vectors")),
        }
    }

    /// Returns all numbers of the row. Health checks compare the numbers of two runs of the same text.
    pub fn into_numbers(self) -> Vec<f32> {
        match self {
            Row::Values(values) => values,
            Row::Sparse(vector) => {
                let indices = vector.indices.into_iter().map(|index| index as f32);
                indices.chain(vector.values).collect()
            }
            Row::MultiVector(vectors) => vectors.values,
        }
    }
}

fn wrong_row(expected: &str) -> Error {
    Error::Internal(format!(
        "the queue returned a row of another kind than the expected {expected}"
    ))
}
