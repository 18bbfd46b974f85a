//! The options, and the help text that is made of them.

mod about;
mod texts;

use std::num::NonZeroUsize;

use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand};
use vectile::{ActivationsRequest, AdapterChoice, DtypeRequest, Feature, HalfFallback};

pub use about::{AdaptersArgs, BenchArgs, InspectArgs, TuneArgs, VerifyArgs};
pub use texts::{
    EmbedArgs, InputFormat, LineArgs, OnError, OutputFormat, RerankArgs, SearchArgs, SimilarityArgs,
};

/// Text embeddings on any GPU, the same vectors as sentence-transformers.
///
/// Exit codes: 0 done, 2 something to mend in the command, its input or the model, 1 anything else.
/// VECTILE_LOG=info (or debug, trace) logs to stderr.
#[derive(Debug, Parser)]
#[command(name = "vectile", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Turn texts into vectors.
    Embed(EmbedArgs),
    /// The cosine of two texts, or of one text and every line of a file.
    Similarity(SimilarityArgs),
    /// The lines of a file that are nearest to a query.
    ///
    /// Without --prompt-name and --prompt, QUERY gets the model's prompt named `query` and lines
    /// the one named `document`, as encode_query and encode_document of sentence-transformers do.
    Search(SearchArgs),
    /// The lines of a file that a reranker finds most relevant to a query.
    ///
    /// A reranker (cross-encoder) reads QUERY and a line together and gives one score, which tells
    /// more than the distance of two vectors and takes longer: give it the lines that a search found.
    Rerank(RerankArgs),
    /// Serve models over HTTP, under the APIs of OpenAI, text-embeddings-inference, Ollama, Cohere and
    /// Jina.
    ///
    /// Vectors have the same bits as those of `vectile embed`, whoever else is asking. GET / is a page
    /// to try it. SIGTERM and Ctrl-C finish what was accepted, then the exit code is 0.
    #[cfg(feature = "server")]
    Serve(super::serve::ServeArgs),
    /// What a model is made of and how it runs here: modules, tensors, dtype, graph, memory.
    Inspect(InspectArgs),
    /// The GPU adapters of this machine and what they can do.
    Adapters(AdaptersArgs),
    /// Is f16 faster here, and is it still right? Speed, accuracy and memory of every precision, side by side.
    ///
    /// Every precision is compared with f32 on the same texts before it is timed, and one that would run as
    /// another is refused. Rounds are interleaved; ratios come with the least and the largest of any round to any.
    Bench(BenchArgs),
    /// Time the forms of the matmul at a model's shapes on this adapter, and keep the fastest for later loads.
    ///
    /// Without MODEL the shapes are those of common models. No weights are loaded. What was not tuned takes a form
    /// that suits the class of adapter. Forms that rows pick among give the same bits, which is checked first. In
    /// f16, cooperative matrices are kept or given up for a shape of weight as a whole; where that changes, so do
    /// the last bits of vectors. What was kept is of the adapter, its driver and this version's kernels, in
    /// kernels.json of the cache directory.
    Tune(TuneArgs),
    /// Is a model right on this adapter, and how much of f16 does it bear?
    ///
    /// Asks every kernel its known answer in every storage, compares vectors with reference vectors,
    /// measures the largest activation of every layer and every weight against 65504, the largest f16,
    /// and keeps a verdict on f16 that later loads of the model honour: safe (a factor of 4 below
    /// 65504, and cosines with f32 of 0.9999 at least), safe with f32 activations, or unsafe.
    ///
    /// Exits with 0 where everything holds and with 1 where something does not. A model that f16 does
    /// not suit fails only where f16 is asked for all the same.
    #[command(after_long_help = about::REFERENCE_HELP)]
    Verify(VerifyArgs),
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub struct ModelArgs {
    /// A model directory, or a Hugging Face Hub name (`owner/name`; a bare `name` is one of
    /// sentence-transformers').
    #[arg(long, value_name = "DIR|HUB-ID")]
    pub model: String,
    #[command(flatten)]
    pub run: RunArgs,
    /// The task whose adapter is added to the weights, of a model that has some (jina-embeddings-v3:
    /// retrieval.query, text-matching and others). It brings no prompt: see --prompt-name.
    #[arg(long, value_name = "NAME")]
    pub lora_task: Option<String>,
    /// Most tokens in a batch. Vectors do not depend on it; speed and memory do.
    #[arg(long, value_name = "N")]
    pub batch_tokens: Option<NonZeroUsize>,
    /// First time which forms of the model's matmuls are fastest on this GPU, where that was not done yet: as
    /// `vectile tune MODEL`, in some seconds.
    #[arg(long)]
    pub tune: bool,
    /// Say nothing on stderr but errors.
    #[arg(long, short)]
    pub quiet: bool,
}

/// Which files of a model are taken and how it runs: what every command that loads one asks.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Model")]
pub struct RunArgs {
    /// Branch, tag or commit of a Hub model.
    #[arg(long, value_name = "REVISION")]
    pub revision: Option<String>,
    /// The dtype of the weights: auto, float32, float16 or bfloat16. `auto` is what the checkpoint
    /// names, as far as the adapter can hold it.
    #[arg(long, default_value = "auto", value_name = "DTYPE")]
    pub dtype: DtypeRequest,
    /// Where float16 is wanted and the adapter has no SHADER_F16: f32, packed or error.
    #[arg(long, default_value = "f32", value_name = "FALLBACK")]
    pub half_fallback: HalfFallback,
    /// How activations are stored, f32 or f16, where the dtype policy should not decide.
    #[arg(long, value_name = "STORAGE")]
    pub activations: Option<ActivationsRequest>,
    /// The adapter, by its index in `vectile adapters` or a part of its name.
    #[arg(long, value_name = "INDEX|NAME")]
    pub adapter: Option<AdapterChoice>,
    /// Run as if the adapter lacked these: shader-f16, subgroups, timestamp-query, cooperative-matrix.
    #[arg(long, value_name = "FEATURES", value_delimiter = ',')]
    pub disable: Vec<Feature>,
    /// Most memory that the model may take, weights and a batch together: 6GiB, 800MiB, or bytes. A model
    /// that needs more is refused before it is loaded.
    #[arg(long, value_name = "SIZE")]
    pub max_memory: Option<ByteSize>,
}
