//! The results of `vectile bench` as data, from which its JSON, tables and plots are made.
//!
//! Times are in seconds unless a name ends in `_ms`. Rates are taken from the median round.

use serde::{Deserialize, Serialize};

use crate::gpu::adapter::AdapterSummary;

/// Name and version of the JSON. The number grows when a field changes its meaning or is removed; new fields do not
/// change it.
pub const SCHEMA: &str = "vectile-bench/1";

/// The results of one run of `vectile bench`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Name and version of the JSON: [`SCHEMA`].
    pub schema: String,
    /// The version of Vectile that ran.
    pub vectile: String,
    /// The start of the run in RFC 3339, UTC.
    pub date: String,
    /// The user's name for the run, such as a machine or a commit.
    pub label: Option<String>,
    /// The machine that has the adapter.
    pub host: Host,
    /// The model that was run.
    pub model: ModelFacts,
    /// The settings of the run.
    pub settings: Settings,
    /// The results of each adapter, in the requested order.
    pub adapters: Vec<AdapterReport>,
    /// The duration of the whole run in seconds.
    pub wall_s: f64,
}

/// The machine that has the adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// The operating system: `linux`, `macos`, `windows`.
    pub os: String,
    /// The architecture: `x86_64`, `aarch64`.
    pub arch: String,
    /// The processor's name, where the system reports it.
    pub cpu: Option<String>,
    /// The number of threads that can run at once.
    pub threads: usize,
    /// Whether the program was built without optimisations. The host times of such a build mean little.
    pub debug_build: bool,
}

/// The model that was run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelFacts {
    /// The name of the model's directory, or its Hub name.
    pub name: String,
    /// The `model_type` in the model's `config.json`.
    pub model_type: String,
    /// The model's modules, one line each.
    pub modules: Vec<String>,
    /// The SHA-256 of the model's weight files, in the order of their names.
    pub sha256: String,
    /// The number of values of a vector.
    pub dimension: usize,
    /// The maximum number of tokens in a text, if the model has a limit.
    pub max_seq_length: Option<usize>,
}

/// The settings of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Whether `--quick` was given.
    pub quick: bool,
    /// The number of rounds of each measurement. Every precision runs once in a round.
    pub rounds: usize,
    /// The name of the file with the texts, or `built-in`.
    pub texts: String,
    /// The number of texts on which accuracy is measured.
    pub accuracy_texts: usize,
    /// The file with scored pairs, and the number of its pairs.
    pub pairs: Option<(String, usize)>,
}

/// The results of one adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdapterReport {
    /// The adapter that ran the model.
    pub adapter: AdapterSummary,
    /// The features that the user disabled.
    pub disabled: Vec<String>,
    /// Whether the adapter measures time itself. If not, the report has no times of kernels.
    pub timestamps: bool,
    /// The family of matmul and attention kernels that the adapter runs: `software` or `gpu`.
    pub kernels: String,
    /// The results of each precision. Ratios are relative to the first precision.
    pub precisions: Vec<PrecisionReport>,
    /// The precisions that were not timed, with the reasons.
    pub refused: Vec<Refused>,
    /// The times of every kernel at the model's shapes, in each storage type and variant, if `--kernels` was given.
    pub kernel_sweep: Vec<KernelCase>,
}

/// A precision that was not timed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refused {
    /// The name of the precision, as in [`PrecisionReport::name`].
    pub precision: String,
    /// The reason why the precision was not timed, in one sentence.
    pub reason: String,
}

/// The results of one precision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PrecisionReport {
    /// The short name of the precision. It is the storage type of the weights, followed by the storage type
    /// of the activations if that is not the default, as in `f16/f32`.
    pub name: String,
    /// The `Precision` of the loaded model, as `inspect --json` shows it.
    pub precision: serde_json::Value,
    /// The storage type of matrices and tables.
    pub weights: String,
    /// The storage type of activations.
    pub activations: String,
    /// The kernels that this precision runs: their family, and the kernel of linear layers.
    #[serde(default)]
    pub kernels: String,
    /// The bytes of all weights.
    pub weight_bytes: u64,
    /// The bytes of all activation buffers of the largest batch that was run.
    pub peak_activation_bytes: u64,
    /// The accuracy against f32 on the same texts.
    pub accuracy: Accuracy,
    /// The time from the start to the first vectors.
    pub cold: Cold,
    /// The latency of a single short text.
    pub latency: Latency,
    /// The throughput, one cell for each token budget of a batch and each length of text.
    pub cells: Vec<Cell>,
    /// The host time of one run of the last cell.
    pub host: HostTime,
    /// The GPU time of one run of the last cell, if the adapter measures time.
    pub gpu: Option<GpuTime>,
}

