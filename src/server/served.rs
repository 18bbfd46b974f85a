//! Models to serve, as the caller has loaded them.

use std::sync::Arc;

use crate::embedder::{Embedder, Reranker, SparseEncoder};

/// A model to serve, and the name that clients know it by.
#[derive(Debug, Clone)]
pub struct Served {
    pub(super) name: String,
    pub(super) what: Loaded,
}

/// What a model was loaded as.
#[derive(Debug, Clone)]
pub(super) enum Loaded {
    Embedder(Arc<Embedder>),
    Reranker(Arc<Reranker>),
    Sparse(Arc<SparseEncoder>),
}

impl Served {
    /// Serves vectors.
    pub fn embedder(name: impl Into<String>, embedder: Arc<Embedder>) -> Self {
        Served { name: name.into(), what: Loaded::Embedder(embedder) }
    }

    /// Serves scores of documents.
    pub fn reranker(name: impl Into<String>, reranker: Arc<Reranker>) -> Self {
        Served { name: name.into(), what: Loaded::Reranker(reranker) }
    }

    /// Serves sparse vectors.
    pub fn sparse(name: impl Into<String>, encoder: Arc<SparseEncoder>) -> Self {
        Served { name: name.into(), what: Loaded::Sparse(encoder) }
    }

    /// The name that clients know it by.
    pub fn name(&self) -> &str {
        &self.name
    }
}
