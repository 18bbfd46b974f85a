//! `lookup.wgsl`: rows of the word, position and type tables, summed.

use crate::gpu::graph::{Dispatch, TensorId};
use crate::gpu::kernel::{Access, Kernel};
use crate::kernels::{Activations, Builder};
use crate::params;

params! {
    /// `Params` of `lookup.wgsl`.
    pub struct LookupParams { tokens: u32, width4: u32 }
}

/// The kernel.
pub static LOOKUP: Kernel = Kernel {
    name: "lookup",
    source: include_str!("../../shaders/lookup.wgsl"),
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Write],
    params: LookupParams::FIELDS,
    stores_activations: true,
    reads_weights: true,
    reads_activations: true,
    has_lanes: false,
    settings: &[],
};

/// `x[t] = table[rows[t].0] + positions[rows[t].1] + types[rows[t].2]`, `[tokens, width]`.
///
/// `rows` must be within the tables: the GPU does not check.
pub fn lookup(
    builder: &mut Builder,
    rows: &[[u32; 4]],
    tables: [TensorId; 3],
    width: usize,
) -> Activations {
    let tokens = builder.input("token rows", rows);
    let x = builder.activations("embeddings", rows.len(), width);
    let params = LookupParams { tokens: rows.len() as u32, width4: x.width4 as u32 };
    let variant = builder.variant(&LOOKUP, x.storage);
    builder.graph.dispatches.push(Dispatch {
        kernel: &LOOKUP,
        variant,
        bindings: vec![tokens, tables[0], tables[1], tables[2], x.id],
        params: bytemuck::bytes_of(&params).to_vec(),
        groups: [(x.width4 as u32).div_ceil(64), rows.len() as u32, 1],
        flops: (rows.len() * width * 2) as u64,
    });
    x
}
