// attention_lane: computes c = softmax(q · kᵀ · scale + bias) · v for each text and head, on software adapters.
//
// shared/attention.wgsl describes the bindings and the parameters.
//
// A workgroup computes 32 queries of one text and one head. Its x index selects the tile of queries, and its y index
// selects the head. Each lane computes one or two queries. Lanes load groups of eight keys with the functions of the
// import `share`, so that one load serves SHARE lanes. The kernel uses no workgroup memory, since a software driver
// turns each barrier into a coroutine switch. Loads are the most expensive operation, since a software driver performs
// them lane by lane. The two queries of a lane therefore use the same loaded keys. The products of two queries with
// eight keys give sixteen sums, which fit into the registers of a CPU. The softmax is computed online, in f32: its
// running sums are rescaled once for each group of eight keys. The kernel skips groups of keys to which no query of the
// workgroup attends. In the other groups, `select` gives the weight zero to keys to which a query does not attend.
// Groups of keys are counted from the text's first token, so a text's result does not depend on the other texts of the
// batch.
#import storage as act
#import report
#import store
#import share
#import attention

// QUERIES is the number of queries that a lane computes, and LANES is the number of lanes in a workgroup. CELLS is the
// number of cells, each a `vec4`, in all queries of a lane together. DISTANCES is the number of pairs of one query of
// the lane and one key of a group of eight keys. For wide heads, the loops are not unrolled and the arrays lie in
// memory, so a second query would save nothing.
const QUERIES: u32 = select(1u, 2u, HEAD4 <= 8u);
const LANES: u32 = 32u / QUERIES;
const CELLS: u32 = QUERIES * HEAD4;
const DISTANCES: u32 = QUERIES * 8u;

// The number of registers in which a lane holds its share of eight keys or eight values.
const HELD: u32 = max(8u / SHARE, 1u);

// Returns sum + a · b. The four products of a · b are added to each other before `sum`, since one chain of additions
// over a whole head would have a larger rounding error.
fn add_dot(a: vec4<f32>, b: vec4<f32>, sum: f32) -> f32 {
    return sum + fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, a.x * b.x)));
}

fn total4(v: vec4<f32>) -> f32 {
    return v.x + v.y + v.z + v.w;
}

// Returns the terms of RELATIVE that one cell of a query and one cell of a key add to a score. `at` is the result of
// the function `relative_cell`, plus the index of the two cells within the head.
fn relative_dot(query: vec4<f32>, key: vec4<f32>, at: u32) -> f32 {
    return total4(add_relative(vec4<f32>(0.0), query, key, at));
}

// Returns the biases of the four keys that start at `first`. A key after the text's end gets the bias of the text's
// last key. This bias has no effect, since the weight of a key after the text's end is zero.
fn bias4(head: u32, query: u32, first: u32, tokens: u32) -> vec4<f32> {
    let last = tokens - 1u;
    return vec4<f32>(
        bias[bias_cell(head, query, min(first, last))],
        bias[bias_cell(head, query, min(first + 1u, last))],
        bias[bias_cell(head, query, min(first + 2u, last))],
        bias[bias_cell(head, query, min(first + 3u, last))],
    );
}

