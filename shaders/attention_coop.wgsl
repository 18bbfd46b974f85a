// attention_coop: c = softmax(q · kᵀ · scale + bias) · v per text and head, for GPUs with cooperative matrices
//
// shared/attention.wgsl describes q, k, v, tiles, bias and c. Here q, k, v and c are f16. The width of a head is a
// multiple of SIDE, the side of a matrix.
//
// A workgroup computes 64 queries of one text and one head. Its x index selects the queries, and its y index selects
// the head. Each step takes KEYS keys. After the last key, a step repeats the last key, since loads of matrices are not
// bounds-checked. The queries stay in matrices during all steps. Each step
//   1. loads keys and values into workgroup memory, and transposes the values,
//   2. computes scores = q · kᵀ in matrices, 16 queries for each subgroup, and stores them in workgroup memory,
//   3. computes softmax weights from the scores, with four neighbouring invocations for each query, and stores the
//      weights as f16 in workgroup memory,
//   4. adds weights · v to the sums in matrices; each subgroup computes a part of the 64 queries × HEAD values.
// Both factors of a product are contiguous along the axis that is summed, so that a lane loads its values of a matrix
// with few wide loads. As in matmul_coop, a workgroup has four times as many invocations as the adapter's largest
// subgroup. If the driver uses smaller subgroups, the workgroup has more than four, and several subgroups compute the
// same part with equal results. Operations on matrices are in uniform control flow, as they must be.
//
// The softmax is online, and matrices cannot be scaled by rows. A weight is therefore 1024 · exp(score − reference),
// where a query's reference is at most 4 below its largest score so far. If a score exceeds the reference by more than
// 4, the score becomes the new reference. The kernel then moves the sums through workgroup memory and scales them. The
// scale factor is exactly 1 for queries that keep their reference, so that a query's result does not depend on the
// other queries. Weights are f16, and the divisor of a query is the sum of its rounded f16 weights. The factor of 1024
// keeps small weights out of f16's subnormal range, and 1024 · e⁴ is below f16's maximum. `select` gives the weight
// zero to keys that a query does not see. The kernel holds scores and references as multiples of ln 2, so that `exp2`
// needs no further product.
//
// Products of two f16 are exact in f32. Sums are f32. Within a matrix, the hardware chooses the order of additions, so
// the result is not bit-identical to that of attention_tile. Steps are counted from the text's first token, so a text's
// result does not depend on the other texts of the batch.
#import storage as act
#import report_plain
#import store
#import attention
#import coop
#import elements

// The number of invocations in a workgroup: four times the adapter's largest subgroup size.
const INVOCATIONS: u32 = 128u;
// The number of keys in a step: 32, or 16 where workgroup memory has no room for 32.
const KEYS: u32 = 32u;
// The number of cells that pad each row in workgroup memory: see matmul_coop.
const PAD: u32 = 2u;

const HEAD: u32 = HEAD4 * 4u;
const KEY_CELLS: u32 = KEYS / 4u;
// STEPS is the number of matrices along the width of a head. TALL is the number of matrices that cover 16 queries, and
// KEY_BLOCKS the number that cover the keys of a step.
const STEPS: u32 = HEAD / SIDE;
const TALL: u32 = 16u / SIDE;
const QUERIES: u32 = TALL * STEPS;
const KEY_BLOCKS: u32 = KEYS / SIDE;
// ACROSS is the number of parts that lie side by side in the result. It is 2 if half the width of a head is a multiple
// of SIDE, else 1. A part has PART_ROWS queries and DOWN × ALONG matrices.
const ACROSS: u32 = 2u - min(HEAD % (2u * SIDE), 1u);
const PARTS_DOWN: u32 = 4u / ACROSS;
const PART_ROWS: u32 = 16u * ACROSS;
const PART_CELLS: u32 = HEAD4 / ACROSS;
const DOWN: u32 = PART_ROWS / SIDE;
const ALONG: u32 = STEPS / ACROSS;
const SUMS: u32 = DOWN * ALONG;
// BAND is the number of neighbouring matrices of sums that each part moves through workgroup memory at once. A row of
// scores has room for FITS matrices. BAND is FITS if FITS divides ALONG, and 1 otherwise.
const FITS: u32 = min(ALONG, KEY_BLOCKS);
const BAND: u32 = 1u + (FITS - 1u) * (1u - min(ALONG % FITS, 1u));
const BANDS: u32 = ALONG / BAND;
const BAND_CELLS: u32 = BAND * SIDE / 4u;
const ALL_BAND_CELLS: u32 = 4u * SIDE * BAND_CELLS;
const TAKES: u32 = (ALL_BAND_CELLS + INVOCATIONS - 1u) / INVOCATIONS;
// Q_SLICE is the number of values of a query that are in workgroup memory at once. It is the largest of 32, 16 and 8
// that divides HEAD and does not exceed KEYS.
const Q_SLICE: u32 = min((32u >> min(HEAD % 32u, 1u)) >> min(HEAD % 16u, 1u), KEYS);
const Q_SLICES: u32 = HEAD / Q_SLICE;
const Q_STEPS: u32 = Q_SLICE / SIDE;
const Q_CELLS: u32 = Q_SLICE / 4u;
// The number of queries whose weights one invocation computes, and the number of cells of each query's weights.
const ROWS: u32 = 256u / INVOCATIONS;
const MY_CELLS: u32 = KEY_CELLS / 4u;
// Half of the invocations load keys, and the other half load values. A block is one cell of each of four neighbouring
// keys or values. Each invocation loads up to BLOCKS blocks.
const HALF: u32 = INVOCATIONS / 2u;
const ALL_BLOCKS: u32 = KEY_CELLS * HEAD4;
const BLOCKS: u32 = (ALL_BLOCKS + HALF - 1u) / HALF;