/// The accuracy of a precision: how far its vectors differ from the f32 vectors of the same adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// The number of texts compared.
    pub texts: usize,
    /// The smallest cosine between a text's vectors in this precision and in f32.
    pub min_cosine: f64,
    /// The mean cosine between a text's vectors in this precision and in f32.
    pub mean_cosine: f64,
    /// The largest difference between a value and its f32 value.
    pub max_abs: f64,
    /// The share of each text's ten nearest other texts in f32 that are also among its ten nearest here.
    pub top10_overlap: f64,
    /// Spearman's rank correlation between cosines and the given scores, times 100.
    pub spearman: Option<f64>,
}

/// The time of the first use of a model, in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cold {
    /// The time of loading. It covers reading files, opening the device, uploading weights while pipelines compile,
    /// and any self-tests that ran.
    pub load_s: f64,
    /// The time to compile the first batch's pipelines that loading had not yet compiled.
    pub pipelines_s: f64,
    /// The rest of the first batch's time.
    pub first_batch_s: f64,
    /// The time of the same batch in a second run.
    pub warm_batch_s: f64,
    /// The time from the start to the first vectors: the sum of the other times except `warm_batch_s`.
    #[serde(default)]
    pub first_vector_s: f64,
}

/// The latency of a single short text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// The number of tokens in the text.
    pub tokens: usize,
    /// The number of timed runs.
    pub samples: usize,
    /// The median time of the runs.
    pub p50_ms: f64,
    /// The 95th percentile of the times.
    pub p95_ms: f64,
    /// How many times faster this precision is than the first one.
    pub speedup: Ratio,
}

/// The throughput at one token budget of a batch and one length of text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// The token budget, which is the maximum number of tokens in a batch.
    pub batch_tokens: usize,
    /// The requested length of texts in tokens. 0 means the texts of the user's file, unchanged.
    pub text_tokens: usize,
    /// The number of texts in a run.
    pub texts: usize,
    /// The number of tokens in a run.
    pub tokens: usize,
    /// The time of each round.
    pub rounds_s: Vec<f64>,
    /// Texts per second in the median round.
    pub texts_per_s: f64,
    /// Tokens per second in the median round.
    pub tokens_per_s: f64,
    /// How many times faster this precision is than the first one.
    pub speedup: Ratio,
}

/// A ratio of times. The median is taken over the ratios within each round. The minimum and maximum are taken over
/// the ratios of every round to every round, which shows how far another run may deviate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// The median over the rounds.
    pub median: f64,
    /// The minimum over all pairs of rounds.
    pub low: f64,
    /// The maximum over all pairs of rounds.
    pub high: f64,
}

/// The host time of a run by phase, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HostTime {
    /// The number of batches in the run.
    pub batches: usize,
    /// The number of tokens in the run.
    pub tokens: usize,
    /// The time for turning texts into tokens.
    pub tokenize_ms: f64,
    /// The time for packing tokens into batches and building the graphs of the batches.
    pub pack_ms: f64,
    /// The time for passing inputs and parameters to the driver.
    pub upload_ms: f64,
    /// The time for recording the commands of each batch.
    pub encode_ms: f64,
    /// The time for submitting commands to the driver. Some software drivers compute during the submission.
    pub submit_ms: f64,
    /// The time of waiting for the GPU to finish.
    pub wait_ms: f64,
    /// The time for copying rows from the read-back buffer and checking them.
    pub read_back_ms: f64,
    /// The time of the whole run, from texts to rows.
    pub total_ms: f64,
}

