//! The options, and the help text that is made of them.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use bytesize::ByteSize;
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use vectile::lab::Combination;
use vectile::{
    ActivationsRequest, AdapterChoice, DtypeRequest, EmbedOptions, EmbedTask, Feature,
    HalfFallback, OnTooLong, OutputPrecision,
};

use super::carried::Carry;

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
    #[command(after_long_help = REFERENCE_HELP)]
    Verify(VerifyArgs),
}

const REFERENCE_HELP: &str = "\
Reference vectors, by sentence-transformers:
  import json; from safetensors.numpy import save_file; from sentence_transformers import SentenceTransformer
  model = SentenceTransformer(\"MODEL\", device=\"cpu\", model_kwargs={\"dtype\": \"float32\"})
  texts = [\"A cat sat on the roof.\", \"The dog ran.\"]
  save_file({\"embeddings\": model.encode(texts)}, \"reference.safetensors\", {\"texts\": json.dumps(texts)})
and then: vectile verify MODEL --reference reference.safetensors";

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
    pub withhold: Vec<Feature>,
    /// Most memory that the model may take, weights and a batch together: 6GiB, 800MiB, or bytes. A model
    /// that needs more is refused before it is loaded.
    #[arg(long, value_name = "SIZE")]
    pub max_memory: Option<ByteSize>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Texts")]
pub struct TextArgs {
    /// The model's prompt of this name before every text.
    #[arg(long, value_name = "NAME", conflicts_with = "prompt")]
    pub prompt_name: Option<String>,
    /// This before every text.
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// Keep the first D values of each vector.
    #[arg(long, value_name = "D")]
    pub truncate_dim: Option<NonZeroUsize>,
    /// Scale each vector to length 1, after --truncate-dim.
    #[arg(long)]
    pub normalize: bool,
    /// Texts of more tokens than the model takes: truncate (counted and reported) or error.
    #[arg(long, default_value = "truncate", value_name = "RULE")]
    pub on_too_long: OnTooLong,
}

impl TextArgs {
    pub fn options(&self) -> EmbedOptions {
        EmbedOptions {
            prompt_name: self.prompt_name.clone(),
            prompt: self.prompt.clone(),
            task: None,
            truncate_dim: self.truncate_dim.map(NonZeroUsize::get),
            normalize: self.normalize,
            on_too_long: self.on_too_long,
        }
    }
}

/// How lines become texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum InputFormat {
    /// A text a line; LF or CRLF ends it.
    Txt,
    /// A JSON object a line; blank lines are skipped.
    Jsonl,
    /// Values between commas, under a line of names.
    Csv,
    /// Values between tabs, under a line of names.
    Tsv,
    /// A Parquet file (needs the feature `bulk`).
    Parquet,
    /// An Arrow IPC file or stream, Feather too (needs the feature `bulk`).
    Arrow,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Input")]
pub struct LineArgs {
    /// What the input is. By default what its extension says (.jsonl, .ndjson, .csv, .tsv, .parquet, .arrow,
    /// .feather; before .gz or .zst, too), else a text a line.
    #[arg(long, value_name = "FORMAT")]
    pub input_format: Option<InputFormat>,
    /// The field of each object, or the column, that holds the text.
    #[arg(long, visible_alias = "column", default_value = "text", value_name = "FIELD")]
    pub field: String,
    /// Replace bytes that are not UTF-8 instead of refusing them.
    #[arg(long)]
    pub lossy: bool,
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// `{"index":0,…,"embedding":[…]}` a line.
    Jsonl,
    /// One NumPy array; it has no other columns.
    Npy,
    /// Values between commas, vectors as JSON lists.
    Csv,
    /// Values between tabs, vectors as JSON lists.
    Tsv,
    /// Parquet, vectors as lists of fixed size (needs the feature `bulk`).
    Parquet,
    /// An Arrow IPC file, vectors as lists of fixed size (needs the feature `bulk`).
    Arrow,
}

/// What becomes of a row that has no text, or whose text has no vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnError {
    /// The command ends and says where.
    Fail,
    /// The row has null in place of a vector, and the command says where at its end.
    Null,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("source").required(true).args(["input", "texts"]))]
pub struct EmbedArgs {
    /// The texts, where they are not in a file.
    #[arg(value_name = "TEXT")]
    pub texts: Vec<String>,
    /// Texts in a file, in the files of a directory or of a quoted pattern ('data/*.jsonl'), or `-` for stdin.
    /// May be given several times, for files of one format.
    #[arg(long, short, value_name = "FILE|DIR|PATTERN|-", help_heading = "Input")]
    pub input: Vec<PathBuf>,
    #[command(flatten)]
    pub lines: LineArgs,
    /// A row without a text, or whose text has no vector: fail or null.
    #[arg(long, default_value = "fail", value_name = "RULE", help_heading = "Input")]
    pub on_error: OnError,
    /// Where the rows go, in the order of the texts. FILE appears when it is whole; until then what is done lies
    /// in FILE.parts, unless texts come from stdin or arguments.
    #[arg(long, short, default_value = "-", value_name = "FILE|-", help_heading = "Output")]
    pub output: PathBuf,
    /// Go on with what lies in FILE.parts: the output is to the bit that of a run that was not interrupted.
    #[arg(long, conflicts_with = "texts", help_heading = "Output")]
    pub resume: bool,
    /// By default what the extension of FILE says (.npy, .csv, .tsv, .parquet, .arrow, .feather), else jsonl. Lines are
    /// compressed where FILE ends in .gz or .zst.
    #[arg(long, value_name = "FORMAT", help_heading = "Output")]
    pub format: Option<OutputFormat>,
    /// The other fields or columns of the input that go into the output: all, none, or names with commas
    /// between. The texts are one of them.
    #[arg(long, default_value = "all", value_name = "COLUMNS", help_heading = "Output")]
    pub carry: Carry,
    /// What the field or column of the vectors is called.
    #[arg(long, default_value = "embedding", value_name = "NAME", help_heading = "Output")]
    pub embedding_column: String,
    /// Rows of a part: what is lost at most when the command is killed, and a row group of Parquet. By default some
    /// megabytes of vectors.
    #[arg(long, value_name = "N", help_heading = "Output")]
    pub part_rows: Option<NonZeroUsize>,
    /// What the values are stored as: float32, float16, int8, uint8, binary or ubinary, as
    /// sentence-transformers makes them.
    #[arg(long, default_value = "float32", value_name = "PRECISION", help_heading = "Output")]
    pub precision: OutputPrecision,
    /// Embeddings whose ranges int8 and uint8 take, as float32 rows of a NumPy file. Without, the ranges
    /// are those of the rows themselves.
    #[arg(long, value_name = "FILE.npy", conflicts_with = "sparse", help_heading = "Output")]
    pub calibration: Option<PathBuf>,
    /// Sparse vectors of a SPLADE model: `{"index":0,"indices":[…],"values":[…]}` a line, the token ids
    /// whose weight is above zero.
    #[arg(long, conflicts_with_all = ["format", "truncate_dim", "normalize", "embedding_column"], help_heading = "Output")]
    pub sparse: bool,
    /// Token vectors of a multi-vector model (ColBERT), queries or documents as --as says:
    /// `{"index":0,"embeddings":[[…],…]}` a line, a vector for each token that the model keeps.
    #[arg(
        long,
        requires = "side",
        conflicts_with_all = ["format", "truncate_dim", "calibration", "sparse", "embedding_column"],
        help_heading = "Output"
    )]
    pub multi_vector: bool,
    /// Which side of a search the texts are on, query or document: the model's prompt for it goes before
    /// each, as encode_query and encode_document of sentence-transformers do.
    #[arg(
        long = "as",
        value_name = "SIDE",
        conflicts_with_all = ["prompt_name", "prompt"],
        help_heading = "Texts"
    )]
    pub side: Option<EmbedTask>,
    #[command(flatten)]
    pub text: TextArgs,
    #[command(flatten)]
    pub model: ModelArgs,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("other").required(true).args(["b", "input"]))]
