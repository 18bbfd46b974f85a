//! `rope.wgsl`: rotary positions of queries and keys, after an optional norm of each head.
//!
//! It reads queries and keys where the matmul put them and writes both to a tensor of their own; the
//! values stay behind: [`attend`](super::attention::attend) takes the three from wherever they lie. A
//! model makes the table of angles of a batch on the host, a row a position, and says for each token
//! which row is its.

use crate::gpu::graph::{Dispatch, Source, TensorId};
use crate::gpu::kernel::{Access, Kernel, Setting};
use crate::kernels::{Activations, Builder, row_groups};
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
        groups: u32,
        eps: f32,
    }
}

/// The kernel.
pub static ROPE: Kernel = Kernel {
    name: "rope",
    source: include_str!("../../shaders/rope.wgsl"),
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Write],
    params: RopeParams::FIELDS,
    stores_activations: true,
    reads_weights: false,
    reads_activations: true,
    has_lanes: true,
    cooperative: false,
    settings: &[
        Setting { name: "INTERLEAVED", constant: false, values: &[0, 1] },
        Setting { name: "HAS_NORM", constant: false, values: &[0, 1] },
    ],
};

/// How a model turns its heads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope {
    /// Heads of queries, which come first.
    pub heads: usize,
    /// Heads of keys, which follow.
    pub kv_heads: usize,
    /// Values of a head, without filling.
    pub head: usize,
    /// Pairs that are turned: half the rotary dimensions. 0 turns nothing.
    pub pairs: usize,
    /// True where values 2p and 2p + 1 are a pair; false where p and p + pairs are ("rotate half").
    pub interleaved: bool,
}

/// The norm of each head before it is turned: root mean square, f32 weights.
#[derive(Debug, Clone, Copy)]
pub struct HeadNorm {
    /// `[2, head]`, each filled up to whole cells: of queries, of keys.
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

/// Queries and keys, normed and turned: `[tokens, heads + kv_heads, head]`, filled as in `x`.
///
/// `x` is `[tokens, …]` with the heads of queries first and those of keys behind them; `angles` is a
/// tensor of [`angles`], `rows` one with the row of it for each token, a u32.
pub fn rope(
    builder: &mut Builder,
    x: Activations,
    [angles, rows]: [TensorId; 2],
    rope: &Rope,
    norm: Option<HeadNorm>,
) -> Activations {
    let head4 = rope.head.div_ceil(4);
    let heads = rope.heads + rope.kv_heads;
    let width4 = heads * head4;
    let y = builder.rows("turned", x.rows, width4, width4 * 4, x.storage, Source::Scratch);
    let variant = builder
        .variant(&ROPE, x.storage)
        .set("INTERLEAVED", u32::from(rope.interleaved))
        .set("HAS_NORM", u32::from(norm.is_some()));
    // A dimension of a dispatch ends at 65,535; the kernel strides over what is left.
    let groups = row_groups(variant.lanes, x.rows * heads).min(65_535);
    let params = RopeParams {
        tokens: x.rows as u32,
        heads: heads as u32,
        query_heads: rope.heads as u32,
        head: rope.head as u32,
        head4: head4 as u32,
        stride4: x.width4 as u32,
        pairs: rope.pairs as u32,
        groups,
        eps: norm.map_or(0.0, |norm| norm.eps),
    };
    builder.graph.dispatches.push(Dispatch {
        kernel: &ROPE,
        variant,
        // Without a norm its weight is not read; the angles stand in.
        bindings: vec![x.id, rows, angles, norm.map_or(angles, |norm| norm.weight), y.id],
        params: bytemuck::bytes_of(&params).to_vec(),
        groups: [groups, 1, 1],
        flops: (x.rows * width4 * 4 * 10) as u64,
    });
    y
}
