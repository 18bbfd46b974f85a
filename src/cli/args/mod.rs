//! Command-line options. The doc comments in this directory are the text of `--help`.

mod dialect;
mod model;
mod report;
#[cfg(feature = "server")]
mod serve;
mod texts;

use clap::{Parser, Subcommand, ValueEnum};

pub use dialect::{Dialect, Quote};
pub use model::ModelArgs;
pub use report::{AdaptersArgs, BenchArgs, InspectArgs, TuneArgs, VerifyArgs};
#[cfg(feature = "server")]
pub use serve::ServeArgs;
pub use texts::{
    DEFAULT_FIELD, EmbedArgs, InputFormat, LineArgs, OnError, OutputFormat, RerankArgs, SearchArgs,
    SimilarityArgs,
};

/// Embed texts on any GPU, with the same vectors as sentence-transformers.
///
/// Exit codes: 0 success, 2 user error, 1 any other failure.
///
/// The environment variable VECTILE_LOG sets the level of the log on stderr: error, warn, info, debug or trace.
#[derive(Debug, Parser)]
#[command(name = "vectile", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// Write messages on stderr in this format: text or json (one JSON object per line).
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "text",
        value_name = "FORMAT",
        hide_possible_values = true
    )]
    pub log_format: LogFormat,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Embed texts and write one vector per text.
    Embed(EmbedArgs),
    /// Compute the similarity of two texts, or of a text and each line of a file.
    Similarity(SimilarityArgs),
    /// Find the lines of a file that are most similar to a query. The file holds texts or vectors.
    ///
    /// By default QUERY gets the model's prompt named `query`, and each line gets the prompt named `document`.
    /// encode_query and encode_document of sentence-transformers use the same prompts. Either of --prompt-name and
    /// --prompt replaces both prompts.
    Search(SearchArgs),
    /// Rank the lines of a file by relevance to a query, with a reranker model.
    ///
    /// A reranker (cross-encoder) reads QUERY and a line together and returns one score. A reranker is slower than a
    /// comparison of two vectors, but more accurate. Use it to rank the lines that `vectile search` has found.
    Rerank(RerankArgs),
    /// Serve models over HTTP with the APIs of OpenAI, text-embeddings-inference, Ollama, Cohere and Jina.
    ///
    /// The server's vectors are bit-identical to those of `vectile embed`, whatever the load. GET / is a page for
    /// trying the models in a browser, and GET /docs describes the API. On SIGTERM or Ctrl-C the server finishes the
    /// accepted requests and exits with 0.
    #[cfg(feature = "server")]
    Serve(ServeArgs),
    /// Show the modules, tensors, precision, graph and memory of a model on this machine.
    Inspect(InspectArgs),
    /// List the adapters of this machine (GPUs and the CPU) and their features.
    Adapters(AdaptersArgs),
    /// Measure speed, accuracy and memory of each precision.
    ///
    /// Each precision is compared with f32 on the same texts before it is timed. If the adapter cannot run a precision
    /// as requested, the report says so and gives no times for this precision. Rounds of different precisions
    /// alternate. Each ratio of two speeds is shown with its minimum and maximum. For these, each round of one
    /// precision is compared with every round of the other.
    Bench(BenchArgs),
    /// Time the matmul variants at a model's weight shapes and cache the fastest for later loads.
    ///
    /// Without MODEL, the shapes of common models are timed. With MODEL, the shapes of the model's weights are timed;
    /// the weights themselves are not read. A shape that was not tuned uses the default variant for this class of
    /// adapter. Batches of different row counts may use different variants of the same shape, but only variants that
    /// were tested to be bit-identical to each other. In f16, the matmuls of a weight shape use cooperative matrices
    /// for all row counts or for none. If tuning changes this choice, the last bits of vectors change.
    ///
    /// The results are stored in kernels.json in the cache directory. A later load uses the results only if the
    /// adapter, the driver and the kernels are unchanged.
    Tune(TuneArgs),
    /// Check that a model's vectors are correct on this adapter, and whether f16 is safe for the model.
    ///
    /// The check has four parts. It runs the known-answer test of every kernel in every storage type. It compares
    /// vectors with reference vectors, if the model has any. It compares vectors with the vectors that the CPU computes
    /// from the same texts. It compares the largest weights and the largest activations of each layer
    /// with 65504, the largest f16 value.
    ///
    /// The result is a verdict on f16: safe, safe with f32 activations, or unsafe. Later loads of the model follow the
    /// verdict. A model is safe under three conditions. No weight exceeds 65504. No activation exceeds a quarter of
    /// 65504. The cosine between a text's vectors in f16 and in f32 is at least 0.9999.
    ///
    /// The exit code is 0 if all checks pass, and 1 if any check fails. The verdict `unsafe` is a failure only if f16
    /// was requested.
    #[command(after_long_help = report::REFERENCE_HELP)]
    Verify(VerifyArgs),
}

impl Command {
    /// Returns true if `--quiet` was given.
    pub fn is_quiet(&self) -> bool {
        match self {
            Command::Embed(args) => args.model.quiet,
            Command::Similarity(args) => args.model.quiet,
            Command::Search(args) => args.model.quiet,
            Command::Rerank(args) => args.model.quiet,
            #[cfg(feature = "server")]
            Command::Serve(args) => args.quiet,
            Command::Inspect(args) => args.model.quiet,
            Command::Adapters(_) => false,
            Command::Bench(args) => args.quiet,
            Command::Tune(args) => args.quiet,
            Command::Verify(args) => args.quiet,
        }
    }
}

/// The format of messages on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// Plain text, for people to read.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}
