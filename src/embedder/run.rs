//! A loaded model on a device: batches in, rows out, and the device won back when it is lost.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::batch::PackedBatch;
use crate::config::{ModelConfig, Module, PoolingMode, Purpose, Sparse, Weighting};
use crate::convert;
use crate::dtype::{CheckpointDtype, Precision, Storage};
use crate::embedder::rows::Rows;
use crate::error::Error;
use crate::files::ModelFiles;
use crate::gpu::adapter::{AdapterChoice, Feature};
use crate::gpu::device::Gpu;
use crate::gpu::executor::{Executor, Running, ShaderEdit};
use crate::gpu::graph::Graph;
#[cfg(feature = "lab")]
use crate::gpu::graph::TensorId;
use crate::gpu::trace::Phase;
use crate::kernels::layer_norm::{Norm, layer_norm};
use crate::kernels::matmul::{Linear, matmul};
use crate::kernels::normalize_l2::normalize_l2;
use crate::kernels::pool::{pool, pool_at, pooled};
use crate::kernels::{Activation, Activations, Builder, KernelPlan};
use crate::models::layers::dense_activation;
use crate::models::{Head, Loaded, Step, Transformer};
use crate::tokenize::{Tokenizer, Tokens};
use crate::weights::{Axis, Destination, LoadProgress, Loader, WeightFiles};

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
        match self.config.purpose {
            Purpose::Sparse(Sparse { weighting: Weighting::Splade { .. }, .. }) => {
                widest.max(VOCABULARY_BLOCK)
            }
            Purpose::TokenVectors(_) => {
                let dense = self.config.modules.iter().map(columns).max().unwrap_or(0);
                widest.max(dense.max(self.dimension).next_multiple_of(4))
            }
            Purpose::Vectors | Purpose::Scores(_) | Purpose::Sparse(_) => widest,
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

/// How to open the device, the first time and after a loss.
#[derive(Debug, Clone)]
pub(super) struct Opening {
    pub adapter: AdapterChoice,
    pub withheld: Vec<Feature>,
    pub max_binding_bytes: Option<u64>,
    /// What the model may take of memory.
    pub max_memory: Option<u64>,
    /// Run the kernels for GPUs whatever the adapter.
    pub gpu_kernels: bool,
    pub shader_edit: Option<ShaderEdit>,
    /// See [`Executor::fit_tokens`].
    pub fit_tokens: Option<usize>,
    /// How often a device that was opened so was lost.
    pub losses: Arc<AtomicU64>,
}

impl Opening {
    pub async fn open(&self) -> Result<Executor, Error> {
        let gpu = Gpu::open_limited(&self.adapter, &self.withheld, self.max_binding_bytes).await?;
        gpu.count_losses(&self.losses);
        let mut executor = Executor::new(gpu);
        if let Some(edit) = self.shader_edit {
            executor.edit_shader(edit);
        }
        executor.fit_tokens(self.fit_tokens);
        Ok(executor)
    }

    /// Which kernels a device takes.
    pub fn plan(&self, gpu: &Gpu) -> KernelPlan {
        let plan = gpu.plan();
        KernelPlan { software: plan.software && !self.gpu_kernels, ..plan }
    }
}

/// A module's weights on the device.
#[derive(Debug)]
enum Stage {
    Pool(Vec<u32>),
    Dense {
        linear: Linear,
        activation: Activation,
        residual: Residual,
    },
    LayerNorm(Norm),
    Normalize,
    /// A layer over the vocabulary in blocks of columns, each pooled by maximum before the next.
    Vocabulary(Vec<Linear>),
}

/// What a Dense module adds to its result.
#[derive(Debug)]
enum Residual {
    None,
    Input,
    Projected(Linear),
}

/// The model's weights, by their numbers on a device, and how a batch passes through them.
#[derive(Debug)]
pub(super) struct Assembly {
    transformer: Box<dyn Loaded>,
    stages: Vec<Stage>,
    /// The rows are the tokens'.
    by_token: bool,
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

impl Assembly {
    /// Loads the transformer, the head and the modules.
    pub fn load(model: &Model, weights: Storage, to: &mut Destination) -> Result<Self, Error> {
        let mut loader = Loader::new(&model.weights, to, weights);
        let transformer = model.transformer.load(&mut loader)?;
        let steps = model.head.iter().flat_map(|head| &head.steps);
        let mut stages =
            steps.map(|step| head_stage(step, &mut loader)).collect::<Result<Vec<_>, _>>()?;
        for (module, files) in model.config.modules.iter().zip(&model.module_weights) {
            let mut loader = files.as_ref().map(|files| Loader::new(files, to, weights));
            stages.push(stage(module, loader.as_mut())?);
        }
        Ok(Assembly { transformer, stages, by_token: model.config.purpose.by_token() })
    }

    /// The forward pass over a batch.
    pub fn graph(
        &self,
        plan: KernelPlan,
        precision: &Precision,
        batch: &PackedBatch,
    ) -> BatchGraph {
        let mut builder = Builder::new(plan, precision);
        let mut x = self.transformer.forward(&mut builder, batch);
        builder.graph.layer = None;
        let spans = batch.spans();
        if self.by_token && x.storage != Storage::F32 {
            // Each token by itself: what follows, and what is read back, is f32.
            let tokens: Vec<[u32; 4]> = (0..batch.ids.len() as u32).map(|t| [t, 1, 0, 0]).collect();
            x = pool(&mut builder, x, &tokens, &[mode_number(PoolingMode::Cls)]);
        }
        for stage in &self.stages {
            x = match stage {
                Stage::Pool(modes) => pool(&mut builder, x, &spans, modes),
                Stage::Dense { linear, activation, residual } => {
                    let added = match residual {
                        Residual::None => None,
                        Residual::Input => Some(x),
                        Residual::Projected(linear) => Some(matmul(
                            &mut builder,
                            "residual",
                            x,
                            linear,
                            Activation::None,
                            None,
                        )),
                    };
                    matmul(&mut builder, "dense", x, linear, *activation, added)
                }
                Stage::LayerNorm(norm) => layer_norm(&mut builder, x, None, norm),
                Stage::Normalize => normalize_l2(&mut builder, x),
                Stage::Vocabulary(blocks) => vocabulary(&mut builder, x, &spans, blocks),
            };
        }
        builder.graph.output = Some(x.id);
        builder.graph.tokens = batch.ids.len();
        BatchGraph { graph: builder.graph, output: x }
    }
}

impl Runtime {
    /// Loads the model of `total` bytes of weights onto an open device.
    pub fn load(
        model: &Model,
        precision: &Precision,
        opening: Opening,
        mut executor: Executor,
        total: u64,
        progress: Option<&dyn Fn(LoadProgress)>,
    ) -> Result<Self, Error> {
        let mut to = Destination::device(&mut executor, total, progress);
        let assembly = Assembly::load(model, precision.weights, &mut to)?;
        let weight_bytes = to.finish()?.all();
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
        let loaded = Runtime::load(model, precision, self.opening.clone(), executor, total, None)?;
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
        self.assembly.graph(self.plan(), precision, batch)
    }

    /// Which kernels this device takes.
    pub fn plan(&self) -> KernelPlan {
        self.other_plan.unwrap_or_else(|| self.opening.plan(&self.executor.gpu))
    }

    /// The transformer's hidden states over a batch, `[tokens, hidden]`.
    pub async fn hidden_states(
        &mut self,
        precision: &Precision,
        batch: &PackedBatch,
    ) -> Result<Vec<f32>, Error> {
        let mut builder = Builder::new(self.plan(), precision);
        let x = self.assembly.transformer.forward(&mut builder, batch);
        builder.graph.output = Some(x.id);
        builder.graph.tokens = batch.ids.len();
        let outcome = self.executor.run(&builder.graph).await?;
        let filled = convert::decode(x.storage, &outcome.output);
        let rows = filled.chunks_exact(x.width4 * 4).take(x.rows);
        Ok(rows.flat_map(|row| &row[..x.width]).copied().collect())
    }

    /// See [`Gpu::destroy`].
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

/// A graph and the tensor of its rows.
#[derive(Debug)]
pub(super) struct BatchGraph {
    pub graph: Graph,
    pub output: Activations,
}

fn stage(module: &Module, loader: Option<&mut Loader>) -> Result<Stage, Error> {
    let no_weights = || Error::Internal("a module's weights were not opened".to_owned());
    Ok(match module {
        Module::Pooling(pooling) => {
            Stage::Pool(pooling.modes.iter().map(|mode| mode_number(*mode)).collect())
        }
        Module::Dense { in_features, out_features, bias, activation, residual, .. } => {
            let loader = loader.ok_or_else(no_weights)?;
            let (inner, columns) = (Axis::plain(*in_features), Axis::plain(*out_features));
            let linear = loader.linear(&["linear"], *bias, inner, columns)?;
            let residual = match residual {
                false => Residual::None,
                true if in_features == out_features => Residual::Input,
                true => Residual::Projected(loader.linear(&["residual"], false, inner, columns)?),
            };
            Stage::Dense { linear, activation: dense_activation(*activation), residual }
        }
        Module::LayerNorm { dimension, .. } => {
            let loader = loader.ok_or_else(no_weights)?;
            Stage::LayerNorm(loader.norm("norm", *dimension, 1e-5)?)
        }
        Module::Normalize => Stage::Normalize,
    })
}

/// Columns of the vocabulary whose logits are in memory at once, for all tokens of a batch: the width
/// of a base model's intermediate layer or less.
pub(super) const VOCABULARY_BLOCK: usize = 2048;

fn vocabulary(
    builder: &mut Builder,
    x: Activations,
    spans: &[[u32; 4]],
    blocks: &[Linear],
) -> Activations {
    let columns = blocks.iter().map(|block| block.columns).sum();
    let rows = pooled(builder, spans.len(), columns);
    let spans = builder.input("spans", spans);
    let mut column = 0;
    for block in blocks {
        let logits = matmul(builder, "logits", x, block, Activation::None, None);
        pool_at(builder, logits, spans, mode_number(PoolingMode::Max), rows, column);
        column += block.columns;
    }
    rows
}

fn head_stage(step: &Step, loader: &mut Loader) -> Result<Stage, Error> {
    Ok(match step {
        Step::Pool(mode) => Stage::Pool(vec![mode_number(*mode)]),
        Step::Linear { name, bias, inner, columns, activation } => {
            let (inner, columns) = (Axis::plain(*inner), Axis::plain(*columns));
            let linear = loader.linear(&[name], *bias, inner, columns)?;
            Stage::Dense { linear, activation: *activation, residual: Residual::None }
        }
        Step::Norm { name, bias, width, eps } => {
            Stage::LayerNorm(loader.norm_with(name, *width, *eps, *bias)?)
        }
        Step::Vocabulary { weight, bias, inner, labels } => {
            let block = |first: usize| {
                let rows = first..(first + VOCABULARY_BLOCK).min(*labels);
                loader.linear_rows(weight, bias.as_deref(), &[rows], [*labels, *inner])
            };
            let firsts = (0..*labels).step_by(VOCABULARY_BLOCK);
            Stage::Vocabulary(firsts.map(block).collect::<Result<_, _>>()?)
        }
        Step::Tokens { weight, rows, inner, vocabulary } => {
            let rows: Vec<_> = rows.iter().map(|row| *row..row + 1).collect();
            let linear = loader.linear_rows(weight, None, &rows, [*vocabulary, *inner])?;
            Stage::Dense { linear, activation: Activation::None, residual: Residual::None }
        }
    })
}

/// The number that `pool.wgsl` gives a mode.
fn mode_number(mode: PoolingMode) -> u32 {
    match mode {
        PoolingMode::Cls => 0,
        PoolingMode::Max => 1,
        PoolingMode::Mean => 2,
        PoolingMode::MeanSqrtLen => 3,
        PoolingMode::WeightedMean => 4,
        PoolingMode::LastToken => 5,
    }
}
