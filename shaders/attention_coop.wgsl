// attention_coop: c = softmax(q · kᵀ · scale + bias) · v per text and head, for GPUs with cooperative matrices
//
// shared/attention.wgsl describes q, k, v, tiles, bias and c. Here q, k, v and c are f16. The width of a head is a
// multiple of SIDE, the side of a matrix.
//
// A workgroup computes 64 queries of one text and one head. Its x index selects the queries, and its y index selects
// the head. Each step takes 16 keys, padded with zeros after the last key, since loads of matrices are not
// bounds-checked. The queries stay in matrices during all steps. Each step
//   1. loads keys and values into workgroup memory,
//   2. computes scores = q · kᵀ in matrices, 16 queries for each subgroup, and stores them in workgroup memory,
//   3. computes softmax weights from the scores and stores the weights as f16 in the memory of the keys,
//   4. adds weights · v to the sums in matrices; each subgroup computes a part of the 64 queries × HEAD values.
// As in matmul_coop, a workgroup has four times as many invocations as the adapter's largest subgroup. If the driver
// uses smaller subgroups, the workgroup has more than four, and several subgroups compute the same part with equal
// results. Operations on matrices are in uniform control flow, as they must be.
//
// The softmax is online, and matrices cannot be scaled by rows. A weight is therefore 1024 · exp(score − reference),
// where a query's reference is at most 4 below its largest score so far. If a score exceeds the reference by more than
// 4, the score becomes the new reference. The kernel then moves the sums through workgroup memory and scales them. The
// scale factor is exactly 1 for queries that keep their reference, so that a query's result does not depend on the
// other queries. Weights are f16, and the divisor of a query is the sum of its rounded f16 weights. The factor of 1024
// keeps small weights out of f16's subnormal range, and 1024 · e⁴ is below f16's maximum. `select` gives the weight
// zero to keys that a query does not see.
//
// Products of two f16 are exact in f32. Sums are f32. Within a matrix, the hardware chooses their order, so the result
// is not bit-identical to that of attention_tile. Steps are counted from the text's first token, so a text's result
// does not depend on the other texts of the batch.
#import storage as act
#import report_plain
#import store
#import attention
#import coop

// The number of invocations in a workgroup: four times the adapter's largest subgroup size.
const INVOCATIONS: u32 = 128u;

const HEAD: u32 = HEAD4 * 4u;
// STEPS is the number of matrices along the width of a head. TALL is the number of matrices that cover 16 queries, or
// 16 keys.
const STEPS: u32 = HEAD / SIDE;
const TALL: u32 = 16u / SIDE;
const QUERIES: u32 = TALL * STEPS;
// ACROSS is the number of parts that lie side by side in the result. It is 2 if half the width of a head is a multiple
// of SIDE, else 1. A part has PART_ROWS queries and DOWN × ALONG matrices.
const ACROSS: u32 = 2u - min(HEAD % (2u * SIDE), 1u);
const PART_ROWS: u32 = 16u * ACROSS;
const DOWN: u32 = PART_ROWS / SIDE;
const ALONG: u32 = STEPS / ACROSS;
const SUMS: u32 = DOWN * ALONG;
// BAND is the number of matrices that each part moves through workgroup memory at once. It is 1 if SIDE is 16. If SIDE
// is 8, BAND is 4 with two parts side by side, and 2 with one part.
const BAND: u32 = 1u + (TALL - 1u) * (2u * ACROSS - 1u);
const BANDS: u32 = SUMS / BAND;
const MATRIX: u32 = SIDE * SIDE;
const BAND_VALUES: u32 = 4u * BAND * MATRIX;
// Q_SLICE is the number of values of a query that are in workgroup memory at once. It is the largest of 32, 16 and 8
// that divides HEAD.
const Q_SLICE: u32 = (32u >> min(HEAD % 32u, 1u)) >> min(HEAD % 16u, 1u);
const Q_SLICES: u32 = HEAD / Q_SLICE;
const Q_STEPS: u32 = Q_SLICE / SIDE;
// The number of queries whose weights one invocation computes.
const ROWS: u32 = (64u + INVOCATIONS - 1u) / INVOCATIONS;

// Rows in workgroup memory are 16 bytes longer than needed, so that neighbouring rows lie in different banks.
const STRIDE: u32 = HEAD + 8u;
const Q_STRIDE: u32 = Q_SLICE + 8u;
const P_STRIDE: u32 = 64u + 8u;
const S_STRIDE: u32 = 64u + 4u;
const HALVES: u32 = max(max(16u * STRIDE, 16u * P_STRIDE), 64u * Q_STRIDE);