// The number of elements in rows of workgroup memory, and along a matrix.
const HEAD_STRIDE: u32 = (HEAD4 + PAD) * ELEMENTS;
const KEY_STRIDE: u32 = (KEY_CELLS + PAD) * ELEMENTS;
const SCORE_STRIDE: u32 = (KEY_CELLS + 1u) * ELEMENTS;
const MATRIX: u32 = SIDE / 4u * ELEMENTS;

// `key_tile` holds k as [cells of keys][keys of a cell][HEAD]. `value_tile` holds v as [parts][cells of HEAD][values of
// a cell][keys]. An index that is a constant needs no bounds check, so only the outer indices are variable.
var<workgroup> key_tile: array<array<array<HalfElement, HEAD_STRIDE>, 4>, KEY_CELLS>;
var<workgroup> value_tile: array<array<array<array<HalfElement, KEY_STRIDE>, 4>, PART_CELLS>, ACROSS>;
// `weights` holds softmax weights as [parts][queries][keys], and before the first step Q_SLICE values of each query.
var<workgroup> weights: array<array<array<HalfElement, KEY_STRIDE>, PART_ROWS>, PARTS_DOWN>;
// `scores` holds scores as [subgroups][queries][keys], or one band of sums from each part.
var<workgroup> scores: array<array<array<SumElement, SCORE_STRIDE>, 16>, 4>;
// The factors by which the current step scales the sums of each query. The last step is followed by the divisors.
var<workgroup> factors: array<f32, 64>;
// `risen` is 1 if the reference score of any query changes in the current step.
var<workgroup> risen: u32;

// 1 / ln 2. A reference may be 4 / ln 2 below a score. The binary logarithm of 1024 is 10.
const PER_LN2: f32 = 1.442695;
const MOST_BELOW: f32 = 5.770780;
const RAISE: f32 = 10.0;

