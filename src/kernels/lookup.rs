//! `lookup.wgsl`: the sum of rows of the word, position and type tables.

use crate::gpu::graph::{Dispatch, TensorId, Workgroups};
use crate::gpu::kernel::{Access, Kernel, Setting};
use crate::kernels::{Activations, Builder};
use crate::params;

params! {
    /// The kernel's parameters, laid out as the struct `Params` of `lookup.wgsl`.
    pub struct LookupParams { tokens: u32, width4: u32, scale: f32 }
}

/// The descriptor of `lookup.wgsl`, which sums rows of embedding tables.
pub static LOOKUP: Kernel = Kernel {
    name: "lookup",
    source: include_str!("../../shaders/lookup.wgsl"),
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Write],
    params: LookupParams::FIELDS,
    reads_weights: true,
    reads_activations: true,
    has_subgroup_variant: false,
    cooperative: false,
    settings: &[Setting { name: "TABLES", constant: false, values: &[1, 2, 3] }],
};

/// Adds a lookup to the graph, and returns x, `[tokens, width]`: `x[t] = table[rows[t].0] + positions[rows[t].1] +
/// types[rows[t].2]`.
///
/// The caller must check that every index in `rows` is a row of its table, since the GPU does not check this.
pub fn lookup(
    builder: &mut Builder,
    rows: &[[u32; 4]],
    tables: [TensorId; 3],
    width: usize,
) -> Activations {
    lookup_of(builder, rows, &tables, width, 1.0)
}

/// Like [`lookup`], but takes one to three tables and multiplies the sum by `scale`. Element i of each entry of `rows`
/// is the index of a row in table i.
pub fn lookup_of(
    builder: &mut Builder,
    rows: &[[u32; 4]],
    tables: &[TensorId],
    width: usize,
    scale: f32,
) -> Activations {
    let tokens = builder.input("token rows", rows);
    let x = builder.activations("embeddings", rows.len(), width);
    let params = LookupParams { tokens: rows.len() as u32, width4: x.width4 as u32, scale };
    let count = tables.len().clamp(1, 3);
    let variant = builder.variant(&LOOKUP, x.storage).set("TABLES", count as u32);
    // wgpu requires a buffer for every binding. If the model lacks a table, the tensor of tokens is bound in its place.
    let table = |i: usize| tables.get(i).copied().unwrap_or(tokens);
    builder.graph.dispatches.push(Dispatch {
        kernel: &LOOKUP,
        variant,
        bindings: vec![tokens, table(0), table(1), table(2), x.id],
        params: bytemuck::bytes_of(&params).to_vec(),
        workgroups: Workgroups::grid((x.width4 as u32).div_ceil(64), rows.len() as u32),
        flops: (rows.len() * width * 2) as u64,
    });
    x
}
