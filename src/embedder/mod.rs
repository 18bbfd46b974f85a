//! Loads models from their files and computes results. No other module combines all these steps.
//!
//! The table lists the modules in reading order. Each module uses only modules above it:
//!
//! | where | what |
//! |---|---|
//! | `options` | the options of a call |
//! | `model` | a model on the host: its configuration, its tokenizer, and the headers of its weights |
//! | `query_document` | how a multi-vector encoder treats queries and documents |
//! | `assembly` | weights on a device, and the forward pass of a batch as a graph |
//! | `memory` | the memory that a model needs, and the largest batch that fits |
//! | `tolerance` | the distance between two rows of a text, and the allowed distance |
//! | `device` | opening a device, and choosing the kernels that it runs |
//! | `attempts` | trying the next adapter after a fault of one |
//! | `run` | tokenizing texts, running them in batches, and returning their rows |
//! | `text_model` | the trait of all kinds of model, with the steps from inputs to results |
//! | `load` | loading a model from files and settings |
//! | `embed`, `rerank`, `sparse`, `multi_vector` | the four kinds of model |
//! | `report` | what `vectile inspect`, the lab and the server report about a model |

mod assembly;
mod attempts;
mod device;
mod embed;
mod load;
mod memory;
mod model;
mod multi_vector;
mod options;
mod query_document;
pub(crate) mod report;
mod rerank;
mod run;
mod sparse;
#[cfg(test)]
mod tests;
mod text_model;
pub(crate) mod tolerance;

#[cfg(feature = "lab")]
pub(crate) use attempts::Attempts;
#[cfg(feature = "lab")]
pub(crate) use device::DeviceSetup;
pub use device::KernelChoice;
pub(crate) use embed::check_widths;
pub use embed::{Embedder, EmbedderBuilder, Embeddings};
#[cfg(feature = "lab")]
pub(crate) use load::LoadPlan;
pub use load::ModelBuilder;
#[cfg(feature = "lab")]
pub(crate) use load::f16_record::F16Record;
#[cfg(any(test, fuzzing))]
pub(crate) use load::plan_without_device;
pub use memory::MemoryEstimate;
pub use model::ModuleSummary;
pub use multi_vector::{
    MultiVector, MultiVectorEmbeddings, MultiVectorEncoder, MultiVectorEncoderBuilder,
};
pub use options::{EmbedOptions, EmbedTask, OnTooLong};
pub use report::inspect::{DispatchSummary, Inspection, TensorSummary};
pub use rerank::{Ranked, RerankOptions, Reranker, RerankerBuilder, Scores};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use run::Prepared;
pub use run::Rechecked;
#[cfg(test)]
pub(crate) use run::RunCounts;
#[cfg(any(test, feature = "server"))]
pub(crate) use run::Runner;
pub use sparse::{SparseEmbeddings, SparseEncoder, SparseEncoderBuilder, SparseVector};
pub use text_model::{EncodeCounts, TextModel};
