//! `normalize_l2.wgsl`: scales rows to length one.

use crate::dtype::Storage;
use crate::gpu::graph::{Dispatch, TensorSource, Workgroups};
use crate::gpu::kernel::{Access, Kernel};
use crate::kernels::{Activations, Builder, row_workgroups};
use crate::params;

params! {
    /// The kernel's parameters, laid out as the struct `Params` of `normalize_l2.wgsl`.
    pub struct NormalizeParams { rows: u32, width: u32, width4: u32, groups: u32 }
}

/// The descriptor of `normalize_l2.wgsl`, which scales rows to length one.
pub static NORMALIZE_L2: Kernel = Kernel {
    name: "normalize_l2",
    source: include_str!("../../shaders/normalize_l2.wgsl"),
    bindings: &[Access::Read, Access::Write],
    params: NormalizeParams::FIELDS,
    reads_weights: false,
    reads_activations: false,
    has_subgroup_variant: true,
    cooperative: false,
    settings: &[],
};

/// Adds y = x / max(‖x‖₂, 1e-12) for each row to the graph, and returns y in f32.
pub fn normalize_l2(builder: &mut Builder, x: Activations) -> Activations {
    let y =
        builder.rows("normalized", x.rows, x.width4, x.width, Storage::F32, TensorSource::Scratch);
    let variant = builder.variant(&NORMALIZE_L2, Storage::F32);
    let groups = row_workgroups(variant.lanes, x.rows);
    let params = NormalizeParams {
        rows: x.rows as u32,
        width: x.width as u32,
        width4: x.width4 as u32,
        groups,
    };
    builder.graph.dispatches.push(Dispatch {
        kernel: &NORMALIZE_L2,
        variant,
        bindings: vec![x.id, y.id],
        params: bytemuck::bytes_of(&params).to_vec(),
        workgroups: Workgroups::row(groups),
        flops: (x.rows * x.width * 4) as u64,
    });
    y
}
