//! `matmul_tile.wgsl`, `matmul_few.wgsl`, `matmul_coop.wgsl` and `matmul_lane.wgsl`: a linear layer, for GPUs,
//! for few rows there, for those with cooperative matrices, and for software adapters. `choice.rs` says which
//! is taken. What becomes of a sum before it is stored is an [`Epilogue`].

use crate::gpu::graph::{Dispatch, Source, TensorId};
use crate::gpu::kernel::{Access, Kernel, Setting};
use crate::kernels::forms::{self, Work};
use crate::kernels::group_rows::Grouped;
use crate::kernels::rope::Turn;
use crate::kernels::{Activation, Activations, Builder};
use crate::params;

params! {
    /// `Params` of all matmuls.
    pub struct MatmulParams {
        rows: u32,
        first_row: u32,
        inner4: u32,
        columns4: u32,
        stride4: u32,
        first_cell: u32,
        cells4: u32,
        x_share: u32,
        token_share: u32,
        head4: u32,
        turned: u32,
        pairs: u32,
        angles: u32,
    }
}

const BINDINGS: &[Access] =
    &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Read, Access::Write];
const SETTINGS: &[Setting] = &[
    Setting { name: "ACTIVATION", constant: false, values: &[0, 1, 2, 3, 4, 5, 6] },
    Setting { name: "HAS_RESIDUAL", constant: false, values: &[0, 1] },
    Setting { name: "EXPERTS", constant: false, values: &[0, 1] },
    Setting { name: "GATED", constant: false, values: &[0, 1] },
    Setting { name: "ROTARY", constant: false, values: &[0, 1] },
];

/// Those of a kernel that has `MORE`, which makes `ALL`.
const fn and<const MORE: usize, const ALL: usize>(more: [Setting; MORE]) -> [Setting; ALL] {
    let mut all = [SETTINGS[0]; ALL];
    let mut at = 0;
    while at < ALL {
        all[at] = if at < SETTINGS.len() { SETTINGS[at] } else { more[at - SETTINGS.len()] };
        at += 1;
    }
    all
}

/// What the kernels have in common.
const fn kernel(name: &'static str, source: &'static str) -> Kernel {
    Kernel {
        name,
        source,
        bindings: BINDINGS,
        params: MatmulParams::FIELDS,
        stores_activations: true,
        reads_weights: true,
        reads_activations: true,
        has_lanes: false,
        cooperative: false,
        settings: SETTINGS,
    }
}

/// The kernel for GPUs: register tiles through workgroup memory.
pub static MATMUL_TILE: Kernel =
    kernel("matmul_tile", include_str!("../../shaders/matmul_tile.wgsl"));

/// The kernel for GPUs and few rows: each weight is read once.
pub static MATMUL_FEW: Kernel = Kernel {
    settings: &and::<2, 7>([
        Setting { name: "ROWS", constant: true, values: &forms::FEW },
        Setting { name: "CELLS", constant: true, values: &[1, 2] },
    ]),
    ..kernel("matmul_few", include_str!("../../shaders/matmul_few.wgsl"))
};

/// The kernel for GPUs with cooperative matrices.
pub static MATMUL_COOP: Kernel = Kernel {
    cooperative: true,
    settings: &and::<2, 7>([
        Setting { name: "SIDE", constant: true, values: &[8, 16] },
        // Four subgroups of 8, 16, 32 and 64.
        Setting { name: "INVOCATIONS", constant: true, values: &[32, 64, 128, 256] },
    ]),
    ..kernel("matmul_coop", include_str!("../../shaders/matmul_coop.wgsl"))
};

/// The kernel for software adapters: no workgroup memory.
pub static MATMUL_LANE: Kernel = Kernel {
    has_lanes: true,
    settings: &and::<1, 6>([Setting { name: "ROWS", constant: true, values: &forms::LANE }]),
    ..kernel("matmul_lane", include_str!("../../shaders/matmul_lane.wgsl"))
};

/// A linear layer's weight, repacked as `[inner, columns]`, and its bias, among the model's buffers.
#[derive(Debug, Clone)]
pub struct Linear {
    /// The repacked matrix, cut into blocks of columns that a buffer holds.
    pub blocks: Vec<Block>,
    /// `[columns]`, f32; zeros where the layer has none.
    pub bias: usize,
    /// Values of an output row.
    pub columns: usize,
    /// Cells of an output row.
    pub columns4: usize,
}