// Returns a cell of scores, or of sums.
fn score_cell(whose: u32, row: u32, cell: u32) -> vec4<f32> {
    let at = cell * ELEMENTS;
    return sum_cell(
        scores[whose][row][at],
        scores[whose][row][at + 1u % ELEMENTS],
        scores[whose][row][at + 2u % ELEMENTS],
        scores[whose][row][at + 3u % ELEMENTS],
    );
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
    let visited = keys_of(tile, 64u, KEYS);
    let end = visited.y;
    let scale = params.scale * PER_LN2;

    // Sums are initialised by loading zeros, since the value of an uninitialised matrix differs between drivers.
    for (var i = local; i < 16u * SCORE_STRIDE; i += INVOCATIONS) {
        scores[0][i / SCORE_STRIDE][i % SCORE_STRIDE] = SumElement();
    }
    var q: array<Left, QUERIES>;
    for (var s = 0u; s < Q_SLICES; s++) { // unrolled
        workgroupBarrier();
        for (var i = local; i < 64u * Q_CELLS; i += INVOCATIONS) {
            let row = i / Q_CELLS;
            let cell = i % Q_CELLS;
            // Rows beyond the last query repeat the last query.
            let token = tile.x + min(tile.z + row, tile.y - 1u);
            let value = queries[query_cell(token, head) + s * Q_CELLS + cell];
            for (var e = 0u; e < ELEMENTS; e++) { // unrolled
                weights[row / PART_ROWS][row % PART_ROWS][cell * ELEMENTS + e] = half_element(value, e);
            }
        }
        workgroupBarrier();
        for (var t = 0u; t < Q_STEPS; t++) { // unrolled
            for (var r = 0u; r < TALL; r++) { // unrolled
                let row = part % ACROSS * 16u + r * SIDE;
                q[r * STEPS + s * Q_STEPS + t] = coopLoadT<Left>(&weights[part / ACROSS][row][t * MATRIX], KEY_STRIDE);
            }
        }
    }
    let zeros = coopLoadT<Sum>(&scores[0][0][0], SCORE_STRIDE);
    var sums: array<Sum, SUMS>;
    for (var i = 0u; i < SUMS; i++) { // unrolled
        sums[i] = zeros;
    }
    var reference: array<f32, ROWS>;
    var total: array<f32, ROWS>;
    workgroupBarrier();

    // For each block that this invocation loads, `starts` holds the index of its first cell in the first step, and
    // `lasts` the index of the same cell in the last key or value.
    let loads_values = local >= HALF;
    let stride = select(params.k_stride4, params.v_stride4, loads_values);
    var starts: array<u32, BLOCKS>;
    var lasts: array<u32, BLOCKS>;
    for (var b = 0u; b < BLOCKS; b++) { // unrolled
        let index = local % HALF + b * HALF;
        let cell = select(key_cell(head), value_cell(head), loads_values) + index % HEAD4;
        starts[b] = (tile.x + index / HEAD4 * 4u) * stride + cell;
        lasts[b] = (tile.x + end - 1u) * stride + cell;
    }

    for (var first = visited.x; first < end; first += KEYS) {
        for (var b = 0u; b < BLOCKS; b++) { // unrolled
            let index = local % HALF + b * HALF;
            let cell = index % HEAD4;
            let four = index / HEAD4;
            if ALL_BLOCKS % HALF == 0u || index < ALL_BLOCKS {
                let start = starts[b] + first * stride;
                var cells: array<vec4<f16>, 4>;
                if loads_values {
                    for (var k = 0u; k < 4u; k++) { // unrolled
                        cells[k] = values[min(start + k * stride, lasts[b])];
                    }
                    let to = &value_tile[cell / PART_CELLS][cell % PART_CELLS];
                    for (var c = 0u; c < 4u; c++) { // unrolled
                        let column = vec4<f16>(cells[0u][c], cells[1u][c], cells[2u][c], cells[3u][c]);
                        for (var e = 0u; e < ELEMENTS; e++) { // unrolled
                            (*to)[c][four * ELEMENTS + e] = half_element(column, e);
                        }
                    }
                } else {
                    for (var k = 0u; k < 4u; k++) { // unrolled
                        cells[k] = keys[min(start + k * stride, lasts[b])];
                    }
                    let to = &key_tile[four];
                    for (var k = 0u; k < 4u; k++) { // unrolled
                        for (var e = 0u; e < ELEMENTS; e++) { // unrolled
                            (*to)[k][cell * ELEMENTS + e] = half_element(cells[k], e);
                        }
                    }
                }
            }
        }
        if local == 0u {
            risen = 0u;
        }
        workgroupBarrier();

        for (var n = 0u; n < KEY_BLOCKS; n++) { // unrolled up to 2
            var products: array<Sum, TALL>;
            for (var r = 0u; r < TALL; r++) { // unrolled
                products[r] = zeros;
            }
            for (var s = 0u; s < STEPS; s++) { // unrolled
                let right = coopLoad<Right>(&key_tile[n * SIDE / 4u][0][s * MATRIX], HEAD_STRIDE);
                for (var r = 0u; r < TALL; r++) { // unrolled
                    products[r] = coopMultiplyAdd(q[r * STEPS + s], right, products[r]);
                }
            }
            for (var r = 0u; r < TALL; r++) { // unrolled
                coopStoreT(products[r], &scores[part][r * SIDE][n * MATRIX], SCORE_STRIDE);
            }
        }
        workgroupBarrier();

        for (var m = 0u; m < ROWS; m++) { // unrolled
            let row = local / 4u + m * (INVOCATIONS / 4u);
            let quarter = local % 4u;
            let query = min(tile.z + row, tile.y - 1u);
            let begin = seen_from(query);
            let stop = seen_to(query, tile);
            let key = first + quarter * (KEYS / 4u);
            var own: array<vec4<f32>, MY_CELLS>;
            var seen: array<vec4<bool>, MY_CELLS>;
            var high = -1e30;
            for (var j = 0u; j < MY_CELLS; j++) { // unrolled
                let at = vec4<u32>(key + j * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
                own[j] = score_cell(row / 16u, row % 16u, quarter * MY_CELLS + j) * scale;
                if HAS_BIAS {
                    for (var k = 0u; k < 4u; k++) { // unrolled
                        own[j][k] += PER_LN2 * bias[bias_cell(head, query, min(at[k], end - 1u))];
                    }
                }
                seen[j] = at < vec4<u32>(stop);
                if WINDOW {
                    seen[j] = seen[j] & (at >= vec4<u32>(begin));
                }
                own[j] = select(vec4<f32>(-1e30), own[j], seen[j]);
                high = max(high, max(max(own[j].x, own[j].y), max(own[j].z, own[j].w)));
            }
            high = max(high, quadSwapX(high));
            high = max(high, quadSwapY(high));
            var factor = 1.0;
            if total[m] == 0.0 {
                // The query has seen no key yet, so its sums are zero and need no scaling.
                reference[m] = high;
            } else if high > reference[m] + MOST_BELOW {
                factor = exp2(reference[m] - high);
                reference[m] = high;
                risen = 1u;
            }
            // The four invocations of a query write the same factor.
            factors[row] = factor;
            var more = 0.0;
            for (var j = 0u; j < MY_CELLS; j++) { // unrolled
                let weight = exp2(own[j] - (reference[m] - RAISE));
                let rounded = vec4<f16>(select(vec4<f32>(0.0), weight, seen[j]));
                let widened = vec4<f32>(rounded);
                more += (widened.x + widened.y) + (widened.z + widened.w);
                let at = (quarter * MY_CELLS + j) * ELEMENTS;
                for (var e = 0u; e < ELEMENTS; e++) { // unrolled
                    weights[row / PART_ROWS][row % PART_ROWS][at + e] = half_element(rounded, e);
                }
            }
            more += quadSwapX(more);
            more += quadSwapY(more);
            total[m] = fma(total[m], factor, more);
        }

        if workgroupUniformLoad(&risen) != 0u {
            for (var r = 0u; r < DOWN; r++) { // unrolled
                for (var b = 0u; b < BANDS; b++) { // unrolled
                    for (var m = 0u; m < BAND; m++) { // unrolled
                        coopStoreT(sums[r * ALONG + b * BAND + m], &scores[part][0][m * MATRIX], SCORE_STRIDE);
                    }
                    workgroupBarrier();
                    for (var i = 0u; i < TAKES; i++) { // unrolled up to 2
                        let at = local + i * INVOCATIONS;
                        if ALL_BAND_CELLS % INVOCATIONS == 0u || at < ALL_BAND_CELLS {
                            let whose = at / (SIDE * BAND_CELLS);
                            let row = at / BAND_CELLS % SIDE;
                            let factor = factors[whose / ACROSS * PART_ROWS + r * SIDE + row];
                            for (var e = 0u; e < ELEMENTS; e++) { // unrolled
                                scores[whose][row][at % BAND_CELLS * ELEMENTS + e] *= factor;
                            }
                        }
                    }
                    workgroupBarrier();
                    for (var m = 0u; m < BAND; m++) { // unrolled
                        let sum = coopLoadT<Sum>(&scores[part][0][m * MATRIX], SCORE_STRIDE);
                        sums[r * ALONG + b * BAND + m] = sum;
                    }
                    workgroupBarrier();
                }
            }
        }

        for (var k = 0u; k < KEY_BLOCKS; k++) { // unrolled up to 2
            var left: array<Left, DOWN>;
            for (var r = 0u; r < DOWN; r++) { // unrolled
                left[r] = coopLoadT<Left>(&weights[part / ACROSS][r * SIDE][k * MATRIX], KEY_STRIDE);
            }
            for (var n = 0u; n < ALONG; n++) { // unrolled
                let right = coopLoad<Right>(&value_tile[part % ACROSS][n * SIDE / 4u][0][k * MATRIX], KEY_STRIDE);
                for (var r = 0u; r < DOWN; r++) { // unrolled
                    let sum = sums[r * ALONG + n];
                    sums[r * ALONG + n] = coopMultiplyAdd(left[r], right, sum);
                }
            }
        }
        workgroupBarrier();
    }

    for (var m = 0u; m < ROWS; m++) { // unrolled
        factors[local / 4u + m * (INVOCATIONS / 4u)] = total[m];
    }
    for (var r = 0u; r < DOWN; r++) { // unrolled
        for (var b = 0u; b < BANDS; b++) { // unrolled
            for (var m = 0u; m < BAND; m++) { // unrolled
                coopStoreT(sums[r * ALONG + b * BAND + m], &scores[part][0][m * MATRIX], SCORE_STRIDE);
            }
            workgroupBarrier();
            for (var i = 0u; i < TAKES; i++) { // unrolled up to 2
                let at = local + i * INVOCATIONS;
                let whose = at / (SIDE * BAND_CELLS);
                let row = at / BAND_CELLS % SIDE;
                let query = whose / ACROSS * PART_ROWS + r * SIDE + row;
                if at < ALL_BAND_CELLS && tile.z + query < tile.y {
                    let token = tile.x + tile.z + query;
                    let column = whose % ACROSS * PART_CELLS + b * BAND_CELLS + at % BAND_CELLS;
                    let sum = score_cell(whose, row, at % BAND_CELLS);
                    let cell = (token * params.heads + head) * HEAD4 + column;
                    c[cell] = act_store(sum / factors[query], token);
                }
            }
            workgroupBarrier();
        }
    }
}
