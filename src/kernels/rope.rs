//! Rotary positions of queries and keys: the angles of a batch, and `rope.wgsl`, which norms heads before it
//! turns them. Heads without a norm are turned by the matmul that makes them: see
//! [`Epilogue::Rotated`](super::matmul::Epilogue::Rotated).
//!
//! Pairs that are turned lie side by side in a head: the weights are put in that order when they are loaded,
//! for queries and keys alike, so that products of the two stay what they are.
//!
//! A model makes the table of angles of a batch on the host, a row a position, and says for each token
//! which row is its.

use crate::gpu::graph::{Dispatch, TensorId, TensorSource, Workgroups};
use crate::gpu::kernel::{Access, Kernel};
use crate::kernels::{Activations, Builder, row_workgroups};
use crate::params;

params! {
    /// `Params` of `rope.wgsl`.
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

/// The kernel.
pub static ROPE: Kernel = Kernel {
    name: "rope",
    source: include_str!("../../shaders/rope.wgsl"),
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Write],
    params: RopeParams::FIELDS,
    stores_activations: true,
    reads_weights: false,
    reads_activations: true,
    has_subgroup_variant: true,
    cooperative: false,
    settings: &[],
};

/// The angles of a batch in one tensor: a pair (row, 0) for each token, then the rows, `[positions, pairs]`
/// of (cos, sin). f32 holds every row that a batch can have.
#[derive(Debug, Clone, Copy)]
pub struct Angles {
    /// The tensor.
    pub table: TensorId,
    /// Tokens, which come before the first row.
    pub tokens: usize,
    /// Pairs of values of a head that are turned: half the rotary dimensions.
    pub pairs: usize,
}

impl Angles {
    /// From the row of each token and the rows.
    pub fn new(builder: &mut Builder, rows: &[u32], angles: &[[f32; 2]], pairs: usize) -> Self {
        let mut table: Vec<[f32; 2]> = rows.iter().map(|row| [*row as f32, 0.0]).collect();
        table.extend_from_slice(angles);
        let table = builder.input("angles", &table);
        Angles { table, tokens: rows.len(), pairs }
    }

    /// So that so many heads of so many values, the first ones of a row, are turned.
    pub fn rotation(&self, heads: usize, head: usize) -> Rotation {
        let head4 = head.div_ceil(4);
        Rotation { angles: *self, head4, cells: heads * head4 }
    }
}

/// How the matmul that makes them turns heads.
#[derive(Debug, Clone, Copy)]
pub struct Rotation {
    /// By which angles.
    pub angles: Angles,
    /// Cells of a head.
    pub head4: usize,
    /// Cells of all heads that are turned, the first ones of a row.
    pub cells: usize,
}

/// Heads that are normed and turned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope {
    /// Heads of queries, which come first.
    pub heads: usize,
    /// Heads of keys, which follow.
    pub kv_heads: usize,
    /// Values of a head, without filling.
    pub head: usize,
}

/// The norm of each head before it is turned: root mean square, f32 weights.
#[derive(Debug, Clone, Copy)]
pub struct HeadNorm {
    /// `[2, head]`, each filled up to whole cells and in the order of the heads' values: of queries, of keys.
    pub weight: TensorId,
    /// Added to the mean of the squares.
    pub eps: f32,
}

/// (cos, sin) `[positions, pairs]` for positions 0 to `positions` − 1: `frequencies` holds an angle a
/// position for each pair, `factor` multiplies both (the attention factor of yarn and longrope).
///
/// The angle is a product in f32, as in transformers: at position 8000 rounding moves it by 2e-4.
pub fn angles(frequencies: &[f64], factor: f64, positions: usize) -> Vec<[f32; 2]> {
    let at = |position: usize, frequency: f64| {
        let (sin, cos) = f64::from(position as f32 * frequency as f32).sin_cos();
        [(cos * factor) as f32, (sin * factor) as f32]
    };
    (0..positions).flat_map(|p| frequencies.iter().map(move |f| at(p, *f))).collect()
}

/// Where value `i` of a head lies whose first `2 · pairs` values are pairs half of them apart ("rotate half"),
/// once pairs lie side by side.
pub fn side_by_side(i: usize, pairs: usize) -> usize {
    match i {
        first if first < pairs => 2 * first,
        second if second < 2 * pairs => 2 * (second - pairs) + 1,
        beyond => beyond,
    }
}

/// Queries and keys, normed and turned: `[tokens, heads + kv_heads, head]`, filled as in `x`.
///
/// `x` is `[tokens, …]` with the heads of queries first and those of keys behind them. The values stay behind:
/// [`attend`](super::attention::attend) takes the three from wherever they lie.
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
    // A dimension of a dispatch ends at 65,535; the kernel strides over what is left.
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
