//! `pool.wgsl`: computes one row for each text from the hidden states of its tokens.

use crate::dtype::Storage;
use crate::gpu::graph::{Dispatch, TensorId, TensorSource, Workgroups};
use crate::gpu::kernel::{Access, Kernel, Setting};
use crate::kernels::{Activations, Builder};
use crate::params;

params! {
    /// The kernel's parameters, laid out as the struct `Params` of `pool.wgsl`.
    pub struct PoolParams { texts: u32, width: u32, width4: u32, stride: u32, column: u32 }
}

/// The descriptor of `pool.wgsl`, which pools the hidden states of a text's tokens into one row.
pub static POOL: Kernel = Kernel {
    name: "pool",
    source: include_str!("../../shaders/pool.wgsl"),
    bindings: &[Access::Read, Access::Read, Access::Write],
    params: PoolParams::FIELDS,
    reads_weights: false,
    reads_activations: true,
    has_subgroup_variant: false,
    cooperative: false,
    settings: &[Setting { name: "MODE", constant: false, values: &[0, 1, 2, 3, 4, 5] }],
};

/// The tokens of a text that are pooled: (first token, number of tokens, number of tokens skipped at the front,
/// unused).
pub type Span = [u32; 4];

/// Pools each text in every mode, and returns the results side by side, `[texts, modes · width]` in f32. `modes` are
/// the numbers that `pool.wgsl` assigns to pooling modes.
pub fn pool(builder: &mut Builder, x: Activations, spans: &[Span], modes: &[u32]) -> Activations {
    let pooled = pooled(builder, spans.len(), modes.len() * x.width);
    let spans = builder.input("spans", spans);
    for (at, mode) in modes.iter().enumerate() {
        pool_at(builder, x, spans, *mode, pooled, at * x.width);
    }
    pooled
}

/// Adds a tensor `[texts, columns]` in f32 that [`pool_at`] writes to.
pub fn pooled(builder: &mut Builder, texts: usize, columns: usize) -> Activations {
    // If the number of columns is not a multiple of 4, no dispatch writes the padding, so the tensor starts as zeros.
    let source =
        if columns.is_multiple_of(4) { TensorSource::Scratch } else { TensorSource::Zeroed };
    builder.rows("pooled", texts, columns.div_ceil(4), columns, Storage::F32, source)
}

/// Pools `x` in a mode, and writes the result to `pooled`, starting at the column `column`. `spans` is a tensor of
/// [`Span`]s.
pub fn pool_at(
    builder: &mut Builder,
    x: Activations,
    spans: TensorId,
    mode: u32,
    pooled: Activations,
    column: usize,
) {
    let params = PoolParams {
        texts: pooled.rows as u32,
        width: x.width as u32,
        width4: x.width4 as u32,
        stride: (pooled.width4 * 4) as u32,
        column: column as u32,
    };
    let variant = builder.variant(&POOL, x.storage).set("MODE", mode);
    builder.graph.dispatches.push(Dispatch {
        kernel: &POOL,
        variant,
        bindings: vec![x.id, spans, pooled.id],
        params: bytemuck::bytes_of(&params).to_vec(),
        workgroups: Workgroups::grid((x.width4 as u32).div_ceil(64), pooled.rows as u32),
        flops: (x.rows * x.width) as u64,
    });
}
