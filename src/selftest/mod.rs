//! Known-answer tests on the adapter itself, before any model trusts its `SHADER_F16` and for `vectile
//! verify`.
//!
//! Drivers exist that announce f16 and compute it wrongly. Each kernel runs on small fixed inputs and
//! is compared with its plain-Rust reference; the verdict on f16 is kept by adapter, driver and version
//! of Vectile.

mod bit_identity;
mod cooperative;
mod needed;
mod verdicts;

use std::path::Path;

use serde::Serialize;

use crate::convert;
use crate::dtype::{CheckpointDtype, FloatDtype, Precision, ShaderF16, Storage};
use crate::error::Error;
use crate::gpu::adapter::{AdapterChoice, Feature};
use crate::gpu::device::Gpu;
use crate::gpu::executor::PipelineKey;
#[cfg(feature = "server")]
use crate::gpu::executor::pipelines_of;
use crate::gpu::executor::{Executor, Outcome};
use crate::gpu::graph::Graph;
use crate::gpu::kernel::Kernel;
use crate::gpu::shader::Lanes;
use crate::kernels::answers::{ANSWERS, Answer, Family, KnownAnswer, Run};
#[cfg(feature = "server")]
use crate::kernels::matmul::{MATMUL_FEW, MATMUL_TILE};
use crate::kernels::{Builder, KernelPlan};

#[doc(hidden)]
pub use bit_identity::differing_variants;
pub(crate) use bit_identity::{matrix_tiles_are_bit_identical, variants_are_bit_identical};
pub(crate) use cooperative::cooperative_fault;

/// The storages of weights and activations that kernels are tested in: those that the dtype policy
/// puts together.
pub const STORAGES: &[(Storage, Storage)] = &[
    (Storage::F32, Storage::F32),
    (Storage::F16, Storage::F16),
    (Storage::F16, Storage::F32),
    (Storage::PackedF16, Storage::PackedF16),
    (Storage::PackedF16, Storage::F32),
    (Storage::PackedBf16, Storage::F32),
];

/// Questions whose pipelines are made at once: all of the test of f16.
const AT_ONCE: usize = 16;

/// How a kernel did against its known answer in one variant and storage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KernelCheck {
    /// The kernel.
    pub kernel: &'static str,
    /// `alone`, or `subgroups of N`.
    pub variant: String,
    /// True where models on this adapter run this variant.
    pub used: bool,
    /// How weights are stored; `None` for a kernel that reads none.
    pub weights: Option<Storage>,
    /// How activations are stored; `None` for a kernel whose are f32 always.
    pub activations: Option<Storage>,
    /// The largest error; `None` where there is no answer to compare.
    pub error: Option<f64>,
    /// The largest error as a share of what is allowed at its place: the kernel's in f32, and one
    /// spacing of the storage.
    pub share: Option<f64>,
    /// Whether every value is within what is allowed.
    pub passed: bool,
    /// What else went wrong: what the driver said, or a token marked as out of range.
    pub problem: Option<String>,
}

/// What an adapter's f16 is worth: opens it and runs a known-answer test, unless `cache_dir` holds
/// the verdict of an earlier one.
///
/// # Errors
/// [`Error::Adapter`] where there is no such adapter or it does not open.
pub async fn check_shader_f16(
    adapter: &AdapterChoice,
    cache_dir: Option<&Path>,
) -> Result<ShaderF16, Error> {
    let mut executor = Executor::new(Gpu::open(adapter, &[]).await?);
    shader_f16(&mut executor, None, cache_dir).await
}

