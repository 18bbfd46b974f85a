//! `route.wgsl`: chooses the experts of each token.

use crate::dtype::Storage;
use crate::gpu::graph::{Dispatch, TensorId, TensorSource, Workgroups};
use crate::gpu::kernel::{Access, Kernel, Setting};
use crate::kernels::matmul::layout::{ExpertLinear, stride4};
use crate::kernels::{Activations, Builder, row_workgroups};
use crate::params;

params! {
    /// The kernel's parameters, laid out as the struct `Params` of `route.wgsl`.
    pub struct RouteParams {
        tokens: u32,
        inner4: u32,
        stride4: u32,
        experts: u32,
        top: u32,
        stride: u32,
        groups: u32,
    }
}

/// The descriptor of `route.wgsl`, which chooses the experts of each token.
pub static ROUTE: Kernel = Kernel {
    name: "route",
    source: include_str!("../../shaders/route.wgsl"),
    bindings: &[Access::Read, Access::Read, Access::Write],
    params: RouteParams::FIELDS,
    reads_weights: true,
    reads_activations: true,
    has_subgroup_variant: true,
    cooperative: false,
    settings: &[Setting { name: "CELLS", constant: true, values: &[1, 2, 8] }],
};

/// The maximum number of experts that the kernels support.
pub const MAX_EXPERTS: usize = 32;

/// The experts of each token, and their weights.
#[derive(Debug, Clone, Copy)]
pub struct Choices {
    /// The choices, `[tokens, 2 · top]` in f32: pairs (expert, weight), the pair with the largest weight first. Rows
    /// are padded to a multiple of four values.
    pub pairs: Activations,
    /// The number of experts that each token chooses.
    pub top: usize,
    /// The number of experts among which each token chooses.
    pub experts: usize,
}

impl Choices {
    /// Returns the number of pairs in a token's row, including padding.
    pub(crate) fn stride(&self) -> usize {
        self.pairs.width4 * 2
    }
}

/// Chooses the `top` experts with the largest values of softmax(x · router) for each row of x. Among equal values, the
/// expert with the lower number comes first. The weights are not divided by their sum. The choice for a row does not
/// depend on the other rows.
pub fn route(builder: &mut Builder, x: Activations, router: &ExpertLinear, top: usize) -> Choices {
    let weight = builder.weight("router", router.weight);
    route_of(builder, x, weight, router.columns, top)
}

/// Like [`route`], but takes the router's weight as a tensor of the graph. `experts` is at most [`MAX_EXPERTS`].
pub fn route_of(
    builder: &mut Builder,
    x: Activations,
    router: TensorId,
    experts: usize,
    top: usize,
) -> Choices {
    let width4 = top.div_ceil(2);
    let pairs =
        builder.rows("choices", x.rows, width4, 2 * top, Storage::F32, TensorSource::Scratch);
    let choices = Choices { pairs, top, experts };
    let cells = experts.div_ceil(4);
    let variant = builder.variant(&ROUTE, x.storage).constant("CELLS", cells as u32);
    let groups = row_workgroups(variant.lanes, x.rows);
    let params = RouteParams {
        tokens: x.rows as u32,
        inner4: x.width4 as u32,
        stride4: stride4(cells) as u32,
        experts: experts as u32,
        top: top as u32,
        stride: choices.stride() as u32,
        groups,
    };
    builder.graph.dispatches.push(Dispatch {
        kernel: &ROUTE,
        variant,
        bindings: vec![x.id, router, pairs.id],
        params: bytemuck::bytes_of(&params).to_vec(),
        workgroups: Workgroups::row(groups),
        flops: (2 * x.rows * x.width * experts) as u64,
    });
    choices
}
