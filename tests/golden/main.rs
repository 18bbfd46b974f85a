//! Compares the vectors of whole models with vectors that sentence-transformers computed in float64, on a real adapter
//! (which may be a software adapter).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod against_cpu;
mod bits;
mod calls;
mod differential;
mod families;
mod faults;
mod fixtures;
mod limits;
mod loss;
mod minilm;
mod multi_vector;
mod pipelines;
mod range;
mod reports;
mod rerankers;
mod search;
mod similarity;
mod sparse;
mod storages;
#[path = "../support/mod.rs"]
mod support;
#[cfg(feature = "lab")]
mod tasks;
#[cfg(feature = "lab")]
mod tune;
mod verify;
mod wrong_answers;

use vectile::{Embedder, EmbedderBuilder};

use support::model_files;

/// Returns a builder for an embedder of a fixture.
pub fn builder(name: &str) -> EmbedderBuilder {
    Embedder::builder(model_files(name)).or_adapter(support::adapter())
}
