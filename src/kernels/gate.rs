//! `gate.wgsl`: a gated activation (GEGLU, SwiGLU) of two halves that one matmul made.

use crate::gpu::graph::{Dispatch, Source};
use crate::gpu::kernel::{Access, Kernel, Setting};
use crate::kernels::{Activation, Activations, Builder};
use crate::params;

params! {
    /// `Params` of `gate.wgsl`.
    pub struct GateParams { rows: u32, width4: u32, gate4: u32, up4: u32 }
}

/// The kernel.
pub static GATE: Kernel = Kernel {
    name: "gate",
    source: include_str!("../../shaders/gate.wgsl"),
    bindings: &[Access::Read, Access::Write],
    params: GateParams::FIELDS,
    stores_activations: true,
    reads_weights: false,
    reads_activations: true,
    has_lanes: false,
    cooperative: false,
    settings: &[Setting { name: "ACTIVATION", constant: false, values: &[0, 1, 2, 3, 4, 5, 6] }],
};

/// Which half of the rows is the gate, the one that the activation is applied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// `[gate | up]`
    First,
    /// `[up | gate]`
    Second,
}

/// y = activation(gate) · up, `[rows, width]`, from rows of both halves of `width` values, each filled
/// up to whole cells.
pub fn gate(
    builder: &mut Builder,
    x: Activations,
    width: usize,
    gate: Gate,
    activation: Activation,
) -> Activations {
    let width4 = x.width4 / 2;
    let y = builder.rows("gated", x.rows, width4, width, x.storage, Source::Scratch);
    let (gate4, up4) = if gate == Gate::First { (0, width4) } else { (width4, 0) };
    let params = GateParams {
        rows: x.rows as u32,
        width4: width4 as u32,
        gate4: gate4 as u32,
        up4: up4 as u32,
    };
    let variant = builder.variant(&GATE, x.storage).set("ACTIVATION", activation as u32);
    builder.graph.dispatches.push(Dispatch {
        kernel: &GATE,
        variant,
        bindings: vec![x.id, y.id],
        params: bytemuck::bytes_of(&params).to_vec(),
        groups: [(width4 as u32).div_ceil(64), x.rows as u32, 1],
        flops: (x.rows * width * 10) as u64,
    });
    y
}
