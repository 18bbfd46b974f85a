//! Options of the commands that read texts: embed, similarity, search and rerank.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};
use vectile::{EmbedOptions, EmbedTask, OnTooLong, OutputPrecision, SimilarityFunction};

use super::dialect::Dialect;
use super::model::ModelArgs;
use crate::cli::carried::Carry;

#[derive(Debug, Args)]
#[command(next_help_heading = "Texts")]
pub struct TextArgs {
    /// Prepend the model's prompt of this name to each text.
    #[arg(long, value_name = "NAME", conflicts_with = "prompt")]
    pub prompt_name: Option<String>,
    /// Prepend this prompt to each text.
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// Keep the first D values of each vector.
    #[arg(long, value_name = "D")]
    pub truncate_dim: Option<NonZeroUsize>,
    /// Scale each vector to length 1, after --truncate-dim.
    #[arg(long)]
    pub normalize: bool,
    /// Choose what happens to a text that exceeds the model's maximum length: truncate or error.
    #[arg(long, default_value = "truncate", value_name = "RULE")]
    pub on_too_long: OnTooLong,
}

impl TextArgs {
    /// Returns these options as the library's `EmbedOptions`, without a task.
    pub fn options(&self) -> EmbedOptions {
        EmbedOptions {
            prompt_name: self.prompt_name.clone(),
            prompt: self.prompt.clone(),
            truncate_dim: self.truncate_dim.map(NonZeroUsize::get),
            normalize: self.normalize,
            on_too_long: self.on_too_long,
            ..EmbedOptions::default()
        }
    }
}

/// The format of an input file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum InputFormat {
    /// One text per line. A line ends with LF or CRLF.
    Txt,
    /// One JSON object per line. Blank lines are skipped.
    Jsonl,
    /// One JSON array of objects, or a sequence of JSON objects.
    Json,
    /// Comma-separated values with a header line.
    Csv,
    /// Tab-separated values with a header line.
    Tsv,
    /// A file in Parquet format.
    Parquet,
    /// An Arrow IPC file (Feather) or stream.
    Arrow,
}

/// The default of `--field`, the name of the field or column that holds the texts.
pub const DEFAULT_FIELD: &str = "text";

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Input")]
pub struct LineArgs {
    /// Read the input in this format. By default the file extension selects the format.
    ///
    /// Known extensions are .jsonl, .ndjson, .json, .csv, .tsv, .parquet, .arrow and .feather. Text formats may be
    /// compressed, as in .csv.gz or .csv.zst. Any other input, including stdin, is read as one text per line.
    #[arg(long, value_name = "FORMAT")]
    pub input_format: Option<InputFormat>,
    /// Read the text from this JSON field or column.
    #[arg(long, visible_alias = "column", default_value = DEFAULT_FIELD, value_name = "FIELD")]
    pub field: String,
    /// Replace bytes that are not UTF-8, and unpaired surrogates in JSON, with U+FFFD instead of failing.
    #[arg(long)]
    pub lossy: bool,
    #[command(flatten)]
    pub dialect: Dialect,
}

impl InputFormat {
    /// Returns the format's name, as messages show it.
    pub fn name(self) -> &'static str {
        match self {
            InputFormat::Txt => "one text per line",
            InputFormat::Jsonl => "JSON lines",
            InputFormat::Json => "JSON",
            InputFormat::Csv => "CSV",
            InputFormat::Tsv => "TSV",
            InputFormat::Parquet => "Parquet",
            InputFormat::Arrow => "Arrow",
        }
    }
}

/// The format of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// One JSON object per line: `{"index":0,…,"embedding":[…]}`.
    Jsonl,
    /// One NumPy array of the vectors, without other columns.
    Npy,
    /// Comma-separated values, with each vector as a JSON list.
    Csv,
    /// Tab-separated values without quotation marks, with each vector as a JSON list.
    Tsv,
    /// A file in Parquet format, with each vector as a list of fixed size.
    Parquet,
    /// An Arrow IPC file (Feather), with each vector as a list of fixed size.
    Arrow,
}

/// The treatment of a row that has no usable text or whose text cannot be embedded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnError {
    /// Stop with an error that names the row.
    Fail,
    /// Write null instead of the vector, and report the row on stderr.
    Null,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("source").required(true).args(["input", "texts"]))]
