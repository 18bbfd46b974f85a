//! Options of the commands that report on models and adapters: inspect, adapters, bench, verify and tune.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use bytesize::ByteSize;
use clap::{ArgGroup, Args};
use vectile::Feature;
use vectile::lab::Combination;

use super::model::{ModelArgs, RunArgs};
use super::texts::LineArgs;

pub const REFERENCE_HELP: &str = "\
To make reference vectors with sentence-transformers:
  import json; from safetensors.numpy import save_file; from sentence_transformers import SentenceTransformer
  model = SentenceTransformer(\"MODEL\", device=\"cpu\", model_kwargs={\"dtype\": \"float32\"})
  texts = [\"A cat sat on the roof.\", \"The dog ran.\"]
  save_file({\"embeddings\": model.encode(texts)}, \"reference.safetensors\", {\"texts\": json.dumps(texts)})
To check a model against these vectors: vectile verify MODEL --reference reference.safetensors";

#[derive(Debug, Args)]
pub struct InspectArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Load the model as `vectile rerank` does.
    #[arg(long, conflicts_with_all = ["sparse", "multi_vector"])]
    pub rerank: bool,
    /// Load the model as `vectile embed --sparse` does.
    #[arg(long, conflicts_with = "multi_vector")]
    pub sparse: bool,
    /// Load the model as `vectile embed --multi-vector` does.
    #[arg(long)]
    pub multi_vector: bool,
    /// Print JSON instead of text.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct AdaptersArgs {
    /// Print JSON instead of text.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["model", "compare"]))]
pub struct BenchArgs {
    /// Measure the model in this directory or with this Hugging Face Hub name.
    #[arg(value_name = "MODEL")]
    pub model: Option<String>,
    /// Compare these reports, which earlier runs wrote with --json, instead of measuring a model.
    #[arg(long, value_name = "REPORT", num_args = 2.., conflicts_with_all = ["quick", "kernels", "precisions", "texts", "pairs", "html"])]
    pub compare: Vec<PathBuf>,
    /// Use this branch, tag or commit of a Hub model.
    #[arg(long, value_name = "REVISION")]
    pub revision: Option<String>,
    /// Measure fewer precisions, sizes and rounds than by default.
    #[arg(long, help_heading = "Measurements")]
    pub quick: bool,
    /// Measure these precisions, each as WEIGHTS or WEIGHTS/ACTIVATIONS. f32 is always measured.
    ///
    /// Examples: f32, f16, f16/f32, packed_f16, packed_f16/packed_f16, packed_bf16, packed_bf16/f16.
    #[arg(long, value_name = "LIST", value_delimiter = ',', help_heading = "Measurements")]
    pub precisions: Vec<Combination>,
    /// Measure with each of these token budgets (the maximum number of tokens in a batch).
    #[arg(long, value_name = "LIST", value_delimiter = ',', help_heading = "Measurements")]
    pub batch_tokens: Vec<NonZeroUsize>,
    /// Measure with texts of each of these lengths in tokens.
    #[arg(long, value_name = "LIST", value_delimiter = ',', help_heading = "Measurements")]
    pub lengths: Vec<NonZeroUsize>,
    /// Repeat each measurement N times [default: 5, or 3 with --quick]
    #[arg(long, value_name = "N", help_heading = "Measurements")]
    pub rounds: Option<NonZeroUsize>,
    /// Also time each kernel at the model's shapes, in each storage type and variant. The adapter must support
    /// timestamps.
    #[arg(long, help_heading = "Measurements")]
    pub kernels: bool,
    /// Measure on the texts of this file, one per line, instead of the built-in texts.
    ///
    /// Accuracy is measured on the first 500 texts.
    #[arg(long, value_name = "FILE", help_heading = "Measurements")]
    pub texts: Option<PathBuf>,
    /// Compute Spearman's correlation between the cosines of text pairs and the scores that this CSV file gives to the
    /// pairs.
    ///
    /// Each row of the file holds two texts and a score. A header line is optional.
    #[arg(long, value_name = "FILE", help_heading = "Measurements")]
    pub pairs: Option<PathBuf>,
    /// Measure on these adapters: cpu, gpu, indices that `vectile adapters` lists, parts of adapter names, or `all`.
    ///
    /// Without this option, Vectile measures on the best adapter.
    #[arg(
        long,
        value_name = "ADAPTER",
        value_delimiter = ',',
        env = "VECTILE_ADAPTER",
        hide_env_values = true,
        help_heading = "Adapters"
    )]
    pub adapter: Vec<String>,
    /// Disable these features of the adapter: shader-f16, subgroups, timestamp-query, cooperative-matrix.
    #[arg(long, value_name = "FEATURES", value_delimiter = ',', help_heading = "Adapters")]
    pub disable: Vec<Feature>,
    /// Skip a precision in which the model would need more memory than SIZE, such as 6GiB, 800MiB or a number of bytes.
    #[arg(long, value_name = "SIZE", help_heading = "Adapters")]
    pub max_memory: Option<ByteSize>,
    /// Write the whole report, or the comparison, as JSON to this file.
    #[arg(long, value_name = "FILE|-", help_heading = "Output")]
    pub json: Option<PathBuf>,
    /// Write an HTML page with plots to this file. The page loads nothing from the network.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub html: Option<PathBuf>,
    /// Use this name for the run in reports, for example the machine or the commit.
    #[arg(long, value_name = "TEXT", help_heading = "Output")]
    pub label: Option<String>,
    /// Print nothing on stderr except errors.
    #[arg(long, short)]
    pub quiet: bool,
}

#[derive(Debug, Args)]
#[command(mut_arg("dtype", |dtype| dtype.help(
    "Check the vectors in this dtype, as well as in f32 and f16: auto, float32, float16 or bfloat16"
)))]
pub struct VerifyArgs {
    /// Check the model in this directory or with this Hugging Face Hub name.
    ///
    /// A Hub name is `owner/name`. If the owner is left out, it is `sentence-transformers`.
    #[arg(value_name = "MODEL")]
    pub model: String,
    /// Compare the model's vectors with the reference vectors of this safetensors file.
    ///
    /// The file has a tensor `embeddings` [texts, dimension] in F32 or F64. The texts are a JSON list in the metadata
    /// entry `texts`, or in texts.json beside the file. Without this option, Vectile uses its built-in reference
    /// vectors, if there are any for the model.
    #[arg(long, value_name = "FILE", help_heading = "Measurements")]
    pub reference: Option<PathBuf>,
    /// Measure on the texts of this file, or of stdin (`-`), one per line.
    ///
    /// By default built-in texts are used. Two of these texts have the model's maximum length.
    #[arg(long, value_name = "FILE|-", help_heading = "Measurements")]
    pub texts: Option<PathBuf>,
    /// Also write the verdict on f16 into the model's directory, as vectile-f16.json.
    #[arg(long, help_heading = "Output")]
    pub write_verdict: bool,
    /// Write the whole report as JSON to this file.
    #[arg(long, value_name = "FILE|-", help_heading = "Output")]
    pub json: Option<PathBuf>,
    /// Put at most N tokens into a batch.
    #[arg(long, value_name = "N", help_heading = "Model")]
    pub batch_tokens: Option<NonZeroUsize>,
    /// Print nothing on stderr except errors.
    #[arg(long, short)]
    pub quiet: bool,
    #[command(flatten)]
    pub lines: LineArgs,
    #[command(flatten)]
    pub run: RunArgs,
}

