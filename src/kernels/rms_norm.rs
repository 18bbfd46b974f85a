//! `rms_norm.wgsl`: root mean square normalisation.
//!
//! A model that ends a block with a norm (Gemma) passes the block's input as `residual`, and the norm adds it to the
//! normalised values. A model that normalises before a block passes no `residual` here. In such a model, the matmul
//! adds the block's input to the block's result (see [`matmul`](super::matmul::matmul)), and the next norm reads the
//! sum.

use crate::gpu::graph::{Dispatch, TensorId, TensorSource, Workgroups};
use crate::gpu::kernel::{Access, Kernel, Setting};
use crate::kernels::{Activations, Builder, row_workgroups};
use crate::params;

params! {
    /// The kernel's parameters, laid out as the struct `Params` of `rms_norm.wgsl`.
    pub struct RmsNormParams { rows: u32, width: u32, width4: u32, groups: u32, eps: f32 }
}

/// The descriptor of `rms_norm.wgsl`: root mean square normalisation, plus a residual.
pub static RMS_NORM: Kernel = Kernel {
    name: "rms_norm",
    source: include_str!("../../shaders/rms_norm.wgsl"),
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Write],
    params: RmsNormParams::FIELDS,
    reads_weights: false,
    reads_activations: true,
    has_subgroup_variant: true,
    cooperative: false,
    settings: &[Setting { name: "HAS_RESIDUAL", constant: false, values: &[0, 1] }],
};

/// The weight (f32) of a root mean square normalisation, and its epsilon.
#[derive(Debug, Clone, Copy)]
pub struct RmsNorm {
    /// The number of the buffer that holds the weight, `[width]`. If the model scales by 1 + w, the buffer holds 1 + w.
    pub weight: usize,
    /// The epsilon: a value that is added to the mean of the squares.
    pub eps: f32,
}

/// Adds y = rms_norm(x) + residual to the graph, and returns y, `[rows, width]`.
pub fn rms_norm(
    builder: &mut Builder,
    x: Activations,
    norm: &RmsNorm,
    residual: Option<Activations>,
) -> Activations {
    let weight = builder.weight("norm weight", norm.weight);
    rms_norm_of(builder, x, weight, norm.eps, residual)
}

/// Like [`rms_norm`], but takes the weight as a tensor of the graph.
pub fn rms_norm_of(
    builder: &mut Builder,
    x: Activations,
    weight: TensorId,
    eps: f32,
    residual: Option<Activations>,
) -> Activations {
    let y = builder.rows("normed", x.rows, x.width4, x.width, x.storage, TensorSource::Scratch);
    let variant =
        builder.variant(&RMS_NORM, x.storage).set("HAS_RESIDUAL", u32::from(residual.is_some()));
    let groups = row_workgroups(variant.lanes, x.rows);
    let params = RmsNormParams {
        rows: x.rows as u32,
        width: x.width as u32,
        width4: x.width4 as u32,
        groups,
        eps,
    };
    builder.graph.dispatches.push(Dispatch {
        kernel: &RMS_NORM,
        variant,
        // wgpu requires a buffer for every binding. Without a residual, the kernel does not read this binding, so x is
        // bound there.
        bindings: vec![x.id, residual.unwrap_or(x).id, weight, y.id],
        params: bytemuck::bytes_of(&params).to_vec(),
        workgroups: Workgroups::row(groups),
        flops: (x.rows * x.width * 5) as u64,
    });
    y
}
