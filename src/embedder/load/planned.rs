//! Plans a model without a device, for fuzz targets.

use crate::config::ModelKind;
use crate::dtype::{DtypeOptions, ShaderF16, resolve};
use crate::embedder::load::read_model::read_model;
use crate::embedder::memory::{self, MemoryEstimate, TokenBudget};
use crate::error::Error;
use crate::files::ModelFiles;
use crate::gpu::adapter::AdapterSummary;
use crate::gpu::graph::Graph;
use crate::kernels::KernelPlan;

/// The plan of a load: all that is decided before the device is opened.
#[derive(Debug)]
pub(crate) struct PlannedModel {
    /// The number of values in an output row.
    pub dimension: usize,
    pub memory: MemoryEstimate,
    /// The graph that computes a text of one token.
    pub graph: Graph,
}

/// Reads a model and plans a load on a GPU with WebGPU's default limits.
///
/// # Errors
/// Returns the errors of [`ModelBuilder::build`](crate::ModelBuilder::build).
pub(crate) fn plan_without_device(
    files: ModelFiles,
    kind: ModelKind,
) -> Result<PlannedModel, Error> {
    let model = read_model(files, kind, None, None)?;
    let (adapter, plan) = (AdapterSummary::webgpu(), KernelPlan::of_gpu());
    let facts = model.transformer.facts();
    let options = DtypeOptions::default();
    let precision = resolve(options, model.checkpoint_dtype(), ShaderF16::Absent, facts.f16, None)?;
    let budget = TokenBudget::choose(Some(128), &adapter, model.widest());
    let memory = memory::fit(&model, &precision, &plan, &adapter, None, budget)?.memory;
    let graph = memory::one_token_graph(&model, &precision, &plan, &adapter)?;
    Ok(PlannedModel { dimension: model.dimension, memory, graph })
}
