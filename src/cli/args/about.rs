//! Options of the commands that tell of models and adapters: inspect, adapters, bench, verify and tune.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use bytesize::ByteSize;
use clap::{ArgGroup, Args};
use vectile::Feature;
use vectile::lab::Combination;

use super::{LineArgs, ModelArgs, RunArgs};

pub const REFERENCE_HELP: &str = "\
Reference vectors, by sentence-transformers:
  import json; from safetensors.numpy import save_file; from sentence_transformers import SentenceTransformer
  model = SentenceTransformer(\"MODEL\", device=\"cpu\", model_kwargs={\"dtype\": \"float32\"})
  texts = [\"A cat sat on the roof.\", \"The dog ran.\"]
  save_file({\"embeddings\": model.encode(texts)}, \"reference.safetensors\", {\"texts\": json.dumps(texts)})
and then: vectile verify MODEL --reference reference.safetensors";

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
    pub disable: Vec<Feature>,
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
