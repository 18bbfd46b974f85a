//! Runs graphs on the adapter that was chosen: a GPU, or the CPU. No other module depends on
//! whether the GPU or the CPU is used.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

#[cfg(feature = "cpu")]
use crate::cpu;
use crate::error::Error;
use crate::gpu::adapter::{AdapterChoice, AdapterSummary, Feature, choose};
use crate::gpu::device::Gpus;
use crate::gpu::executor::{
    Ahead, Compiler, Executor as GpuExecutor, Outcome, PipelineKey, Running as RunningOnGpu,
    ShaderEdit, StoppingKernel,
};
use crate::gpu::graph::{Graph, TensorId};
use crate::gpu::inject::FaultPlan;
use crate::gpu::trace::{Phase, Trace};
#[cfg(feature = "cpu")]
use crate::gpu::trace::{clock, lap};
use crate::kernels::KernelPlan;

/// An open adapter with the weights of a model, on which graphs run.
// The GPU's executor is not boxed. With a box, the types of futures that hold an embedder would exceed the compiler's
// default recursion limit.
#[allow(
    clippy::large_enum_variant,
    reason = "a model has only one executor, so the memory of the unused part of the enum does not \
              matter"
)]
#[derive(Debug)]
pub enum Executor {
    /// The executor on a GPU or on a software driver.
    Gpu(GpuExecutor),
    /// The executor on the CPU, without a driver.
    #[cfg(feature = "cpu")]
    Cpu(Box<cpu::Executor>),
}

/// A graph that was started.
#[derive(Debug)]
pub enum Running {
    /// The graph is submitted to a GPU.
    Gpu(RunningOnGpu),
    /// The CPU has already computed the graph.
    #[cfg(feature = "cpu")]
    Cpu(Outcome),
}

/// The options for opening an adapter.
#[derive(Debug, Clone, Default)]
pub struct AdapterOptions {
    /// The features of a GPU that must not be used.
    pub disabled: Vec<Feature>,
    /// The maximum size of a binding in bytes, below the adapter's own limit; `None` for that limit. Only tests set
    /// this field.
    pub max_binding_bytes: Option<u64>,
    /// The number of threads on the CPU; `None` for one thread on each physical core.
    pub threads: Option<usize>,
    /// The calls to a GPU that must fail. Tests set it.
    #[doc(hidden)]
    pub faults: Option<Arc<FaultPlan>>,
}

/// Evaluates one of two expressions: the first on a GPU's executor, the second on the CPU's executor.
macro_rules! on {
    ($self:ident, $gpu:ident => $on_gpu:expr, $cpu:ident => $on_cpu:expr) => {
        match $self {
            Executor::Gpu($gpu) => $on_gpu,
            #[cfg(feature = "cpu")]
            Executor::Cpu($cpu) => $on_cpu,
        }
    };
}

/// Returns the machine's adapters, best first. [`AdapterChoice::Index`] counts in this order.
///
/// The list includes the CPU itself, after GPUs and before software drivers. Software drivers also compute on the CPU,
/// but more slowly.
pub async fn adapters() -> Vec<AdapterSummary> {
    in_order(&Gpus::search(&AdapterChoice::Best).await.summaries)
}

/// Returns the GPUs and the CPU in the order of preference.
fn in_order(gpus: &[AdapterSummary]) -> Vec<AdapterSummary> {
    let mut all = gpus.to_vec();
    #[cfg(feature = "cpu")]
    {
        let software = all.iter().position(AdapterSummary::is_software).unwrap_or(all.len());
        all.insert(software, cpu::summary());
    }
    all.iter_mut().enumerate().for_each(|(index, adapter)| adapter.index = index);
    all
}

