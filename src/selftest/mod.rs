//! Tests of an adapter by known answers: each kernel runs on small fixed inputs, and its results are compared with a
//! plain-Rust reference.
//!
//! | test | when | if it fails |
//! |---|---|---|
//! | [`check_model`] | at every load | the adapter is refused |
//! | [`shader_f16`] | at loads that would use `SHADER_F16` | f16 is not used |
//! | [`cooperative_fault`] | at loads in f16 on GPUs with cooperative matrices | tiles are used instead |
//! | [`variants_are_bit_identical`] | at loads on GPUs | the number of rows does not select variants |
//! | [`check_all`] | `vectile verify` | it is reported |
//!
//! Verdicts are cached by adapter, driver and the text of the kernels. A cached verdict says nothing about a driver
//! that stops computing later; the receipt of each batch does (`gpu/executor/report.rs`).

mod bit_identity;
mod cooperative;
mod model;
mod needed;
mod question;
mod shader_f16;
mod verdicts;

use serde::Serialize;

use crate::dtype::Storage;
use crate::error::Error;
use crate::gpu::executor::Executor;
use crate::gpu::shader::{self, Lanes};
use crate::kernels::answers::ANSWERS;
use crate::kernels::{ALL, KernelPlan};
use question::Question;

#[doc(hidden)]
pub use bit_identity::differing_variants;
pub(crate) use bit_identity::{matrix_tiles_are_bit_identical, variants_are_bit_identical};
pub(crate) use cooperative::cooperative_fault;
pub(crate) use model::check_model;
#[cfg(feature = "server")]
pub(crate) use model::wrong_kernels;
pub use shader_f16::check_shader_f16;
#[cfg(feature = "lab")]
pub(crate) use shader_f16::judge_f16;
pub(crate) use shader_f16::shader_f16;

/// The pairs of storages of weights and activations that kernels are tested in: those that the dtype policy
/// combines.
pub const STORAGES: &[(Storage, Storage)] = &[
    (Storage::F32, Storage::F32),
    (Storage::F16, Storage::F16),
    (Storage::F16, Storage::F32),
    (Storage::PackedF16, Storage::PackedF16),
    (Storage::PackedF16, Storage::F32),
    (Storage::PackedBf16, Storage::F32),
];

/// The result of a kernel's known-answer test in one variant and pair of storages.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KernelCheck {
    /// The name of the kernel.
    pub kernel: &'static str,
    /// `alone`, or `subgroups of N`.
    pub variant: String,
    /// True if models on this adapter run this variant.
    pub used: bool,
    /// How weights are stored; `None` for a kernel that reads no weights.
    pub weights: Option<Storage>,
    /// How activations are stored; `None` for a kernel whose activations are always f32.
    pub activations: Option<Storage>,
    /// The largest error; `None` if there is no result to compare.
    pub error: Option<f64>,
    /// The largest error as a share of the tolerance at its place: the kernel's tolerance in f32, and one spacing of
    /// the storage.
    pub share: Option<f64>,
    /// True if every value is within the tolerance.
    pub passed: bool,
    /// Any other fault: the driver's message, or an overflow flag of a value within the range.
    pub problem: Option<String>,
}

impl KernelCheck {
    /// Says which kernel failed, in which storages, and how.
    pub(crate) fn describe(&self) -> String {
        let mut what = self.kernel.to_owned();
        if let Some(weights) = self.weights {
            what.push_str(&format!(" with {weights} weights"));
        }
        if let Some(activations) = self.activations {
            let word = if self.weights.is_some() { "and" } else { "with" };
            what.push_str(&format!(" {word} {activations} activations"));
        }
        match (&self.problem, self.error) {
            (Some(problem), _) => format!("{what}: {problem}"),
            (None, Some(error)) => format!("{what}: its results are off by {error:.1e}"),
            (None, None) => format!("{what}: it gave no results"),
        }
    }
}

/// The key of a verdict about the adapter of an executor: the adapter, its driver, and a digest of all kernels' text.
fn key(executor: &Executor) -> String {
    let sources: Vec<&str> = ALL.iter().map(|kernel| kernel.source).collect();
    format!("{} | kernels {}", executor.gpu.adapter.key(), shader::digest(&sources))
}

/// Tests every kernel in every variant and pair of storages that the device can run, in the order of [`ALL`]. `done` is
/// called with each result and the number of tests.
///
/// # Errors
/// Those of running a graph. A message of the driver about one kernel is a failed check instead.
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
    question::ask(executor, &questions, |check| done(check, questions.len())).await
}
