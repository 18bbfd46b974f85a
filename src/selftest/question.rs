//! A known-answer test of a kernel in one variant with one pair of storage types: its runs, and the comparison of
//! results.

use super::check::KernelCheck;
use super::needed;
use crate::convert;
use crate::dtype::{CheckpointDtype, FloatDtype, Precision, Storage};
use crate::error::{Error, FAULT_ADVICE};
use crate::executor::Executor;
use crate::gpu::executor::{Outcome, PipelineKey};
use crate::gpu::graph::Graph;
use crate::gpu::shader::Lanes;
use crate::kernels::answers::{Answer, Family, KnownAnswer, Run};
use crate::kernels::{Builder, KernelPlan};

/// The number of tests whose pipelines are compiled together. The self-test of f16 has at most this many tests, so all
/// its pipelines are compiled together.
const QUESTIONS_AT_ONCE: usize = 16;

/// A known-answer test of a kernel in one variant, with one storage type of weights and of activations.
pub(super) struct Question {
    pub answer: &'static KnownAnswer,
    plan: KernelPlan,
    storages: (Storage, Storage),
    pub runs: Vec<(Graph, Answer)>,
}

impl Question {
    /// Returns all runs of a known-answer test under a plan, with these storage types of weights and activations.
    pub fn new(
        answer: &'static KnownAnswer,
        plan: KernelPlan,
        storages: (Storage, Storage),
    ) -> Self {
        let run = |run: &Run| {
            let mut builder = Builder::new(&plan, &precision(storages));
            let made = run(&mut builder);
            builder.graph.output = Some(made.y.id);
            // The graph gets one overflow flag for each row of the output y, not for each input token: a pooling kernel
            // has more tokens than rows.
            builder.graph.tokens = made.y.rows;
            (builder.graph, made)
        };
        let runs = answer.runs.iter().map(run).collect();
        Question { answer, plan, storages, runs }
    }

    /// Removes the runs that a model with these pipelines does not need. Returns `None` if no run is left.
    pub fn of_model(mut self, model: &[PipelineKey]) -> Option<Self> {
        let kernel = self.answer.kernel;
        self.runs.retain(|(graph, _)| {
            let mut own = graph.dispatches.iter().filter(|dispatch| dispatch.kernel == kernel);
            own.all(|dispatch| needed::needs(model, kernel, &dispatch.variant))
        });
        (!self.runs.is_empty()).then_some(self)
    }

    /// Removes the runs with a tensor that does not fit into a binding of `most` bytes. Returns `None` if no run is
    /// left. The tests take a few KiB, so this happens only if a caller lowered the limit below that of any adapter.
    pub fn within(mut self, most: u64) -> Option<Self> {
        self.runs.retain(|(graph, _)| graph.tensors.iter().all(|tensor| tensor.bytes <= most));
        (!self.runs.is_empty()).then_some(self)
    }

    /// Runs the test and compares its results with the expected results.
    ///
    /// # Errors
    /// Returns the errors of running a graph. A driver's message about the kernel is reported as a failed check
    /// instead.
    pub async fn ask(&self, executor: &mut Executor) -> Result<KernelCheck, Error> {
        let Question { answer, plan, storages: (weights, activations), runs } = self;
        let own = executor.plan();
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
                // A kernel that the driver cannot compile or run counts as failed too.
                Err(Error::Internal(problem) | Error::DeviceFault { problem, .. }) => {
                    let problem = problem.strip_suffix(FAULT_ADVICE).unwrap_or(&problem);
                    result.problem = Some(crate::error::plain(problem));
                    break;
                }
                outcome => outcome?,
            };
            compare(&mut result, answer.tolerance, made, &outcome);
        }
        result.passed = result.problem.is_none() && result.share.is_some_and(|share| share <= 1.0);
        // Models do not use cooperative matrices that fail the test, so a variant that fails counts as unused.
        result.used &= result.passed || answer.family != Family::Cooperative;
        Ok(result)
    }
}

/// Runs tests one after the other. The pipelines of several tests are compiled together, before these tests run. `done`
/// is called with each result.
///
/// # Errors
/// Returns the errors of [`Question::ask`].
pub(super) async fn ask(
    executor: &mut Executor,
    questions: &[Question],
    mut done: impl FnMut(&KernelCheck),
) -> Result<Vec<KernelCheck>, Error> {
    let mut checks = Vec::with_capacity(questions.len());
    for some in questions.chunks(QUESTIONS_AT_ONCE) {
        executor
            .make_ahead(some.iter().flat_map(|question| &question.runs).map(|(graph, _)| graph))
            .await;
        for question in some {
            let check = question.ask(executor).await?;
            done(&check);
            checks.push(check);
        }
    }
    Ok(checks)
}

/// Returns a precision with these storage types that belongs to no model.
pub(super) fn precision((weights, activations): (Storage, Storage)) -> Precision {
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

/// Compares a run with its expected values, and adds the outcome to a result.
fn compare(result: &mut KernelCheck, tolerance: f64, made: &Answer, outcome: &Outcome) {
    if outcome.overflowed.contains(&true) {
        result.problem =
            Some("the overflow flag is set, although all values are within the range".to_owned());
    }
    let padded = convert::decode(made.y.storage, &outcome.output);
    let got = padded
        .chunks_exact(made.y.width4 * 4)
        .take(made.y.rows)
        .flat_map(|row| &row[..made.y.width]);
    let (mut worst, mut share, mut compared) = (0.0f64, 0.0f64, 0);
    for (got, expected) in got.zip(&made.expected) {
        let error = (f64::from(*got) - expected).abs();
        // `max` ignores NaN, so a NaN counts as infinity.
        let error = if error.is_nan() { f64::INFINITY } else { error };
        worst = worst.max(error);
        share = share.max(error / (tolerance + spacing(made.y.storage, *expected)));
        compared += 1;
    }
    if compared != made.expected.len() {
        result.problem =
            Some(format!("the kernel returned only {compared} of {} values", made.expected.len()));
    } else if !worst.is_finite() {
        // JSON cannot represent infinity, so an infinite error is reported as a message, not as a number.
        result.problem =
            Some("the kernel returned a value that is infinite or not a number".to_owned());
    } else {
        result.error = Some(result.error.unwrap_or(0.0).max(worst));
        result.share = Some(result.share.unwrap_or(0.0).max(share));
    }
}

/// Returns the distance between neighbouring values of a storage type near x. Drivers may truncate when they store a
/// value, so an error of this size is allowed.
fn spacing(storage: Storage, x: f64) -> f64 {
    let bits = match storage {
        Storage::F32 => 24,
        Storage::F16 | Storage::PackedF16 => 11,
        Storage::PackedBf16 => 8,
    };
    x.abs().max(f64::from(half::f16::MIN_POSITIVE.to_f32())) * 2f64.powi(1 - bits)
}
