//! Vectile turns text into vectors on any GPU, with the same results as sentence-transformers.
//!
//! A model is a directory that sentence-transformers saved, a repository of the Hugging Face Hub, or the same files in
//! memory. The model's transformer runs in WGSL compute shaders through wgpu, on Vulkan, Metal and DX12. Checkpoints
//! need no conversion, and CUDA is not used.
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
//! # Four kinds of model
//!
//! | type | result of a text | class of sentence-transformers |
//! |---|---|---|
//! | [`Embedder`] | one vector | `SentenceTransformer` |
//! | [`Reranker`] | scores of a pair of texts | `CrossEncoder` |
//! | [`SparseEncoder`] | weights of tokens of the vocabulary | `SparseEncoder` |
//! | [`MultiVectorEncoder`] | one vector for each token | `MultiVectorEncoder` |
//!
//! [`ModelKind::of`] detects the kind from a model's files. [`TextModel`] is the trait that all four share.
//! [`SimilarityFunction`] compares vectors, and [`semantic_search`] finds the vectors that are most similar to a query.
//!
//! # Computation
//!
//! Vectile applies the tokenizer, the transformer and every module of `modules.json` as sentence-transformers does.
//! Vectile supports all pooling modes, and the modules Dense, LayerNorm and Normalize. Vectile also applies prompts,
//! `truncate_dim` and `max_seq_length`. If a model requests an unsupported feature, the result is an [`Error`] that
//! names the file and the field, never an approximation. README lists the architectures.
//!
//! # Loading
//!
//! [`ModelFiles`] opens a directory, a Hub repository or bytes. [`ModelBuilder`] has the settings for loading: dtype,
//! adapter, memory limit, cache directory and progress. [`ModelBuilder::build`] first checks the files without a
//! device. Then it opens the device and estimates the memory. A model that does not fit is refused before any weights
//! are loaded.
//!
//! # Precision
//!
//! The checkpoint's dtype decides how weights are stored on the GPU, as far as the adapter supports it. Weights are
//! stored as f32, as f16 (`SHADER_F16`), or as 16 bits packed in `u32` on any adapter. Weights of bf16 checkpoints are
//! stored exactly. Products and sums are always f32. [`Precision`] reports the chosen storage types and the reasons for
//! them. [`EmbedderBuilder`] can set another dtype, another fallback, or another storage type for activations. `vectile
//! verify` (`lab::verify`) measures whether a model's activations stay within the range of f16, and later loads use
//! this result.
//!
//! ```
//! # use vectile::{Embedder, ModelFiles, block_on};
//! use vectile::{AdapterChoice, Feature, HalfFallback, Storage};
//!
//! # if block_on(vectile::adapters()).iter().all(|adapter| adapter.is_cpu()) { return Ok(()); }
//! # let directory = "tests/fixtures/bert_mean_norm";
//! let files = ModelFiles::from_directory(directory)?;
//! let builder = Embedder::builder(files)
//!     .adapter(AdapterChoice::Gpu)
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
//! - On one adapter, the vector of a text is bit-identical whatever other texts are embedded with it.
//! - No vector contains an infinity or NaN. If 16-bit activations of a text overflow, the dtype decides. With the dtype
//!   `auto`, the text is run again with f32 activations, and such texts are counted. With another dtype, the result is
//!   an error that names the text.
//! - Texts that exceed the model's maximum length are truncated as in sentence-transformers, and every call reports
//!   their indices. With [`OnTooLong::Error`], the call refuses such texts instead.
//! - If the device is lost, Vectile opens the device again, loads the model again, and repeats the batch.
//!
//! # Features
//!
//! All features are enabled by default.
//!
//! - `hub`: downloads from the Hugging Face Hub, with [`ModelFiles::from_hub`].
//! - `server`: a server that provides models over HTTP.
//! - `cli`: the `vectile` program. This feature includes the feature `lab`, which measures the speed and accuracy of a
//!   model in several precisions.
//! - `bulk`: support for Parquet, Arrow and zstd files in the program.
//!
//! Without these features the library needs no async runtime, no C code and no network.

// The types of wgpu are deeply nested. To check that the server's state is `Send`, the compiler visits all of them,
// which exceeds the default limit.
#![recursion_limit = "256"]

// The program's module, with its paths, for the fuzz target that reads input files.
#[cfg(all(fuzzing, feature = "cli"))]
extern crate self as vectile;

mod batch;
#[cfg(all(fuzzing, feature = "cli"))]
#[allow(dead_code, missing_docs)]
mod cli;
mod config;
#[doc(hidden)]
pub mod convert;
#[cfg(feature = "cpu")]
#[doc(hidden)]
pub mod cpu;
#[doc(hidden)]
pub mod dtype;
mod embedder;
mod error;
#[doc(hidden)]
pub mod executor;
mod files;
// The fuzz targets are a part of the crate, so that they see private functions. Published builds do not contain them.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
#[path = "../fuzz/targets/mod.rs"]
pub mod fuzzing;
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
    DispatchSummary, EmbedOptions, EmbedTask, Embedder, EmbedderBuilder, Embeddings, EncodeCounts,
    Inspection, KernelChoice, MemoryEstimate, ModelBuilder, ModuleSummary, MultiVector,
    MultiVectorEmbeddings, MultiVectorEncoder, MultiVectorEncoderBuilder, OnTooLong, Ranked,
    Rechecked, RerankOptions, Reranker, RerankerBuilder, Scores, SparseEmbeddings, SparseEncoder,
    SparseEncoderBuilder, SparseVector, TensorSummary, TextModel,
};
pub use error::Error;
pub use executor::adapters;
pub use files::{ModelFiles, ReadAt};
pub use gpu::adapter::{AdapterChoice, AdapterSummary, Feature};
#[cfg(feature = "hub")]
pub use hub::{DownloadProgress, HubOptions};
pub use output::{OutputPrecision, Quantized, Ranges, quantize};
pub use pollster::block_on;
pub use search::{CorpusRows, CorpusSearch, SearchHit, SearchOptions, semantic_search};
pub use selftest::check_shader_f16;
pub use similarity::{Similarities, SimilarityFunction};
pub use tokenize::TransformersVersion;
pub use weights::LoadProgress;
