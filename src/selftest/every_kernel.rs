//! The known-answer test of every kernel in every variant and storage, for `vectile verify`.

use super::check::KernelCheck;
use super::question::{Question, ask};
use crate::dtype::Storage;
use crate::error::Error;
use crate::gpu::executor::Executor;
use crate::gpu::shader::Lanes;
use crate::kernels::KernelPlan;
use crate::kernels::answers::ANSWERS;

/// The pairs of storages of weights and activations in which kernels are tested. They are the pairs that the dtype
/// policy can choose.
pub const STORAGES: &[(Storage, Storage)] = &[
    (Storage::F32, Storage::F32),
    (Storage::F16, Storage::F16),
    (Storage::F16, Storage::F32),
    (Storage::PackedF16, Storage::PackedF16),
    (Storage::PackedF16, Storage::F32),
    (Storage::PackedBf16, Storage::F32),
];

/// Tests every kernel in every variant and pair of storages that the device can run, in the order of [`ANSWERS`].
/// `done` is called with each result and the number of tests.
///
/// # Errors
/// The errors of running a graph. A message of the driver about one kernel is reported as a failed check instead.
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
