//! Holds a model on a device, computes the rows of batches, and opens the device again after a loss.

use std::path::PathBuf;

use crate::batch::PackedBatch;
use crate::config::{FirstModule, Module};
use crate::convert;
use crate::dtype::Precision;
use crate::embedder::assembly::{Assembly, BatchGraph};
use crate::embedder::device::{DeviceSetup, KernelChoice};
use crate::embedder::model::Model;
use crate::embedder::run::rows::BatchRows;
use crate::error::Error;
use crate::executor::{Executor, Running};
use crate::gpu::executor::PipelineKey;
use crate::gpu::trace::Phase;
use crate::kernels::{Builder, KernelPlan};
use crate::weights::{Destination, LoadProgress};

/// A device with the model's weights on it.
#[derive(Debug)]
pub(in crate::embedder) struct Runtime {
    setup: DeviceSetup,
    pub executor: Executor,
    assembly: Assembly,
    /// The bytes of all weights.
    pub weight_bytes: u64,
    /// The kernels to run instead of the kernels chosen for the device; `None` except in measurements.
    pub other_plan: Option<KernelPlan>,
    /// The number of times that the device was opened again after a loss.
    reopened: usize,
    /// The largest token budget with which a batch fits into memory; `None` until memory has run out.
    pub tokens_that_fit: Option<usize>,
}

impl Runtime {
    /// Loads the model's weights onto an open device, and compiles `pipelines` at the same time. `total` is the number
    /// of bytes of the weights.
    pub fn load(
        model: &Model,
        precision: &Precision,
        setup: DeviceSetup,
        mut executor: Executor,
        total: u64,
        pipelines: &[PipelineKey],
        progress: Option<&dyn Fn(LoadProgress)>,
    ) -> Result<Self, Error> {
        let compiler = executor.compiler();
        let mut load = || {
            let mut to = Destination::device(&mut executor, total, progress);
            let assembly = Assembly::load(model, precision.weights, &mut to)?;
            Ok::<_, Error>((assembly, to.finish()?.all()))
        };
        let (ahead, loaded) = match compiler {
            Some(compiler) => compiler.beside(pipelines, load),
            // A no-op device (which computes nothing) and the CPU need no pipelines.
            None => (None, load()),
        };
        let (assembly, weight_bytes) = loaded?;
        if let Some(ahead) = ahead {
            executor.adopt(ahead);
        }
        executor.limit_batches(setup.max_memory.map(|most| most.saturating_sub(weight_bytes)));
        Ok(Runtime {
            setup,
            executor,
            assembly,
            weight_bytes,
            other_plan: None,
            reopened: 0,
            tokens_that_fit: None,
        })
    }

    /// Runs a batch, waits until it is finished, and returns its rows.
    pub async fn run(
        &mut self,
        model: &Model,
        precision: &Precision,
        batch: &PackedBatch,
    ) -> Result<BatchRows, Error> {
        let started = self.start(precision, batch).await?;
        self.finish(model, batch, started).await
    }

    /// Submits a batch without waiting for it.
    pub async fn start(
        &mut self,
        precision: &Precision,
        batch: &PackedBatch,
    ) -> Result<Started, Error> {
        let since = self.executor.clock();
        let graph = self.graph(precision, batch);
        self.executor.lap(since, Phase::Pack);
        let running = self.executor.start(&graph.graph).await?;
        Ok(Started { graph, running, reopened: self.reopened })
    }

    /// Waits until a started batch is finished, and returns its rows.
    pub async fn finish(
        &mut self,
        model: &Model,
        batch: &PackedBatch,
        Started { graph, running, reopened }: Started,
    ) -> Result<BatchRows, Error> {
        if reopened != self.reopened {
            let adapter = self.executor.adapter().name.clone();
            let problem = "another call reopened the device while this batch was running, so the \
                           batch has no results; run the texts again"
                .to_owned();
            return Err(Error::DeviceLost { adapter, problem });
        }
        let outcome = self.executor.finish(&graph.graph, running).await?;
        // Pipelines are saved after the batch, because some drivers compile a pipeline only when it first runs.
        self.executor.save_pipelines();
        let since = self.executor.clock();
        let rows = BatchRows::new(model, batch, &graph.output, &outcome);
        let normalised = matches!(model.config.modules.last(), Some(Module::Normalize));
        if normalised && !self.executor.is_noop() {
            // For some models a row of zeros is correct, as in sentence-transformers: it is the mean over a text
            // without tokens to pool. A static model has no token for unknown words, and pooling may skip all of the
            // prompt's tokens.
            let zeros = model.config.input != FirstModule::Transformer || !model.include_prompt;
            rows.check_length_one(model.dimension, zeros, &self.executor.adapter().name)?;
        }
        self.executor.lap(since, Phase::ReadBack);
        Ok(rows)
    }