/// What the open device's f16 is worth, to a model of these pipelines where some are given: of known answers
/// it is asked those that the model needs.
///
/// Looks the verdict up in `cache`, a directory, where given; runs the test and keeps its verdict
/// there where it is not known yet. A cache that cannot be written is no error.
///
/// # Errors
/// Those of running a graph.
pub(crate) async fn shader_f16(
    executor: &mut Executor,
    model: Option<&[PipelineKey]>,
    cache: Option<&Path>,
) -> Result<ShaderF16, Error> {
    if let Some(known) = without_test(executor) {
        return Ok(known);
    }
    // The verdict of all kernels first.
    let mut keys = vec![key(executor)];
    keys.extend(model.map(|model| format!("{} | {}", key(executor), needed::names(model))));
    let kept = |key: &String| cache.and_then(|cache| verdicts::read(cache, key));
    if let Some(verdict) = keys.iter().find_map(kept) {
        return Ok(if verdict { ShaderF16::Passed } else { ShaderF16::FailedSelfTest });
    }
    let own = KernelPlan::for_device(&executor.gpu);
    let storages = (Storage::F16, Storage::F16);
    let question = |answer: &'static KnownAnswer| {
        let kernel = answer.kernel;
        let asked = is_for_f16(kernel) && (kernel.reads_weights || kernel.reads_activations);
        let plan = answer.family.plan(&own, storages).filter(|_| asked)?;
        let question = Question::new(answer, plan, storages);
        match model {
            Some(model) => question.of_model(model),
            None => Some(question),
        }
    };
    let questions: Vec<Question> =
        ANSWERS.iter().filter(|a| a.family.is_of(&own)).filter_map(question).collect();
    let checks = ask(executor, &questions, |_| ()).await?;
    Ok(judged(executor, &checks, cache.zip(keys.last().map(String::as_str))))
}

/// What `checks`, which hold those of all kernels in f16, say of the device's f16; keeps it in `cache`.
#[cfg(feature = "lab")]
pub(crate) fn judge_f16(
    executor: &Executor,
    checks: &[KernelCheck],
    cache: Option<&Path>,
) -> ShaderF16 {
    match without_test(executor) {
        Some(known) => known,
        None => judged(executor, checks, cache.zip(Some(key(executor).as_str()))),
    }
}

fn judged(executor: &Executor, checks: &[KernelCheck], keep: Option<(&Path, &str)>) -> ShaderF16 {
    let f16 = Some(Storage::F16);
    let failed: Vec<&str> = checks
        .iter()
        .filter(|c| c.used && !c.passed && (c.weights == f16 || c.activations == f16))
        .filter(|c| ANSWERS.iter().any(|a| a.kernel.name == c.kernel && is_for_f16(a.kernel)))
        .map(|c| c.kernel)
        .collect();
    let passed = failed.is_empty();
    let adapter = &executor.gpu.adapter;
    tracing::info!(%adapter, passed, "SHADER_F16 self-test");
    if !passed {
        tracing::warn!(%adapter, ?failed, "SHADER_F16 gives wrong answers and is not used");
    }
    if let Some((cache, key)) = keep {
        verdicts::write(cache, key, passed);
    }
    if passed { ShaderF16::Passed } else { ShaderF16::FailedSelfTest }
}

/// What needs no test: a feature that is not there, or a device that computes nothing.
fn without_test(executor: &Executor) -> Option<ShaderF16> {
    if executor.gpu.disabled.contains(&Feature::ShaderF16) {
        return Some(ShaderF16::Disabled);
    }
    if !executor.gpu.has_shader_f16() {
        return Some(ShaderF16::Absent);
    }
    executor.gpu.is_noop().then_some(ShaderF16::Passed)
}

fn key(executor: &Executor) -> String {
    format!("{} | vectile {}", executor.gpu.adapter.key(), env!("CARGO_PKG_VERSION"))
}

/// True for a kernel that `SHADER_F16` is judged by. Cooperative matrices are judged by themselves: models can
/// do without.
fn is_for_f16(kernel: &Kernel) -> bool {
    !kernel.cooperative
}

