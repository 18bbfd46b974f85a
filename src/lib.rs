//! Vectile turns text into vectors on any GPU, the same vectors as sentence-transformers.
//!
//! A model is a directory as sentence-transformers saves it (or a Hugging Face Hub repository, or the
//! same files in memory). Its transformer runs in hand-written WGSL compute shaders through wgpu:
//! Vulkan, Metal and DX12. There is nothing to convert and no CUDA.
//!
//! ```
//! use vectile::{Embedder, ModelFiles, block_on};
//!
//! # if block_on(vectile::adapters()).is_empty() { return Ok(()); }
//! # let directory = "tests/fixtures/bert_mean_norm";
//! let files = ModelFiles::from_directory(directory)?;
//! let embedder = block_on(Embedder::builder(files).build())?;
//! println!("{}", embedder.precision());
//!
//! let embeddings = block_on(embedder.embed(&["A cat sat on the roof.", "The dog ran."]))?;
//! assert_eq!(embeddings.len(), 2);
//! assert_eq!(embeddings.row(0).len(), embedder.dimension());
//! # Ok::<(), vectile::Error>(())
//! ```
//!
//! # What it computes
//!
//! The tokenizer, the transformer and every module of `modules.json` as sentence-transformers applies
//! them: pooling in all its modes, Dense, LayerNorm, Normalize; prompts, `truncate_dim`,
//! `max_seq_length`. If a model asks for something else, the result is an [`Error`] that names the
//! file and the field, never an approximation. README lists the architectures.
//!
//! # Precision
//!
//! The dtype a checkpoint names decides how weights are held on the GPU, as far as the adapter can:
//! f32, f16 (`SHADER_F16`), or 16 bits packed in `u32` on any adapter; bf16 checkpoints are held
//! exactly. Products and sums are always f32. [`Precision`] says what was chosen and why; it is never
//! changed in silence. [`EmbedderBuilder`] takes another dtype, fallback or storage of activations.
//! `vectile verify` (`lab::verify`) measures how much of f16 a model bears, and later loads honour what
//! it found.
//!
//! ```
//! # use vectile::{Embedder, ModelFiles, block_on};
//! use vectile::{Feature, HalfFallback, Storage};
//!
//! # if block_on(vectile::adapters()).is_empty() { return Ok(()); }
//! # let directory = "tests/fixtures/bert_mean_norm";
//! let files = ModelFiles::from_directory(directory)?;
//! let builder = Embedder::builder(files)
//!     .dtype("float16".parse()?)
//!     .disable(vec![Feature::ShaderF16])
//!     .half_fallback(HalfFallback::Packed);
//! let embedder = block_on(builder.build())?;
//! assert_eq!(embedder.precision().weights, Storage::PackedF16);
//! # Ok::<(), vectile::Error>(())
//! ```
//!
//! # Promises
//!
//! - A text's vector has the same bits whatever texts it is embedded with, on one adapter.
//! - No vector holds an infinity or NaN. Texts whose activations pass the range of 16 bits are run
//!   again with f32 activations under `auto` and counted, or are an error that names the text.
//! - Texts longer than the model takes are truncated as sentence-transformers does, and reported per
//!   call; [`OnTooLong::Error`] refuses them instead.
//! - A lost device is opened again, the model loaded again and the batch repeated, once.
//!
//! # Features
//!
//! `hub` (default) brings [`ModelFiles::from_hub`]; `server` (default) models over HTTP; `cli` (default)
//! the `vectile` program, and with it `lab`, which measures speed and accuracy of precisions; `bulk` adds Parquet,
//! Arrow and zstd to the program. Without them, the library needs no async runtime, no C code and no network.

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
#[cfg(feature = "lab")]
pub mod lab;
mod models;
mod output;
mod search;
#[doc(hidden)]
pub mod selftest;
#[cfg(feature = "server")]
pub mod server;
mod similarity;
#[cfg(not(target_arch = "wasm32"))]
pub mod stream;
mod threads;
mod tokenize;
mod weights;

pub use config::ModelKind;
pub use dtype::{
    ActivationsRequest, CheckpointDtype, DtypeRequest, FloatDtype, HalfFallback, Precision, Reason,
    ShaderF16, Storage,
};
pub use embedder::{
    DispatchSummary, EmbedOptions, EmbedTask, Embedder, EmbedderBuilder, Embeddings, Inspection,
    KernelChoice, MemoryEstimate, ModelBuilder, ModuleSummary, MultiVector, MultiVectorEmbeddings,
    MultiVectorEncoder, MultiVectorEncoderBuilder, OnTooLong, Ranked, RerankOptions, Reranker,
    RerankerBuilder, Scores, SparseEmbeddings, SparseEncoder, SparseEncoderBuilder, SparseVector,
    TensorSummary, TextModel,
};
pub use error::Error;
pub use files::ModelFiles;
pub use gpu::adapter::{AdapterChoice, AdapterSummary, Feature, adapters};
#[cfg(feature = "hub")]
pub use hub::{DownloadProgress, HubOptions};
pub use output::{OutputPrecision, Quantized, Ranges, quantize};
pub use pollster::block_on;
pub use search::{SearchHit, semantic_search};
pub use selftest::check_shader_f16;
pub use similarity::{Similarities, SimilarityFunction};
pub use tokenize::TransformersVersion;
pub use weights::LoadProgress;
