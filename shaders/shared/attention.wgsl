// attention: the code that all attention kernels share: parameters, bindings, and the range of keys to which a query
// attends.
//
// - `queries`: [tokens, q_stride4] activations, in cells of four values. A row has `heads` heads of HEAD4 cells,
//   starting at cell q_first4.
// - `keys`: [tokens, k_stride4] activations, in cells of four values. A row has `heads / group` heads of HEAD4 cells,
//   starting at cell k_first4.
// - `values`: [tokens, v_stride4] activations, in cells of four values. A row has `heads / group` heads of HEAD4 cells,
//   starting at cell v_first4. `group` consecutive heads of queries share one head of keys and one head of values.
// - `tiles`: [tiles] tuples of u32 (first token of the text, number of tokens of the text, first query, number of
//   tokens that are keys).
// - `bias`: with HAS_BIAS, [heads, 2 · reach + 1] f32. A score gets the value in the column numbered
//   key − query + reach. With RELATIVE, [2 · reach + 1] f32. Then this value is the number of a row of `relative`.
// - `relative`: with RELATIVE, [rows, r_stride4] f32, in cells of four values: heads of relative keys, which start at
//   cell rk_first4, and heads of relative queries, which start at cell rq_first4.
// - `c`: [tokens, heads, HEAD4] activations, in cells of four values.
//
// RELATIVE adds terms to q · k before the scale (He et al. 2021, disentangled attention). The value 1 adds q · relative
// key, 2 adds k · relative query, and 3 adds both terms.
//
// A query attends to the keys of its text from `before` tokens before the query to `after` tokens after the query.
// WINDOW is true if some queries do not attend to their whole text. A causal model has after = 0.
//
// A dispatch may compute only some heads of queries, starting at `first_head`.

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

// Returns the first key to which a query attends. Keys and queries are counted from the text's first token.
fn seen_from(query: u32) -> u32 {
    return query - min(query, params.before);
}

// Returns the index after the last key to which a query attends.
fn seen_to(query: u32, tile: vec4<u32>) -> u32 {
    return min(query + min(tile.y - 1u - query, params.after) + 1u, tile.w);
}

// Returns the range of keys to which the `queries` queries of a tile attend. The x component is the first of these
// keys, rounded down to a multiple of `step`. The y component is the index after the last of these keys.
fn keys_of(tile: vec4<u32>, queries: u32, step: u32) -> vec2<u32> {
    if WINDOW {
        let last = min(tile.z + queries - 1u, tile.y - 1u);
        return vec2<u32>(seen_from(tile.z) / step * step, seen_to(last, tile));
    }
    return vec2<u32>(0u, tile.w);
}

// `key_cell` returns the index, in a row of keys, of the first cell that a head of queries uses. `value_cell` does the
// same for a row of values.
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

// Returns `dot` plus the terms that RELATIVE adds for one cell of a query and one cell of a key. The query is already
// scaled. `at` is the result of the function `relative_cell`, plus the index of the two cells within the head.
fn add_relative(dot: vec4<f32>, query: vec4<f32>, key: vec4<f32>, at: u32) -> vec4<f32> {
    var sum = dot;
    if (RELATIVE & 1u) != 0u {
        sum = fma(query, relative[at + params.rk_first4], sum);
    }
    if (RELATIVE & 2u) != 0u {
        sum = fma(key * params.scale, relative[at + params.rq_first4], sum);
    }
    return sum;
}
