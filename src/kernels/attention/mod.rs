//! `attention_tile.wgsl`, `attention_coop.wgsl` and `attention_lane.wgsl`: attention over packed texts with
//! an online softmax, for GPUs, for those with cooperative matrices, and for software adapters. `form.rs`
//! says which is taken.
//!
//! A model whose queries, keys and values come from one matmul, that sees whole texts and gives each
//! head its own keys, calls [`attention`]. Any other states an [`Attention`] once, at load, and calls
//! [`attend`] with where each of the three lies:
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
//! // Keys and queries that stand for distances: DeBERTa.
//! attend_relative(builder, at, &batch.texts, &plain, &relative);
//! ```
//!
//! A window is `before` and `after`: Mistral's `sliding_window` W is before W − 1 and after 0, half a
//! window of a model that sees both sides is the same number twice.

mod cut;
mod form;

use crate::gpu::graph::{Dispatch, Source, TensorId};
use crate::gpu::kernel::{Access, Kernel, Setting};
use crate::kernels::{Activations, Builder};
use crate::params;

pub use form::{Form, Tile};

params! {
    /// `Params` of all attentions.
    pub struct AttentionParams {
        heads: u32,
        first_head: u32,
        group: u32,
        q_stride4: u32,
        q_first4: u32,
        k_stride4: u32,
        k_first4: u32,
        v_stride4: u32,
        v_first4: u32,
        before: u32,
        after: u32,
        reach: u32,
        r_stride4: u32,
        rk_first4: u32,
        rq_first4: u32,
        scale: f32,
    }
}

const BINDINGS: &[Access] = &[
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Write,
];
const HEAD4: Setting = Setting { name: "HEAD4", constant: true, values: &[1, 8, 16, 32, 64] };
const WINDOW: Setting = Setting { name: "WINDOW", constant: false, values: &[0, 1] };
const HAS_BIAS: Setting = Setting { name: "HAS_BIAS", constant: false, values: &[0, 1] };
const RELATIVE: Setting = Setting { name: "RELATIVE", constant: false, values: &[0, 1, 2, 3] };

/// What the kernels have in common.
const fn kernel(name: &'static str, source: &'static str) -> Kernel {
    Kernel {
        name,
        source,
        bindings: BINDINGS,
        params: AttentionParams::FIELDS,
        stores_activations: true,
        reads_weights: false,
        reads_activations: true,
        has_lanes: false,
        cooperative: false,
        settings: &[HEAD4, WINDOW, HAS_BIAS, RELATIVE],
    }
}

/// The kernel for GPUs: keys and values through workgroup memory. The constants beside the head are a
/// [`Tile`]'s.
pub static ATTENTION_TILE: Kernel =
    kernel("attention_tile", include_str!("../../../shaders/attention_tile.wgsl"));

/// The kernel for GPUs with cooperative matrices. The constants beside the head are the adapter's.
pub static ATTENTION_COOP: Kernel = Kernel {
    cooperative: true,
    settings: &[
        Setting { name: "HEAD4", constant: true, values: &[8, 12, 16, 32, 40] },
        WINDOW,
        HAS_BIAS,
        // Four subgroups of 8, 16, 32 and 64.
        Setting { name: "INVOCATIONS", constant: true, values: &[32, 64, 128, 256] },
    ],
    ..kernel("attention_coop", include_str!("../../../shaders/attention_coop.wgsl"))
};

/// The kernel for software adapters: no workgroup memory.
pub static ATTENTION_LANE: Kernel = Kernel {
    has_lanes: true,
    ..kernel("attention_lane", include_str!("../../../shaders/attention_lane.wgsl"))
};

/// The widest head whose registers and tiles the kernels take, in values.
pub const MAX_HEAD: usize = 256;

/// A text as attention sees it: its first token, its tokens, and how many of these, from the first on, are
/// keys: the tokens after them see and are not seen, as the masks that ColBERT fills queries with.
pub type Text = [u32; 3];

/// What a model's attention is, whatever the batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attention {
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and of values, each for `heads / kv_heads` heads of queries in a row.
    pub kv_heads: usize,
    /// Values of a head, without filling.
    pub head: usize,
    /// What q · k is multiplied by.
    pub scale: f32,
    /// How many tokens before its own a query sees; `None`: all.
    pub before: Option<usize>,
    /// How many tokens after its own a query sees; `None`: all. 0 in a causal model.
    pub after: Option<usize>,
}

impl Attention {
    /// Every head with its own keys, whole texts, 1/√head.
    pub fn new(heads: usize, head: usize) -> Self {
        let scale = 1.0 / (head as f32).sqrt();
        Attention { heads, kv_heads: heads, head, scale, before: None, after: None }
    }

    /// The keys that queries `first` to `last` of a text see, of which `seen` can be seen.
    fn keys(&self, first: u32, last: u32, seen: u32) -> std::ops::Range<u32> {
        let from = first.saturating_sub(reach(self.before));
        from..seen.min(last.saturating_add(reach(self.after)).saturating_add(1))
    }
}

fn reach(tokens: Option<usize>) -> u32 {
    tokens.map_or(u32::MAX, |tokens| u32::try_from(tokens).unwrap_or(u32::MAX))
}

/// Heads side by side in the rows of a tensor, each filled up to whole cells.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    /// The tensor.
    pub of: Activations,
    /// How many heads of the same size lie before the first.
    pub head: usize,
}

