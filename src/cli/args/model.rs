//! Options that choose a model and how it runs.

use std::num::NonZeroUsize;

use bytesize::ByteSize;
use clap::Args;
use vectile::{
    ActivationsRequest, AdapterChoice, DtypeRequest, Feature, HalfFallback, TransformersVersion,
};

#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub struct ModelArgs {
    /// Use the model in this directory or with this Hugging Face Hub name.
    ///
    /// A Hub name is `owner/name`. A bare `name` belongs to `sentence-transformers`, or to
    /// `cross-encoder` for rerankers.
    #[arg(long, value_name = "DIR|HUB-ID")]
    pub model: String,
    #[command(flatten)]
    pub run: RunArgs,
    /// Add the LoRA of this task to the weights, for models that have them.
    ///
    /// jina-embeddings-v3 has retrieval.query, text-matching and others. The task adds no prompt:
    /// see --prompt-name.
    #[arg(long, value_name = "NAME")]
    pub lora_task: Option<String>,
    /// Put at most N tokens into a batch. Affects speed and memory, not the vectors.
    #[arg(long, value_name = "N")]
    pub batch_tokens: Option<NonZeroUsize>,
    /// Tune the model's matmuls on this GPU before loading, unless that was done before.
    ///
    /// Takes some seconds and does the same as `vectile tune MODEL`.
    #[arg(long)]
    pub tune: bool,
    /// Print only errors on stderr.
    #[arg(long, short)]
    pub quiet: bool,
}

/// The files of a model and how it runs: options of every command that loads a model.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Model")]
pub struct RunArgs {
    /// Use this branch, tag or commit of a Hub model.
    #[arg(long, value_name = "REVISION")]
    pub revision: Option<String>,
    /// Turn texts into tokens by the rules of this version of transformers: 4 or 5.
    ///
    /// The default is the version that the model was published for.
    #[arg(long, value_name = "VERSION")]
    pub transformers_version: Option<TransformersVersion>,
    /// Run the weights in this dtype: auto, float32, float16 or bfloat16.
    ///
    /// `auto` is the checkpoint's dtype, as far as the adapter supports it.
    #[arg(long, default_value = "auto", value_name = "DTYPE")]
    pub dtype: DtypeRequest,
    /// Choose the fallback for float16 on an adapter without SHADER_F16: f32, packed or error.
    #[arg(long, default_value = "f32", value_name = "FALLBACK")]
    pub half_fallback: HalfFallback,
    /// Store activations as f32 or f16 instead of what the dtype policy chooses.
    #[arg(long, value_name = "STORAGE")]
    pub activations: Option<ActivationsRequest>,
    /// Use this adapter: its index in `vectile adapters`, or a part of its name.
    #[arg(long, value_name = "INDEX|NAME")]
    pub adapter: Option<AdapterChoice>,
    /// Disable these features of the adapter: shader-f16, subgroups, timestamp-query, cooperative-matrix.
    #[arg(long, value_name = "FEATURES", value_delimiter = ',')]
    pub disable: Vec<Feature>,
    /// Refuse a model that needs more memory than this: 6GiB, 800MiB, or a number of bytes.
    ///
    /// Counts the weights and one batch. The check comes before the model is loaded.
    #[arg(long, value_name = "SIZE")]
    pub max_memory: Option<ByteSize>,
}
