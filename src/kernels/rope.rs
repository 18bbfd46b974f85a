//! Rotary positions of queries and keys: the angles of a batch, and `rope.wgsl`, which normalises heads and then
//! rotates them. The matmul that computes a head also rotates it if the head has no norm: see
//! [`Epilogue::Rotated`](super::matmul::Epilogue::Rotated).
//!
//! The two values of a rotated pair lie side by side in a head. When weights are loaded, the weights of queries and of
//! keys are reordered in the same way, so products of queries and keys do not change.
//!
//! For each batch, a model computes a table of angles on the host, with one row for each position. The model also gives
//! each token the number of the token's row in this table.

use crate::gpu::graph::{Dispatch, TensorId, TensorSource, Workgroups};
use crate::gpu::kernel::{Access, Kernel};
use crate::kernels::{Activations, Builder, row_workgroups};
use crate::params;

params! {
    /// The kernel's parameters, laid out as the struct `Params` of `rope.wgsl`.
    pub struct RopeParams {
        tokens: u32,
        heads: u32,
        query_heads: u32,
        head: u32,
        head4: u32,
        stride4: u32,
        pairs: u32,
        angles: u32,
        groups: u32,
        eps: f32,
    }
}

/// The descriptor of `rope.wgsl`, which normalises and rotates heads.
pub static ROPE: Kernel = Kernel {
    name: "rope",
    source: include_str!("../../shaders/rope.wgsl"),
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Write],
    params: RopeParams::FIELDS,
    reads_weights: false,
    reads_activations: true,
    has_subgroup_variant: true,
    cooperative: false,
    settings: &[],
};

/// The angles of a batch in one tensor. The tensor begins with a pair (row, 0) for each token. The rows of angles
/// follow: `[positions, pairs]` of (cos, sin). Row numbers are stored as f32, which represents every row number of a
/// batch exactly.
#[derive(Debug, Clone, Copy)]
pub struct Angles {
    /// The tensor with the pairs of all tokens, followed by the rows of angles.
    pub table: TensorId,
    /// The number of tokens, which is also the number of pairs before the first row.
    pub tokens: usize,
    /// The number of rotated pairs in a head: half the rotary dimensions.
    pub pairs: usize,
}

impl Angles {
    /// Adds a tensor that holds the row number of each token, followed by the rows of angles.
    pub fn new(builder: &mut Builder, rows: &[u32], angles: &[[f32; 2]], pairs: usize) -> Self {
        let mut table: Vec<[f32; 2]> = rows.iter().map(|row| [*row as f32, 0.0]).collect();
        table.extend_from_slice(angles);
        let table = builder.input("angles", &table);
        Angles { table, tokens: rows.len(), pairs }
    }

    /// Returns the rotation of the first `heads` heads of a row, each of `head` values.
    pub fn rotation(&self, heads: usize, head: usize) -> Rotation {
        let head4 = head.div_ceil(4);
        Rotation { angles: *self, head4, cells: heads * head4 }
    }
}

/// The rotation of heads by the matmul that computes them.
#[derive(Debug, Clone, Copy)]
pub struct Rotation {
    /// The angles to rotate by.
    pub angles: Angles,
    /// The number of cells (four values each) in a head.
    pub head4: usize,
    /// The number of cells (four values each) in all rotated heads, which come first in a row.
    pub cells: usize,
}

/// The heads that [`rope`] normalises and rotates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope {
    /// The number of query heads, which come first.
    pub heads: usize,
    /// The number of key heads, which follow.
    pub kv_heads: usize,
    /// The number of values in a head, without padding.
    pub head: usize,
}

/// The root mean square norm of each head before its rotation, with f32 weights.
#[derive(Debug, Clone, Copy)]
pub struct HeadNorm {
    /// The weights `[2, head]`: first those of queries, then those of keys. Both rows are padded to a multiple of four
    /// values, and have the same order as the values of a head.
    pub weight: TensorId,
    /// The epsilon: a value that is added to the mean of the squares.
    pub eps: f32,
}

/// Returns the pairs (cos, sin), `[positions, pairs]`, for positions 0 to `positions` − 1. For each pair, `frequencies`
/// has the angle between two neighbouring positions. `factor` multiplies cosine and sine; it is the attention factor of
/// yarn and longrope.
///
/// As in transformers, the angle is a product in f32. At position 8000 the rounding error of the angle is 2e-4.
pub fn angles(frequencies: &[f64], factor: f64, positions: usize) -> Vec<[f32; 2]> {
    let at = |position: usize, frequency: f64| {
        let (sin, cos) = f64::from(position as f32 * frequency as f32).sin_cos();
        [(cos * factor) as f32, (sin * factor) as f32]
    };
    (0..positions).flat_map(|p| frequencies.iter().map(move |f| at(p, *f))).collect()
}

/// Returns the index that value `i` of a head gets when the two values of each pair are moved side by side. Before the
/// move, the two values of a pair are `pairs` apart ("rotate half") among the first `2 · pairs` values.
pub fn side_by_side(i: usize, pairs: usize) -> usize {
    match i {
        first if first < pairs => 2 * first,
        second if second < 2 * pairs => 2 * (second - pairs) + 1,
        beyond => beyond,
    }
}

/// Adds the normalisation and rotation of queries and keys to the graph. Returns the result, `[tokens, heads +
/// kv_heads, head]`, padded as in `x`.
///
/// `x` is `[tokens, …]`, with the query heads first and then the key heads. The value heads stay in `x`, since
/// [`attend`](super::attention::attend) takes queries, keys and values from separate tensors.
pub fn rope(
    builder: &mut Builder,
    x: Activations,
    angles: &Angles,
    rope: &Rope,
    norm: HeadNorm,
) -> Activations {
    let head4 = rope.head.div_ceil(4);
    let heads = rope.heads + rope.kv_heads;
    let width4 = heads * head4;
    let y = builder.rows("rotated", x.rows, width4, width4 * 4, x.storage, TensorSource::Scratch);
    let variant = builder.variant(&ROPE, x.storage);
    // A dispatch has at most 65,535 workgroups in a dimension, so each workgroup loops over several rows if there are
    // more.
    let groups = row_workgroups(variant.lanes, x.rows * heads).min(65_535);
    let params = RopeParams {
        tokens: x.rows as u32,
        heads: heads as u32,
        query_heads: rope.heads as u32,
        head: rope.head as u32,
        head4: head4 as u32,
        stride4: x.width4 as u32,
        pairs: angles.pairs as u32,
        angles: angles.tokens as u32,
        groups,
        eps: norm.eps,
    };
    builder.graph.dispatches.push(Dispatch {
        kernel: &ROPE,
        variant,
        bindings: vec![x.id, angles.table, norm.weight, y.id],
        params: bytemuck::bytes_of(&params).to_vec(),
        workgroups: Workgroups::row(groups),
        flops: (x.rows * width4 * 4 * 10) as u64,
    });
    y
}
