//! `group_rows.wgsl`: sorts rows by expert, and pads the rows of each expert to whole tiles of the matmul.
//!
//! Only the GPU knows how many rows an expert gets. The host knows the maximum number of tiles and dispatches a matmul
//! for all of them. The matmul skips the tiles that stay empty.

use crate::dtype::Storage;
use crate::gpu::graph::{Dispatch, TensorId, TensorSource, Workgroups};
use crate::gpu::kernel::{Access, Kernel, Setting};
use crate::kernels::route::Choices;
use crate::kernels::{Activations, Builder};
use crate::params;

params! {
    /// The kernel's parameters, laid out as the struct `Params` of `group_rows.wgsl`.
    pub struct GroupRowsParams { tokens: u32, top: u32, stride: u32, tile: u32, slots: u32 }
}

/// The descriptor of `group_rows.wgsl`, which sorts rows by expert.
pub static GROUP_ROWS: Kernel = Kernel {
    name: "group_rows",
    source: include_str!("../../shaders/group_rows.wgsl"),
    bindings: &[Access::Read, Access::Write],
    params: GroupRowsParams::FIELDS,
    reads_weights: false,
    reads_activations: false,
    has_subgroup_variant: false,
    cooperative: false,
    settings: &[Setting { name: "EXPERTS", constant: true, values: &[2, 8, 32] }],
};

/// Rows sorted by expert. Row t · top + j belongs to token t and the expert that is its choice j; t and j are counted
/// from 0.
#[derive(Debug, Clone, Copy)]
pub struct Grouped {
    /// `[slots]` pairs (row, expert) in f32. A slot without a row has row −1.
    pub order: TensorId,
    /// The number of slots. The slots form whole tiles, and suffice whichever experts the tokens choose.
    pub slots: usize,
    /// The number of rows: `top` for each token.
    pub rows: usize,
    /// The number of rows that a token has, one for each expert it chose.
    pub top: usize,
}

/// Returns the number of slots that suffice for `rows` rows of `experts` experts, whichever experts are chosen. Each
/// expert may leave up to `tile` − 1 slots of its last tile empty.
pub fn slots(rows: usize, experts: usize, tile: usize) -> usize {
    (rows + rows.min(experts) * (tile - 1)) / tile * tile
}

/// Adds a dispatch that sorts the rows of `choices` by expert, for [`matmul_experts`](super::matmul::matmul_experts).
pub fn group_rows(builder: &mut Builder, choices: &Choices) -> Grouped {
    let tile = builder.plan.expert_group_rows();
    group_rows_of(builder, choices, tile).1
}

/// Like [`group_rows`], but for tiles of `tile` rows. Also returns `order` as a tensor with two slots in each row.
pub fn group_rows_of(
    builder: &mut Builder,
    choices: &Choices,
    tile: usize,
) -> (Activations, Grouped) {
    let &Choices { pairs, top, experts } = choices;
    let rows = pairs.rows * top;
    let slots = slots(rows, experts, tile);
    let order = builder.rows("order", slots / 2, 1, 4, Storage::F32, TensorSource::Scratch);
    let params = GroupRowsParams {
        tokens: pairs.rows as u32,
        top: top as u32,
        stride: choices.stride() as u32,
        tile: tile as u32,
        slots: slots as u32,
    };
    let variant = builder.variant(&GROUP_ROWS, Storage::F32).constant("EXPERTS", experts as u32);
    builder.graph.dispatches.push(Dispatch {
        kernel: &GROUP_ROWS,
        variant,
        bindings: vec![pairs.id, order.id],
        params: bytemuck::bytes_of(&params).to_vec(),
        workgroups: Workgroups::row(1),
        flops: (4 * rows) as u64,
    });
    (order, Grouped { order: order.id, slots, rows, top })
}