pub struct SimilarityArgs {
    /// A text.
    pub a: String,
    /// The text to compare it with.
    pub b: Option<String>,
    /// Compare with every line of this file (`-` for stdin) instead.
    #[arg(long = "in", value_name = "FILE|-", help_heading = "Input")]
    pub input: Option<PathBuf>,
    /// Only the K nearest lines, nearest first. By default every line, in its order.
    #[arg(long, value_name = "K", conflicts_with = "b")]
    pub top: Option<NonZeroUsize>,
    #[command(flatten)]
    pub lines: LineArgs,
    #[command(flatten)]
    pub text: TextArgs,
    #[command(flatten)]
    pub model: ModelArgs,
}

#[derive(Debug, Args)]
pub struct SearchArgs {
    /// What to look for.
    pub query: String,
    /// The file whose lines are searched (`-` for stdin). Blank lines are passed over.
    #[arg(long = "in", value_name = "FILE|-", help_heading = "Input")]
    pub input: PathBuf,
    /// How many lines to show.
    #[arg(long, default_value = "5", value_name = "K")]
    pub top: NonZeroUsize,
    #[command(flatten)]
    pub lines: LineArgs,
    #[command(flatten)]
    pub text: TextArgs,
    #[command(flatten)]
    pub model: ModelArgs,
}

