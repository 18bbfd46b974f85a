//! Tests the kernels that a model runs, with the storage types that the model uses.

use std::collections::BTreeSet;
use std::path::Path;

use super::check::KernelCheck;
use super::question::{Question, ask};
use super::{needed, verdicts};
use crate::dtype::{Precision, Storage};
use crate::error::{Error, FAULT_ADVICE};
use crate::executor::Executor;
use crate::gpu::executor::PipelineKey;
#[cfg(feature = "server")]
use crate::gpu::executor::pipelines_of;
#[cfg(feature = "server")]
use crate::gpu::graph::Graph;
use crate::gpu::shader::Lanes;
use crate::kernels::KernelPlan;
use crate::kernels::answers::{ANSWERS, KnownAnswer};
use crate::kernels::matmul::{MATMUL_FEW, MATMUL_TILE};

/// The maximum number of faults that an error lists.
const FAULTS_NAMED: usize = 3;

/// Tests at load whether the device computes a model's kernels correctly. This function compiles the model's pipelines,
/// and runs the known-answer tests of its kernels with the model's storage types. A test that passed is remembered in
/// this process and in the directory `cache`.
///
/// # Errors
/// Returns [`Error::DeviceFault`], which names the kernels that do not compile or give wrong results. Returns errors of
/// running a graph.
pub(crate) async fn check_model(
    executor: &mut Executor,
    pipelines: &[PipelineKey],
    plan: &KernelPlan,
    precision: &Precision,
    cache: Option<&Path>,
) -> Result<(), Error> {
    if executor.is_noop() {
        return Ok(());
    }
    let mut storages = vec![(precision.weights, precision.activations)];
    if precision.retries_in_f32() {
        storages.push((precision.weights, Storage::F32));
    }
    let names: Vec<String> =
        storages.iter().map(|(weights, activations)| format!("{weights}, {activations}")).collect();
    let kernels: BTreeSet<&str> = pipelines.iter().map(|key| key.kernel.name).collect();
    let lanes = match plan.lanes {
        Lanes::Alone => "alone".to_owned(),
        Lanes::Subgroup(size) => format!("subgroups of {size}"),
    };
    let key = format!(
        "{} | {} | {lanes} | {} | {}",
        verdicts::key(executor),
        kernels.into_iter().collect::<Vec<_>>().join(", "),
        names.join("; "),
        needed::names(pipelines)
    );
    if verdicts::has_passed(&key)
        || cache.and_then(|cache| verdicts::read(cache, &key)) == Some(true)
    {
        return Ok(());
    }
    let mut faults = Vec::new();
    executor.make(pipelines).await?;
    for storages in storages {
        let wrong = wrong_pipelines(executor, pipelines, plan, storages).await?;
        faults.extend(wrong.iter().map(KernelCheck::describe));
    }
    if !faults.is_empty() {
        // A failure is not cached, so that an updated or restarted driver is tested again.
        return Err(fault(executor, &faults));
    }
    tracing::debug!(adapter = %executor.adapter(), "the model's kernels passed their known-answer tests");
    verdicts::remember_pass(&key);
    if let Some(cache) = cache {
        verdicts::write(cache, &key, true);
    }
    Ok(())
}

fn fault(executor: &Executor, faults: &[String]) -> Error {
    let mut problem = faults[..faults.len().min(FAULTS_NAMED)].join("; ");
    if faults.len() > FAULTS_NAMED {
        problem.push_str(&format!("; and {} more", faults.len() - FAULTS_NAMED));
    }
    Error::device_fault(
        &executor.adapter().name,
        format!("the known-answer test failed ({problem}){FAULT_ADVICE}"),
    )
}

/// Returns the kernels of a graph that give wrong results on this device. The kernels are tested under the model's plan
/// and with the model's storage types.
///
/// # Errors
/// Returns the errors of running a graph.
#[cfg(feature = "server")]
pub(crate) async fn wrong_kernels(
    executor: &mut Executor,
    graph: &Graph,
    plan: &KernelPlan,
    storages: (Storage, Storage),
) -> Result<Vec<KernelCheck>, Error> {
    wrong_pipelines(executor, &pipelines_of(std::iter::once(graph)), plan, storages).await
}

async fn wrong_pipelines(
    executor: &mut Executor,
    pipelines: &[PipelineKey],
    plan: &KernelPlan,
    storages: (Storage, Storage),
) -> Result<Vec<KernelCheck>, Error> {
    let most = executor.adapter().max_binding_bytes;
    let has = |kernel| pipelines.iter().any(|key| key.kernel == kernel);
    // A small batch runs `matmul_few` and a large batch runs `matmul_tile`, so a model that has `matmul_few` may also
    // run `matmul_tile`.
    let used = |answer: &&KnownAnswer| {
        has(answer.kernel)
            || answer.kernel == &MATMUL_TILE && has(&MATMUL_FEW) && answer.family.is_of(plan)
    };
    let question = |answer: &'static KnownAnswer| {
        let plan = answer.family.plan(plan, storages)?;
        Question::new(answer, plan, storages).of_model(pipelines)?.within(most)
    };
    let questions: Vec<Question> = ANSWERS.iter().filter(used).filter_map(question).collect();
    let mut wrong = ask(executor, &questions, |_| ()).await?;
    wrong.retain(|check| !check.passed);
    Ok(wrong)
}
