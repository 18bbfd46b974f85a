//! Options of the commands that take texts: embed, similarity, search and rerank.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};
use vectile::{EmbedOptions, EmbedTask, OnTooLong, OutputPrecision};

use super::ModelArgs;
use crate::cli::carried::Carry;

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