/// Every kernel in every variant and storage that the device can run, in the order of `ALL`. `done` hears
/// of each and of how many there are.
///
/// # Errors
/// Those of running a graph, apart from what a driver says of one kernel: that is a failed check.
pub async fn check_all(
    executor: &mut Executor,
    mut done: impl FnMut(&KernelCheck, usize),
) -> Result<Vec<KernelCheck>, Error> {
    let own = KernelPlan::for_device(&executor.gpu);
    let f16 = executor.gpu.has_shader_f16();
    let mut questions = Vec::new();
    for answer in ANSWERS {
        let mut lanes = vec![own.lanes];
        if answer.kernel.has_subgroup_variant && own.lanes != Lanes::Alone {
            lanes.push(Lanes::Alone);
        }
        for lanes in lanes {
            let own = KernelPlan { lanes, ..own.clone() };
            let mut seen = Vec::new();
            for storages @ (weights, activations) in STORAGES {
                let Some(plan) = answer.family.plan(&own, *storages) else { continue };
                let weights = if answer.kernel.reads_weights { *weights } else { Storage::F32 };
                let activations =
                    if answer.kernel.reads_activations { *activations } else { Storage::F32 };
                let pair = (weights, activations);
                if !seen.contains(&pair)
                    && (f16 || (pair.0 != Storage::F16 && pair.1 != Storage::F16))
                {
                    seen.push(pair);
                    questions.push(Question::new(answer, plan, pair));
                }
            }
        }
    }
    ask(executor, &questions, |check| done(check, questions.len())).await
}

/// The kernels of a graph that give wrong answers on this device, asked in the variant and the storages
/// that the graph has.
///
/// # Errors
/// Those of running a graph.
#[cfg(feature = "server")]
pub(crate) async fn wrong_kernels(
    executor: &mut Executor,
    graph: &Graph,
    plan: &KernelPlan,
    storages: (Storage, Storage),
) -> Result<Vec<KernelCheck>, Error> {
    let runs = |kernel: &Kernel| graph.dispatches.iter().any(|dispatch| dispatch.kernel == kernel);
    // A graph has the variant of the matmul that suits its rows; others of the model have others.
    let used = |answer: &&KnownAnswer| {
        runs(answer.kernel)
            || answer.kernel == &MATMUL_TILE && runs(&MATMUL_FEW) && answer.family.is_of(plan)
    };
    let model = pipelines_of(std::iter::once(graph));
    let question = |answer: &'static KnownAnswer| {
        Question::new(answer, answer.family.plan(plan, storages)?, storages).of_model(&model)
    };
    let questions: Vec<Question> = ANSWERS.iter().filter(used).filter_map(question).collect();
    let mut wrong = ask(executor, &questions, |_| ()).await?;
    wrong.retain(|check| !check.passed);
    Ok(wrong)
}

/// A kernel in a variant and storages, and what it is asked.
struct Question {
    answer: &'static KnownAnswer,
    plan: KernelPlan,
    storages: (Storage, Storage),
    runs: Vec<(Graph, Answer)>,
}

impl Question {
    fn new(answer: &'static KnownAnswer, plan: KernelPlan, storages: (Storage, Storage)) -> Self {
        let run = |run: &Run| {
            let mut builder = Builder::new(&plan, &precision(storages));
            let made = run(&mut builder);
            builder.graph.output = Some(made.y.id);
            // Marks are by row; a kernel that pools has fewer rows than its tokens.
            builder.graph.tokens = made.y.rows;
            (builder.graph, made)
        };
        let runs = answer.runs.iter().map(run).collect();
        Question { answer, plan, storages, runs }
    }

    /// What of it a model of these pipelines needs to know, if anything.
    fn of_model(mut self, model: &[PipelineKey]) -> Option<Self> {
        let kernel = self.answer.kernel;
        self.runs.retain(|(graph, _)| {
            let mut own = graph.dispatches.iter().filter(|dispatch| dispatch.kernel == kernel);
            own.all(|dispatch| needed::needs(model, kernel, &dispatch.variant))
        });
        (!self.runs.is_empty()).then_some(self)
    }

