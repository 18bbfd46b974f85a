//! Holds a model's weights on a device, to which graphs refer by number. Also builds the graph of a batch's forward
//! pass through the transformer, the head and the modules.

use crate::batch::PackedBatch;
use crate::config::{Module, PoolingMode};
use crate::dtype::{Precision, Storage};
use crate::embedder::model::{Model, VOCABULARY_BLOCK};
use crate::error::Error;
use crate::gpu::graph::Graph;
use crate::kernels::layer_norm::{Norm, layer_norm};
use crate::kernels::matmul::{Linear, matmul};
use crate::kernels::normalize_l2::normalize_l2;
use crate::kernels::pool::{pool, pool_at, pooled};
use crate::kernels::{Activation, Activations, Builder, KernelPlan};

use crate::models::{LoadedTransformer, Step, dense_activation};
use crate::weights::{Axis, Destination, Loader, MatrixShape};

/// A step after the transformer: pooling, a layer of the head, or a module. The weights of the step are on the device.
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
    /// A linear layer that computes logits over the vocabulary, in blocks of columns. The logits of a block are
    /// max-pooled before the next block is computed, so that memory holds the logits of one block only.
    Vocabulary(Vec<Linear>),
}

/// The residual that a Dense module adds to its result.
#[derive(Debug)]
enum Residual {
    None,
    Input,
    Projected(Linear),
}

/// The model's weights on a device, to which graphs refer by number, and the steps through which a batch passes.
#[derive(Debug)]
pub(super) struct Assembly {
    pub transformer: Box<dyn LoadedTransformer>,
    stages: Vec<Stage>,
    /// True if the model computes one row for each token; see [`KindConfig::by_token`](crate::config::KindConfig).
    by_token: bool,
}

/// The graph of a batch, and the tensor that holds the batch's output rows.
#[derive(Debug)]
pub(super) struct BatchGraph {
    pub graph: Graph,
    pub output: Activations,
}

impl Assembly {
    /// Loads the weights of the transformer, the head and the modules. Matrices and embedding tables are stored as
    /// `storage`.
    pub fn load(model: &Model, storage: Storage, to: &mut Destination) -> Result<Self, Error> {
        let mut loader = Loader::new(&model.weights, to, storage);
        let transformer = model.transformer.load(&mut loader)?;
        let steps = model.head.iter().flat_map(|head| &head.steps);
        let mut stages =
            steps.map(|step| head_stage(step, &mut loader)).collect::<Result<Vec<_>, _>>()?;
        for (module, files) in model.config.modules.iter().zip(&model.module_weights) {
            let mut loader = files.as_ref().map(|files| Loader::new(files, to, storage));
            stages.push(stage(module, loader.as_mut())?);
        }
        Ok(Assembly { transformer, stages, by_token: model.config.kind.by_token() })
    }

    /// Returns the graph of the forward pass over a batch.
    pub fn graph(
        &self,
        plan: &KernelPlan,
        precision: &Precision,
        batch: &PackedBatch,
    ) -> BatchGraph {
        let mut builder = Builder::new(plan, precision);
        let mut x = self.transformer.forward(&mut builder, batch);
        builder.graph.layer = None;
        let spans = batch.spans();
        if self.by_token && x.storage != Storage::F32 {
            // Here the pooling kernel copies the row of each token, as if each token were a separate text. The copy is
            // f32, because the later steps and the read-back need f32.
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

fn stage(module: &Module, loader: Option<&mut Loader>) -> Result<Stage, Error> {
    let no_weights = || {
        Error::Internal(
            "a module needs weights, but no weights file was opened for the module".to_owned(),
        )
    };
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
                loader.linear_rows(
                    weight,
                    bias.as_deref(),
                    &[rows],
                    MatrixShape { rows: *labels, width: *inner },
                )
            };
            let firsts = (0..*labels).step_by(VOCABULARY_BLOCK);
            Stage::Vocabulary(firsts.map(block).collect::<Result<_, _>>()?)
        }
        Step::Tokens { weight, rows, inner, vocabulary } => {
            let rows: Vec<_> = rows.iter().map(|row| *row..row + 1).collect();
            let linear = loader.linear_rows(
                weight,
                None,
                &rows,
                MatrixShape { rows: *vocabulary, width: *inner },
            )?;
            Stage::Dense { linear, activation: Activation::None, residual: Residual::None }
        }
    })
}

/// Returns the number by which `pool.wgsl` identifies a pooling mode.
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
