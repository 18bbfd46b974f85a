// attention_tile: c = softmax(q · kᵀ · scale + bias) · v per text and head, for GPUs
//
// shared/attention.wgsl describes q, k, v, tiles, bias, relative and c.
//
// A workgroup computes QUERIES queries of one text and one head, and its y index selects the head. SPLIT invocations
// share a query. Each of these invocations holds, in registers, CELLS cells of the query and CELLS cells of the query's
// sum; a cell is one `vec4`. Each invocation computes a part of every score. The SPLIT invocations add these parts in
// the same order, through workgroup memory, so that their scores are bit-identical. The workgroup copies KEYS keys and
// their values into workgroup memory at a time. Invocations process these keys in groups of GROUP.
//
// The softmax is online (Milakov and Gimelshein 2018): the kernel keeps, in f32, each query's largest score, the total
// of its weights, and the weighted sum of the values. The total and the weighted sum are rescaled once for each group
// of keys. The kernel skips groups of keys to which no query of the workgroup attends. In the other groups, `select`
// gives the weight zero to keys to which a query does not attend. Groups of keys are counted from the text's first
// token, so a text's result does not depend on the other texts of the batch.
#import storage as act
#import report
#import store
#import attention

// The host rewrites these constants for the width of the head, so that the arrays fit into workgroup memory and
// registers. KEYS is a multiple of GROUP.
const QUERIES: u32 = 64u;
const SPLIT: u32 = 1u;
const KEYS: u32 = 32u;
const GROUP: u32 = 8u;

const CELLS: u32 = HEAD4 / SPLIT;
const GROUPS: u32 = KEYS / GROUP;
const INVOCATIONS: u32 = QUERIES * SPLIT;
// The number of values in `parts`. If SPLIT is 1, the array has one unused value.
const PARTS: u32 = max(min(SPLIT - 1u, 1u) * INVOCATIONS * GROUP, 1u);

// The dimensions are [groups][keys of a group][invocations that share a query][cells]. The last three indices are
// constants, which need no bounds check.
alias KeyTile = array<array<array<array<vec4<f32>, CELLS>, SPLIT>, GROUP>, GROUPS>;

var<workgroup> key_tile: KeyTile;
var<workgroup> value_tile: KeyTile;
// The dimensions are [invocations that share a query][keys of a group][queries].
var<workgroup> parts: array<f32, PARTS>;

// Returns sum + a · b. The four products are summed first, since one chain of additions over a whole head would have a
// larger rounding error.
fn add_product(sum: f32, a: vec4<f32>, b: vec4<f32>) -> f32 {
    return sum + fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, a.x * b.x)));
}

@compute @workgroup_size(INVOCATIONS)
fn attention_tile(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    sign(local == 0u && all(group == vec3<u32>(0u)));
    let tile = tiles[group.x];
    let head = params.first_head + group.y;
    let row = local % QUERIES;
    let part = local / QUERIES;
    // The index in the head of the first cell that this invocation computes.
    let mine = part * CELLS;
    let own = tile.z + row;
    // Invocations beyond the last query compute the last query again.
    let query = min(own, tile.y - 1u);
    let token = tile.x + query;
    let key_head = key_cell(head);
    let value_head = value_cell(head);
    let visited = keys_of(tile, QUERIES, KEYS);
    let end = visited.y;

    let begin = seen_from(query);
    let stop = seen_to(query, tile);

    var q: array<vec4<f32>, CELLS>;
    var sum: array<vec4<f32>, CELLS>;
    for (var i = 0u; i < CELLS; i++) { // unrolled
        q[i] = act_load(queries[query_cell(token, head) + mine + i]) * params.scale;
    }
    var largest = -1e30;
    var total = 0.0;

    for (var first = visited.x; first < end; first += KEYS) {
        let groups = (min(KEYS, end - first) + GROUP - 1u) / GROUP;
        workgroupBarrier();
        for (var at = local; at < groups * GROUP * HEAD4; at += INVOCATIONS) {
            // Slots after the last key get a copy of the last key.
            let key_row = at / HEAD4;
            let cell = at % HEAD4;
            let source = tile.x + min(first + key_row, end - 1u);
            key_tile[key_row / GROUP][key_row % GROUP][cell / CELLS][cell % CELLS] =
                act_load(keys[source * params.k_stride4 + key_head + cell]);
            value_tile[key_row / GROUP][key_row % GROUP][cell / CELLS][cell % CELLS] =
                act_load(values[source * params.v_stride4 + value_head + cell]);
        }
        workgroupBarrier();

        for (var g = 0u; g < groups; g++) {
            // The first key of the group.
            let base = first + g * GROUP;
            var scores: array<f32, GROUP>;
            for (var k = 0u; k < GROUP; k++) { // unrolled
                scores[k] = 0.0;
            }
            for (var i = 0u; i < CELLS; i++) { // unrolled
                for (var k = 0u; k < GROUP; k++) { // unrolled
                    scores[k] = add_product(scores[k], q[i], key_tile[g][k][part][i]);
                }
            }
            if RELATIVE != 0u {
                // This loop must not be unrolled, because a driver would then hold the relative cells of all keys in
                // registers. Drivers unroll loops whose bound is a constant, so the bound is a variable.
                let keys_here = min(GROUP, end - base);
                for (var k = 0u; k < keys_here; k++) {
                    let cell = relative_cell(head, query, base + k) + mine;
                    var more = vec4<f32>(0.0);
                    for (var i = 0u; i < CELLS; i++) { // unrolled
                        more = add_relative(more, q[i], key_tile[g][k][part][i], cell + i);
                    }
                    let sum = more.x + more.y + more.z + more.w;
                    for (var j = 0u; j < GROUP; j++) { // unrolled
                        scores[j] += select(0.0, sum, j == k);
                    }
                }
            }
            if SPLIT > 1u {
                if g > 0u {
                    workgroupBarrier();
                }
                for (var k = 0u; k < GROUP; k++) { // unrolled
                    parts[(part * GROUP + k) * QUERIES + row] = scores[k];
                }
                workgroupBarrier();
                for (var k = 0u; k < GROUP; k++) { // unrolled
                    scores[k] = 0.0;
                    for (var p = 0u; p < SPLIT; p++) { // unrolled
                        scores[k] += parts[(p * GROUP + k) * QUERIES + row];
                    }
                }
            }

            var high = largest;
            for (var k = 0u; k < GROUP; k++) { // unrolled
                let key = base + k;
                if HAS_BIAS {
                    scores[k] += bias[bias_cell(head, query, min(key, end - 1u))];
                }
                scores[k] = select(-1e30, scores[k], (key >= begin) & (key < stop));
                high = max(high, scores[k]);
            }
            let shrink = exp(largest - high);
            largest = high;
            total *= shrink;
            for (var k = 0u; k < GROUP; k++) { // unrolled
                let key = base + k;
                scores[k] = select(0.0, exp(scores[k] - high), (key >= begin) & (key < stop));
                total += scores[k];
            }
            for (var i = 0u; i < CELLS; i++) { // unrolled
                sum[i] *= shrink;
                for (var k = 0u; k < GROUP; k++) { // unrolled
                    sum[i] = fma(vec4<f32>(scores[k]), value_tile[g][k][part][i], sum[i]);
                }
            }
        }
    }

    if own < tile.y {
        for (var i = 0u; i < CELLS; i++) { // unrolled
            let cell = (token * params.heads + head) * HEAD4 + mine + i;
            c[cell] = act_store(sum[i] / total, token);
        }
    }
}
