// attention_tile: c = softmax(q · kᵀ · scale) · v per text and head, for GPUs
//
// qkv    [tokens, 3, heads, head]   activations, four values a cell: queries, keys and values of a token
// tiles  [tiles] of (first token of the text, tokens of the text, first query, unused)
// c      [tokens, heads, head]      activations
//
// A workgroup takes 64 queries of one text and one head (y), an invocation a query. Keys and values
// pass through workgroup memory KEYS at a time. The softmax is online (Milakov and Gimelshein 2018):
// running maximum, sum and output, rescaled once a tile, in f32. Keys beyond the text are never
// visited: the bound of the loop is the text's end, not a mask. Tiles start at the text's first
// token, so a text's result does not depend on its neighbours.
#import storage as act
#import store

struct Params {
    heads: u32,
    scale: f32,
}

// Cells of a head, and keys a tile; the host writes both so that the tiles fit workgroup memory.
const HEAD4: u32 = 8u;
const KEYS: u32 = 32u;

@group(0) @binding(0) var<storage, read> qkv: array<act_vec4>;
@group(0) @binding(1) var<storage, read> tiles: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> c: array<act_vec4>;
@group(0) @binding(3) var<uniform> params: Params;

var<workgroup> key_tile: array<array<vec4<f32>, HEAD4>, KEYS>;
var<workgroup> value_tile: array<array<vec4<f32>, HEAD4>, KEYS>;

@compute @workgroup_size(64)
fn attention_tile(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let tile = tiles[group.x];
    let head = group.y * HEAD4;
    let width4 = params.heads * HEAD4;
    let stride4 = width4 * 3u;
    let query = tile.z + local;
    let token = tile.x + min(query, tile.y - 1u);

    var q: array<vec4<f32>, HEAD4>;
    var sum: array<vec4<f32>, HEAD4>;
    for (var i = 0u; i < HEAD4; i++) {
        q[i] = act_load(qkv[token * stride4 + head + i]) * params.scale;
    }
    var largest = -1e30;
    var total = 0.0;
    var scores: array<f32, KEYS>;

    for (var first = 0u; first < tile.y; first += KEYS) {
        let count = min(KEYS, tile.y - first);
        workgroupBarrier();
        for (var at = local; at < count * HEAD4; at += 64u) {
            let source = (tile.x + first + at / HEAD4) * stride4 + head + at % HEAD4;
            key_tile[at / HEAD4][at % HEAD4] = act_load(qkv[source + width4]);
            value_tile[at / HEAD4][at % HEAD4] = act_load(qkv[source + 2u * width4]);
        }
        workgroupBarrier();

        var high = largest;
        for (var j = 0u; j < count; j++) {
            var products = vec4<f32>(0.0);
            for (var i = 0u; i < HEAD4; i++) {
                products = fma(q[i], key_tile[j][i], products);
            }
            scores[j] = products.x + products.y + products.z + products.w;
            high = max(high, scores[j]);
        }
        let shrink = exp(largest - high);
        largest = high;
        total = total * shrink;
        for (var i = 0u; i < HEAD4; i++) {
            sum[i] = sum[i] * shrink;
        }
        for (var j = 0u; j < count; j++) {
            let p = exp(scores[j] - high);
            total += p;
            for (var i = 0u; i < HEAD4; i++) {
                sum[i] = fma(vec4<f32>(p), value_tile[j][i], sum[i]);
            }
        }
    }

    if query < tile.y {
        for (var i = 0u; i < HEAD4; i++) {
            c[token * width4 + head + i] = act_store(sum[i] / total, token);
        }
    }
}
