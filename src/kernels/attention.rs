//! `attention_tile.wgsl` and `attention_lane.wgsl`: attention over packed texts with an online
//! softmax, for GPUs and for software adapters.

use crate::gpu::graph::Dispatch;
use crate::gpu::kernel::{Access, Kernel, Setting};
use crate::kernels::{Activations, Builder};
use crate::params;

params! {
    /// `Params` of both attentions.
    pub struct AttentionParams { heads: u32, scale: f32 }
}

const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Write];

/// The kernel for GPUs: keys and values through workgroup memory.
pub static ATTENTION_TILE: Kernel = Kernel {
    name: "attention_tile",
    source: include_str!("../../shaders/attention_tile.wgsl"),
    bindings: BINDINGS,
    params: AttentionParams::FIELDS,
    stores_activations: true,
    reads_weights: false,
    reads_activations: true,
    has_lanes: false,
    settings: &[
        Setting { name: "HEAD4", constant: true, values: &[1, 8, 16, 32, 64] },
        // Each with the head above it: see `keys_a_tile`.
        Setting { name: "KEYS", constant: true, values: &[8] },
    ],
};

/// The kernel for software adapters: no workgroup memory.
pub static ATTENTION_LANE: Kernel = Kernel {
    name: "attention_lane",
    source: include_str!("../../shaders/attention_lane.wgsl"),
    bindings: BINDINGS,
    params: AttentionParams::FIELDS,
    stores_activations: true,
    reads_weights: false,
    reads_activations: true,
    has_lanes: true,
    settings: &[Setting { name: "HEAD4", constant: true, values: &[1, 8, 16, 32, 64] }],
};

/// The widest head whose registers and tiles the kernels take, in values.
pub const MAX_HEAD: usize = 256;

/// Keys a tile of [`ATTENTION_TILE`], so that keys and values fit workgroup memory as f32.
pub fn keys_a_tile(head4: usize, workgroup_memory: u32) -> u32 {
    let bytes_a_key = (2 * head4 * 16) as u32;
    (workgroup_memory / bytes_a_key).clamp(1, 32)
}

/// softmax(q · kᵀ / √head) · v per text and head, `[tokens, heads · head]`.
///
/// `qkv` is `[tokens, 3, heads, head]` with the head filled up to whole cells; `texts` holds for each
/// text its first token and its tokens; `head` is the unfilled size, which the scale is made of.
pub fn attention(
    builder: &mut Builder,
    qkv: Activations,
    texts: &[[u32; 2]],
    heads: usize,
    head: usize,
) -> Activations {
    let head4 = head.div_ceil(4);
    let context = builder.rows(
        "context",
        qkv.rows,
        heads * head4,
        heads * head4 * 4,
        qkv.storage,
        crate::gpu::graph::Source::Scratch,
    );
    let (kernel, queries) =
        if builder.plan.software { (&ATTENTION_LANE, 32) } else { (&ATTENTION_TILE, 64) };
    let mut variant = builder.variant(kernel, qkv.storage).constant("HEAD4", head4 as u32);
    if !builder.plan.software {
        variant = variant.constant("KEYS", keys_a_tile(head4, builder.plan.workgroup_memory));
    }
    let params = AttentionParams { heads: heads as u32, scale: 1.0 / (head as f32).sqrt() };
    for tiles in cut_tiles(texts, queries, heads * head4 * 16, builder.plan.max_flops) {
        let flops = tiles.iter().map(|tile| tile_flops(tile, queries, heads * head4 * 16)).sum();
        let groups = [tiles.len() as u32, heads as u32, 1];
        let work = builder.input("attention tiles", &tiles);
        builder.graph.dispatches.push(Dispatch {
            kernel,
            variant: variant.clone(),
            bindings: vec![qkv.id, work, context.id],
            params: bytemuck::bytes_of(&params).to_vec(),
            groups,
            flops,
        });
    }
    context
}

fn tile_flops(tile: &[u32; 4], queries: u32, flops_a_pair: usize) -> u64 {
    u64::from(tile[1]) * u64::from(queries.min(tile[1] - tile[2])) * flops_a_pair as u64
}

/// The tiles of all texts, in runs of at most `max_flops` if a tile is.
fn cut_tiles(
    texts: &[[u32; 2]],
    queries: u32,
    flops_a_pair: usize,
    max_flops: u64,
) -> Vec<Vec<[u32; 4]>> {
    let mut runs = vec![Vec::new()];
    let mut flops = 0;
    for &[first, tokens] in texts {
        for query in (0..tokens).step_by(queries as usize) {
            let tile = [first, tokens, query, 0];
            let more = tile_flops(&tile, queries, flops_a_pair);
            if flops > 0 && flops + more > max_flops {
                runs.push(Vec::new());
                flops = 0;
            }
            flops += more;
            if let Some(run) = runs.last_mut() {
                run.push(tile);
            }
        }
    }
    runs
}
