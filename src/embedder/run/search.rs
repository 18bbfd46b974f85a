//! Runs graphs that search a corpus, on the model's device.

use crate::dtype::{Precision, Storage};
use crate::embedder::run::Runner;
use crate::embedder::run::runtime::Runtime;
use crate::error::Error;
use crate::gpu::executor::{Outcome, pipelines_of};
use crate::gpu::graph::Graph;
use crate::kernels::{Builder, KernelPlan};
use crate::selftest;

/// The limits that a device sets for a search.
pub(crate) struct SearchLimits {
    /// The size in bytes of the largest buffer that a shader can bind.
    pub largest_buffer: u64,
    /// The maximum number of floating-point operations in a dispatch. Longer dispatches could trigger the operating
    /// system's watchdog.
    pub max_flops: u64,
}

impl Runner {
    /// Returns the limits that the model's device sets for a search.
    pub(crate) async fn search_limits(&self) -> SearchLimits {
        let runtime = self.runtime.lock().await;
        let largest_buffer = runtime.executor.adapter().largest_buffer();
        SearchLimits { largest_buffer, max_flops: runtime.plan().max_flops }
    }

    /// Runs a graph on the model's device, with weights stored as `weights` and f32 activations. `build` adds the
    /// dispatches of the graph and returns a description of its output. If `test` is true, the known-answer tests of
    /// the graph's kernels run first, unless their results are cached. If the device is lost, it is opened again once.
    ///
    /// # Errors
    /// Returns the errors of running a graph, and [`Error::DeviceFault`] if a kernel computes wrongly.
    pub(crate) async fn run_search<T>(
        &self,
        weights: Storage,
        test: bool,
        build: impl FnOnce(&mut Builder) -> T,
    ) -> Result<(T, Outcome), Error> {
        let precision = Precision { weights, activations: Storage::F32, ..self.precision.clone() };
        let mut runtime = self.runtime.lock().await;
        let plan = runtime.plan();
        let mut builder = Builder::new(&plan, &precision);
        let output = build(&mut builder);
        let graph = builder.graph;
        let outcome = match runtime.run_tested(&graph, &plan, &precision, test).await {
            Err(loss @ Error::DeviceLost { .. }) => {
                runtime.recover(&self.model, &self.precision, loss).await?;
                runtime.run_tested(&graph, &plan, &precision, test).await?
            }
            ran => ran?,
        };
        runtime.executor.save_pipelines();
        Ok((output, outcome))
    }
}

impl Runtime {
    /// Runs a graph. If `test` is true, the known-answer tests of the graph's kernels run first.
    async fn run_tested(
        &mut self,
        graph: &Graph,
        plan: &KernelPlan,
        precision: &Precision,
        test: bool,
    ) -> Result<Outcome, Error> {
        if test && !self.executor.is_edited() {
            let pipelines = pipelines_of(std::iter::once(graph));
            let cache = self.cache_dir();
            let executor = &mut self.executor;
            selftest::check_model(executor, &pipelines, plan, precision, cache.as_deref()).await?;
        }
        self.executor.run(graph).await
    }
}
