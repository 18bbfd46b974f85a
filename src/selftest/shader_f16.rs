//! Tests whether kernels compute correctly on an adapter that uses `SHADER_F16`. Some drivers report support for f16
//! but compute it wrongly.

use std::path::Path;

use super::check::KernelCheck;
use super::question::{Question, ask};
use super::{needed, verdicts};
use crate::dtype::{ShaderF16, Storage};
use crate::error::Error;
use crate::executor::{AdapterOptions, Executor};
use crate::gpu::adapter::{AdapterChoice, Feature};
use crate::gpu::executor::PipelineKey;
use crate::gpu::kernel::Kernel;
use crate::kernels::answers::{ANSWERS, KnownAnswer};

/// Tests whether kernels compute correctly with f16 on an adapter. This function opens the adapter and runs
/// known-answer tests in f16, unless `cache_dir` has the result of an earlier test.
///
/// # Errors
/// Returns [`Error::Adapter`] if there is no such adapter or it cannot be opened.
pub async fn check_shader_f16(
    adapter: &AdapterChoice,
    cache_dir: Option<&Path>,
) -> Result<ShaderF16, Error> {
    let mut executor = Executor::open(adapter, &AdapterOptions::default()).await?;
    shader_f16(&mut executor, None, cache_dir).await
}

/// Tests whether kernels compute correctly with f16 on this device. If `model` is given, only its kernels are tested.
///
/// If the directory `cache` has the result of an earlier test, that result is returned. Otherwise the result is written
/// to `cache`. A cache that cannot be written is not an error.
///
/// # Errors
/// Returns the errors of running a graph.
pub(crate) async fn shader_f16(
    executor: &mut Executor,
    model: Option<&[PipelineKey]>,
    cache: Option<&Path>,
) -> Result<ShaderF16, Error> {
    if let Some(known) = without_test(executor) {
        return Ok(known);
    }
    // Under the first key, the cache stores the result of a test of all kernels. If this result exists, the model's own
    // kernels need no test.
    let mut keys = vec![f16_key(executor)];
    keys.extend(model.map(|model| format!("{} | {}", f16_key(executor), needed::names(model))));
    let cached = |key: &String| cache.and_then(|cache| verdicts::read(cache, key));
    if let Some(passed) = keys.iter().find_map(cached) {
        return Ok(if passed { ShaderF16::Passed } else { ShaderF16::FailedSelfTest });
    }
    let own = executor.plan();
    let storages = (Storage::F16, Storage::F16);
    let question = |answer: &'static KnownAnswer| {
        let kernel = answer.kernel;
        let tested = decides_f16(kernel) && (kernel.reads_weights || kernel.reads_activations);
        let plan = answer.family.plan(&own, storages).filter(|_| tested)?;
        let question = Question::new(answer, plan, storages);
        match model {
            Some(model) => question.of_model(model),
            None => Some(question),
        }
    };
    let questions: Vec<Question> =
        ANSWERS.iter().filter(|a| a.family.is_of(&own)).filter_map(question).collect();
    let checks = ask(executor, &questions, |_| ()).await?;
    Ok(judge(executor, &checks, cache.zip(keys.last().map(String::as_str))))
}

/// Decides from `checks` whether kernels compute correctly with f16, and writes the result to `cache`. `checks` must
/// contain the checks of all kernels in f16.
#[cfg(feature = "lab")]
pub(crate) fn judge_f16(
    executor: &Executor,
    checks: &[KernelCheck],
    cache: Option<&Path>,
) -> ShaderF16 {
    match without_test(executor) {
        Some(known) => known,
        None => judge(executor, checks, cache.zip(Some(f16_key(executor).as_str()))),
    }
}

fn judge(executor: &Executor, checks: &[KernelCheck], cache: Option<(&Path, &str)>) -> ShaderF16 {
    let f16 = Some(Storage::F16);
    let failed: Vec<&str> = checks
        .iter()
        .filter(|c| c.used && !c.passed && (c.weights == f16 || c.activations == f16))
        .filter(|c| ANSWERS.iter().any(|a| a.kernel.name == c.kernel && decides_f16(a.kernel)))
        .map(|c| c.kernel)
        .collect();
    let passed = failed.is_empty();
    let adapter = executor.adapter();
    tracing::info!(%adapter, passed, "SHADER_F16 self-test");
    if !passed {
        tracing::warn!(%adapter, ?failed, "SHADER_F16 gives wrong results and is not used");
    }
    if let Some((cache, key)) = cache {
        verdicts::write(cache, key, passed);
    }
    if passed { ShaderF16::Passed } else { ShaderF16::FailedSelfTest }
}

/// Returns the result in the cases that need no test: the CPU runs no shaders, the feature is missing or disabled, or
/// the device computes nothing.
fn without_test(executor: &Executor) -> Option<ShaderF16> {
    if executor.is_cpu() {
        return Some(ShaderF16::NoShaders);
    }
    if executor.disabled().contains(&Feature::ShaderF16) {
        return Some(ShaderF16::Disabled);
    }
    if !executor.has_shader_f16() {
        return Some(ShaderF16::Absent);
    }
    executor.is_noop().then_some(ShaderF16::Passed)
}

fn f16_key(executor: &Executor) -> String {
    format!("{} | f16", verdicts::key(executor))
}

/// Is true for a kernel whose test decides whether `SHADER_F16` is used. Kernels with cooperative matrices do not
/// decide, because models can run without them. Such kernels have a separate test.
fn decides_f16(kernel: &Kernel) -> bool {
    !kernel.cooperative
}
