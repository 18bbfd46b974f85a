//! `matmul_tile.wgsl` and `matmul_lane.wgsl`: a linear layer with fused bias, activation and
//! residual, for GPUs and for software adapters.

use crate::gpu::graph::{Dispatch, Source, TensorId};
use crate::gpu::kernel::{Access, Kernel, Setting};
use crate::kernels::{Activation, Activations, Builder};
use crate::params;

params! {
    /// `Params` of both matmuls.
    pub struct MatmulParams { rows: u32, first_row: u32, inner4: u32, columns4: u32, stride4: u32 }
}

const BINDINGS: &[Access] =
    &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Write];
const SETTINGS: &[Setting] = &[
    Setting { name: "ACTIVATION", constant: false, values: &[0, 1, 2, 3, 4, 5, 6] },
    Setting { name: "HAS_RESIDUAL", constant: false, values: &[0, 1] },
];

/// The kernel for GPUs: register tiles through workgroup memory.
pub static MATMUL_TILE: Kernel = Kernel {
    name: "matmul_tile",
    source: include_str!("../../shaders/matmul_tile.wgsl"),
    bindings: BINDINGS,
    params: MatmulParams::FIELDS,
    stores_activations: true,
    reads_weights: true,
    reads_activations: true,
    has_lanes: false,
    settings: SETTINGS,
};

/// The kernel for software adapters: no workgroup memory.
pub static MATMUL_LANE: Kernel = Kernel {
    name: "matmul_lane",
    source: include_str!("../../shaders/matmul_lane.wgsl"),
    bindings: BINDINGS,
    params: MatmulParams::FIELDS,
    stores_activations: true,
    reads_weights: true,
    reads_activations: true,
    has_lanes: true,
    settings: SETTINGS,
};

/// A linear layer's weight, repacked as `[inner, columns]`, and its bias, among the model's buffers.
#[derive(Debug, Clone, Copy)]
pub struct Linear {
    /// The repacked matrix.
    pub weight: usize,
    /// `[columns]`, f32; zeros where the layer has none.
    pub bias: usize,
    /// Values of an output row.
    pub columns: usize,
    /// Cells of an output row.
    pub columns4: usize,
}

/// Cells of a row of a repacked matrix: whole pairs, which `matmul_lane` reads.
pub fn stride4(columns4: usize) -> usize {
    columns4.next_multiple_of(2)
}

/// y = activation(x · w + bias) + residual, `[rows, columns]`.
pub fn matmul(
    builder: &mut Builder,
    name: &'static str,
    x: Activations,
    linear: &Linear,
    activation: Activation,
    residual: Option<Activations>,
) -> Activations {
    let weight = builder.weight("weight", linear.weight);
    let bias = builder.weight("bias", linear.bias);
    matmul_of(
        builder,
        name,
        x,
        [weight, bias],
        [linear.columns, linear.columns4],
        activation,
        residual,
    )
}

/// As [`matmul`], with weight and bias as tensors of the graph and `[columns, cells]` of a row.
pub fn matmul_of(
    builder: &mut Builder,
    name: &'static str,
    x: Activations,
    [weight, bias]: [TensorId; 2],
    [columns, columns4]: [usize; 2],
    activation: Activation,
    residual: Option<Activations>,
) -> Activations {
    let y = builder.rows(name, x.rows, columns4, columns, x.storage, Source::Scratch);
    let (kernel, tile_rows, tile_cells) =
        if builder.plan.software { (&MATMUL_LANE, 16, 32) } else { (&MATMUL_TILE, 64, 16) };
    let variant = builder
        .variant(kernel, x.storage)
        .set("ACTIVATION", activation as u32)
        .set("HAS_RESIDUAL", u32::from(residual.is_some()));
    let flops_a_row = (2 * x.width4 * 4 * columns4 * 4) as u64;
    for first_row in row_cuts(x.rows, tile_rows, flops_a_row, builder.plan.max_flops) {
        let end = first_row.end;
        let params = MatmulParams {
            rows: end as u32,
            first_row: first_row.start as u32,
            inner4: x.width4 as u32,
            columns4: columns4 as u32,
            stride4: stride4(columns4) as u32,
        };
        let rows = first_row.len();
        builder.graph.dispatches.push(Dispatch {
            kernel,
            variant: variant.clone(),
            // Without a residual its binding is not read; x stands in.
            bindings: vec![x.id, weight, bias, residual.unwrap_or(x).id, y.id],
            params: bytemuck::bytes_of(&params).to_vec(),
            groups: [
                (columns4 as u32).div_ceil(tile_cells),
                (rows as u32).div_ceil(tile_rows as u32),
                1,
            ],
            flops: flops_a_row * rows as u64,
        });
    }
    y
}

/// Cuts rows into runs of whole tiles, each of at most `max_flops` if a tile is.
pub(crate) fn row_cuts(
    rows: usize,
    tile: usize,
    flops_a_row: u64,
    max_flops: u64,
) -> Vec<std::ops::Range<usize>> {
    let most = usize::try_from(max_flops / flops_a_row.max(1)).unwrap_or(usize::MAX);
    let run = (most / tile).max(1).saturating_mul(tile);
    (0..rows).step_by(run).map(|start| start..rows.min(start.saturating_add(run))).collect()
}
