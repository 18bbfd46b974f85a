// attention_lane: c = softmax(q · kᵀ · scale + bias) · v per text and head, for software adapters
//
// q, k, v, tiles, bias, relative and c are those of shared/attention.wgsl.
//
// A workgroup takes 32 queries of one text and one head (y), a lane a query. Keys come eight at a
// time through `share`, one load for SHARE lanes; no workgroup memory, where a barrier is a coroutine
// switch. The softmax is online, rescaled once for eight keys, in f32. Eights that no lane's query
// sees are never visited; of the others, keys that a query does not see get the weight zero by
// `select`. Eights start at the text's first token, so a text's result does not depend on its
// neighbours.
#import storage as act
#import store
#import share
#import attention

// Registers that hold eight shared rows.
const HELD: u32 = max(8u / SHARE, 1u);

fn total4(v: vec4<f32>) -> f32 {
    return v.x + v.y + v.z + v.w;
}

// The bias of four keys from `first` on; those beyond the text, which get no weight, read the last one's.
fn bias4(head: u32, query: u32, first: u32, tokens: u32) -> vec4<f32> {
    let last = tokens - 1u;
    return vec4<f32>(
        bias[bias_cell(head, query, min(first, last))],
        bias[bias_cell(head, query, min(first + 1u, last))],
        bias[bias_cell(head, query, min(first + 2u, last))],
        bias[bias_cell(head, query, min(first + 3u, last))],
    );
}

@compute @workgroup_size(32)
fn attention_lane(place: Place) {
    let tile = tiles[place.group.x];
    let head = place.group.y;
    let own = tile.z + place.local;
    // Lanes beyond the last query work on the last one, so that the subgroup stays whole.
    let query = min(own, tile.y - 1u);
    let token = tile.x + query;
    let key_head = params.k_first4 + head / params.group * HEAD4;
    let value_head = params.v_first4 + head / params.group * HEAD4;

    var start = 0u;
    var end = tile.w;
    if WINDOW {
        start = seen_from(tile.z) / 8u * 8u;
        end = seen_to(min(tile.z + 31u, tile.y - 1u), tile);
    }
    let begin = vec4<u32>(seen_from(query));
    let stop = vec4<u32>(seen_to(query, tile));

    var q: array<vec4<f32>, HEAD4>;
    var sum: array<vec4<f32>, HEAD4>;
    for (var i = 0u; i < HEAD4; i++) {
        q[i] = act_load(queries[query_cell(token, head) + i]) * params.scale;
        sum[i] = vec4<f32>(0.0);
    }
    var largest = -1e30;
    var total = 0.0;

    for (var first = start; first < end; first += 8u) {
        var source: array<u32, HELD>;
        for (var h = 0u; h < HELD; h++) {
            let key = min(first + h * SHARE + share_lane(place), tile.y - 1u);
            source[h] = tile.x + key;
        }
        var distance: array<u32, 8>;
        if RELATIVE != 0u {
            for (var n = 0u; n < 8u; n++) {
                distance[n] = relative_cell(head, query, min(first + n, tile.y - 1u));
            }
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
                key[h] = act_load(keys[source[h] * params.k_stride4 + key_head + i]);
            }
            let key0 = from_lane0(key[0u / SHARE]);
            let key1 = from_lane1(key[1u / SHARE]);
            let key2 = from_lane2(key[2u / SHARE]);
            let key3 = from_lane3(key[3u / SHARE]);
            let key4 = from_lane4(key[4u / SHARE]);
            let key5 = from_lane5(key[5u / SHARE]);
            let key6 = from_lane6(key[6u / SHARE]);
            let key7 = from_lane7(key[7u / SHARE]);
            dot0 = fma(q[i], key0, dot0);
            dot1 = fma(q[i], key1, dot1);
            dot2 = fma(q[i], key2, dot2);
            dot3 = fma(q[i], key3, dot3);
            dot4 = fma(q[i], key4, dot4);
            dot5 = fma(q[i], key5, dot5);
            dot6 = fma(q[i], key6, dot6);
            dot7 = fma(q[i], key7, dot7);
            if RELATIVE != 0u {
                dot0 = add_relative(dot0, q[i], key0, distance[0] + i);
                dot1 = add_relative(dot1, q[i], key1, distance[1] + i);
                dot2 = add_relative(dot2, q[i], key2, distance[2] + i);
                dot3 = add_relative(dot3, q[i], key3, distance[3] + i);
                dot4 = add_relative(dot4, q[i], key4, distance[4] + i);
                dot5 = add_relative(dot5, q[i], key5, distance[5] + i);
                dot6 = add_relative(dot6, q[i], key6, distance[6] + i);
                dot7 = add_relative(dot7, q[i], key7, distance[7] + i);
            }
        }

        let low_keys = vec4<u32>(first) + vec4<u32>(0u, 1u, 2u, 3u);
        let high_keys = low_keys + 4u;
        let low_seen = (low_keys >= begin) & (low_keys < stop);
        let high_seen = (high_keys >= begin) & (high_keys < stop);
        var low = vec4<f32>(total4(dot0), total4(dot1), total4(dot2), total4(dot3));
        var high = vec4<f32>(total4(dot4), total4(dot5), total4(dot6), total4(dot7));
        if HAS_BIAS {
            low += bias4(head, query, first, tile.y);
            high += bias4(head, query, first + 4u, tile.y);
        }
        low = select(vec4<f32>(-1e30), low, low_seen);
        high = select(vec4<f32>(-1e30), high, high_seen);
        let both = max(low, high);
        let now = max(largest, max(max(both.x, both.y), max(both.z, both.w)));
        let shrink = exp(largest - now);
        largest = now;
        let zero = vec4<f32>(0.0);
        let p = select(zero, exp(low - now), low_seen);
        let s = select(zero, exp(high - now), high_seen);
        total = total * shrink + total4(p) + total4(s);

        for (var i = 0u; i < HEAD4; i++) {
            var value: array<vec4<f32>, HELD>;
            for (var h = 0u; h < HELD; h++) {
                value[h] = act_load(values[source[h] * params.v_stride4 + value_head + i]);
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

    if own < tile.y {
        for (var i = 0u; i < HEAD4; i++) {
            c[(token * params.heads + head) * HEAD4 + i] = act_store(sum[i] / total, token);
        }
    }
}