#[derive(Debug, Args)]
pub struct RerankArgs {
    /// What the lines are to be relevant to.
    pub query: String,
    /// The file whose lines are scored (`-` for stdin). Blank lines are passed over.
    #[arg(long = "in", value_name = "FILE|-", help_heading = "Input")]
    pub input: PathBuf,
    /// How many lines to show. By default all.
    #[arg(long, value_name = "K")]
    pub top: Option<NonZeroUsize>,
    /// A JSON object a line instead of a table: rank, score, line and text.
    #[arg(long)]
    pub json: bool,
    /// MODEL is a multi-vector model (ColBERT): lines are scored by the MaxSim of their token vectors and
    /// those of QUERY.
    #[arg(long)]
    pub multi_vector: bool,
    #[command(flatten)]
    pub lines: LineArgs,
    /// The model's prompt of this name before QUERY; of a model with a chat template its system message,
    /// which is the instruction of Qwen3-Reranker and others.
    #[arg(long, value_name = "NAME", conflicts_with = "prompt", help_heading = "Texts")]
    pub prompt_name: Option<String>,
    /// As --prompt-name, spelt out.
    #[arg(long, value_name = "TEXT", help_heading = "Texts")]
    pub prompt: Option<String>,
    /// Pairs of more tokens than the model takes: truncate (counted and reported) or error.
    #[arg(long, default_value = "truncate", value_name = "RULE", help_heading = "Texts")]
    pub on_too_long: OnTooLong,
    #[command(flatten)]
    pub model: ModelArgs,
}

#[derive(Debug, Args)]
pub struct InspectArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// The model as `vectile rerank` loads it.
    #[arg(long, conflicts_with_all = ["sparse", "multi_vector"])]
    pub rerank: bool,
    /// The model as `vectile embed --sparse` loads it.
    #[arg(long, conflicts_with = "multi_vector")]
    pub sparse: bool,
    /// The model as `--multi-vector` of `vectile embed` and `vectile rerank` loads it.
    #[arg(long)]
    pub multi_vector: bool,
    /// JSON instead of text.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct AdaptersArgs {
    /// JSON instead of text.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["model", "compare"]))]
pub struct BenchArgs {
    /// A model directory, or a Hugging Face Hub name.
    #[arg(value_name = "MODEL")]
    pub model: Option<String>,
    /// Put reports that --json wrote side by side, instead of measuring.
    #[arg(long, value_name = "REPORT", num_args = 2.., conflicts_with_all = ["quick", "kernels", "precisions", "texts", "pairs", "html"])]
    pub compare: Vec<PathBuf>,
    /// Branch, tag or commit of a Hub model.
    #[arg(long, value_name = "REVISION")]
    pub revision: Option<String>,
    /// Fewer precisions, sizes and rounds.
    #[arg(long, help_heading = "What is measured")]
    pub quick: bool,
    /// The precisions, as WEIGHTS or WEIGHTS/ACTIVATIONS: f32, f16, f16/f32, packed_f16,
    /// packed_f16/packed_f16, packed_bf16, packed_bf16/f16, …; f32 is always among them.
    #[arg(long, value_name = "LIST", value_delimiter = ',', help_heading = "What is measured")]
    pub precisions: Vec<Combination>,
    /// Most tokens of a batch, a series of measurements for each.
    #[arg(long, value_name = "LIST", value_delimiter = ',', help_heading = "What is measured")]
    pub batch_tokens: Vec<NonZeroUsize>,
    /// Lengths of texts in tokens, a series of measurements for each.
    #[arg(long, value_name = "LIST", value_delimiter = ',', help_heading = "What is measured")]
    pub lengths: Vec<NonZeroUsize>,
    /// Rounds of each measurement [default: 5, with --quick 3]
    #[arg(long, value_name = "N", help_heading = "What is measured")]
    pub rounds: Option<NonZeroUsize>,
    /// Time every kernel too, at the model's shapes, in each storage and form (needs timestamps).
    #[arg(long, help_heading = "What is measured")]
    pub kernels: bool,
    /// Texts of your own, a text a line; accuracy is measured on the first 500. Without, built-in ones.
    #[arg(long, value_name = "FILE", help_heading = "What is measured")]
    pub texts: Option<PathBuf>,
    /// A CSV file of scored pairs (text, text, score; no header): Spearman's correlation in every precision.
    #[arg(long, value_name = "FILE", help_heading = "What is measured")]
    pub pairs: Option<PathBuf>,
    /// Adapters, by index or a part of the name; `all` for every one.
    #[arg(long, value_name = "INDEX|NAME", value_delimiter = ',', help_heading = "Where")]
    pub adapter: Vec<String>,
    /// Run as if the adapter lacked these: shader-f16, subgroups, timestamp-query, cooperative-matrix.
    #[arg(long, value_name = "FEATURES", value_delimiter = ',', help_heading = "Where")]
    pub withhold: Vec<Feature>,
    /// Most memory that the model may take in each precision: 6GiB, 800MiB, or bytes.
    #[arg(long, value_name = "SIZE", help_heading = "Where")]
    pub max_memory: Option<ByteSize>,
    /// Write the whole report, or the comparison, as JSON.
    #[arg(long, value_name = "FILE|-", help_heading = "Output")]
    pub json: Option<PathBuf>,
    /// Write a page with plots that needs no network.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub html: Option<PathBuf>,
    /// What to call this run in reports: a machine, a commit.
    #[arg(long, value_name = "TEXT", help_heading = "Output")]
    pub label: Option<String>,
    /// Say nothing on stderr but errors.
    #[arg(long, short)]
    pub quiet: bool,
}

