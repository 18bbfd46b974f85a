//! What `vectile bench` found, as data: the JSON it writes and every table and plot are made of this.
//!
//! Times are seconds unless a name ends in `_ms`. A rate is always made of the median round.

use serde::{Deserialize, Serialize};

use crate::gpu::adapter::AdapterSummary;

/// Name and version of the JSON. The number grows when a field changes its meaning or goes away; new fields
/// do not change it.
pub const SCHEMA: &str = "vectile-bench/1";

/// A whole run of `vectile bench`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// Version of Vectile.
    pub vectile: String,
    /// When the run began, RFC 3339, UTC.
    pub date: String,
    /// What the user calls this run: a machine, a commit.
    pub label: Option<String>,
    /// The machine around the adapter.
    pub host: Host,
    /// The model.
    pub model: ModelFacts,
    /// What was asked for.
    pub settings: Settings,
    /// One for each adapter, in the order asked for.
    pub adapters: Vec<AdapterReport>,
    /// Seconds that the whole run took.
    pub wall_s: f64,
}

/// The machine around the adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// Operating system: `linux`, `macos`, `windows`.
    pub os: String,
    /// Architecture: `x86_64`, `aarch64`.
    pub arch: String,
    /// The processor's name, where the system tells it.
    pub cpu: Option<String>,
    /// Threads that run at once.
    pub threads: usize,
    /// True for a build without optimisations, whose host times mean little.
    pub debug_build: bool,
}

/// The model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelFacts {
    /// Its directory's name or Hub name.
    pub name: String,
    /// `model_type` of its config.
    pub model_type: String,
    /// Its modules in a line each.
    pub modules: Vec<String>,
    /// SHA-256 of its weight files, in the order of their names.
    pub sha256: String,
    /// Values of a vector.
    pub dimension: usize,
    /// Tokens of a text, at most.
    pub max_seq_length: Option<usize>,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// True for `--quick`.
    pub quick: bool,
    /// Rounds of each measurement. Within a round every precision has its turn.
    pub rounds: usize,
    /// Where the texts are from: a file's name, or `built-in`.
    pub texts: String,
    /// How many texts the accuracy is measured on.
    pub accuracy_texts: usize,
    /// The file of scored pairs and how many it has.
    pub pairs: Option<(String, usize)>,
}

/// What was found on one adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdapterReport {
    /// The adapter.
    pub adapter: AdapterSummary,
    /// Features that the user disabled.
    pub disabled: Vec<String>,
    /// True where the adapter measures time itself; without, there is no time per kernel.
    pub timestamps: bool,
    /// `software` or `gpu`: which family of matmul and attention it runs.
    pub kernels: String,
    /// The precisions, the first of which the ratios of the others refer to.
    pub precisions: Vec<PrecisionReport>,
    /// Precisions that were not timed, and why.
    pub refused: Vec<Refused>,
    /// Every kernel at the model's shapes, in each storage and form (`--kernels`).
    pub kernel_sweep: Vec<KernelCase>,
}

/// A precision that was not timed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refused {
    /// Its name.
    pub precision: String,
    /// A sentence.
    pub reason: String,
}

/// What was found in one precision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PrecisionReport {
    /// Its short name: storage of weights, and of activations where they are not those that come with
    /// it, as in `f16/f32`.
    pub name: String,
    /// The `Precision` of the loaded model, as `inspect --json` gives it.
    pub precision: serde_json::Value,
    /// How matrices and tables are stored.
    pub weights: String,
    /// How activations are stored.
    pub activations: String,
    /// The kernels it runs: the family, and how linear layers are computed.
    #[serde(default)]
    pub kernels: String,
    /// Bytes of all weights.
    pub weight_bytes: u64,
    /// Bytes of all activation buffers of the largest batch that was run.
    pub peak_activation_bytes: u64,
    /// Against f32 on the same texts.
    pub accuracy: Accuracy,
    /// From nothing to the first vectors.
    pub cold: Cold,
    /// A single short query, again and again.
    pub latency: Latency,
    /// Throughput, a cell for each number of batch tokens and length of text.
    pub cells: Vec<Cell>,
    /// What the host does for a run of the last cell.
    pub host: HostTime,
    /// What the GPU does for a run of the last cell, where the adapter measures time.
    pub gpu: Option<GpuTime>,
}

/// How near the vectors of a precision are to those of f32 on the same adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Texts compared.
    pub texts: usize,
    /// The smallest cosine of a text's two vectors.
    pub min_cosine: f64,
    /// The mean cosine.
    pub mean_cosine: f64,
    /// The largest difference of two values.
    pub max_abs: f64,
    /// With each text as the query: the share of its ten nearest others that stay among the ten.
    pub top10_overlap: f64,
    /// Spearman's rank correlation of cosines and given scores, times 100.
    pub spearman: Option<f64>,
}

/// The first use of a model, in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cold {
    /// Reading the files, opening the device, loading the weights and compiling pipelines meanwhile, and
    /// self-tests where they ran.
    pub load_s: f64,
    /// Compiling the pipelines that the first batch needs and loading did not.
    pub pipelines_s: f64,
    /// The rest of the first batch.
    pub first_batch_s: f64,
    /// The same batch once everything is warm.
    pub warm_batch_s: f64,
    /// From nothing to the first vectors: all but the warm batch together.
    #[serde(default)]
    pub first_vector_s: f64,
}

/// The time of a single short text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Its tokens.
    pub tokens: usize,
    /// How often it was run.
    pub samples: usize,
    /// Half of the runs were faster.
    pub p50_ms: f64,
    /// 95 of 100 runs were faster.
    pub p95_ms: f64,
    /// How many times faster than the first precision.
    pub speedup: Ratio,
}