impl VerifyArgs {
    /// Returns the options that choose the model and how it runs.
    pub fn model(&self) -> ModelArgs {
        ModelArgs {
            model: self.model.clone(),
            run: self.run.clone(),
            lora_task: None,
            batch_tokens: self.batch_tokens,
            tune: false,
            paranoid: None,
            quiet: self.quiet,
        }
    }
}

#[derive(Debug, Args)]
#[command(mut_arg("dtype", |dtype| dtype.help(
    "Time the kernels of this dtype: auto, float32, float16 or bfloat16"
)))]
pub struct TuneArgs {
    /// Tune for the model in this directory or with this Hugging Face Hub name.
    ///
    /// Without MODEL, the shapes of common models are tuned. The variants are tuned for float32, float16 and bfloat16
    /// checkpoints, in the precision that this adapter uses for each of these dtypes.
    #[arg(value_name = "MODEL")]
    pub model: Option<String>,
    /// Time batches of 4, 16, 64, 256, 1024, 4096 and 16384 rows (tokens), up to N rows.
    #[arg(long, default_value = "4096", value_name = "N", help_heading = "Measurements")]
    pub rows: NonZeroUsize,
    /// Time each variant N times, after one warm-up run.
    #[arg(long, default_value = "3", value_name = "N", help_heading = "Measurements")]
    pub runs: NonZeroUsize,
    /// Write all times as JSON to this file: one object if MODEL is given, and a list of objects otherwise.
    #[arg(long, value_name = "FILE|-", help_heading = "Output")]
    pub json: Option<PathBuf>,
    /// Time the GPU kernels on a software adapter too. This option is for tests.
    #[arg(long, hide = true)]
    pub gpu_kernels: bool,
    /// Print nothing on stderr except errors.
    #[arg(long, short)]
    pub quiet: bool,
    #[command(flatten)]
    pub run: RunArgs,
}

impl TuneArgs {
    /// Returns the options that choose the model and how it runs.
    pub fn model(&self, model: &str) -> ModelArgs {
        ModelArgs {
            model: model.to_owned(),
            run: self.run.clone(),
            lora_task: None,
            batch_tokens: None,
            tune: false,
            paranoid: None,
            quiet: self.quiet,
        }
    }
}