// `halves` holds three arrays, one after another: first q as [64 queries][Q_SLICE], then k as [16 keys][HEAD], then
// weights as [16 keys][64 queries].
var<workgroup> halves: array<Half, HALVES>;
// `value_tile` holds v as [16 keys][HEAD].
var<workgroup> value_tile: array<Half, 16u * STRIDE>;
// `scores` holds scores as [16 keys][64 queries], or one band of sums from each part.
var<workgroup> scores: array<f32, 16u * S_STRIDE>;
// The factors by which the current step scales the sums of each query.
var<workgroup> factors: array<f32, 64>;
// `risen` is 1 if the reference score of any query changes in the current step.
var<workgroup> risen: u32;

// The natural logarithm of 1024.
const RAISE: f32 = 6.931472;

// Returns the query of the tile, from 0 to 63, whose sum lies at index `i` of a band. `column_of` returns the sum's
// column in the head.
fn row_of(band: u32, i: u32) -> u32 {
    let matrix = band * BAND + i / MATRIX % BAND;
    return i / (MATRIX * BAND) / ACROSS * PART_ROWS + matrix / ALONG * SIDE + i % MATRIX / SIDE;
}

fn column_of(band: u32, i: u32) -> u32 {
    let matrix = band * BAND + i / MATRIX % BAND;
    return (i / (MATRIX * BAND) % ACROSS * ALONG + matrix % ALONG) * SIDE + i % SIDE;
}