pub struct EmbedArgs {
    /// Embed the texts that are given as arguments.
    #[arg(value_name = "TEXT")]
    pub texts: Vec<String>,
    /// Embed the texts of this file, directory, quoted pattern ('data/*.jsonl') or stdin (`-`).
    ///
    /// This option may be given several times. All files must have the same format.
    #[arg(long, short, value_name = "FILE|DIR|PATTERN|-", help_heading = "Input")]
    pub input: Vec<PathBuf>,
    #[command(flatten)]
    pub lines: LineArgs,
    /// Choose what happens to a row that has no text or whose text cannot be embedded.
    #[arg(long, default_value = "fail", value_name = "RULE", help_heading = "Input")]
    pub on_error: OnError,
    /// Write one row for each text to this file, or to stdout (`-`). The rows have the order of the texts.
    ///
    /// FILE is created when all rows are finished. Until then, finished rows are stored in FILE.parts. There is no
    /// FILE.parts if the texts come from stdin or from arguments.
    #[arg(long, short, default_value = "-", value_name = "FILE|-", help_heading = "Output")]
    pub output: PathBuf,
    /// Resume an interrupted run from FILE.parts. The output is byte-identical to that of an uninterrupted run.
    #[arg(long, conflicts_with = "texts", help_heading = "Output")]
    pub resume: bool,
    /// Write the output in this format. By default the extension of FILE selects the format. Without a known extension,
    /// the format is jsonl.
    ///
    /// Known extensions are .npy, .csv, .tsv, .parquet, .arrow and .feather. Text formats are compressed if FILE
    /// ends in .gz or .zst.
    #[arg(long, value_name = "FORMAT", help_heading = "Output")]
    pub format: Option<OutputFormat>,
    /// Copy these input fields or columns to the output: all, none, a list of names, or `all,-NAME`.
    ///
    /// Names are separated by commas: `--carry id,title` copies two columns. `--carry all,-secret,-text` copies all
    /// columns except `secret` and `text`. The column that holds the texts is copied too, unless it is excluded.
    #[arg(
        long,
        default_value = "all",
        value_name = "COLUMNS",
        allow_hyphen_values = true,
        help_heading = "Output"
    )]
    pub carry: Carry,
    /// Write the vectors to the field or column with this name.
    #[arg(long, default_value = "embedding", value_name = "NAME", help_heading = "Output")]
    pub embedding_column: String,
    /// Store N rows in each part of FILE.parts. By default a part holds some megabytes of vectors.
    ///
    /// A run that is killed loses at most one part. In Parquet output, each part becomes a row group.
    #[arg(long, value_name = "N", help_heading = "Output")]
    pub part_rows: Option<NonZeroUsize>,
    /// Store vectors as float32, float16, int8, uint8, binary or ubinary, as sentence-transformers does.
    #[arg(long, default_value = "float32", value_name = "PRECISION", help_heading = "Output")]
    pub precision: OutputPrecision,
    /// Compute the ranges for int8 and uint8 from the float32 rows of this NumPy file. A range is the minimum and
    /// maximum of a column.
    ///
    /// By default the ranges come from all vectors of this run.
    #[arg(long, value_name = "FILE.npy", conflicts_with = "sparse", help_heading = "Output")]
    pub calibration: Option<PathBuf>,
    /// Write the sparse vectors of a SPLADE model, as `{"index":0,"indices":[…],"values":[…]}`.
    ///
    /// `indices` lists the ids of the tokens whose weight is above zero.
    #[arg(long, conflicts_with_all = ["format", "truncate_dim", "normalize", "embedding_column"], help_heading = "Output")]
    pub sparse: bool,
    /// Write the token vectors of a multi-vector model (ColBERT), as `{"index":0,"embeddings":[[…],…]}`.
    ///
    /// Each token that the model does not skip has one vector. This option needs --as, which says whether the texts are
    /// queries or documents.
    #[arg(
        long,
        requires = "role",
        conflicts_with_all = ["format", "truncate_dim", "calibration", "sparse", "embedding_column"],
        help_heading = "Output"
    )]
    pub multi_vector: bool,
    /// Embed the texts in this role, with the model's prompt for the role: query or document.
    ///
    /// The results are the same as those of encode_query and encode_document of sentence-transformers.
    #[arg(
        long = "as",
        value_name = "ROLE",
        conflicts_with_all = ["prompt_name", "prompt"],
        help_heading = "Texts"
    )]
    pub role: Option<EmbedTask>,
    #[command(flatten)]
    pub text: TextArgs,
    #[command(flatten)]
    pub model: ModelArgs,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("other").required(true).args(["b", "input"]))]
