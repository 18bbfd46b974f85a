//! [`Served`], a model that the caller has loaded for the server.

use std::sync::Arc;

use crate::embedder::{Embedder, MultiVectorEncoder, Reranker, SparseEncoder};

/// A model to serve, and its name in requests.
#[derive(Debug, Clone)]
pub struct Served {
    pub(super) name: String,
    pub(super) model: LoadedModel,
}

/// A loaded model of any kind.
#[derive(Debug, Clone)]
pub(super) enum LoadedModel {
    Dense(Arc<Embedder>),
    Reranker(Arc<Reranker>),
    Sparse(Arc<SparseEncoder>),
    MultiVector(Arc<MultiVectorEncoder>),
}

impl Served {
    /// Returns a model to serve: an embedder, which returns one vector for each text.
    pub fn embedder(name: impl Into<String>, embedder: Arc<Embedder>) -> Self {
        Served { name: name.into(), model: LoadedModel::Dense(embedder) }
    }

    /// Returns a model to serve: a reranker, which returns the scores of documents for a query.
    pub fn reranker(name: impl Into<String>, reranker: Arc<Reranker>) -> Self {
        Served { name: name.into(), model: LoadedModel::Reranker(reranker) }
    }

    /// Returns a model to serve: a sparse encoder, which returns one sparse vector for each text.
    pub fn sparse(name: impl Into<String>, encoder: Arc<SparseEncoder>) -> Self {
        Served { name: name.into(), model: LoadedModel::Sparse(encoder) }
    }

    /// Returns a model to serve: a multi-vector encoder. Such a model returns one vector for each token of a text, and
    /// the scores of documents for a query.
    pub fn multi_vector(name: impl Into<String>, encoder: Arc<MultiVectorEncoder>) -> Self {
        Served { name: name.into(), model: LoadedModel::MultiVector(encoder) }
    }

    /// Returns the model's name in requests.
    pub fn name(&self) -> &str {
        &self.name
    }
}