/// The GPU time of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GpuTime {
    /// The time from the start of a submission's first dispatch to the end of its last one, in milliseconds, summed
    /// over all submissions.
    pub total_ms: f64,
    /// The share of the total during which a kernel ran.
    pub accounted: f64,
    /// The times grouped by kernel, the longest first.
    pub kernels: Vec<KernelTime>,
    /// The times grouped by the tensor that a dispatch writes, the longest first. They show which step of a layer
    /// is slow.
    pub steps: Vec<KernelTime>,
}

/// The time and rates of one kernel, or of one step of a layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KernelTime {
    /// The name of the kernel, or of the tensor that the step writes.
    pub name: String,
    /// The number of dispatches in the run.
    pub dispatches: usize,
    /// The sum of the dispatches' times, in milliseconds.
    pub ms: f64,
    /// The share of `ms` in the sum over all kernels.
    pub share: f64,
    /// The rate in 10⁹ floating point operations per second, for kernels whose operations are counted.
    pub gflops: Option<f64>,
    /// The rate in 10⁹ bytes per second, if each binding is read or written once.
    pub gbytes: f64,
}

/// The time of one kernel at one shape of the model, in one storage type and variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KernelCase {
    /// The name of the kernel.
    pub kernel: String,
    /// The name of the tensor that the kernel writes.
    pub step: String,
    /// The number of tokens in the batch.
    pub tokens: usize,
    /// The number of values in a row of the kernel's first input, and in a row of its output. A number is 0 if the rows
    /// of that tensor do not stand for tokens.
    pub widths: [usize; 2],
    /// The precision, as in [`PrecisionReport::name`].
    pub precision: String,
    /// The variant of the kernel: `software` or `gpu`, and how its lanes work together. For a matmul on GPUs it names
    /// the matmul's own variant instead, such as `tile 64x64`.
    pub variant: String,
    /// Whether models on this adapter run this variant.
    pub used: bool,
    /// The number of dispatches in a run.
    pub dispatches: usize,
    /// The time of a dispatch in milliseconds: median, minimum and maximum over the rounds.
    pub ms: Ratio,
    /// The rate in 10⁹ floating point operations per second, for kernels whose operations are counted.
    pub gflops: Option<f64>,
    /// The rate in 10⁹ bytes per second, if each binding is read or written once.
    pub gbytes: f64,
    /// How many times faster this case is than the same case in f32; `None` for f32 itself.
    pub speedup: Option<Ratio>,
}

impl Report {
    /// Reads a report that `vectile bench --json` wrote.
    ///
    /// # Errors
    /// Returns a sentence if the JSON is not such a report or has another version of the schema.
    pub fn from_json(bytes: &[u8]) -> Result<Self, String> {
        let value: serde_json::Value =
            serde_json::from_slice(bytes).map_err(|e| format!("is not JSON: {e}"))?;
        match value.get("schema").and_then(|schema| schema.as_str()) {
            Some(SCHEMA) => {
                serde_json::from_value(value).map_err(|e| format!("is not a complete report: {e}"))
            }
            Some(other) => Err(format!(
                "has the schema {other}, but this version of vectile reads {SCHEMA}; run the bench again"
            )),
            None => Err("is not a report of `vectile bench --json`".to_owned()),
        }
    }
}

impl Ratio {
    /// Returns how many times faster `own` is than `base`, from the times of their rounds.
    pub fn of(base: &[f64], own: &[f64]) -> Self {
        let same_round = Ratio::over(base.iter().zip(own).map(|(base, own)| base / own).collect());
        // If a series is compared with itself, every ratio is 1, so there is no spread.
        if base == own || base.is_empty() || own.is_empty() {
            return same_round;
        }
        let (base, own) = (Ratio::over(base.to_vec()), Ratio::over(own.to_vec()));
        Ratio { median: same_round.median, low: base.low / own.high, high: base.high / own.low }
    }

    /// Returns the median, minimum and maximum of the values. All three are 1 if there are no values.
    pub fn over(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        match (values.first(), values.last()) {
            (Some(low), Some(high)) => Ratio { median: median(&values), low: *low, high: *high },
            _ => Ratio { median: 1.0, low: 1.0, high: 1.0 },
        }
    }
}

/// Returns the median of sorted values. For an even number of values it is the mean of the middle two.
pub(super) fn median(sorted: &[f64]) -> f64 {
    let n = sorted.len();
    match n {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}
