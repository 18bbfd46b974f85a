//! `layer_norm.wgsl`: layer normalisation with an optional residual.

use crate::gpu::graph::{Dispatch, TensorId, TensorSource, Workgroups};
use crate::gpu::kernel::{Access, Kernel, Setting};
use crate::kernels::{Activations, Builder, row_workgroups};
use crate::params;

params! {
    /// The kernel's parameters, laid out as the struct `Params` of `layer_norm.wgsl`.
    pub struct LayerNormParams { rows: u32, width: u32, width4: u32, groups: u32, eps: f32 }
}

/// The descriptor of `layer_norm.wgsl`: layer normalisation of x + residual.
pub static LAYER_NORM: Kernel = Kernel {
    name: "layer_norm",
    source: include_str!("../../shaders/layer_norm.wgsl"),
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Write],
    params: LayerNormParams::FIELDS,
    reads_weights: false,
    reads_activations: true,
    has_subgroup_variant: true,
    cooperative: false,
    settings: &[Setting { name: "HAS_RESIDUAL", constant: false, values: &[0, 1] }],
};

/// The weight and bias (f32) of a layer normalisation, and its epsilon.
#[derive(Debug, Clone, Copy)]
pub struct Norm {
    /// The number of the buffer that holds the weight, `[width]`.
    pub weight: usize,
    /// The number of the buffer that holds the bias, `[width]`.
    pub bias: usize,
    /// The epsilon: a value that is added to the variance before its square root is taken.
    pub eps: f32,
}

/// Adds y = layer_norm(x + residual) to the graph, and returns y, `[rows, width]`.
pub fn layer_norm(
    builder: &mut Builder,
    x: Activations,
    residual: Option<Activations>,
    norm: &Norm,
) -> Activations {
    let weight = builder.weight("norm weight", norm.weight);
    let bias = builder.weight("norm bias", norm.bias);
    layer_norm_of(builder, x, residual, [weight, bias], norm.eps)
}

/// Like [`layer_norm`], but takes the weight and the bias as tensors of the graph.
pub fn layer_norm_of(
    builder: &mut Builder,
    x: Activations,
    residual: Option<Activations>,
    [weight, bias]: [TensorId; 2],
    eps: f32,
) -> Activations {
    let y = builder.rows("normed", x.rows, x.width4, x.width, x.storage, TensorSource::Scratch);
    let variant =
        builder.variant(&LAYER_NORM, x.storage).set("HAS_RESIDUAL", u32::from(residual.is_some()));
    let groups = row_workgroups(variant.lanes, x.rows);
    let params = LayerNormParams {
        rows: x.rows as u32,
        width: x.width as u32,
        width4: x.width4 as u32,
        groups,
        eps,
    };
    builder.graph.dispatches.push(Dispatch {
        kernel: &LAYER_NORM,
        variant,
        // wgpu requires a buffer for every binding. Without a residual, the kernel does not read this binding, so x is
        // bound there.
        bindings: vec![x.id, residual.unwrap_or(x).id, weight, bias, y.id],
        params: bytemuck::bytes_of(&params).to_vec(),
        workgroups: Workgroups::row(groups),
        flops: (x.rows * x.width * 8) as u64,
    });
    y
}