/// Columns of a linear layer's weight that lie in one buffer.
#[derive(Debug, Clone, Copy)]
pub struct Block {
    /// The buffer.
    pub weight: usize,
    /// Its cells of an output row.
    pub cells: usize,
}

/// A matrix of each expert, repacked as `[inner, columns]`, one after the other in one buffer.
#[derive(Debug, Clone, Copy)]
pub struct ExpertLinear {
    /// The repacked matrices.
    pub weight: usize,
    /// `[columns]`, f32, of all experts; zeros where the layer has none.
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

/// A matrix `[columns, inner]`, as checkpoints have it, as the kernels read it: `[inner, columns]`, filled up to
/// whole cells of inner and to the rows of [`stride4`].
pub fn repacked(w: &[f32], columns: usize) -> Vec<f32> {
    let inner = w.len() / columns;
    let stride = stride4(columns.div_ceil(4)) * 4;
    let mut packed = vec![0.0; inner.next_multiple_of(4) * stride];
    for (at, value) in w.iter().enumerate() {
        packed[at % inner * stride + at / inner] = *value;
    }
    packed
}

/// What becomes of the sums of a row, `[columns]`, and their biases.
#[derive(Debug, Clone, Copy)]
pub enum Epilogue {
    /// activation(sum) + residual.
    Plain(Activation, Option<Activations>),
    /// activation(gate) · other, where columns are pairs of cells, one of each: y has half as many.
    Gated(Activation),
    /// Heads of queries and keys are turned by their token's position; what lies behind them stays.
    Turned(Turn),
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
    matmul_then(builder, name, x, linear, Epilogue::Plain(activation, residual))
}

/// As [`matmul`], with what an epilogue makes of the sums.
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
    let size = [linear.columns, linear.columns4];
    matmul_blocks(builder, name, x, (&blocks, bias), size, epilogue)
}

/// As [`matmul`], with weight and bias as tensors of the graph and `[columns, cells]` of a row.
pub fn matmul_of(
    builder: &mut Builder,
    name: &'static str,
    x: Activations,
    [weight, bias]: [TensorId; 2],
    size: [usize; 2],
    activation: Activation,
    residual: Option<Activations>,
) -> Activations {
    let epilogue = Epilogue::Plain(activation, residual);
    matmul_blocks(builder, name, x, (&[(weight, size[1])], bias), size, epilogue)
}

/// As [`matmul_then`], with bias and weight as tensors of the graph, the weight in blocks of so many cells, and
/// `[columns, cells]` of its rows. A block's sums are those of the whole matrix: each writes its own columns
/// of y.
pub fn matmul_blocks(
    builder: &mut Builder,
    name: &'static str,
    x: Activations,
    (blocks, bias): (&[(TensorId, usize)], TensorId),
    [columns, columns4]: [usize; 2],
    epilogue: Epilogue,
) -> Activations {
    let share = if matches!(epilogue, Epilogue::Gated(_)) { 2 } else { 1 };
    let (cells, columns) = (columns4 / share, columns / share);
    let y = builder.rows(name, x.rows, cells, columns, x.storage, Source::Scratch);
    dispatch(builder, x, (blocks, bias), epilogue, None, y);
    y
}

/// Each row of y by the matrix of its expert: `[tokens · top, columns]` from `[tokens, inner]`, or from as
/// many rows.
pub fn matmul_experts(
    builder: &mut Builder,
    name: &'static str,
    x: Activations,
    linear: &ExpertLinear,
    activation: Activation,
    grouped: &Grouped,
) -> Activations {
    let weight = builder.weight("weight", linear.weight);
    let bias = builder.weight("bias", linear.bias);
    let size = [linear.columns, linear.columns4];
    matmul_experts_of(builder, name, x, [weight, bias], size, activation, grouped)
}

/// As [`matmul_experts`], with weight and bias as tensors of the graph and `[columns, cells]` of a row.
pub fn matmul_experts_of(
    builder: &mut Builder,
    name: &'static str,
    x: Activations,
    [weight, bias]: [TensorId; 2],
    [columns, columns4]: [usize; 2],
    activation: Activation,
    grouped: &Grouped,
) -> Activations {
    let y = builder.rows(name, grouped.rows, columns4, columns, x.storage, Source::Scratch);
    let weights = (&[(weight, columns4)][..], bias);
    dispatch(builder, x, weights, Epilogue::Plain(activation, None), Some(grouped), y);
    y
}

