//! Attention over packed texts, with an online softmax.
//!
//! | kernel | for |
//! |---|---|
//! | `attention_tile.wgsl` | GPUs |
//! | `attention_coop.wgsl` | GPUs with cooperative matrices, f16 activations |
//! | `attention_lane.wgsl` | software adapters |
//!
//! `variants.rs` decides which [`Variant`] runs.
//!
//! A model calls [`attention`] if three conditions hold: queries, keys and values come from one matmul, every query
//! sees its whole text, and each query head has its own key head. Any other model makes an [`Attention`] once, when the
//! model is loaded. For each layer, it then calls [`attend`] with the positions of the heads of queries, keys and
//! values:
//!
//! ```text
//! // Shared keys, rotated queries and keys, causal: the decoders.
//! let qk = rope(builder, qkv, angles, &rows, &rotary);      // [tokens, heads + kv_heads, head]
//! let values = Heads { of: qkv, head: heads + kv_heads };
//! let at = [Heads { of: qk, head: 0 }, Heads { of: qk, head: heads }, values];
//! attend(builder, at, &batch.texts, &Attention { kv_heads, after: Some(0), ..plain }, None);
//! // A bias by distance: ALiBi, the buckets of MPNet and T5.
//! let bias = distance_bias(builder, heads, longest, |head, distance| …);
//! attend(builder, at, &batch.texts, &plain, Some(bias));
//! // Relative keys and queries: DeBERTa.
//! attend_relative(builder, at, &batch.texts, &plain, &relative);
//! ```
//!
//! `before` and `after` make a window. Mistral's `sliding_window` W means `before` = W − 1 and `after` = 0. A symmetric
//! window has half of its width in `before` and half in `after`.

mod cut;
mod descriptors;
mod distances;
mod variants;

use crate::gpu::graph::{Dispatch, TensorSource, Workgroups};
use crate::kernels::{Activations, Builder};

pub use crate::batch::TextSpan;
pub use descriptors::{ATTENTION_COOP, ATTENTION_LANE, ATTENTION_TILE, AttentionParams};
use distances::Distances;
pub use distances::{DistanceBias, Relative, distance_bias, relative_rows};
#[cfg(feature = "cpu")]
pub(crate) use variants::queries_of;
pub use variants::{Variant, WorkSplit};

/// The largest head size, in values, that the kernels' registers and tiles can hold.
pub const MAX_HEAD: usize = 256;

/// The settings of a model's attention, which are the same for every batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attention {
    /// The number of query heads.
    pub heads: usize,
    /// The number of key heads, which is also the number of value heads. Each key head serves `heads / kv_heads`
    /// consecutive query heads.
    pub kv_heads: usize,
    /// The number of values in a head, without padding.
    pub head: usize,
    /// The factor by which q · k is multiplied.
    pub scale: f32,
    /// The number of preceding tokens that a query sees; `None` if it sees all of them.
    pub before: Option<usize>,
    /// The number of following tokens that a query sees; `None` if it sees all of them. It is 0 in a causal model.
    pub after: Option<usize>,
}

impl Attention {
    /// Returns the settings of ordinary attention: each head has its own keys, each query attends to its whole text, and
    /// scores are divided by √`head`, where `head` is the width of a head.
    pub fn new(heads: usize, head: usize) -> Self {
        let scale = 1.0 / (head as f32).sqrt();
        Attention { heads, kv_heads: heads, head, scale, before: None, after: None }
    }

    /// Returns the keys that queries `first` to `last` of a text see, among the text's first `seen` tokens.
    fn keys(&self, first: u32, last: u32, seen: u32) -> std::ops::Range<u32> {
        let from = first.saturating_sub(reach(self.before));
        from..seen.min(last.saturating_add(reach(self.after)).saturating_add(1))
    }
}

fn reach(tokens: Option<usize>) -> u32 {
    tokens.map_or(u32::MAX, |tokens| u32::try_from(tokens).unwrap_or(u32::MAX))
}

/// Heads side by side in the rows of a tensor, each padded to a multiple of four values.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// The tensor with the heads.
    pub of: Activations,
    /// The number of heads of the same size that precede the first of these heads in a row.
    pub head: usize,
}

/// Adds softmax(q · kᵀ / √head) · v, per text and head, to the graph, and returns the result, `[tokens, heads · head]`.
///
/// `qkv` is `[tokens, 3, heads, head]`, with each head padded to a multiple of four values. `head` is the size without
/// padding, which also determines the scale 1/√head.
pub fn attention(
    builder: &mut Builder,
    qkv: Activations,
    texts: &[TextSpan],
    heads: usize,
    head: usize,
) -> Activations {
    let at = [0, heads, 2 * heads].map(|head| Heads { of: qkv, head });
    attend(builder, at, texts, &Attention::new(heads, head), None)
}

