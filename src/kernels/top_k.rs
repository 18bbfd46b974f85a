//! `top_k.wgsl`: selects the best candidates of each tile. The kernel runs repeatedly until few candidates are left.

use crate::dtype::Storage;
use crate::gpu::graph::{Dispatch, TensorSource, Workgroups};
use crate::gpu::kernel::{Access, Kernel, Setting};
use crate::kernels::{Activations, Builder};
use crate::params;

params! {
    /// The kernel's parameters, laid out as the struct `Params` of `top_k.wgsl`.
    pub struct TopKParams { candidates: u32, stride: u32, keep: u32, best_stride: u32 }
}

/// The descriptor of `top_k.wgsl`, which selects the best candidates of each tile.
pub static TOP_K: Kernel = Kernel {
    name: "top_k",
    source: include_str!("../../shaders/top_k.wgsl"),
    bindings: &[Access::Read, Access::Write],
    params: TopKParams::FIELDS,
    reads_weights: false,
    reads_activations: false,
    has_subgroup_variant: false,
    cooperative: false,
    settings: &[
        Setting { name: "PAIRS", constant: false, values: &[0, 1] },
        Setting { name: "TILE", constant: true, values: &[64, 256] },
    ],
};

/// The maximum number of candidates that the kernel selects from a tile. The maximum is half of the largest tile, so
/// that each pass at least halves the number of candidates.
pub const MAX_KEPT: usize = 128;

/// If at most this many candidates are left for a query, the host sorts them. A further pass would cost more than it
/// saves.
const FEW: usize = 512;

/// Returns the number of candidates in a tile, for a pass that selects `keep` candidates from each tile.
fn tile(keep: usize) -> usize {
    if keep <= 32 { 64 } else { 256 }
}

/// Returns pairs (score, column) for each row of `scores`. The pairs include the `keep` best of the row. Among equal
/// scores, the lower column is better. `keep` is at most [`MAX_KEPT`].
///
/// The result is f32, `[scores rows, 2 · pairs]`. The result consists of sorted runs of `keep` pairs, which the caller
/// merges. A pair with column -1 holds no candidate.
pub fn top_k(builder: &mut Builder, scores: Activations, keep: usize) -> Activations {
    let mut best = pass(builder, scores, keep, false);
    while best.width / 2 > FEW.max(tile(keep)) {
        best = pass(builder, best, keep, true);
    }
    best
}

/// Adds one pass of `top_k.wgsl` over `candidates` to the graph. If `pairs` is true, candidates are pairs (score,
/// column); otherwise they are scores.
pub fn pass(
    builder: &mut Builder,
    candidates: Activations,
    keep: usize,
    pairs: bool,
) -> Activations {
    let tile = tile(keep);
    let values = if pairs { 2 } else { 1 };
    let count = candidates.width / values;
    let tiles = count.div_ceil(tile);
    let width = 2 * tiles * keep;
    let rows = candidates.rows;
    let source = TensorSource::Scratch;
    let best = builder.rows("best", rows, width.div_ceil(4), width, Storage::F32, source);
    let variant = builder
        .variant(&TOP_K, Storage::F32)
        .set("PAIRS", u32::from(pairs))
        .constant("TILE", tile as u32);
    let params = TopKParams {
        candidates: count as u32,
        stride: (candidates.width4 * 4 / values) as u32,
        keep: keep as u32,
        best_stride: (best.width4 * 2) as u32,
    };
    builder.graph.dispatches.push(Dispatch {
        kernel: &TOP_K,
        variant,
        bindings: vec![candidates.id, best.id],
        params: bytemuck::bytes_of(&params).to_vec(),
        workgroups: Workgroups::grid(tiles as u32, rows as u32),
        flops: (rows * count * tile) as u64,
    });
    best
}
