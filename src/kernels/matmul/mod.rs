//! The matmul: a linear layer, y = epilogue(x · w + bias).
//!
//! | kernel | for |
//! |---|---|
//! | `matmul_tile.wgsl` | GPUs |
//! | `matmul_few.wgsl` | GPUs, where there are few rows |
//! | `matmul_coop.wgsl` | GPUs with cooperative matrices, f16 weights and activations |
//! | `matmul_lane.wgsl` | software adapters |
//!
//! `choice.rs` decides which [`Variant`] runs. [`Epilogue`] describes the operation on each sum before the sum is
//! stored.

mod choice;
mod descriptors;
mod epilogue;
pub(crate) mod layout;
pub mod tuned;
mod variants;

use crate::gpu::graph::{Dispatch, TensorId, TensorSource, Workgroups};
use crate::kernels::group_rows::Grouped;
use crate::kernels::{Activation, Activations, Builder};

pub use descriptors::{
    FEW_ROWS, LANE_ROWS, MATMUL_COOP, MATMUL_FEW, MATMUL_LANE, MATMUL_TILE, MatmulParams,
};
pub use epilogue::Epilogue;
pub use layout::{Block, ExpertLinear, Linear, LinearTensors, RowSize, repacked, stride4};
pub use tuned::Tuned;
pub use variants::{CooperativeTile, OutputTile, Variant, WeightShape, Work};

/// Adds y = activation(x · w + bias) + residual to the graph, and returns y, `[rows, columns]`.
pub fn matmul(
    builder: &mut Builder,
    name: &'static str,
    x: Activations,
    linear: &Linear,
    activation: Activation,
    residual: Option<Activations>,
) -> Activations {
    matmul_then(builder, name, x, linear, Epilogue::Plain(activation, residual))
}

/// Like [`matmul`], but with any epilogue.
pub fn matmul_then(
    builder: &mut Builder,
    name: &'static str,
    x: Activations,
    linear: &Linear,
    epilogue: Epilogue,
) -> Activations {
    let mut tensor = |block: &Block| (builder.weight("weight", block.weight), block.cells);
    let blocks: Vec<(TensorId, usize)> = linear.blocks.iter().map(&mut tensor).collect();
    let bias = builder.weight("bias", linear.bias);
    let size = RowSize { values: linear.columns, cells: linear.columns4 };
    matmul_blocks(builder, name, x, (&blocks, bias), size, epilogue)
}

/// Like [`matmul`], but takes the weight and the bias as tensors of the graph.
pub fn matmul_of(
    builder: &mut Builder,
    name: &'static str,
    x: Activations,
    linear: LinearTensors,
    size: RowSize,
    activation: Activation,
    residual: Option<Activations>,
) -> Activations {
    let weights = (&[(linear.weight, size.cells)][..], linear.bias);
    matmul_blocks(builder, name, x, weights, size, Epilogue::Plain(activation, residual))
}

/// Like [`matmul_then`], but takes the bias and the blocks of the weight as tensors of the graph. `weights` gives, with
/// each block, its number of cells (four values each) in an output row. `size` is the size of the whole row, before a
/// gate halves it.
///
/// Each block computes the sums of its own columns of y. These sums have the bits that an undivided matrix would give.
pub fn matmul_blocks(
    builder: &mut Builder,
    name: &'static str,
    x: Activations,
    weights: (&[(TensorId, usize)], TensorId),
    size: RowSize,
    epilogue: Epilogue,
) -> Activations {
    let share = if epilogue.is_gated() { 2 } else { 1 };
    let (cells, columns) = (size.cells / share, size.values / share);
    let y = builder.rows(name, x.rows, cells, columns, x.storage, TensorSource::Scratch);
    dispatch(builder, x, weights, epilogue, None, y);
    y
}

/// Multiplies each row by the matrix of its expert, and returns y, `[tokens · top, columns]`. The input `x` is
/// `[tokens, inner]` or `[tokens · top, inner]`.
pub fn matmul_experts(
    builder: &mut Builder,
    name: &'static str,
    x: Activations,
    linear: &ExpertLinear,
    activation: Activation,
    grouped: &Grouped,
) -> Activations {
    let tensors = LinearTensors {
        weight: builder.weight("weight", linear.weight),
        bias: builder.weight("bias", linear.bias),
    };
    let size = RowSize { values: linear.columns, cells: linear.columns4 };
    matmul_experts_of(builder, name, x, tensors, size, activation, grouped)
}