    async fn ask(&self, executor: &mut Executor) -> Result<KernelCheck, Error> {
        let Question { answer, plan, storages: (weights, activations), runs } = self;
        let own = KernelPlan::for_device(&executor.gpu);
        let kernel = answer.kernel;
        let lanes = if kernel.has_subgroup_variant { plan.lanes } else { Lanes::Alone };
        let mut result = KernelCheck {
            kernel: kernel.name,
            variant: match lanes {
                Lanes::Alone => "alone".to_owned(),
                Lanes::Subgroup(size) => format!("subgroups of {size}"),
            },
            used: answer.family.is_of(&own) && plan.lanes == own.lanes,
            weights: kernel.reads_weights.then_some(*weights),
            activations: kernel.reads_activations.then_some(*activations),
            error: None,
            share: None,
            passed: false,
            problem: None,
        };
        for (graph, made) in runs {
            let outcome = match executor.run(graph).await {
                // A driver that announces something and does not compile it has failed too.
                Err(Error::Internal(problem)) => {
                    result.problem = Some(crate::error::plain(problem));
                    break;
                }
                outcome => outcome?,
            };
            compare(&mut result, answer.tolerance, made, &outcome);
        }
        result.passed = result.problem.is_none() && result.share.is_some_and(|share| share <= 1.0);
        // Models do without the matrices then.
        result.used &= result.passed || answer.family != Family::Cooperative;
        Ok(result)
    }
}

/// Asks one question after the other; `done` hears of each answer. Pipelines of some questions are made at once.
async fn ask(
    executor: &mut Executor,
    questions: &[Question],
    mut done: impl FnMut(&KernelCheck),
) -> Result<Vec<KernelCheck>, Error> {
    let mut checks = Vec::with_capacity(questions.len());
    for some in questions.chunks(AT_ONCE) {
        executor
            .make_ahead(some.iter().flat_map(|question| &question.runs).map(|(graph, _)| graph));
        for question in some {
            let check = question.ask(executor).await?;
            done(&check);
            checks.push(check);
        }
    }
    Ok(checks)
}

/// A precision of no model.
fn precision((weights, activations): (Storage, Storage)) -> Precision {
    Precision {
        requested: Default::default(),
        checkpoint: CheckpointDtype {
            dtype: FloatDtype::Float16,
            source: "self-test".to_owned(),
            reasons: Vec::new(),
        },
        weights,
        activations,
        weight_bytes: 0,
        reasons: Vec::new(),
        measured: None,
    }
}

/// Takes what a run gave into the result of a check.
fn compare(result: &mut KernelCheck, tolerance: f64, made: &Answer, outcome: &Outcome) {
    if outcome.overflowed.contains(&true) {
        result.problem = Some("values within the range were marked as out of it".to_owned());
    }
    let filled = convert::decode(made.y.storage, &outcome.output);
    let got = filled
        .chunks_exact(made.y.width4 * 4)
        .take(made.y.rows)
        .flat_map(|row| &row[..made.y.width]);
    let (mut worst, mut share, mut compared) = (0.0f64, 0.0f64, 0);
    for (got, expected) in got.zip(&made.expected) {
        let error = (f64::from(*got) - expected).abs();
        // NaN would pass a comparison with `max`.
        let error = if error.is_nan() { f64::INFINITY } else { error };
        worst = worst.max(error);
        share = share.max(error / (tolerance + spacing(made.y.storage, *expected)));
        compared += 1;
    }
    if compared != made.expected.len() {
        result.problem = Some(format!("{compared} of {} values came back", made.expected.len()));
    } else if !worst.is_finite() {
        // JSON knows no infinity.
        result.problem = Some("a value is infinite or not a number".to_owned());
    } else {
        result.error = Some(result.error.unwrap_or(0.0).max(worst));
        result.share = Some(result.share.unwrap_or(0.0).max(share));
    }
}

/// The distance of a storage's values near x: drivers may truncate when they store.
fn spacing(storage: Storage, x: f64) -> f64 {
    let bits = match storage {
        Storage::F32 => 24,
        Storage::F16 | Storage::PackedF16 => 11,
        Storage::PackedBf16 => 8,
    };
    x.abs().max(f64::from(half::f16::MIN_POSITIVE.to_f32())) * 2f64.powi(1 - bits)
}
