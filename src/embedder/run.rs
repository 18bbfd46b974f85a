//! A loaded model on a device: batches in, rows out, and the device won back when it is lost.

use crate::batch::PackedBatch;
use crate::config::{KindConfig, ModelConfig, Module, Sparse, Weighting};
use crate::convert;
use crate::dtype::{CheckpointDtype, Precision, Storage};
use crate::embedder::assembly::{Assembly, BatchGraph, VOCABULARY_BLOCK};
use crate::embedder::inspect::KernelChoice;
use crate::embedder::opening::{Matrices, Opening};
use crate::embedder::rows::Rows;
use crate::error::Error;
use crate::files::ModelFiles;
use crate::gpu::adapter::Feature;
use crate::gpu::executor::{Executor, PipelineKey, Running};
#[cfg(feature = "lab")]
use crate::gpu::graph::{Graph, TensorId};
use crate::gpu::trace::Phase;
use crate::kernels::{Builder, KernelPlan};
use crate::models::{Head, Transformer};
use crate::tokenize::{Tokenizer, Tokens};
use crate::weights::{Destination, LoadProgress, WeightFiles};

/// Everything about a model that is not on a device.
#[derive(Debug)]
pub(super) struct Model {
    pub files: ModelFiles,
    pub config: ModelConfig,
    pub weights: WeightFiles,
    /// For each module after the transformer its weights, where it has any.
    pub module_weights: Vec<Option<WeightFiles>>,
    pub transformer: Box<dyn Transformer>,
    /// The head that comes with the transformer, where that is what the model is loaded for.
    pub head: Option<Head>,
    pub tokenizer: Tokenizer,
    /// Values of a vector.
    pub dimension: usize,
    /// False where pooling leaves the prompt's tokens out.
    pub include_prompt: bool,
}

impl Model {
    /// The dtype that the checkpoint names.
    pub fn checkpoint(&self) -> CheckpointDtype {
        CheckpointDtype::find(
            |field| self.config.transformer.raw(field),
            self.weights.first_floating(),
        )
    }

    /// The widest activation of a token.
    pub fn widest(&self) -> usize {
        let widest = self.transformer.facts().widest;
        let columns = |module: &Module| match module {
            Module::Dense { out_features, .. } => *out_features,
            _ => 0,
        };
        match self.config.kind {
            KindConfig::Sparse(Sparse { weighting: Weighting::Splade { .. }, .. }) => {
                widest.max(VOCABULARY_BLOCK)
            }
            KindConfig::MultiVector(_) => {
                let dense = self.config.modules.iter().map(columns).max().unwrap_or(0);
                widest.max(dense.max(self.dimension).next_multiple_of(4))
            }
            KindConfig::Dense | KindConfig::Reranker(_) | KindConfig::Sparse(_) => widest,
        }
    }

    /// A GPU turns a token type beyond the table into a wrong row in silence.
    pub fn check_types(&self, tokens: &Tokens) -> Result<(), Error> {
        let rows = self.transformer.facts().type_rows.map_or(u32::MAX, |rows| rows as u32);
        let Some(id) = tokens.type_ids.iter().find(|id| **id >= rows) else { return Ok(()) };
        let problem = format!("gives a token the type {id}, and the model has {rows} types");
        Err(Error::tokenizer(format!("{}tokenizer.json", self.config.weights_prefix), problem))
    }
}

/// The device with the model on it.
#[derive(Debug)]
pub(super) struct Runtime {
    opening: Opening,
    pub(super) executor: Executor,
    assembly: Assembly,
    /// Bytes of all weights.
    pub weight_bytes: u64,
    /// Kernels to run instead of those that suit the device, for measuring them.
    pub other_plan: Option<KernelPlan>,
    /// How often the device was opened again.
    opened: usize,
    /// Tokens of a batch, at most, since memory ran out for more.
    pub tokens_that_fit: Option<usize>,
}

impl Runtime {
    /// Loads the model of `total` bytes of weights onto an open device, and makes `pipelines` meanwhile.
    pub fn load(
        model: &Model,
        precision: &Precision,
        opening: Opening,
        mut executor: Executor,
        total: u64,
        pipelines: &[PipelineKey],
        progress: Option<&dyn Fn(LoadProgress)>,
    ) -> Result<Self, Error> {
        let compiler = executor.compiler();
        // A device that computes nothing has nothing to gain.
        let pipelines = if executor.gpu.is_noop() { &[] } else { pipelines };
        let load = || {
            let mut to = Destination::device(&mut executor, total, progress);
            let assembly = Assembly::load(model, precision.weights, &mut to)?;
            Ok::<_, Error>((assembly, to.finish()?.all()))
        };
        let (ahead, loaded) = compiler.beside(pipelines, load);
        let (assembly, weight_bytes) = loaded?;
        if let Some(ahead) = ahead {
            executor.adopt(ahead);
        }
        executor.batch_limit = opening.max_memory.map(|most| most.saturating_sub(weight_bytes));
        Ok(Runtime {
            opening,
            executor,
            assembly,
            weight_bytes,
            other_plan: None,
            opened: 0,
            tokens_that_fit: None,
        })
    }

    /// Runs a batch and waits for it.
    pub async fn run(
        &mut self,
        model: &Model,
        precision: &Precision,
        batch: &PackedBatch,
    ) -> Result<Rows, Error> {
        let started = self.start(precision, batch)?;
        self.finish(model, batch, started).await
    }