/// Rows that are grouped by expert come in whole groups of so many on GPUs; tiles of the matmul are no
/// taller.
pub(crate) const EXPERT_ROWS: usize = 64;

/// Rows of a group, for [`group_rows`](super::group_rows::group_rows).
pub(crate) fn tile_rows(software: bool) -> usize {
    if software { forms::LANE[0] as usize } else { EXPERT_ROWS }
}

fn dispatch(
    builder: &mut Builder,
    x: Activations,
    (blocks, bias): (&[(TensorId, usize)], TensorId),
    epilogue: Epilogue,
    grouped: Option<&Grouped>,
    y: Activations,
) {
    let (activation, residual, turn) = match epilogue {
        Epilogue::Plain(activation, residual) => (activation, residual, None),
        Epilogue::Gated(activation) => (activation, None, None),
        Epilogue::Turned(turn) => (Activation::None, None, Some(turn)),
    };
    let gated = matches!(epilogue, Epilogue::Gated(_));
    // A binding that is not read has x standing in.
    let order = turn.map_or(x.id, |turn| turn.angles.table);
    let (count, order, x_share, token_share) = match grouped {
        None => (x.rows, order, 1, 1),
        Some(of) => (of.slots, of.order, of.rows / x.rows.max(1), of.top),
    };
    let form = builder.plan.matmul(&Work {
        storages: (builder.weights, x.storage),
        rows: count,
        inner4: x.width4,
        columns4: blocks.iter().map(|(_, cells)| cells).sum(),
        experts: grouped.is_some(),
    });
    let kernel = form.kernel();
    let [tile_rows, tile_cells] = form.tile(gated);
    let variant = form
        .constants(builder.variant(kernel, x.storage), gated)
        .set("ACTIVATION", activation as u32)
        .set("HAS_RESIDUAL", u32::from(residual.is_some()))
        .set("EXPERTS", u32::from(grouped.is_some()))
        .set("GATED", u32::from(gated))
        .set("ROTARY", u32::from(turn.is_some()));
    let of_turn = |number: fn(&Turn) -> usize| turn.as_ref().map_or(0, number) as u32;
    let mut first_cell = 0;
    for (weight, cells) in blocks {
        let flops_a_row = (2 * x.width4 * 4 * cells * 4) as u64;
        for cut in row_cuts(count, tile_rows, flops_a_row, builder.plan.max_flops) {
            let params = MatmulParams {
                rows: cut.end as u32,
                first_row: cut.start as u32,
                inner4: x.width4 as u32,
                columns4: y.width4 as u32,
                stride4: stride4(*cells) as u32,
                first_cell: first_cell as u32,
                cells4: *cells as u32,
                x_share: x_share as u32,
                token_share: token_share as u32,
                head4: of_turn(|turn| turn.head4),
                turned: of_turn(|turn| turn.cells),
                pairs: of_turn(|turn| turn.angles.pairs),
                angles: of_turn(|turn| turn.angles.tokens),
            };
            builder.graph.dispatches.push(Dispatch {
                kernel,
                variant: variant.clone(),
                bindings: vec![x.id, *weight, bias, residual.unwrap_or(x).id, order, y.id],
                params: bytemuck::bytes_of(&params).to_vec(),
                groups: [
                    cells.div_ceil(tile_cells) as u32,
                    cut.len().div_ceil(tile_rows) as u32,
                    1,
                ],
                flops: flops_a_row * cut.len() as u64,
            });
        }
        first_cell += cells;
    }
}

/// Cells of a row of x and of a row of the weight, of a dispatch that is a matmul.
#[cfg(feature = "lab")]
pub(crate) fn shape(dispatch: &Dispatch) -> Option<[usize; 2]> {
    let matmuls = [&MATMUL_LANE, &MATMUL_TILE, &MATMUL_FEW, &MATMUL_COOP];
    if !matmuls.contains(&dispatch.kernel) {
        return None;
    }
    let params: MatmulParams = bytemuck::try_pod_read_unaligned(&dispatch.params).ok()?;
    let gated = dispatch.variant.overrides.contains(&("GATED", 1));
    let columns4 = params.columns4 as usize * (1 + usize::from(gated));
    Some([params.inner4 as usize, columns4])
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
