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
    /// A Hub name is `owner/name`. If the owner is left out, it is `sentence-transformers`, or `cross-encoder` for
    /// rerankers.
    #[arg(long, value_name = "DIR|HUB-ID")]
    pub model: String,
    #[command(flatten)]
    pub run: RunArgs,
    /// Add the LoRA of this task to the weights, for models that have one LoRA per task.
    ///
    /// For example, jina-embeddings-v3 has the tasks retrieval.query and text-matching. This option adds no prompt; use
    /// --prompt-name to add one.
    #[arg(long, value_name = "NAME")]
    pub lora_task: Option<String>,
    /// Put at most N tokens into a batch. The limit affects speed and memory, but not the vectors.
    #[arg(long, value_name = "N")]
    pub batch_tokens: Option<NonZeroUsize>,
    /// Find the fastest matmul variants for the model on this GPU before loading, unless this was done before.
    ///
    /// The search takes some seconds. `vectile tune MODEL` makes only this search and embeds no texts.
    #[arg(long)]
    pub tune: bool,
    /// Compute at least one in N vectors of each batch a second time, and fail if one differs.
    ///
    /// The adapter computes these vectors again in another place of a batch, and they must be bit-identical. If the
    /// adapter is not the CPU, the CPU computes them too, and needs memory for a second copy of the model. N is 64
    /// without a value; 1 checks every vector.
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "64")]
    pub paranoid: Option<NonZeroUsize>,
    /// Print nothing on stderr except errors.
    #[arg(long, short)]
    pub quiet: bool,
}

/// Options that choose a model's files and how the model runs. Every command that loads a model has these options.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Model")]
pub struct RunArgs {
    /// Use this branch, tag or commit of a Hub model.
    #[arg(long, value_name = "REVISION")]
    pub revision: Option<String>,
    /// Tokenize texts by the rules of this version of the transformers library: 4 or 5.
    ///
    /// Default: the version for which the model was published.
    #[arg(long, value_name = "VERSION")]
    pub transformers_version: Option<TransformersVersion>,
    /// Run the model in this dtype: auto, float32, float16 or bfloat16.
    ///
    /// `auto` means the dtype of the checkpoint, if the adapter supports that dtype.
    #[arg(long, default_value = "auto", value_name = "DTYPE")]
    pub dtype: DtypeRequest,
    /// Use this replacement for f16 on an adapter without f16 in shaders: f32, packed or error. `packed` stores two f16
    /// values in each 32-bit word.
    #[arg(long, default_value = "f32", value_name = "FALLBACK")]
    pub half_fallback: HalfFallback,
    /// Store activations in this type, f32 or f16, instead of the type that Vectile chooses.
    #[arg(long, value_name = "STORAGE")]
    pub activations: Option<ActivationsRequest>,
    /// Use this adapter: cpu, gpu, an index that `vectile adapters` lists, or a part of the adapter's name.
    ///
    /// `gpu` means the best adapter that is not the CPU. Without this option, Vectile uses the best adapter. If the
    /// best adapter computes wrong results, Vectile uses the next best one.
    #[arg(long, value_name = "ADAPTER", env = "VECTILE_ADAPTER", hide_env_values = true)]
    pub adapter: Option<AdapterChoice>,
    /// Use this many threads on the CPU. The default is one thread for each physical core.
    ///
    /// The vectors do not depend on the number of threads.
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Disable these features of the adapter: shader-f16, subgroups, timestamp-query, cooperative-matrix.
    #[arg(long, value_name = "FEATURES", value_delimiter = ',')]
    pub disable: Vec<Feature>,
    /// Refuse a model that needs more memory than SIZE, such as 6GiB, 800MiB or a number of bytes.
    ///
    /// The limit applies to the memory of the weights and of one batch together. Vectile checks the limit before it
    /// loads the model.
    #[arg(long, value_name = "SIZE")]
    pub max_memory: Option<ByteSize>,
}