@compute @workgroup_size(INVOCATIONS)
fn attention_coop(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    sign(local == 0u && all(group == vec3<u32>(0u)));
    let tile = tiles[group.x];
    let head = params.first_head + group.y;
    let part = subgroup % 4u;
    let key_head = key_cell(head);
    let value_head = value_cell(head);
    let visited = keys_of(tile, 64u, 16u);
    let end = visited.y;

    // Sums are initialised by loading zeros, since the value of an uninitialised matrix differs between drivers.
    for (var i = local; i < BAND_VALUES; i += INVOCATIONS) {
        scores[i] = 0.0;
    }
    var q: array<Left, QUERIES>;
    for (var s = 0u; s < Q_SLICES; s++) { // unrolled
        workgroupBarrier();
        for (var i = local; i < 16u * Q_SLICE; i += INVOCATIONS) {
            let row = i / (Q_SLICE / 4u);
            let cell = i % (Q_SLICE / 4u);
            // Rows beyond the last query repeat the last query.
            let token = tile.x + min(tile.z + row, tile.y - 1u);
            let value = act_load(queries[query_cell(token, head) + s * (Q_SLICE / 4u) + cell]);
            let at = row * Q_STRIDE + cell * 4u;
            halves[at] = Half(value.x);
            halves[at + 1u] = Half(value.y);
            halves[at + 2u] = Half(value.z);
            halves[at + 3u] = Half(value.w);
        }
        workgroupBarrier();
        for (var t = 0u; t < Q_STEPS; t++) { // unrolled
            for (var r = 0u; r < TALL; r++) { // unrolled
                let at = (part * 16u + r * SIDE) * Q_STRIDE + t * SIDE;
                q[r * STEPS + s * Q_STEPS + t] = coopLoadT<Left>(&halves[at], Q_STRIDE);
            }
        }
    }
    let zeros = coopLoadT<Sum>(&scores[0], SIDE);
    var sums: array<Sum, SUMS>;
    for (var i = 0u; i < SUMS; i++) { // unrolled
        sums[i] = zeros;
    }
    var reference: array<f32, ROWS>;
    var total: array<f32, ROWS>;
    workgroupBarrier();

    for (var first = visited.x; first < end; first += 16u) {
        for (var i = local; i < 16u * HEAD4; i += INVOCATIONS) {
            let row = i / HEAD4;
            let cell = i % HEAD4;
            var key = vec4<f32>(0.0);
            var value = vec4<f32>(0.0);
            if first + row < end {
                let source = tile.x + first + row;
                key = act_load(keys[source * params.k_stride4 + key_head + cell]);
                value = act_load(values[source * params.v_stride4 + value_head + cell]);
            }
            let at = row * STRIDE + cell * 4u;
            halves[at] = Half(key.x);
            halves[at + 1u] = Half(key.y);
            halves[at + 2u] = Half(key.z);
            halves[at + 3u] = Half(key.w);
            value_tile[at] = Half(value.x);
            value_tile[at + 1u] = Half(value.y);
            value_tile[at + 2u] = Half(value.z);
            value_tile[at + 3u] = Half(value.w);
        }
        if local == 0u {
            risen = 0u;
        }
        workgroupBarrier();

        for (var n = 0u; n < TALL; n++) {
            var products: array<Sum, TALL>;
            for (var r = 0u; r < TALL; r++) { // unrolled
                products[r] = zeros;
            }
            for (var s = 0u; s < STEPS; s++) { // unrolled
                let right = coopLoad<Right>(&halves[n * SIDE * STRIDE + s * SIDE], STRIDE);
                for (var r = 0u; r < TALL; r++) { // unrolled
                    products[r] = coopMultiplyAdd(q[r * STEPS + s], right, products[r]);
                }
            }
            for (var r = 0u; r < TALL; r++) { // unrolled
                let at = n * SIDE * S_STRIDE + part * 16u + r * SIDE;
                coopStore(products[r], &scores[at], S_STRIDE);
            }
        }
        workgroupBarrier();

        for (var m = 0u; m < ROWS; m++) { // unrolled
            let row = local + m * INVOCATIONS;
            if row < 64u {
                let query = min(tile.z + row, tile.y - 1u);
                let begin = seen_from(query);
                let stop = seen_to(query, tile);
                var own: array<f32, 16>;
                var high = -1e30;
                for (var k = 0u; k < 16u; k++) { // unrolled
                    let key = first + k;
                    own[k] = scores[k * S_STRIDE + row] * params.scale;
                    if HAS_BIAS {
                        own[k] += bias[bias_cell(head, query, min(key, end - 1u))];
                    }
                    own[k] = select(-1e30, own[k], (key >= begin) & (key < stop));
                    high = max(high, own[k]);
                }
                var factor = 1.0;
                if total[m] == 0.0 {
                    // The query has seen no key yet, so its sums are zero and need no scaling.
                    reference[m] = high;
                } else if high > reference[m] + 4.0 {
                    factor = exp(reference[m] - high);
                    reference[m] = high;
                    risen = 1u;
                }
                total[m] *= factor;
                factors[row] = factor;
                for (var k = 0u; k < 16u; k++) { // unrolled
                    let key = first + k;
                    let weight = exp(own[k] - reference[m] + RAISE);
                    let rounded = Half(select(0.0, weight, (key >= begin) & (key < stop)));
                    total[m] += f32(rounded);
                    halves[k * P_STRIDE + row] = rounded;
                }
            }
        }

        if workgroupUniformLoad(&risen) != 0u {
            for (var b = 0u; b < BANDS; b++) { // unrolled
                for (var m = 0u; m < BAND; m++) { // unrolled
                    coopStoreT(sums[b * BAND + m], &scores[(part * BAND + m) * MATRIX], SIDE);
                }
                workgroupBarrier();
                for (var i = local; i < BAND_VALUES; i += INVOCATIONS) {
                    scores[i] *= factors[row_of(b, i)];
                }
                workgroupBarrier();
                for (var m = 0u; m < BAND; m++) { // unrolled
                    sums[b * BAND + m] = coopLoadT<Sum>(&scores[(part * BAND + m) * MATRIX], SIDE);
                }
                workgroupBarrier();
            }
        }

        let part_row = part / ACROSS * PART_ROWS;
        let part_column = part % ACROSS * ALONG * SIDE;
        for (var k = 0u; k < TALL; k++) {
            var weights: array<Left, DOWN>;
            for (var r = 0u; r < DOWN; r++) { // unrolled
                let at = k * SIDE * P_STRIDE + part_row + r * SIDE;
                weights[r] = coopLoad<Left>(&halves[at], P_STRIDE);
            }
            for (var n = 0u; n < ALONG; n++) { // unrolled
                let at = k * SIDE * STRIDE + part_column + n * SIDE;
                let right = coopLoadT<Right>(&value_tile[at], STRIDE);
                for (var r = 0u; r < DOWN; r++) { // unrolled
                    let sum = sums[r * ALONG + n];
                    sums[r * ALONG + n] = coopMultiplyAdd(weights[r], right, sum);
                }
            }
        }
        workgroupBarrier();
    }

    for (var m = 0u; m < ROWS; m++) { // unrolled
        if local + m * INVOCATIONS < 64u {
            factors[local + m * INVOCATIONS] = total[m];
        }
    }
    for (var b = 0u; b < BANDS; b++) { // unrolled
        for (var m = 0u; m < BAND; m++) { // unrolled
            coopStoreT(sums[b * BAND + m], &scores[(part * BAND + m) * MATRIX], SIDE);
        }
        workgroupBarrier();
        for (var i = local * 4u; i < BAND_VALUES; i += INVOCATIONS * 4u) {
            let row = row_of(b, i);
            let token = tile.x + tile.z + row;
            if tile.z + row < tile.y {
                let sum = vec4<f32>(scores[i], scores[i + 1u], scores[i + 2u], scores[i + 3u]);
                let cell = (token * params.heads + head) * HEAD4 + column_of(b, i) / 4u;
                c[cell] = act_store(sum / factors[row], token);
            }
        }
        workgroupBarrier();
    }
}
