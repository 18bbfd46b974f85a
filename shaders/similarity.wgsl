// similarity: computes a score for each row of a corpus and each query. A larger score means more similar.
//
// FUNCTION selects the score of a query q and a row r:
//
//   FUNCTION 0 cosine      q · r / max(‖r‖₂, 1e-12); the host has scaled q to length one
//            1 dot         q · r
//            2 euclidean   -‖q - r‖₂
//            3 manhattan   -‖q - r‖₁
//
// - `corpus`: [rows, width4] weights, in cells of four values; padding is zero.
// - `queries`: [queries, width4] f32, in cells of four values; padding is zero.
// - `scores`: [queries, stride] f32. The kernel writes only the columns whose index is below `rows`.
//
// One invocation compares one row with QUERIES queries, so that it reads the row only once. The x dimension of the
// dispatch runs over rows, and the y dimension runs over groups of QUERIES queries. Sums are f32. Each score has four
// partial sums, one for each remainder of the column index modulo 4. Each partial sum adds its columns in order. A
// score therefore depends neither on QUERIES nor on the other rows.
#import storage as weight
#import report

struct Params {
    rows: u32,
    queries: u32,
    width4: u32,
    stride: u32,
}

override FUNCTION: u32 = 0u;

// The number of queries that an invocation compares with its row; the host rewrites this constant.
const QUERIES: u32 = 4u;

@group(0) @binding(0) var<storage, read> corpus: array<weight_vec4>;
@group(0) @binding(1) var<storage, read> queries: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> scores: array<f32>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(64)
fn similarity(@builtin(global_invocation_id) id: vec3<u32>) {
    sign(all(id == vec3<u32>(0u)));
    let row = id.x;
    let first = id.y * QUERIES;
    if row >= params.rows || first >= params.queries {
        return;
    }
    var sums: array<vec4<f32>, QUERIES>;
    for (var q = 0u; q < QUERIES; q++) { // unrolled
        sums[q] = vec4<f32>(0.0);
    }
    var squares = vec4<f32>(0.0);
    for (var cell = 0u; cell < params.width4; cell++) {
        let value = weight_load(corpus[row * params.width4 + cell]);
        if FUNCTION == 0u {
            squares = fma(value, value, squares);
        }
        for (var q = 0u; q < QUERIES; q++) { // unrolled
            // If the last group has fewer than QUERIES queries, the last query is read again.
            let query = queries[min(first + q, params.queries - 1u) * params.width4 + cell];
            if FUNCTION < 2u {
                sums[q] = fma(query, value, sums[q]);
            } else if FUNCTION == 2u {
                sums[q] = fma(query - value, query - value, sums[q]);
            } else {
                sums[q] += abs(query - value);
            }
        }
    }
    // torch.nn.functional.normalize has the same lower limit of 1e-12.
    let length = max(sqrt(squares.x + squares.y + squares.z + squares.w), 1e-12);
    for (var q = 0u; q < QUERIES; q++) { // unrolled
        if first + q < params.queries {
            let sum = sums[q].x + sums[q].y + sums[q].z + sums[q].w;
            var score = sum;
            if FUNCTION == 0u {
                score = sum / length;
            } else if FUNCTION == 2u {
                score = -sqrt(sum);
            } else if FUNCTION == 3u {
                score = -sum;
            }
            scores[(first + q) * params.stride + row] = score;
        }
    }
}