    /// Opens the device and loads the model again after a loss. Batches that were started before the loss return no
    /// rows.
    ///
    /// # Errors
    /// Returns the error `loss` itself if the device that was opened again belongs to a different adapter. Vectors of
    /// that adapter would not be bit-identical to earlier vectors, and its f16 is untested. Returns [`Error::DeviceLost`] or
    /// [`Error::OutOfMemory`] if the device or the weights cannot be loaded. The next call then tries again.
    pub async fn recover(
        &mut self,
        model: &Model,
        precision: &Precision,
        loss: Error,
    ) -> Result<(), Error> {
        if !self.executor.is_lost() {
            // Another call has opened the device again in the meantime, so nothing needs to be done.
            return Ok(());
        }
        tracing::warn!(%loss, "the device was lost, so Vectile opens the device again");
        let executor = self.setup.open().await.map_err(|error| self.still_lost(error))?;
        if executor.adapter().key() != self.executor.adapter().key() {
            return Err(loss);
        }
        // The old weights are freed first, because two copies of the weights may not fit into memory.
        self.executor.release();
        let total = self.weight_bytes;
        let loaded =
            Runtime::load(model, precision, self.setup.clone(), executor, total, &[], None)
                .map_err(|error| self.still_lost(error))?;
        let (reopened, tokens_that_fit) = (self.reopened + 1, self.tokens_that_fit);
        *self = Runtime { reopened, tokens_that_fit, ..loaded };
        Ok(())
    }

    /// Returns the error of opening a lost device again. A driver that refuses a call now may accept it later, so the
    /// device still counts as lost.
    fn still_lost(&self, error: Error) -> Error {
        match error {
            Error::DeviceFault { problem, .. } | Error::Internal(problem) => {
                let adapter = self.executor.adapter().name.clone();
                let problem = format!("opening it again failed: {problem}");
                Error::DeviceLost { adapter, problem }
            }
            other => other,
        }
    }

    /// Returns the graph of the forward pass over a batch.
    pub fn graph(&self, precision: &Precision, batch: &PackedBatch) -> BatchGraph {
        self.assembly.graph(&self.plan(), precision, batch)
    }

    /// Returns the kernels that the device runs.
    pub fn plan(&self) -> KernelPlan {
        self.other_plan.clone().unwrap_or_else(|| self.setup.plan(&self.executor))
    }

    /// Returns the directory in which results of self-tests are cached.
    pub fn cache_dir(&self) -> Option<PathBuf> {
        self.setup.cache_dir.clone()
    }

    /// Returns a description, for reports, of the kernels that run at this precision.
    pub fn kernel_choice(&self, precision: &Precision) -> KernelChoice {
        self.setup.kernel_choice(&self.executor, &self.plan(), precision)
    }

    /// Returns the transformer's hidden states over a batch, with the shape `[tokens, hidden]`.
    pub async fn hidden_states(
        &mut self,
        precision: &Precision,
        batch: &PackedBatch,
    ) -> Result<Vec<f32>, Error> {
        let mut builder = Builder::new(&self.plan(), precision);
        let x = self.assembly.transformer.forward(&mut builder, batch);
        builder.graph.output = Some(x.id);
        builder.graph.tokens = batch.ids.len();
        let outcome = self.executor.run(&builder.graph).await?;
        let padded = convert::decode(x.storage, &outcome.output);
        let rows = padded.chunks_exact(x.width4 * 4).take(x.rows);
        Ok(rows.flat_map(|row| &row[..x.width]).copied().collect())
    }

    /// Destroys the device, so that tests can check that Vectile opens it again.
    pub fn destroy(&self) {
        self.executor.destroy();
    }
}

/// A batch that was submitted to the device.
#[derive(Debug)]
pub(in crate::embedder) struct Started {
    graph: BatchGraph,
    running: Running,
    /// The value of the runtime's counter `reopened` when the batch was started.
    reopened: usize,
}