    /// Submits a batch without waiting for it.
    pub fn start(&mut self, precision: &Precision, batch: &PackedBatch) -> Result<Started, Error> {
        let since = self.executor.clock();
        let graph = self.graph(precision, batch);
        self.executor.lap(since, Phase::Pack);
        let running = self.executor.start(&graph.graph)?;
        Ok(Started { graph, running, opened: self.opened })
    }

    /// Waits for a started batch.
    pub async fn finish(
        &mut self,
        model: &Model,
        batch: &PackedBatch,
        Started { graph, running, opened }: Started,
    ) -> Result<Rows, Error> {
        if opened != self.opened {
            let adapter = self.executor.gpu.adapter.name.clone();
            let problem = "it was opened again while a batch was on it".to_owned();
            return Err(Error::DeviceLost { adapter, problem });
        }
        let outcome = self.executor.finish(&graph.graph, running).await?;
        // After the batch: some drivers compile when a pipeline is first run.
        self.executor.save_pipelines();
        let since = self.executor.clock();
        let rows = Rows::of(model, batch, &graph.output, &outcome);
        self.executor.lap(since, Phase::ReadBack);
        Ok(rows)
    }

    /// Opens the device again after a loss and loads everything; what was started has no rows. Fails with
    /// the loss where another adapter is there instead, since it would give other bits, and its f16 was
    /// never tested.
    pub async fn recover(
        &mut self,
        model: &Model,
        precision: &Precision,
        loss: Error,
    ) -> Result<(), Error> {
        if !self.executor.gpu.is_lost() {
            // Another call was first.
            return Ok(());
        }
        tracing::warn!(%loss, "opening the device again");
        let executor = self.opening.open().await?;
        if executor.gpu.adapter.key() != self.executor.gpu.adapter.key() {
            return Err(loss);
        }
        // A model may be too large to be in memory twice.
        self.executor.release();
        let total = self.weight_bytes;
        let loaded =
            Runtime::load(model, precision, self.opening.clone(), executor, total, &[], None)?;
        let (opened, tokens_that_fit) = (self.opened + 1, self.tokens_that_fit);
        *self = Runtime { opened, tokens_that_fit, ..loaded };
        Ok(())
    }

    /// As [`Runtime::run`] with f32 activations, and shows `visit` every tensor that 16-bit activations
    /// would store in 16 bits, one at a time, as f32. A lost device stays lost.
    #[cfg(feature = "lab")]
    pub async fn tap(
        &mut self,
        model: &Model,
        precision: &Precision,
        batch: &PackedBatch,
        mut visit: impl FnMut(&Graph, TensorId, &[f32]),
    ) -> Result<Rows, Error> {
        let with = |activations| Precision { activations, ..precision.clone() };
        let BatchGraph { graph, output } = self.graph(&with(Storage::F32), batch);
        // The same graph in 16 bits: what takes half the bytes there is what counts.
        let narrow = self.graph(&with(Storage::PackedF16), batch).graph;
        if narrow.tensors.len() != graph.tensors.len() {
            return Err(Error::Internal("a graph depends on how activations are stored".into()));
        }
        let wanted: Vec<bool> =
            graph.tensors.iter().zip(&narrow.tensors).map(|(a, b)| b.bytes < a.bytes).collect();
        let tapped = self.executor.run_tapped(&graph, &wanted, |id, bytes| {
            visit(&graph, id, &convert::decode(Storage::F32, bytes));
        });
        let outcome = tapped.await?;
        Ok(Rows::of(model, batch, &output, &outcome))
    }

    /// The forward pass over a batch.
    pub fn graph(&self, precision: &Precision, batch: &PackedBatch) -> BatchGraph {
        self.assembly.graph(&self.plan(), precision, batch)
    }

    /// Which kernels this device takes.
    pub fn plan(&self) -> KernelPlan {
        self.other_plan.clone().unwrap_or_else(|| self.opening.plan(&self.executor.gpu))
    }

    /// The kernels that a precision runs here, for reports.
    pub fn kernels(&self, precision: &Precision) -> KernelChoice {
        let plan = self.plan();
        let gpu = &self.executor.gpu;
        let storages = (precision.weights, precision.activations);
        let f16 = storages == (Storage::F16, Storage::F16);
        let without = match &self.opening.matrices {
            _ if plan.software || !f16 => None,
            Matrices::Right { .. } => None,
            Matrices::Wrong(fault) => Some(format!("cooperative matrices: {fault}")),
            Matrices::Untested if gpu.disabled.contains(&Feature::CooperativeMatrix) => {
                Some("cooperative matrices were disabled".to_owned())
            }
            Matrices::Untested => {
                Some("the adapter has no cooperative matrices of f16 with f32 sums".to_owned())
            }
        };
        let one_size = (!plan.by_rows)
            .then(|| "tiles of other sizes give other bits on this adapter".to_owned());
        let because: Vec<String> = without.into_iter().chain(one_size).collect();
        KernelChoice {
            family: if plan.software { "software" } else { "gpu" }.to_owned(),
            matmul: plan.describe(storages),
            because: (!because.is_empty()).then(|| because.join("; ")),
        }
    }

    /// The transformer's hidden states over a batch, `[tokens, hidden]`.
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
        let filled = convert::decode(x.storage, &outcome.output);
        let rows = filled.chunks_exact(x.width4 * 4).take(x.rows);
        Ok(rows.flat_map(|row| &row[..x.width]).copied().collect())
    }

    /// Destroys the device, for tests of what follows.
    pub fn destroy(&self) {
        self.executor.gpu.destroy();
    }
}

/// A batch on its way.
#[derive(Debug)]
pub(super) struct Started {
    graph: BatchGraph,
    running: Running,
    /// Which opening of the device it is on.
    opened: usize,
}
