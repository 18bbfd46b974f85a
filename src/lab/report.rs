//! Defines the results of `vectile bench` as data. The JSON, the tables and the plots are made from this data.
//!
//! Times are in seconds unless a field's name ends in `_ms`. Rates are computed from the median round.

use serde::{Deserialize, Serialize};

use crate::gpu::adapter::AdapterSummary;

/// The name and version of the JSON's schema. The version grows if a field changes its meaning or is removed. New
/// fields do not change the version.
pub const SCHEMA: &str = "vectile-bench/1";

/// The results of one run of `vectile bench`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The name and version of the JSON's schema: [`SCHEMA`].
    pub schema: String,
    /// The version of Vectile that made the report.
    pub vectile: String,
    /// The time at which the run started, in RFC 3339 and UTC.
    pub date: String,
    /// The name that the user gave the run, such as the name of a machine or a commit.
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
    /// The operating system, such as `linux`, `macos` or `windows`.
    pub os: String,
    /// The processor's architecture, such as `x86_64` or `aarch64`.
    pub arch: String,
    /// The processor's name; `None` if the system does not report the name.
    pub cpu: Option<String>,
    /// The number of threads that the processor can run at the same time.
    pub threads: usize,
    /// True if the program was built without optimisations. The host times of such a build are not meaningful.
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
    /// The number of values in a vector.
    pub dimension: usize,
    /// The maximum number of tokens in a text; `None` if the model has no limit.
    pub max_seq_length: Option<usize>,
}

/// The settings of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// True if `--quick` was given.
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
    /// True if the adapter measures the times of dispatches with timestamps. If false, the report has no times of
    /// kernels.
    pub timestamps: bool,
    /// The family of matmul and attention kernels that the adapter runs: `software` or `gpu`.
    pub kernels: String,
    /// The results of each precision. Ratios are relative to the first precision.
    pub precisions: Vec<PrecisionReport>,
    /// The precisions that were not timed, with the reasons.
    pub refused: Vec<Refused>,
    /// The times of every kernel at the model's shapes, in each storage type and variant. Empty unless `--kernels` was
    /// given.
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
    /// The name of the precision: the storage type of the weights, such as `f16`. If the storage type of the
    /// activations is not the default, it follows the slash, as in `f16/f32`.
    pub name: String,
    /// The `Precision` of the loaded model, as `inspect --json` shows it.
    pub precision: serde_json::Value,
    /// The storage type of weight matrices and embedding tables.
    pub weights: String,
    /// The storage type of activations.
    pub activations: String,
    /// The kernels that this precision runs: the family of kernels, and the kernel of linear layers.
    #[serde(default)]
    pub kernels: String,
    /// The size of all weights in bytes.
    pub weight_bytes: u64,
    /// The size, in bytes, of all activation buffers for the largest batch that was run.
    pub peak_activation_bytes: u64,
    /// The accuracy against f32 on the same texts.
    pub accuracy: Accuracy,
    /// The times of the first use of the model, from the start to the first vectors.
    pub cold: Cold,
    /// The latency of a single short text.
    pub latency: Latency,
    /// The throughput, with one cell for each token budget of a batch and each length of text.
    pub cells: Vec<Cell>,
    /// The host time of one run of the last cell.
    pub host: HostTime,
    /// The GPU time of one run of the last cell; `None` if the adapter does not measure time.
    pub gpu: Option<GpuTime>,
}

/// The accuracy of a precision: the differences between its vectors and the f32 vectors of the same texts on the same
/// adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// The number of texts whose vectors were compared.
    pub texts: usize,
    /// The smallest cosine between a text's vectors in this precision and in f32.
    pub min_cosine: f64,
    /// The mean cosine between a text's vectors in this precision and in f32.
    pub mean_cosine: f64,
    /// The largest absolute difference between a value in this precision and the same value in f32.
    pub max_abs: f64,
    /// The mean share of a text's ten nearest other texts in f32 that are also among its ten nearest texts in this
    /// precision.
    pub top10_overlap: f64,
    /// 100 times Spearman's rank correlation between cosines and the given scores; `None` without scored pairs.
    pub spearman: Option<f64>,
}

/// The times of the first use of a model, in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cold {
    /// The time of loading the model. Loading reads files, opens the device, runs self-tests, and uploads weights while
    /// pipelines compile.
    pub load_s: f64,
    /// The time of compiling pipelines that the first batch needs and that loading did not compile.
    pub pipelines_s: f64,
    /// The time of the first batch without the time of compiling pipelines.
    pub first_batch_s: f64,
    /// The time of a second run of the first batch.
    pub warm_batch_s: f64,
    /// The time from the start to the first vectors: the sum of `load_s`, `pipelines_s` and `first_batch_s`.
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
    /// The 95th percentile of the times of the runs.
    pub p95_ms: f64,
    /// The speed relative to the first precision; 2 means twice as fast.
    pub speedup: Ratio,
}