@compute @workgroup_size(LANES)
fn attention_lane(group: Group, lane: Lane) {
    sign(is_first(group, lane));
    let tile = tiles[group.id.x];
    let head = params.first_head + group.id.y;
    let own = tile.z + lane.local;
    let key_head = key_cell(head);
    let value_head = value_cell(head);
    let visited = keys_of(tile, 32u, 8u);
    let end = visited.y;

    var query: array<u32, QUERIES>;
    var begin: array<vec4<u32>, QUERIES>;
    var stop: array<vec4<u32>, QUERIES>;
    var largest: array<f32, QUERIES>;
    var total: array<f32, QUERIES>;
    var q: array<vec4<f32>, CELLS>;
    var sum: array<vec4<f32>, CELLS>;
    for (var n = 0u; n < QUERIES; n++) { // unrolled
        // Lanes beyond the last query compute the last query again, so that every lane of the subgroup stays active.
        query[n] = min(own + n * LANES, tile.y - 1u);
        begin[n] = vec4<u32>(seen_from(query[n]));
        stop[n] = vec4<u32>(seen_to(query[n], tile));
        largest[n] = -1e30;
        total[n] = 0.0;
        for (var i = 0u; i < HEAD4; i++) { // unrolled up to 8
            let at = query_cell(tile.x + query[n], head) + i;
            q[n * HEAD4 + i] = act_load(queries[at]) * params.scale;
            sum[n * HEAD4 + i] = vec4<f32>(0.0);
        }
    }

    for (var first = visited.x; first < end; first += 8u) {
        var source: array<u32, HELD>;
        for (var h = 0u; h < HELD; h++) { // unrolled
            let key = min(first + h * SHARE + share_lane(lane), tile.y - 1u);
            source[h] = tile.x + key;
        }
        var distance: array<u32, DISTANCES>;
        if RELATIVE != 0u {
            for (var n = 0u; n < QUERIES; n++) { // unrolled
                for (var k = 0u; k < 8u; k++) {
                    let key = min(first + k, tile.y - 1u);
                    distance[n * 8u + k] = relative_cell(head, query[n], key);
                }
            }
        }

        var dot0: array<f32, QUERIES>;
        var dot1: array<f32, QUERIES>;
        var dot2: array<f32, QUERIES>;
        var dot3: array<f32, QUERIES>;
        var dot4: array<f32, QUERIES>;
        var dot5: array<f32, QUERIES>;
        var dot6: array<f32, QUERIES>;
        var dot7: array<f32, QUERIES>;
        for (var n = 0u; n < QUERIES; n++) { // unrolled
            dot0[n] = 0.0;
            dot1[n] = 0.0;
            dot2[n] = 0.0;
            dot3[n] = 0.0;
            dot4[n] = 0.0;
            dot5[n] = 0.0;
            dot6[n] = 0.0;
            dot7[n] = 0.0;
        }
        for (var i = 0u; i < HEAD4; i++) { // unrolled up to 8
            var key: array<vec4<f32>, HELD>;
            for (var h = 0u; h < HELD; h++) { // unrolled
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
            for (var n = 0u; n < QUERIES; n++) { // unrolled
                let own_cell = q[n * HEAD4 + i];
                dot0[n] = add_dot(own_cell, key0, dot0[n]);
                dot1[n] = add_dot(own_cell, key1, dot1[n]);
                dot2[n] = add_dot(own_cell, key2, dot2[n]);
                dot3[n] = add_dot(own_cell, key3, dot3[n]);
                dot4[n] = add_dot(own_cell, key4, dot4[n]);
                dot5[n] = add_dot(own_cell, key5, dot5[n]);
                dot6[n] = add_dot(own_cell, key6, dot6[n]);
                dot7[n] = add_dot(own_cell, key7, dot7[n]);
                if RELATIVE != 0u {
                    dot0[n] += relative_dot(own_cell, key0, distance[n * 8u + 0u] + i);
                    dot1[n] += relative_dot(own_cell, key1, distance[n * 8u + 1u] + i);
                    dot2[n] += relative_dot(own_cell, key2, distance[n * 8u + 2u] + i);
                    dot3[n] += relative_dot(own_cell, key3, distance[n * 8u + 3u] + i);
                    dot4[n] += relative_dot(own_cell, key4, distance[n * 8u + 4u] + i);
                    dot5[n] += relative_dot(own_cell, key5, distance[n * 8u + 5u] + i);
                    dot6[n] += relative_dot(own_cell, key6, distance[n * 8u + 6u] + i);
                    dot7[n] += relative_dot(own_cell, key7, distance[n * 8u + 7u] + i);
                }
            }
        }

        let low_keys = vec4<u32>(first) + vec4<u32>(0u, 1u, 2u, 3u);
        let high_keys = low_keys + 4u;
        var low: array<vec4<f32>, QUERIES>;
        var high: array<vec4<f32>, QUERIES>;
        var shrink: array<f32, QUERIES>;
        for (var n = 0u; n < QUERIES; n++) { // unrolled
            let low_seen = (low_keys >= begin[n]) & (low_keys < stop[n]);
            let high_seen = (high_keys >= begin[n]) & (high_keys < stop[n]);
            var l = vec4<f32>(dot0[n], dot1[n], dot2[n], dot3[n]);
            var h = vec4<f32>(dot4[n], dot5[n], dot6[n], dot7[n]);
            if HAS_BIAS {
                l += bias4(head, query[n], first, tile.y);
                h += bias4(head, query[n], first + 4u, tile.y);
            }
            l = select(vec4<f32>(-1e30), l, low_seen);
            h = select(vec4<f32>(-1e30), h, high_seen);
            let both = max(l, h);
            let now = max(largest[n], max(max(both.x, both.y), max(both.z, both.w)));
            shrink[n] = exp(largest[n] - now);
            largest[n] = now;
            low[n] = select(vec4<f32>(0.0), exp(l - now), low_seen);
            high[n] = select(vec4<f32>(0.0), exp(h - now), high_seen);
            total[n] = total[n] * shrink[n] + total4(low[n]) + total4(high[n]);
        }

        for (var i = 0u; i < HEAD4; i++) { // unrolled up to 8
            var value: array<vec4<f32>, HELD>;
            for (var h = 0u; h < HELD; h++) { // unrolled
                value[h] = act_load(values[source[h] * params.v_stride4 + value_head + i]);
            }
            let value0 = from_lane0(value[0u / SHARE]);
            let value1 = from_lane1(value[1u / SHARE]);
            let value2 = from_lane2(value[2u / SHARE]);
            let value3 = from_lane3(value[3u / SHARE]);
            let value4 = from_lane4(value[4u / SHARE]);
            let value5 = from_lane5(value[5u / SHARE]);
            let value6 = from_lane6(value[6u / SHARE]);
            let value7 = from_lane7(value[7u / SHARE]);
            for (var n = 0u; n < QUERIES; n++) { // unrolled
                var next = sum[n * HEAD4 + i] * shrink[n];
                next = fma(vec4<f32>(low[n].x), value0, next);
                next = fma(vec4<f32>(low[n].y), value1, next);
                next = fma(vec4<f32>(low[n].z), value2, next);
                next = fma(vec4<f32>(low[n].w), value3, next);
                next = fma(vec4<f32>(high[n].x), value4, next);
                next = fma(vec4<f32>(high[n].y), value5, next);
                next = fma(vec4<f32>(high[n].z), value6, next);
                next = fma(vec4<f32>(high[n].w), value7, next);
                sum[n * HEAD4 + i] = next;
            }
        }
    }

    for (var n = 0u; n < QUERIES; n++) { // unrolled
        if own + n * LANES < tile.y {
            let token = tile.x + query[n];
            for (var i = 0u; i < HEAD4; i++) { // unrolled up to 8
                let at = (token * params.heads + head) * HEAD4 + i;
                c[at] = act_store(sum[n * HEAD4 + i] / total[n], token);
            }
        }
    }
}
