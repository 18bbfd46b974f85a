//! Runs graphs that search a corpus on the model's device.

use crate::dtype::{Precision, Storage};
use crate::embedder::run::Runner;
use crate::embedder::run::runtime::Runtime;
use crate::error::Error;
use crate::gpu::executor::{Outcome, pipelines_of};
use crate::gpu::graph::Graph;
use crate::kernels::{Builder, KernelPlan};
use crate::selftest;

/// The limits of a device for a search.
pub(crate) struct SearchLimits {
    /// The size of the largest buffer that fits one binding, in bytes.
    pub largest_buffer: u64,
    /// The number of floating point operations of a dispatch that the operating system's watchdog allows.
    pub max_flops: u64,
}

impl Runner {
    /// The limits of the model's device.
    pub(crate) async fn search_limits(&self) -> SearchLimits {
        let runtime = self.runtime.lock().await;
        let largest_buffer = runtime.executor.adapter().largest_buffer();
        SearchLimits { largest_buffer, max_flops: runtime.plan().max_flops }
    }

    /// Runs a graph on the model's device, with weights of this storage and activations of f32. `build` adds its
    /// dispatches and describes its output. With `test`, the known answers of its kernels are tested before, unless they
    /// were tested in an earlier run on the adapter. After a loss, the device is opened again, once.
    ///
    /// # Errors
    /// The errors of running a graph, and [`Error::DeviceFault`] if a kernel computes wrongly.
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
    /// Runs a graph. With `test`, the known answers of its kernels are tested before.
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