/// Throughput at one number of batch tokens and one length of text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Most tokens of a batch.
    pub batch_tokens: usize,
    /// Length of the texts as asked for; 0 for texts as they are in the user's file.
    pub text_tokens: usize,
    /// Texts of a run.
    pub texts: usize,
    /// Tokens of a run.
    pub tokens: usize,
    /// Seconds of each round.
    pub rounds_s: Vec<f64>,
    /// Texts a second.
    pub texts_per_s: f64,
    /// Tokens a second.
    pub tokens_per_s: f64,
    /// How many times faster than the first precision.
    pub speedup: Ratio,
}

/// A ratio of times: the median of those of the same round, and the least and the largest of any round to any
/// round, which is how far another run may come out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// The median.
    pub median: f64,
    /// The least.
    pub low: f64,
    /// The largest.
    pub high: f64,
}

/// What the host does for a run, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HostTime {
    /// Batches of the run.
    pub batches: usize,
    /// Tokens of the run.
    pub tokens: usize,
    /// Texts to tokens.
    pub tokenize_ms: f64,
    /// Tokens to a packed batch and its graph.
    pub pack_ms: f64,
    /// Handing inputs and parameters to the driver.
    pub upload_ms: f64,
    /// Recording commands.
    pub encode_ms: f64,
    /// Handing commands to the driver; some software drivers compute within it.
    pub submit_ms: f64,
    /// Waiting for the GPU.
    pub wait_ms: f64,
    /// Copying rows from the read-back buffer and checking them.
    pub read_back_ms: f64,
    /// All of it, from texts to rows.
    pub total_ms: f64,
}

/// What the GPU does for a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GpuTime {
    /// From the start of the first dispatch of each submit to the end of its last, in milliseconds.
    pub total_ms: f64,
    /// The share of it that the kernels account for.
    pub accounted: f64,
    /// By kernel, the longest first.
    pub kernels: Vec<KernelTime>,
    /// By the tensor that is written, the longest first: what of a layer takes the time.
    pub steps: Vec<KernelTime>,
}

/// Time and rates of one kernel, or of one step of a layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KernelTime {
    /// The kernel, or the tensor it writes.
    pub name: String,
    /// Dispatches of the run.
    pub dispatches: usize,
    /// Milliseconds in all.
    pub ms: f64,
    /// Its share of the time of all kernels.
    pub share: f64,
    /// Floating point operations a second in 10⁹, where it is known for arithmetic.
    pub gflops: Option<f64>,
    /// Bytes a second in 10⁹, if each binding's bytes moved once.
    pub gbytes: f64,
}

/// One kernel at one shape of the model, in one storage and form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KernelCase {
    /// The kernel.
    pub kernel: String,
    /// The tensor it writes.
    pub step: String,
    /// Tokens of the batch.
    pub tokens: usize,
    /// Values of a row that it reads first, and of a row that it writes; 0 where rows are not tokens.
    pub widths: [usize; 2],
    /// The precision, as in [`PrecisionReport::name`].
    pub precision: String,
    /// Which form of the kernel: `software` or `gpu`, and how its lanes work together, or of a matmul for GPUs
    /// the tile, columns or matrices.
    pub form: String,
    /// True where models on this adapter run this form.
    pub used: bool,
    /// Dispatches of a run.
    pub dispatches: usize,
    /// Milliseconds of a dispatch, over the rounds.
    pub ms: Ratio,
    /// Floating point operations a second in 10⁹, where it is known for arithmetic.
    pub gflops: Option<f64>,
    /// Bytes a second in 10⁹, if each binding's bytes moved once.
    pub gbytes: f64,
    /// How many times faster than the same case in f32, over the rounds; `None` for f32 itself.
    pub speedup: Option<Ratio>,
}

impl Report {
    /// Reads a report that `vectile bench --json` wrote.
    ///
    /// # Errors
    /// A sentence, where it is no such report or of another version of the schema.
    pub fn from_json(bytes: &[u8]) -> Result<Self, String> {
        let value: serde_json::Value =
            serde_json::from_slice(bytes).map_err(|e| format!("is not JSON: {e}"))?;
        match value.get("schema").and_then(|schema| schema.as_str()) {
            Some(SCHEMA) => {
                serde_json::from_value(value).map_err(|e| format!("is not a whole report: {e}"))
            }
            Some(other) => Err(format!(
                "is of the schema {other}, and this vectile reads {SCHEMA}; run the bench again"
            )),
            None => Err("is not a report of `vectile bench --json`".to_owned()),
        }
    }
}

impl Ratio {
    /// Of two series of rounds: `base / own`, how many times faster.
    pub fn of(base: &[f64], own: &[f64]) -> Self {
        let same_round = Ratio::over(base.iter().zip(own).map(|(base, own)| base / own).collect());
        // A series beside itself is as fast as itself.
        if base == own || base.is_empty() || own.is_empty() {
            return same_round;
        }
        let (base, own) = (Ratio::over(base.to_vec()), Ratio::over(own.to_vec()));
        Ratio { median: same_round.median, low: base.low / own.high, high: base.high / own.low }
    }

    /// Median, least and largest; one without values.
    pub fn over(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        match (values.first(), values.last()) {
            (Some(low), Some(high)) => Ratio { median: median(&values), low: *low, high: *high },
            _ => Ratio { median: 1.0, low: 1.0, high: 1.0 },
        }
    }
}

/// Of sorted values; of an even number the mean of the middle two.
pub(super) fn median(sorted: &[f64]) -> f64 {
    let n = sorted.len();
    match n {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}
