// attention: the code that all attention kernels share: parameters, bindings, and the range of keys that a query sees.
//
// queries  [tokens, q_stride4]   activations, four values a cell: heads of HEAD4 cells from q_first4 on
// keys     [tokens, k_stride4]   activations, (heads / group) heads of HEAD4 cells from k_first4 on
// values   [tokens, v_stride4]   activations, (heads / group) heads from v_first4 on; `group` consecutive heads of
//                                queries share one head of keys and values
// tiles    [tiles] of (first token of the text, tokens of the text, first query, how many tokens are keys)
// bias     [heads, 2 · reach + 1]   f32, added to a score at column key − query + reach; read if HAS_BIAS
// relative [rows, r_stride4]        f32, relative keys and queries, heads of HEAD4 cells from rk_first4 and
//                                   rq_first4 on; read if RELATIVE. bias then holds the row for key − query,
//                                   [2 · reach + 1]
// c        [tokens, heads, HEAD4]   activations
//
// RELATIVE (He et al. 2021, disentangled attention) adds terms to q · k before the scale. The value 1 adds q · relative
// key, 2 adds k · relative query, and 3 adds both terms.
//
// A query sees the keys of its text from `before` tokens before the query to `after` tokens after it. WINDOW is set if
// some queries do not see their whole text. A causal model has after = 0.
//
// A dispatch may compute only some heads of queries, from `first_head` on.

struct Params {
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

override WINDOW: bool = false;
override HAS_BIAS: bool = false;
override RELATIVE: u32 = 0u;

// The number of cells in a head; the host rewrites this constant.
const HEAD4: u32 = 8u;

@group(0) @binding(0) var<storage, read> queries: array<act_vec4>;
@group(0) @binding(1) var<storage, read> keys: array<act_vec4>;
@group(0) @binding(2) var<storage, read> values: array<act_vec4>;
@group(0) @binding(3) var<storage, read> tiles: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read> relative: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> c: array<act_vec4>;
@group(0) @binding(7) var<uniform> params: Params;

// The first key that a query sees. Keys and queries are counted from the text's first token.
fn seen_from(query: u32) -> u32 {
    return query - min(query, params.before);
}

// The key after the last key that a query sees.
fn seen_to(query: u32, tile: vec4<u32>) -> u32 {
    return min(query + min(tile.y - 1u - query, params.after) + 1u, tile.w);
}

// Returns the range of keys that the `queries` queries of a tile see. The first value is the first key, rounded down to
// a multiple of `step`. The second value is the key after the last key that they see.
fn keys_of(tile: vec4<u32>, queries: u32, step: u32) -> vec2<u32> {
    if WINDOW {
        let last = min(tile.z + queries - 1u, tile.y - 1u);
        return vec2<u32>(seen_from(tile.z) / step * step, seen_to(last, tile));
    }
    return vec2<u32>(0u, tile.w);
}

// `key_cell` and `value_cell` return the index, in a row of keys or of values, of the first cell that a head of queries
// uses.
fn key_cell(head: u32) -> u32 {
    return params.k_first4 + head / params.group * HEAD4;
}

fn value_cell(head: u32) -> u32 {
    return params.v_first4 + head / params.group * HEAD4;
}

fn query_cell(token: u32, head: u32) -> u32 {
    return token * params.q_stride4 + params.q_first4 + head * HEAD4;
}

fn bias_cell(head: u32, query: u32, key: u32) -> u32 {
    return head * (2u * params.reach + 1u) + params.reach + key - query;
}

// Returns the index in `relative` of a head's first cell, in the row for the distance between a query and a key.
fn relative_cell(head: u32, query: u32, key: u32) -> u32 {
    return u32(bias[bias_cell(0u, query, key)]) * params.r_stride4 + head * HEAD4;
}

// Adds to `dot` the terms of RELATIVE for one cell of a query and one cell of a key. The query is already scaled.
// `cell` is `relative_cell` plus the index of the cell in the head.
fn add_relative(dot: vec4<f32>, query: vec4<f32>, key: vec4<f32>, cell: u32) -> vec4<f32> {
    var sum = dot;
    if (RELATIVE & 1u) != 0u {
        sum = fma(query, relative[cell + params.rk_first4], sum);
    }
    if (RELATIVE & 2u) != 0u {
        sum = fma(key * params.scale, relative[cell + params.rq_first4], sum);
    }
    return sum;
}
