//! Vectile turns text into vectors on any GPU.
mod batch;
mod config;
#[doc(hidden)]
pub mod convert;
#[doc(hidden)]
pub mod dtype;
mod embedder;
mod error;
mod files;
#[doc(hidden)]
pub mod gpu;
#[cfg(feature = "hub")]
mod hub;
#[doc(hidden)]
pub mod kernels;
mod models;
mod tokenize;
mod weights;

pub use dtype::{
    ActivationsRequest, CheckpointDtype, DtypeRequest, FloatDtype, HalfFallback, Precision, Reason,
    ShaderF16, Storage,
};
pub use embedder::{
    EmbedOptions, Embedder, EmbedderBuilder, Embeddings, Inspection, ModuleSummary, OnTooLong,
    TensorSummary,
};
pub use error::Error;
pub use files::ModelFiles;
pub use gpu::device::{AdapterChoice, AdapterSummary, Feature, adapters};
pub use pollster::block_on;