/// What scores are raised by: f32 `[heads, 2 · reach + 1]`, by head and by key − query from −reach on.
#[derive(Debug, Clone, Copy)]
pub struct DistanceBias {
    /// The tensor.
    pub table: TensorId,
    /// The greatest distance in it.
    pub reach: usize,
}

/// Keys and queries that stand for distances, as heads side by side in the rows of one tensor in f32,
/// each filled up to whole cells, and the row for each distance: see [`relative_rows`].
#[derive(Debug, Clone, Copy)]
pub struct Relative {
    /// The tensor.
    pub of: Activations,
    /// f32 `[2 · reach + 1]`: the row for key − query, from −reach on.
    pub rows: TensorId,
    /// The greatest distance in it.
    pub reach: usize,
    /// How many heads lie before the first that is a key; `None`: there are none.
    pub keys: Option<usize>,
    /// How many heads lie before the first that is a query; `None`: there are none.
    pub queries: Option<usize>,
}

/// What the distance of a key from a query does to their score.
#[derive(Debug, Clone, Copy)]
enum Distances<'a> {
    Nothing,
    Bias(DistanceBias),
    Relative(&'a Relative),
}

impl Distances<'_> {
    fn flops_a_pair(self, head4: usize) -> usize {
        match self {
            Distances::Relative(Relative { keys, queries, .. }) => {
                let terms = usize::from(keys.is_some()) + usize::from(queries.is_some());
                8 * head4 * terms
            }
            _ => 0,
        }
    }
}

/// The table of a batch whose longest text has `longest` tokens: `row` gives that of a distance, key −
/// query, and its reach. f32 holds every row that a tensor can have.
pub fn relative_rows(
    builder: &mut Builder,
    longest: usize,
    row: impl Fn(i64) -> u32,
) -> (TensorId, usize) {
    let table = distance_bias(builder, 1, longest, |_, distance| row(distance) as f32);
    (table.table, table.reach)
}

/// The bias table of a batch whose longest text has `longest` tokens: `bias` gives a head's for a
/// distance, key − query. A bucket of T5 or MPNet is a function of the distance too.
pub fn distance_bias(
    builder: &mut Builder,
    heads: usize,
    longest: usize,
    bias: impl Fn(usize, i64) -> f32,
) -> DistanceBias {
    let reach = longest.max(1) - 1;
    let distances = -(reach as i64)..=reach as i64;
    let table: Vec<f32> = (0..heads)
        .flat_map(|h| distances.clone().map(move |d| (h, d)))
        .map(|(h, d)| bias(h, d))
        .collect();
    DistanceBias { table: builder.input("distance bias", &table), reach }
}

/// softmax(q · kᵀ / √head) · v per text and head, `[tokens, heads · head]`.
///
/// `qkv` is `[tokens, 3, heads, head]` with the head filled up to whole cells; `head` is the unfilled size, which the scale is made of.
pub fn attention(
    builder: &mut Builder,
    qkv: Activations,
    texts: &[Text],
    heads: usize,
    head: usize,
) -> Activations {
    let at = [0, heads, 2 * heads].map(|head| Heads { of: qkv, head });
    attend(builder, at, texts, &Attention::new(heads, head), None)
}

/// softmax(q · kᵀ · scale + bias) · v per text and head over the keys that a query sees,
/// `[tokens, heads · head]`, with each head filled up to whole cells.
///
/// `[queries, keys, values]` may lie in one tensor or in three. A `bias` must reach as far as the
/// longest text.
pub fn attend(
    builder: &mut Builder,
    [q, k, v]: [Heads; 3],
    texts: &[Text],
    attention: &Attention,
    bias: Option<DistanceBias>,
) -> Activations {
    let distances = bias.map_or(Distances::Nothing, Distances::Bias);
    attend_by(builder, [q, k, v], texts, attention, distances)
}

/// As [`attend`], with `q · k + q · relative key + k · relative query` for `q · k`.
///
/// Every head has its own keys. The table of rows must reach as far as the longest text.
pub fn attend_relative(
    builder: &mut Builder,
    [q, k, v]: [Heads; 3],
    texts: &[Text],
    attention: &Attention,
    relative: &Relative,
) -> Activations {
    attend_by(builder, [q, k, v], texts, attention, Distances::Relative(relative))
}

fn attend_by(
    builder: &mut Builder,
    [q, k, v]: [Heads; 3],
    texts: &[Text],
    attention: &Attention,
    distances: Distances,
) -> Activations {
    let head4 = attention.head.div_ceil(4);
    let width4 = attention.heads * head4;
    let context =
        builder.rows("context", q.of.rows, width4, width4 * 4, q.of.storage, Source::Scratch);
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
    let form = builder.plan.attention(head4, q.of.storage, relative.is_some());
    let (kernel, queries) = (form.kernel(), form.queries());
    let variant = form
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
        // Heads of one tile share it.
        let id = match work {
            Some((at, id)) if at == cut.tiles => id,
            _ => builder.input("attention tiles", &tiles[cut.tiles.clone()]),
        };
        let groups = [cut.tiles.len() as u32, cut.heads.len() as u32, 1];
        work = Some((cut.tiles, id));
        params.first_head = cut.heads.start;
        builder.graph.dispatches.push(Dispatch {
            kernel,
            variant: variant.clone(),
            // Without distances their bindings are not read; the tiles stand in.
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
            groups,
            flops: cut.flops,
        });
    }
    context
}