impl Executor {
    /// Opens the chosen adapter.
    ///
    /// # Errors
    /// Returns [`Error::Adapter`] if there is no such adapter; [`Error::DeviceFault`] if the device cannot be opened.
    pub async fn open(choice: &AdapterChoice, options: &AdapterOptions) -> Result<Self, Error> {
        #[cfg(feature = "cpu")]
        if *choice == AdapterChoice::Cpu {
            return Executor::open_cpu(options, 0);
        }
        let gpus = Gpus::search(choice).await;
        let all = match choice {
            AdapterChoice::Noop(_) => gpus.summaries.clone(),
            _ => in_order(&gpus.summaries),
        };
        let chosen = choose(choice, &all)?;
        #[cfg(feature = "cpu")]
        if all[chosen].is_cpu() {
            return Executor::open_cpu(options, chosen);
        }
        let own = all[..chosen].iter().filter(|adapter| !adapter.is_cpu()).count();
        let faults = options.faults.clone();
        let mut gpu = gpus.open(own, &options.disabled, options.max_binding_bytes, faults).await?;
        gpu.adapter.index = chosen;
        Ok(Executor::Gpu(GpuExecutor::new(gpu)?))
    }

    #[cfg(feature = "cpu")]
    fn open_cpu(options: &AdapterOptions, index: usize) -> Result<Self, Error> {
        let mut executor = cpu::Executor::new(options.threads)?;
        executor.adapter.index = index;
        if let Some(bytes) = options.max_binding_bytes {
            executor.adapter.max_binding_bytes = executor.adapter.max_binding_bytes.min(bytes);
        }
        Ok(Executor::Cpu(Box::new(executor)))
    }

    /// Returns the adapter on which graphs run.
    pub fn adapter(&self) -> &AdapterSummary {
        on!(self, gpu => &gpu.gpu.adapter, cpu => &cpu.adapter)
    }

    /// Returns the plan with the variants of kernels that suit the adapter.
    pub fn plan(&self) -> KernelPlan {
        on!(self, gpu => KernelPlan::for_device(&gpu.gpu), _cpu => KernelPlan::for_cpu())
    }

    /// Returns the name of the CPU's matrix kernels; `None` on a GPU.
    pub(crate) fn matrix_kernels(&self) -> Option<String> {
        on!(self, _gpu => None, cpu => Some(cpu.matrix_kernels()))
    }

    /// Is true on the CPU, which runs no shaders.
    pub fn is_cpu(&self) -> bool {
        on!(self, _gpu => false, _cpu => true)
    }

    /// Returns the features of the GPU that the caller disabled.
    pub(crate) fn disabled(&self) -> &[Feature] {
        on!(self, gpu => &gpu.gpu.disabled, _cpu => &[])
    }

    /// Is true for a dry-run device, which computes nothing.
    pub(crate) fn is_noop(&self) -> bool {
        on!(self, gpu => gpu.gpu.is_noop(), _cpu => false)
    }

    /// Is true if shaders may use f16.
    pub fn has_shader_f16(&self) -> bool {
        on!(self, gpu => gpu.gpu.has_shader_f16(), _cpu => false)
    }

    /// Is true if the time of each dispatch can be measured.
    pub fn has_timestamps(&self) -> bool {
        on!(self, gpu => gpu.gpu.has_timestamps(), _cpu => true)
    }

    /// Is true after the device was lost. The CPU is never lost.
    pub(crate) fn is_lost(&self) -> bool {
        on!(self, gpu => gpu.gpu.is_lost(), _cpu => false)
    }

    /// Makes later losses of the device increase the counter `losses`.
    pub(crate) fn count_losses(&self, losses: &Arc<AtomicU64>) {
        on!(self, gpu => gpu.gpu.count_losses(losses), _cpu => { let _ = losses; });
    }

    /// Destroys the device, as a driver reset does. Tests use this function to check the recovery from a lost device.
    pub(crate) fn destroy(&self) {
        on!(self, gpu => gpu.gpu.destroy(), _cpu => ());
    }

    /// Runs a graph and returns its output.
    ///
    /// # Errors
    /// Returns [`Error::OutOfMemory`] or [`Error::DeviceLost`]. Returns [`Error::DeviceFault`] if the driver refuses a
    /// pipeline, or [`Error::Internal`] if it refuses a command.
    pub async fn run(&mut self, graph: &Graph) -> Result<Outcome, Error> {
        on!(self, gpu => gpu.run(graph).await, cpu => cpu.run(graph))
    }

    /// Starts a graph. A GPU computes the graph while the host does other work; the CPU computes the graph before this
    /// function returns.
    ///
    /// # Errors
    /// Returns the errors of [`Executor::run`].
    pub async fn start(&mut self, graph: &Graph) -> Result<Running, Error> {
        on!(self, gpu => gpu.start(graph).await.map(Running::Gpu), cpu => {
            let since = clock(cpu.trace.as_ref());
            let outcome = cpu.run(graph)?;
            lap(cpu.trace.as_mut(), since, Phase::Submit);
            Ok(Running::Cpu(outcome))
        })
    }

