// attention_tile: c = softmax(q · kᵀ · scale + bias) · v per text and head, for GPUs
//
// q, k, v, tiles, bias, relative and c are those of shared/attention.wgsl.
//
// A workgroup takes 64 queries of one text and one head (y), an invocation a query. Keys and values
// pass through workgroup memory KEYS at a time. The softmax is online (Milakov and Gimelshein 2018):
// running maximum, sum and output, rescaled once a tile, in f32. Keys that no query of the workgroup
// sees are never visited, and an invocation passes over those that its own does not: bounds of loops,
// not masks. Tiles start at the text's first token, so a text's result does not depend on its
// neighbours.
#import storage as act
#import store
#import attention

// Keys a tile; the host writes it so that the tiles fit workgroup memory.
const KEYS: u32 = 32u;

var<workgroup> key_tile: array<array<vec4<f32>, HEAD4>, KEYS>;
var<workgroup> value_tile: array<array<vec4<f32>, HEAD4>, KEYS>;

@compute @workgroup_size(64)
fn attention_tile(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let tile = tiles[group.x];
    let own = tile.z + local;
    // Invocations beyond the last query work on the last one.
    let query = min(own, tile.y - 1u);
    let token = tile.x + query;
    let key_head = params.k_first4 + group.y / params.group * HEAD4;
    let value_head = params.v_first4 + group.y / params.group * HEAD4;

    var start = 0u;
    var end = tile.w;
    if WINDOW {
        start = seen_from(tile.z) / KEYS * KEYS;
        end = seen_to(min(tile.z + 63u, tile.y - 1u), tile);
    }
    let begin = seen_from(query);
    let stop = seen_to(query, tile);

    var q: array<vec4<f32>, HEAD4>;
    var sum: array<vec4<f32>, HEAD4>;
    for (var i = 0u; i < HEAD4; i++) {
        q[i] = act_load(queries[query_cell(token, group.y) + i]) * params.scale;
    }
    var largest = -1e30;
    var total = 0.0;
    var scores: array<f32, KEYS>;

    for (var first = start; first < end; first += KEYS) {
        let count = min(KEYS, end - first);
        workgroupBarrier();
        for (var at = local; at < count * HEAD4; at += 64u) {
            let source = tile.x + first + at / HEAD4;
            let cell = at % HEAD4;
            key_tile[at / HEAD4][cell] =
                act_load(keys[source * params.k_stride4 + key_head + cell]);
            value_tile[at / HEAD4][cell] =
                act_load(values[source * params.v_stride4 + value_head + cell]);
        }
        workgroupBarrier();

        var low = 0u;
        var up = count;
        if WINDOW {
            low = max(begin, first) - first;
            up = min(max(stop, first) - first, count);
        }
        var high = largest;
        for (var j = low; j < up; j++) {
            var products = vec4<f32>(0.0);
            for (var i = 0u; i < HEAD4; i++) {
                products = fma(q[i], key_tile[j][i], products);
            }
            if RELATIVE != 0u {
                let cell = relative_cell(group.y, query, first + j);
                for (var i = 0u; i < HEAD4; i++) {
                    products = add_relative(products, q[i], key_tile[j][i], cell + i);
                }
            }
            scores[j] = products.x + products.y + products.z + products.w;
            if HAS_BIAS {
                scores[j] += bias[bias_cell(group.y, query, first + j)];
            }
            high = max(high, scores[j]);
        }
        let shrink = exp(largest - high);
        largest = high;
        total = total * shrink;
        for (var i = 0u; i < HEAD4; i++) {
            sum[i] = sum[i] * shrink;
        }
        for (var j = low; j < up; j++) {
            let p = exp(scores[j] - high);
            total += p;
            for (var i = 0u; i < HEAD4; i++) {
                sum[i] = fma(vec4<f32>(p), value_tile[j][i], sum[i]);
            }
        }
    }

    if own < tile.y {
        for (var i = 0u; i < HEAD4; i++) {
            c[(token * params.heads + group.y) * HEAD4 + i] = act_store(sum[i] / total, token);
        }
    }
}
