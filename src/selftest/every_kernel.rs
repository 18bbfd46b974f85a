//! The known-answer test of every kernel in every variant and with every pair of storage types, for `vectile verify`.

use super::check::KernelCheck;
use super::question::{Question, ask};
use crate::dtype::Storage;
use crate::error::Error;
use crate::executor::Executor;
use crate::gpu::shader::Lanes;
use crate::kernels::KernelPlan;
use crate::kernels::answers::ANSWERS;

/// The pairs of storage types (of weights and activations) with which kernels are tested. These are the pairs that the
/// dtype policy can choose.
pub const STORAGES: &[(Storage, Storage)] = &[
    (Storage::F32, Storage::F32),
    (Storage::F16, Storage::F16),
    (Storage::F16, Storage::F32),
    (Storage::PackedF16, Storage::PackedF16),
    (Storage::PackedF16, Storage::F32),
    (Storage::PackedBf16, Storage::F32),
];

/// Tests every kernel in every variant and with every pair of storage types that the device can run, in the order of
/// [`ANSWERS`]. `done` is called with each result and the number of tests.
///
/// # Errors
/// Returns the errors of running a graph. A driver's message about one kernel is reported as a failed check instead.
pub async fn check_all(
    executor: &mut Executor,
    mut done: impl FnMut(&KernelCheck, usize),
) -> Result<Vec<KernelCheck>, Error> {
    let own = executor.plan();
    let (f16, on_cpu) = (executor.has_shader_f16(), executor.is_cpu());
    let can_run = |weights, activations| match on_cpu {
        true => activations == Storage::F32,
        false => f16 || (weights != Storage::F16 && activations != Storage::F16),
    };
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
                if !seen.contains(&pair) && can_run(weights, activations) {
                    seen.push(pair);
                    questions.push(Question::new(answer, plan, pair));
                }
            }
        }
    }
    ask(executor, &questions, |check| done(check, questions.len())).await
}