pub struct SimilarityArgs {
    /// The text to compare with B or with the lines of a file.
    pub a: String,
    /// The text to compare with A.
    pub b: Option<String>,
    /// Compare A with each line of this file, or of stdin (`-`), instead of B.
    #[arg(long = "in", value_name = "FILE|-", help_heading = "Input")]
    pub input: Option<PathBuf>,
    /// Show only the K most similar lines, best first. By default all lines are shown, in the order of the file.
    #[arg(long, value_name = "K", conflicts_with = "b")]
    pub top: Option<NonZeroUsize>,
    /// Compare vectors by cosine, dot, euclidean or manhattan. Default: the function that the model's configuration
    /// names.
    ///
    /// Distances are negated, so that more similar texts always have larger scores. The configuration names the
    /// function in `similarity_fn_name`. If this field is missing, the default is cosine.
    #[arg(long, value_name = "FUNCTION")]
    pub similarity: Option<SimilarityFunction>,
    #[command(flatten)]
    pub lines: LineArgs,
    #[command(flatten)]
    pub text: TextArgs,
    #[command(flatten)]
    pub model: ModelArgs,
}

#[derive(Debug, Args)]
pub struct SearchArgs {
    /// The text to search for. If several texts are given, FILE is read only once.
    #[arg(value_name = "QUERY", required_unless_present = "queries")]
    pub query: Vec<String>,
    /// Search for each line of this file, or of stdin (`-`), instead of QUERY.
    #[arg(long, value_name = "FILE|-", conflicts_with = "query", help_heading = "Input")]
    pub queries: Option<PathBuf>,
    /// Search the lines of this file, or of stdin (`-`). Blank lines are skipped.
    ///
    /// If FILE holds vectors, they are compared with the vector of QUERY, and only QUERY is embedded. Vectors are read
    /// from a .npy file, or from the column or field `embedding` of another format. `vectile embed` writes such files.
    #[arg(long = "in", value_name = "FILE|-", help_heading = "Input")]
    pub input: PathBuf,
    /// Read the vectors from the column or field with this name. Default: embedding.
    #[arg(long, value_name = "NAME", help_heading = "Input")]
    pub embedding_column: Option<String>,
    /// Show the texts of this file beside the hits. The first text belongs to the first vector of FILE.
    #[arg(long, value_name = "FILE|-", help_heading = "Input")]
    pub texts: Option<PathBuf>,
    /// Embed the texts of FILE even if FILE holds vectors.
    #[arg(long, conflicts_with_all = ["embedding_column", "texts"], help_heading = "Input")]
    pub embed_texts: bool,
    /// Show the K best lines.
    #[arg(long, visible_alias = "top-k", default_value = "5", value_name = "K")]
    pub top: NonZeroUsize,
    /// Print one JSON object per hit (query, rank, score, line, text) instead of a table. `query` is the index of the
    /// query, from 0.
    #[arg(long)]
    pub json: bool,
    /// Compare vectors by cosine, dot, euclidean or manhattan. Default: the function that the model's configuration
    /// names.
    ///
    /// Distances are negated, so that more similar texts always have larger scores. The configuration names the
    /// function in `similarity_fn_name`. If this field is missing, the default is cosine.
    #[arg(long, value_name = "FUNCTION")]
    pub similarity: Option<SimilarityFunction>,
    #[command(flatten)]
    pub lines: LineArgs,
    #[command(flatten)]
    pub text: TextArgs,
    #[command(flatten)]
    pub model: ModelArgs,
}

#[derive(Debug, Args)]
pub struct RerankArgs {
    /// Rank the lines by relevance to this text.
    pub query: String,
    /// Rank the lines of this file, or of stdin (`-`). Blank lines are skipped.
    #[arg(long = "in", value_name = "FILE|-", help_heading = "Input")]
    pub input: PathBuf,
    /// Show only the K best lines. By default all lines are shown.
    #[arg(long, value_name = "K")]
    pub top: Option<NonZeroUsize>,
    /// Print one JSON object per ranked line (rank, score, line, text) instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Score lines with a multi-vector model (ColBERT), by MaxSim between the token vectors of QUERY and those of the
    /// line.
    #[arg(long)]
    pub multi_vector: bool,
    #[command(flatten)]
    pub lines: LineArgs,
    /// Prepend the model's prompt of this name to QUERY.
    ///
    /// If the model has a chat template, the prompt becomes the system message. For example, Qwen3-Reranker reads its
    /// instruction from the system message.
    #[arg(long, value_name = "NAME", conflicts_with = "prompt", help_heading = "Texts")]
    pub prompt_name: Option<String>,
    /// Prepend this text as a prompt to QUERY.
    #[arg(long, value_name = "TEXT", help_heading = "Texts")]
    pub prompt: Option<String>,
    /// Choose what happens to a line that, together with QUERY, exceeds the model's maximum length: truncate or error.
    #[arg(long, default_value = "truncate", value_name = "RULE", help_heading = "Texts")]
    pub on_too_long: OnTooLong,
    #[command(flatten)]
    pub model: ModelArgs,
}
