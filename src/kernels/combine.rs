//! `combine.wgsl`: the weighted sum of the rows that a token's experts computed.

use crate::gpu::graph::{Dispatch, TensorId, TensorSource, Workgroups};
use crate::gpu::kernel::{Access, Kernel};
use crate::kernels::route::Choices;
use crate::kernels::{Activations, Builder};
use crate::params;

params! {
    /// The kernel's parameters, laid out as the struct `Params` of `combine.wgsl`.
    pub struct CombineParams { tokens: u32, width4: u32, top: u32, stride: u32 }
}

/// The descriptor of `combine.wgsl`, which computes the weighted sum of the rows of a token's experts.
pub static COMBINE: Kernel = Kernel {
    name: "combine",
    source: include_str!("../../shaders/combine.wgsl"),
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Write],
    params: CombineParams::FIELDS,
    reads_weights: false,
    reads_activations: true,
    has_subgroup_variant: false,
    cooperative: false,
    settings: &[],
};

/// Adds y = Σ weight · x + bias over the experts of each token to the graph. Returns y, `[tokens, width]`, where x is
/// `[tokens · top, width]` and `bias` is `[width]` in f32.
pub fn combine(
    builder: &mut Builder,
    x: Activations,
    choices: &Choices,
    bias: TensorId,
) -> Activations {
    let tokens = choices.pairs.rows;
    let y = builder.rows("combined", tokens, x.width4, x.width, x.storage, TensorSource::Scratch);
    let params = CombineParams {
        tokens: tokens as u32,
        width4: x.width4 as u32,
        top: choices.top as u32,
        stride: choices.stride() as u32,
    };
    let variant = builder.variant(&COMBINE, x.storage);
    builder.graph.dispatches.push(Dispatch {
        kernel: &COMBINE,
        variant,
        bindings: vec![x.id, choices.pairs.id, bias, y.id],
        params: bytemuck::bytes_of(&params).to_vec(),
        workgroups: Workgroups::grid((x.width4 as u32).div_ceil(64), tokens as u32),
        flops: (2 * tokens * choices.top * x.width) as u64,
    });
    y
}