/// The throughput at one token budget of a batch and one length of text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// The token budget: the maximum number of tokens in a batch.
    pub batch_tokens: usize,
    /// The requested length of texts in tokens. 0 means that the user's texts were run unchanged.
    pub text_tokens: usize,
    /// The number of texts in a run.
    pub texts: usize,
    /// The number of tokens in a run.
    pub tokens: usize,
    /// The time of each round, in seconds.
    pub rounds_s: Vec<f64>,
    /// The number of texts per second in the median round.
    pub texts_per_s: f64,
    /// The number of tokens per second in the median round.
    pub tokens_per_s: f64,
    /// The speed relative to the first precision; 2 means twice as fast.
    pub speedup: Ratio,
    /// The predicted maximum number of tokens per second (`docs/roofline.md`); `None` if the adapter is unknown or if
    /// the user's texts were run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted_tokens_per_s: Option<f64>,
}

/// The median, minimum and maximum of a quantity over several rounds. For a speed-up, the quantity is the ratio of the
/// times of two series of rounds. The median is over the ratios of times in the same round. The minimum and maximum are
/// over the ratios of every round of one series to every round of the other series. These two values show how far
/// another run may deviate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// The median of the ratios of times in the same round.
    pub median: f64,
    /// The minimum of the ratios over all pairs of rounds.
    pub low: f64,
    /// The maximum of the ratios over all pairs of rounds.
    pub high: f64,
}

/// The host time of a run, divided into phases, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HostTime {
    /// The number of batches in the run.
    pub batches: usize,
    /// The number of tokens in the run.
    pub tokens: usize,
    /// The time for tokenizing texts.
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
    /// The time for copying rows from the read-back buffer and checking the rows.
    pub read_back_ms: f64,
    /// The time of the whole run, from texts to rows.
    pub total_ms: f64,
}

/// The GPU time of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GpuTime {
    /// The sum, over all submissions, of the time from the start of the first dispatch to the end of the last dispatch,
    /// in milliseconds.
    pub total_ms: f64,
    /// The share of `total_ms` during which a kernel ran.
    pub accounted: f64,
    /// The times grouped by kernel, the longest first.
    pub kernels: Vec<KernelTime>,
    /// The times grouped by the tensor that a dispatch writes, the longest first. These times show which step of a
    /// layer is slow.
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
    /// The share of `ms` in the sum of the times of all kernels.
    pub share: f64,
    /// The rate in 10⁹ floating-point operations per second; `None` if the kernel's operations are not counted.
    pub gflops: Option<f64>,
    /// The rate in 10⁹ bytes per second, under the assumption that each binding is read or written once.
    pub gbytes: f64,
}

/// The time of one kernel with one shape that occurs in the model, in one storage type and variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KernelCase {
    /// The name of the kernel.
    pub kernel: String,
    /// The name of the tensor that the kernel writes.
    pub step: String,
    /// The number of tokens in the batch.
    pub tokens: usize,
    /// The number of values in a row of the kernel's first input, and in a row of its output. The number is 0 for a
    /// tensor that does not have one row for each token.
    pub widths: [usize; 2],
    /// The precision, as in [`PrecisionReport::name`].
    pub precision: String,
    /// The variant of the kernel: `software` or `gpu`, and how its lanes share work. For a matmul on a GPU, this is the
    /// name of the matmul's variant instead, such as `tile 64x64`.
    pub variant: String,
    /// True if models on this adapter run this variant.
    pub used: bool,
    /// The number of dispatches in a run.
    pub dispatches: usize,
    /// The time of a dispatch in milliseconds: its median, minimum and maximum over the rounds.
    pub ms: Ratio,
    /// The rate in 10⁹ floating-point operations per second; `None` if the kernel's operations are not counted.
    pub gflops: Option<f64>,
    /// The rate in 10⁹ bytes per second, under the assumption that each binding is read or written once.
    pub gbytes: f64,
    /// The speed relative to the same kernel, shape and variant in f32; `None` for f32 itself.
    pub speedup: Option<Ratio>,
}

impl Report {
    /// Returns the report that `vectile bench --json` wrote as these bytes.
    ///
    /// # Errors
    /// Returns a message if the bytes are not such a report, or if the report has another version of the schema.
    pub fn from_json(bytes: &[u8]) -> Result<Self, String> {
        let value: serde_json::Value =
            serde_json::from_slice(bytes).map_err(|e| format!("is not JSON: {e}"))?;
        match value.get("schema").and_then(|schema| schema.as_str()) {
            Some(SCHEMA) => {
                serde_json::from_value(value).map_err(|e| format!("is not a complete report: {e}"))
            }
            Some(other) => Err(format!(
                "has the schema version {other}, but this vectile reads schema version {SCHEMA}; \
                 run the bench again"
            )),
            None => Err("is not a report of `vectile bench --json`".to_owned()),
        }
    }
}

impl Ratio {
    /// Returns the speed of `own` relative to `base`, from the times of their rounds. A ratio of 2 means that `own` is
    /// twice as fast.
    pub fn of(base: &[f64], own: &[f64]) -> Self {
        let same_round = Ratio::over(base.iter().zip(own).map(|(base, own)| base / own).collect());
        // A series that is compared with itself has the ratio 1 without a spread.
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

/// Returns the median of sorted values. For an even number of values, the result is the mean of the two middle values.
pub(super) fn median(sorted: &[f64]) -> f64 {
    let n = sorted.len();
    match n {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}
