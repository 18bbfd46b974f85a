// attention_lane: c = softmax(q · kᵀ · scale) · v per text and head, for software adapters
//
// qkv    [tokens, 3, heads, head]   activations, four values a cell: queries, keys and values of a token
// tiles  [tiles] of (first token of the text, tokens of the text, first query, unused)
// c      [tokens, heads, head]      activations
//
// A workgroup takes 32 queries of one text and one head (y), a lane a query. Keys come eight at a
// time through `share`, one load for SHARE lanes; no workgroup memory, where a barrier is a coroutine
// switch. The softmax is online, rescaled once for eight keys, in f32. The keys that fill up the last
// eight of a text get the weight zero by `select`. Eights start at the text's first token, so a
// text's result does not depend on its neighbours.
#import storage as act
#import store
#import share

struct Params {
    heads: u32,
    scale: f32,
}

// Cells of a head; the host writes it.
const HEAD4: u32 = 8u;
// Registers that hold eight shared rows.
const HELD: u32 = max(8u / SHARE, 1u);

@group(0) @binding(0) var<storage, read> qkv: array<act_vec4>;
@group(0) @binding(1) var<storage, read> tiles: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> c: array<act_vec4>;
@group(0) @binding(3) var<uniform> params: Params;

fn total4(v: vec4<f32>) -> f32 {
    return v.x + v.y + v.z + v.w;
}

@compute @workgroup_size(32)
fn attention_lane(place: Place) {
    let tile = tiles[place.group.x];
    let head = place.group.y * HEAD4;
    let width4 = params.heads * HEAD4;
    let stride4 = width4 * 3u;
    let query = tile.z + place.local;
    // Lanes beyond the last query work on the last one, so that the subgroup stays whole.
    let token = tile.x + min(query, tile.y - 1u);

    var q: array<vec4<f32>, HEAD4>;
    var sum: array<vec4<f32>, HEAD4>;
    for (var i = 0u; i < HEAD4; i++) {
        q[i] = act_load(qkv[token * stride4 + head + i]) * params.scale;
        sum[i] = vec4<f32>(0.0);
    }
    var largest = -1e30;
    var total = 0.0;

    for (var first = 0u; first < tile.y; first += 8u) {
        var source: array<u32, HELD>;
        for (var h = 0u; h < HELD; h++) {
            let key = min(first + h * SHARE + share_lane(place), tile.y - 1u);
            source[h] = (tile.x + key) * stride4 + width4 + head;
        }

        var dot0 = vec4<f32>(0.0);
        var dot1 = vec4<f32>(0.0);
        var dot2 = vec4<f32>(0.0);
        var dot3 = vec4<f32>(0.0);
        var dot4 = vec4<f32>(0.0);
        var dot5 = vec4<f32>(0.0);
        var dot6 = vec4<f32>(0.0);
        var dot7 = vec4<f32>(0.0);
        for (var i = 0u; i < HEAD4; i++) {
            var key: array<vec4<f32>, HELD>;
            for (var h = 0u; h < HELD; h++) {
                key[h] = act_load(qkv[source[h] + i]);
            }
            dot0 = fma(q[i], from_lane0(key[0u / SHARE]), dot0);
            dot1 = fma(q[i], from_lane1(key[1u / SHARE]), dot1);
            dot2 = fma(q[i], from_lane2(key[2u / SHARE]), dot2);
            dot3 = fma(q[i], from_lane3(key[3u / SHARE]), dot3);
            dot4 = fma(q[i], from_lane4(key[4u / SHARE]), dot4);
            dot5 = fma(q[i], from_lane5(key[5u / SHARE]), dot5);
            dot6 = fma(q[i], from_lane6(key[6u / SHARE]), dot6);
            dot7 = fma(q[i], from_lane7(key[7u / SHARE]), dot7);
        }

        let there = vec4<u32>(first) + vec4<u32>(0u, 1u, 2u, 3u);
        let low = select(
            vec4<f32>(-1e30),
            vec4<f32>(total4(dot0), total4(dot1), total4(dot2), total4(dot3)),
            there < vec4<u32>(tile.y),
        );
        let high = select(
            vec4<f32>(-1e30),
            vec4<f32>(total4(dot4), total4(dot5), total4(dot6), total4(dot7)),
            there + 4u < vec4<u32>(tile.y),
        );
        let both = max(low, high);
        let now = max(largest, max(max(both.x, both.y), max(both.z, both.w)));
        let shrink = exp(largest - now);
        largest = now;
        let zero = vec4<f32>(0.0);
        let p = select(zero, exp(low - now), there < vec4<u32>(tile.y));
        let s = select(zero, exp(high - now), there + 4u < vec4<u32>(tile.y));
        total = total * shrink + total4(p) + total4(s);

        for (var i = 0u; i < HEAD4; i++) {
            var value: array<vec4<f32>, HELD>;
            for (var h = 0u; h < HELD; h++) {
                value[h] = act_load(qkv[source[h] + width4 + i]);
            }
            var next = sum[i] * shrink;
            next = fma(vec4<f32>(p.x), from_lane0(value[0u / SHARE]), next);
            next = fma(vec4<f32>(p.y), from_lane1(value[1u / SHARE]), next);
            next = fma(vec4<f32>(p.z), from_lane2(value[2u / SHARE]), next);
            next = fma(vec4<f32>(p.w), from_lane3(value[3u / SHARE]), next);
            next = fma(vec4<f32>(s.x), from_lane4(value[4u / SHARE]), next);
            next = fma(vec4<f32>(s.y), from_lane5(value[5u / SHARE]), next);
            next = fma(vec4<f32>(s.z), from_lane6(value[6u / SHARE]), next);
            next = fma(vec4<f32>(s.w), from_lane7(value[7u / SHARE]), next);
            sum[i] = next;
        }
    }

    if query < tile.y {
        for (var i = 0u; i < HEAD4; i++) {
            c[token * width4 + head + i] = act_store(sum[i] / total, token);
        }
    }
}
