//! The models, from their files to results. No other module knows all the steps.
//!
//! The modules in reading order; each uses only modules above it:
//!
//! | where | what |
//! |---|---|
//! | `options` | the options of a call |
//! | `model` | a model on the host: configuration, tokenizer, headers of its weights |
//! | `query_document` | how a multi-vector encoder treats queries and documents |
//! | `assembly` | weights on a device, and the forward pass of a batch as a graph |
//! | `memory` | memory counted before it is allocated, and the largest batch that fits |
//! | `device` | opening a device, and the kernels that it runs |
//! | `run` | texts tokenized, batched, run, and their rows |
//! | `text_model` | the trait of all kinds of model: prepare, run, finish, describe |
//! | `load` | from files and settings to a loaded model |
//! | `embed`, `rerank`, `sparse`, `multi_vector` | the four kinds of model |
//! | `report` | what `vectile inspect`, the lab and the server report about a model |

mod assembly;
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
pub use memory::MemoryEstimate;
pub use model::ModuleSummary;
pub use multi_vector::{
    MultiVector, MultiVectorEmbeddings, MultiVectorEncoder, MultiVectorEncoderBuilder,
};
pub use options::{EmbedOptions, EmbedTask, OnTooLong};
pub use report::inspect::{DispatchSummary, Inspection, TensorSummary};
pub use rerank::{Ranked, RerankOptions, Reranker, RerankerBuilder, Scores};
pub(crate) use run::Prepared;
#[cfg(test)]
pub(crate) use run::RunCounts;
#[cfg(any(test, feature = "server"))]
pub(crate) use run::Runner;
pub use sparse::{SparseEmbeddings, SparseEncoder, SparseEncoderBuilder, SparseVector};
pub use text_model::TextModel;