#[derive(Debug, Args)]
#[command(mut_arg("dtype", |dtype| dtype.help(
    "The dtype whose vectors are checked beside those in f32 and in f16: auto, float32, float16 or bfloat16"
)))]
pub struct VerifyArgs {
    /// A model directory, or a Hugging Face Hub name (`owner/name`; a bare `name` is one of
    /// sentence-transformers').
    #[arg(value_name = "MODEL")]
    pub model: String,
    /// A safetensors file with the vectors that the model should give: a tensor `embeddings` [texts,
    /// dimension] in F32 or F64, and the texts as a JSON list in its metadata (`texts`) or in texts.json
    /// beside it. Without, those that Vectile carries for this model, if it does.
    #[arg(long, value_name = "FILE", help_heading = "What is measured")]
    pub reference: Option<PathBuf>,
    /// A file with a text a line to measure on, or `-` for stdin. By default built-in texts, of which
    /// two are as long as the model takes.
    #[arg(long, value_name = "FILE|-", help_heading = "What is measured")]
    pub texts: Option<PathBuf>,
    /// Write the verdict beside the model's files too (vectile-f16.json), where it goes with them.
    #[arg(long, help_heading = "Output")]
    pub write_verdict: bool,
    /// Write the whole report, or the comparison, as JSON.
    #[arg(long, value_name = "FILE|-", help_heading = "Output")]
    pub json: Option<PathBuf>,
    /// Most tokens in a batch.
    #[arg(long, value_name = "N", help_heading = "Model")]
    pub batch_tokens: Option<NonZeroUsize>,
    /// Say nothing on stderr but errors.
    #[arg(long, short)]
    pub quiet: bool,
    #[command(flatten)]
    pub lines: LineArgs,
    #[command(flatten)]
    pub run: RunArgs,
}

impl VerifyArgs {
    /// What of it describes the model and how it runs.
    pub fn model(&self) -> ModelArgs {
        ModelArgs {
            model: self.model.clone(),
            run: self.run.clone(),
            lora_task: None,
            batch_tokens: self.batch_tokens,
            tune: false,
            quiet: self.quiet,
        }
    }
}

#[derive(Debug, Args)]
#[command(mut_arg("dtype", |dtype| dtype.help(
    "The dtype whose kernels are timed: auto, float32, float16 or bfloat16"
)))]
pub struct TuneArgs {
    /// A model directory, or a Hugging Face Hub name (`owner/name`; a bare `name` is one of
    /// sentence-transformers'). Without: shapes of common models, in each precision that float32, float16 and
    /// bfloat16 checkpoints run in here.
    #[arg(value_name = "MODEL")]
    pub model: Option<String>,
    /// Rows (tokens of a batch) to time at, at most: all of 4, 16, 64, 256, 1024, 4096 and 16384 up to it.
    #[arg(long, default_value = "4096", value_name = "N", help_heading = "What is measured")]
    pub rows: NonZeroUsize,
    /// Runs of each form that count; one more goes before them.
    #[arg(long, default_value = "3", value_name = "N", help_heading = "What is measured")]
    pub runs: NonZeroUsize,
    /// Write all times as JSON: of a model an object, without one a list of objects.
    #[arg(long, value_name = "FILE|-", help_heading = "Output")]
    pub json: Option<PathBuf>,
    /// Time the kernels for GPUs on a software adapter too: for tests.
    #[arg(long, hide = true)]
    pub gpu_kernels: bool,
    /// Say nothing on stderr but errors.
    #[arg(long, short)]
    pub quiet: bool,
    #[command(flatten)]
    pub run: RunArgs,
}

impl TuneArgs {
    /// What of it describes the model and how it runs.
    pub fn model(&self, model: &str) -> ModelArgs {
        ModelArgs {
            model: model.to_owned(),
            run: self.run.clone(),
            lora_task: None,
            batch_tokens: None,
            tune: false,
            quiet: self.quiet,
        }
    }
}