    /// Waits for a started graph and returns its output.
    ///
    /// # Errors
    /// Returns the errors of [`Executor::run`].
    pub async fn finish(&mut self, graph: &Graph, running: Running) -> Result<Outcome, Error> {
        match (self, running) {
            (Executor::Gpu(gpu), Running::Gpu(running)) => gpu.finish(graph, running).await,
            #[cfg(feature = "cpu")]
            (_, Running::Cpu(outcome)) => Ok(outcome),
            #[cfg(feature = "cpu")]
            _ => Err(Error::Internal(
                "a batch must be finished on the executor that started it".into(),
            )),
        }
    }

    /// Runs a graph, and calls `visit` with each tensor for which `wanted` is true, as soon as the tensor is complete.
    ///
    /// # Errors
    /// Returns the errors of [`Executor::run`].
    pub async fn run_tapped(
        &mut self,
        graph: &Graph,
        wanted: &[bool],
        visit: impl FnMut(TensorId, &[u8]),
    ) -> Result<Outcome, Error> {
        on!(self, gpu => gpu.run_tapped(graph, wanted, visit).await,
            cpu => cpu.run_tapped(graph, wanted, visit))
    }

    /// Allocates memory for a weight, which [`Executor::write_weight`] then fills. Returns the weight's index.
    ///
    /// # Errors
    /// Returns [`Error::OutOfMemory`], or [`Error::Adapter`] if the weight exceeds the adapter's limit.
    pub(crate) fn add_weight(&mut self, name: &str, bytes: u64) -> Result<usize, Error> {
        on!(self, gpu => gpu.add_weight(name, bytes), cpu => {
            cpu.adapter.check_weight(name, bytes)?;
            Ok(cpu.add_weight(bytes))
        })
    }

    /// Writes a part of a weight.
    ///
    /// # Errors
    /// Returns [`Error::OutOfMemory`] or [`Error::DeviceLost`].
    pub(crate) fn write_weight(
        &mut self,
        weight: usize,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), Error> {
        on!(self, gpu => gpu.write_weight(weight, offset, bytes),
            cpu => cpu.write_weight(weight, offset, bytes))
    }

    /// Waits until all weights are written.
    ///
    /// # Errors
    /// Returns [`Error::OutOfMemory`] or [`Error::DeviceLost`].
    pub(crate) fn finish_uploads(&mut self) -> Result<(), Error> {
        on!(self, gpu => gpu.finish_uploads(), _cpu => Ok(()))
    }

    /// Frees every buffer.
    pub(crate) fn release(&mut self) {
        on!(self, gpu => gpu.release(), cpu => cpu.release());
    }

    /// Sets the maximum total size, in bytes, of a batch's buffers.
    pub(crate) fn limit_batches(&mut self, bytes: Option<u64>) {
        on!(self, gpu => gpu.batch_limit = bytes, cpu => cpu.batch_limit = bytes);
    }

    /// Starts to record measurements in `trace`, or stops recording if `trace` is `None`. Returns the trace that was
    /// recorded so far.
    pub fn measure(&mut self, trace: Option<Trace>) -> Option<Trace> {
        on!(self, gpu => std::mem::replace(&mut gpu.trace, trace),
            cpu => std::mem::replace(&mut cpu.trace, trace))
    }

    /// Returns the current time if a trace is being measured, or else `None`.
    pub(crate) fn clock(&self) -> Option<Instant> {
        on!(self, gpu => gpu.clock(), cpu => clock(cpu.trace.as_ref()))
    }

    /// Adds the time from `since` until this call to the recorded time of a phase.
    pub(crate) fn lap(&mut self, since: Option<Instant>, phase: Phase) {
        on!(self, gpu => { gpu.lap(since, phase); }, cpu => lap(cpu.trace.as_mut(), since, phase));
    }

    /// Reads compiled pipelines from a directory, and caches new ones there.
    pub(crate) fn cache_pipelines_in(&mut self, directory: &Path) {
        on!(self, gpu => gpu.cache_pipelines_in(directory), _cpu => ());
    }

