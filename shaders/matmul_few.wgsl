// matmul_few: computes y = epilogue(x · w + bias) on GPUs, for few rows.
//
// shared/linear.wgsl describes the bindings, the parameters and the epilogue.
//
// An invocation computes ROWS rows × CELLS cells of y in registers. A cell is one `vec4`, and CELLS is 1 or 2. Each
// weight is read by only one invocation, once for all ROWS rows. Neighbouring invocations read neighbouring weights, so
// the driver can combine their loads. All invocations of a workgroup read the same cells of x, which stay in caches.
// The kernel uses no workgroup memory and no barrier, since few rows would leave most of a tile empty.
//
// Products and sums are f32, in order along the inner axis, as in matmul_tile. The two kernels are therefore
// bit-identical, and the host may choose between them by the number of rows. The inner axis is not split among
// invocations, since a split would change the order of the sum.
#import storage as weight
#import storage as act
#import report
#import store
#import activation
#import rotate
#import linear

// The numbers of rows and cells that an invocation computes; the host rewrites these constants.
const ROWS: u32 = 4u;
const CELLS: u32 = 1u;

const SUMS: u32 = ROWS * CELLS;

@compute @workgroup_size(32)
fn matmul_few(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    sign(local == 0u && all(group == vec3<u32>(0u)));
    let row = params.first_row + group.y * ROWS;
    let cell = (group.x * 32u + local) * CELLS;
    // Invocations beyond the last cell compute the last cell again and store nothing.
    let column = min(cell, params.stride4 - CELLS);
    if EXPERTS {
        if order[row].x < 0.0 {
            return;
        }
    }
    let matrix = matrix_of(row);
    var starts: array<u32, ROWS>;
    for (var r = 0u; r < ROWS; r++) { // unrolled
        starts[r] = source_of(min(row + r, params.rows - 1u)) * params.inner4;
    }

    // Registers hold the weights of a step and not its rows of x, because the weights take fewer registers. With 16
    // rows of x in registers, the compiler for Apple's M1 spills some of them to memory.
    var weights: array<vec4<f32>, 4u * CELLS>;
    var sums: array<vec4<f32>, SUMS>;
    for (var k = 0u; k < params.inner4; k++) {
        for (var c = 0u; c < CELLS; c++) { // unrolled
            let at = matrix + k * 4u * params.stride4 + column + c;
            weights[c * 4u] = weight_load(w[at]);
            weights[c * 4u + 1u] = weight_load(w[at + params.stride4]);
            weights[c * 4u + 2u] = weight_load(w[at + 2u * params.stride4]);
            weights[c * 4u + 3u] = weight_load(w[at + 3u * params.stride4]);
        }
        for (var r = 0u; r < ROWS; r++) { // unrolled
            let value = act_load(x[starts[r] + k]);
            for (var c = 0u; c < CELLS; c++) { // unrolled
                var sum = sums[r * CELLS + c];
                sum = fma(vec4<f32>(value.x), weights[c * 4u], sum);
                sum = fma(vec4<f32>(value.y), weights[c * 4u + 1u], sum);
                sum = fma(vec4<f32>(value.z), weights[c * 4u + 2u], sum);
                sums[r * CELLS + c] = fma(vec4<f32>(value.w), weights[c * 4u + 3u], sum);
            }
        }
    }

    for (var r = 0u; r < ROWS; r++) { // unrolled
        if CELLS == 1u {
            finish(sums[r * CELLS], row + r, cell);
        } else {
            // If CELLS is 2, the second argument is the sum of the row's second cell. A compiler checks this line even
            // if CELLS is 1, so the index must be valid in that case too.
            finish_pair(sums[r * CELLS], sums[(r + 1u) * CELLS - 1u], row + r, cell);
        }
    }
}