/// Adds softmax(q · kᵀ · scale + bias) · v, per text and head, over the keys that a query sees. Returns the result,
/// `[tokens, heads · head]`, with each head padded to a multiple of four values.
///
/// `[queries, keys, values]` may lie in one tensor or in three. The reach of `bias` must be the reach for the batch's
/// longest text, as [`distance_bias`] computes it.
pub fn attend(
    builder: &mut Builder,
    [q, k, v]: [Heads; 3],
    texts: &[TextSpan],
    attention: &Attention,
    bias: Option<DistanceBias>,
) -> Activations {
    let distances = bias.map_or(Distances::Nothing, Distances::Bias);
    attend_by(builder, [q, k, v], texts, attention, distances)
}

/// Like [`attend`], but with `q · k + q · relative key + k · relative query` in place of `q · k`.
///
/// Every query head must have its own key head. The reach of the table of rows must be the reach for the batch's
/// longest text, as [`relative_rows`] computes it.
pub fn attend_relative(
    builder: &mut Builder,
    [q, k, v]: [Heads; 3],
    texts: &[TextSpan],
    attention: &Attention,
    relative: &Relative,
) -> Activations {
    attend_by(builder, [q, k, v], texts, attention, Distances::Relative(relative))
}

fn attend_by(
    builder: &mut Builder,
    [q, k, v]: [Heads; 3],
    texts: &[TextSpan],
    attention: &Attention,
    distances: Distances,
) -> Activations {
    let head4 = attention.head.div_ceil(4);
    let width4 = attention.heads * head4;
    let context =
        builder.rows("context", q.of.rows, width4, width4 * 4, q.of.storage, TensorSource::Scratch);
    let (bias, relative) = match distances {
        Distances::Nothing => (None, None),
        Distances::Bias(bias) => (Some((bias.table, bias.reach)), None),
        Distances::Relative(relative) => (Some((relative.rows, relative.reach)), Some(relative)),
    };
    let first4 = |heads: Option<usize>| (heads.unwrap_or(0) * head4) as u32;
    let terms = |relative: &Relative| {
        u32::from(relative.keys.is_some()) + 2 * u32::from(relative.queries.is_some())
    };
    let windowed = attention.before.is_some() || attention.after.is_some();
    let variant = builder.plan.attention(head4, q.of.storage, relative.is_some());
    let (kernel, queries) = (variant.kernel(), variant.queries());
    let shader = variant
        .constants(builder.variant(kernel, q.of.storage), head4 as u32)
        .set("WINDOW", u32::from(windowed))
        .set("HAS_BIAS", u32::from(matches!(distances, Distances::Bias(_))))
        .set("RELATIVE", relative.map_or(0, terms));
    let mut params = AttentionParams {
        heads: attention.heads as u32,
        first_head: 0,
        group: (attention.heads / attention.kv_heads) as u32,
        q_stride4: q.of.width4 as u32,
        q_first4: (q.head * head4) as u32,
        k_stride4: k.of.width4 as u32,
        k_first4: (k.head * head4) as u32,
        v_stride4: v.of.width4 as u32,
        v_first4: (v.head * head4) as u32,
        before: reach(attention.before),
        after: reach(attention.after),
        reach: bias.map_or(0, |(_, reach)| reach as u32),
        r_stride4: relative.map_or(0, |relative| relative.of.width4 as u32),
        rk_first4: first4(relative.and_then(|relative| relative.keys)),
        rq_first4: first4(relative.and_then(|relative| relative.queries)),
        scale: attention.scale,
    };
    let flops_a_pair = (16 * head4 + distances.flops_a_pair(head4)) as u64;
    let tiles = cut::tiles(texts, queries);
    let flops_a_head: Vec<u64> =
        tiles.iter().map(|tile| cut::tile_flops(tile, queries, attention, flops_a_pair)).collect();
    let mut work = None;
    for cut in cut::cut(&flops_a_head, params.heads, builder.plan.max_flops) {
        // Dispatches that compute different heads of the same tiles of queries share one tensor that lists the tiles.
        let id = match work {
            Some((at, id)) if at == cut.tiles => id,
            _ => builder.input("attention tiles", &tiles[cut.tiles.clone()]),
        };
        let workgroups = Workgroups::grid(cut.tiles.len() as u32, cut.heads.len() as u32);
        work = Some((cut.tiles, id));
        params.first_head = cut.heads.start;
        builder.graph.dispatches.push(Dispatch {
            kernel,
            variant: shader.clone(),
            // wgpu requires a buffer for every binding. If this variant does not read a binding, the tensor of tiles is
            // bound there.
            bindings: vec![
                q.of.id,
                k.of.id,
                v.of.id,
                id,
                bias.map_or(id, |(table, _)| table),
                relative.map_or(id, |relative| relative.of.id),
                context.id,
            ],
            params: bytemuck::bytes_of(&params).to_vec(),
            workgroups,
            flops: cut.flops,
        });
    }
    context
}