    /// Writes compiled pipelines to their cache, if any were made since it was last written.
    pub(crate) fn save_pipelines(&mut self) {
        on!(self, gpu => gpu.save_pipelines(), _cpu => ());
    }

    /// Returns a compiler that makes pipelines on other threads; `None` if the adapter has no pipelines.
    pub(crate) fn compiler(&self) -> Option<Compiler> {
        on!(self, gpu => (!gpu.gpu.is_noop()).then(|| gpu.compiler()), _cpu => None)
    }

    /// Adds pipelines that were compiled before a graph needs them.
    pub(crate) fn adopt(&mut self, ahead: Ahead) {
        on!(self, gpu => gpu.adopt(ahead), _cpu => drop(ahead));
    }

    /// Makes the missing pipelines of these graphs, before the graphs run.
    pub(crate) async fn make_ahead<'a>(&mut self, graphs: impl Iterator<Item = &'a Graph>) {
        on!(self, gpu => gpu.make_ahead(graphs).await, _cpu => drop(graphs));
    }

    /// Makes the given pipelines, except those that exist already.
    ///
    /// # Errors
    /// Returns [`Error::DeviceFault`] with the driver's message about a pipeline that it refuses.
    pub(crate) async fn make(&mut self, keys: &[PipelineKey]) -> Result<(), Error> {
        on!(self, gpu => gpu.make(keys).await, _cpu => { let _ = keys; Ok(()) })
    }

    /// Breaks a shader, so that tests can check that the broken shader is detected. On the CPU, which runs no shaders,
    /// this function does nothing.
    #[doc(hidden)]
    pub fn edit_shader(&mut self, edit: ShaderEdit) {
        on!(self, gpu => gpu.edit_shader(edit), _cpu => { let _ = edit; });
    }

    /// Is true if a test has broken a shader.
    pub(crate) fn is_edited(&self) -> bool {
        on!(self, gpu => gpu.is_edited(), _cpu => false)
    }

    /// Sets the number of tokens above which a graph fails with an out-of-memory error. Tests use this function to
    /// check the recovery from this error.
    #[doc(hidden)]
    pub fn fit_tokens(&mut self, tokens: Option<usize>) {
        on!(self, gpu => gpu.fit_tokens(tokens), cpu => cpu.tokens_that_fit = tokens);
    }

    /// Makes a shader stop computing after some batches, so that tests can check that the failure is detected. On the
    /// CPU, which runs no shaders, this function does nothing.
    #[doc(hidden)]
    pub fn stop_kernel(&mut self, stopping: StoppingKernel) {
        on!(self, gpu => gpu.stop_kernel(stopping), _cpu => { let _ = stopping; });
    }
}

#[cfg(all(test, feature = "cpu"))]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_comes_after_gpus_and_before_software_drivers() {
        let gpu = |name: &str, device_type: &str| AdapterSummary {
            name: name.to_owned(),
            device_type: device_type.to_owned(),
            backend: "Vulkan".to_owned(),
            ..cpu::summary()
        };
        let integrated = gpu("Iris", "IntegratedGpu");
        let software = gpu("llvmpipe", "Cpu");
        let order = |gpus: &[AdapterSummary]| {
            let all = in_order(gpus);
            assert!(all.iter().enumerate().all(|(at, adapter)| adapter.index == at));
            all.iter().map(|adapter| adapter.backend.clone()).collect::<Vec<_>>()
        };
        assert_eq!(order(&[]), ["Native"]);
        assert_eq!(order(std::slice::from_ref(&software)), ["Native", "Vulkan"]);
        let all = [integrated, software];
        assert_eq!(order(&all), ["Vulkan", "Native", "Vulkan"]);
        let all = in_order(&all);
        let position = |choice: &AdapterChoice| choose(choice, &all).unwrap();
        assert_eq!(position(&AdapterChoice::Best), 0);
        assert_eq!(position(&AdapterChoice::Cpu), 1);
        assert_eq!(position(&AdapterChoice::Gpu), 0);
        assert_eq!(position(&"LLVM".parse().unwrap()), 2);
        assert_eq!(position(&"CPU".parse().unwrap()), 1);
        assert!(choose(&AdapterChoice::Gpu, &in_order(&[])).is_err());
    }
}