/// Like [`matmul_experts`], but takes the weight and the bias as tensors of the graph.
pub fn matmul_experts_of(
    builder: &mut Builder,
    name: &'static str,
    x: Activations,
    linear: LinearTensors,
    size: RowSize,
    activation: Activation,
    grouped: &Grouped,
) -> Activations {
    let (rows, source) = (grouped.rows, TensorSource::Scratch);
    let y = builder.rows(name, rows, size.cells, size.values, x.storage, source);
    let weights = (&[(linear.weight, size.cells)][..], linear.bias);
    dispatch(builder, x, weights, Epilogue::Plain(activation, None), Some(grouped), y);
    y
}

/// Adds the dispatches of a matmul. There is one dispatch for each block of the weight and each run of rows that the
/// plan's limit of operations allows.
fn dispatch(
    builder: &mut Builder,
    x: Activations,
    (blocks, bias): (&[(TensorId, usize)], TensorId),
    epilogue: Epilogue,
    grouped: Option<&Grouped>,
    y: Activations,
) {
    // wgpu requires a buffer for every binding. If the variant does not read a binding, x is bound there.
    let order = epilogue.rotation().map_or(x.id, |rotation| rotation.angles.table);
    let (count, order, x_share, token_share) = match grouped {
        None => (x.rows, order, 1, 1),
        Some(of) => (of.slots, of.order, of.rows / x.rows.max(1), of.top),
    };
    let variant = builder.plan.matmul(&Work {
        storages: (builder.weights, x.storage),
        rows: count,
        weight: WeightShape {
            inner4: x.width4,
            columns4: blocks.iter().map(|(_, cells)| cells).sum(),
        },
        experts: grouped.is_some(),
    });
    let kernel = variant.kernel();
    let tile = variant.workgroup_sums(epilogue.is_gated());
    let shader = variant.constants(builder.variant(kernel, x.storage), epilogue.is_gated());
    let shader = epilogue.set(shader).set("EXPERTS", u32::from(grouped.is_some()));
    let shader = match variant {
        Variant::Cooperative(tile) => shader.set("WHOLE", u32::from(tile.divides(x.width4))),
        _ => shader,
    };
    let mut first_cell = 0;
    for (weight, cells) in blocks {
        let flops_a_row = (2 * x.width4 * 4 * cells * 4) as u64;
        for cut in row_cuts(count, tile.rows, flops_a_row, builder.plan.max_flops) {
            let mut params = MatmulParams {
                rows: cut.end as u32,
                first_row: cut.start as u32,
                inner4: x.width4 as u32,
                columns4: y.width4 as u32,
                stride4: stride4(*cells) as u32,
                first_cell: first_cell as u32,
                cells4: *cells as u32,
                x_share: x_share as u32,
                token_share: token_share as u32,
                ..bytemuck::Zeroable::zeroed()
            };
            epilogue.fill(&mut params);
            builder.graph.dispatches.push(Dispatch {
                kernel,
                variant: shader.clone(),
                bindings: vec![
                    x.id,
                    *weight,
                    bias,
                    epilogue.residual().unwrap_or(x).id,
                    order,
                    y.id,
                ],
                params: bytemuck::bytes_of(&params).to_vec(),
                workgroups: Workgroups::grid(
                    cells.div_ceil(tile.cells) as u32,
                    cut.len().div_ceil(tile.rows) as u32,
                ),
                flops: flops_a_row * cut.len() as u64,
            });
        }
        first_cell += cells;
    }
}

/// Returns the shape of the weight that a dispatch multiplies by; `None` if the dispatch is not a matmul.
#[cfg(feature = "lab")]
pub(crate) fn shape(dispatch: &Dispatch) -> Option<WeightShape> {
    let matmuls = [&MATMUL_LANE, &MATMUL_TILE, &MATMUL_FEW, &MATMUL_COOP];
    if !matmuls.contains(&dispatch.kernel) {
        return None;
    }
    let params: MatmulParams = bytemuck::try_pod_read_unaligned(&dispatch.params).ok()?;
    let gated = dispatch.variant.overrides.contains(&("GATED", 1));
    let columns4 = params.columns4 as usize * (1 + usize::from(gated));
    Some(WeightShape { inner4: params.inner4 as usize, columns4 })
}

/// Splits rows into runs of whole tiles, with at most `max_flops` operations in each run. A run of a single tile may
/// exceed this limit.
fn row_cuts(
    rows: usize,
    tile: usize,
    flops_a_row: u64,
    max_flops: u64,
) -> Vec<std::ops::Range<usize>> {
    let most = usize::try_from(max_flops / flops_a_row.max(1)).unwrap_or(usize::MAX);
    let run = (most / tile).max(1).saturating_mul(tile);
    (0..rows).step_by(run).map(|start| start..rows.min(start.saturating_add(run))).collect()
}
