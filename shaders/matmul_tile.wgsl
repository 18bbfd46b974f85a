// matmul_tile: computes y = epilogue(x · w + bias) on GPUs.
//
// shared/linear.wgsl describes the bindings, the parameters and the epilogue.
//
// A workgroup computes a tile of y with ROWS rows × CELLS cells; a cell is one `vec4`. Each invocation computes MY_ROWS
// rows × two cells of the tile in registers. The workgroup copies slices of x and w into workgroup memory; a slice has
// SLICE values along the inner axis. Slices of x are transposed, so that each column is contiguous. Products and sums
// are f32, in order along the inner axis, whatever the size of the tile. Therefore a row's result does not depend on
// the other rows of its batch, and the results of all tile sizes are bit-identical.
#import storage as weight
#import storage as act
#import report
#import store
#import activation
#import rotate
#import linear

// A tile has ROWS rows × CELLS cells, and a slice has SLICE values along the inner axis. The host rewrites these three
// constants.
const ROWS: u32 = 64u;
const CELLS: u32 = 16u;
const SLICE: u32 = 16u;
// The number of rows that an invocation computes.
const MY_ROWS: u32 = 4u;

// ACROSS is the number of invocations that share a row of the tile. INVOCATIONS is the number of invocations in a
// workgroup.
const ACROSS: u32 = CELLS / 2u;
const INVOCATIONS: u32 = ROWS / MY_ROWS * ACROSS;
// For each slice, an invocation loads X_CELLS cells of x and W_CELLS cells of w.
const X_CELLS: u32 = ROWS * SLICE / 4u / INVOCATIONS;
const W_CELLS: u32 = SLICE * CELLS / INVOCATIONS;

// `x_tile` holds a slice of x as [inner][rows], and `w_tile` holds a slice of w as [inner][cells]. In a row of
// `w_tile`, cells with even numbers lie before cells with odd numbers. Each invocation computes two neighbouring cells,
// so with this order, neighbouring invocations read different memory banks.
var<workgroup> x_tile: array<array<f32, ROWS>, SLICE>;
var<workgroup> w_tile: array<array<vec4<f32>, CELLS>, SLICE>;

@compute @workgroup_size(INVOCATIONS)
fn matmul_tile(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    sign(local == 0u && all(group == vec3<u32>(0u)));
    let tile_row = params.first_row + group.y * ROWS;
    let tile_cell = group.x * CELLS;
    let my_row = local / ACROSS * MY_ROWS;
    let across = local % ACROSS;
    if EXPERTS {
        if order[tile_row].x < 0.0 {
            return;
        }
    }
    let matrix = matrix_of(tile_row);

    // `starts` holds the index of the first cell of each row of x that this invocation loads.
    var starts: array<u32, X_CELLS>;
    for (var i = 0u; i < X_CELLS; i++) { // unrolled
        let row = tile_row + (local + i * INVOCATIONS) / (SLICE / 4u);
        starts[i] = source_of(min(row, params.rows - 1u)) * params.inner4;
    }

    var left: array<vec4<f32>, MY_ROWS>;
    var right: array<vec4<f32>, MY_ROWS>;
    for (var slice = 0u; slice < params.inner4; slice += SLICE / 4u) {
        for (var i = 0u; i < X_CELLS; i++) { // unrolled
            let row = (local + i * INVOCATIONS) / (SLICE / 4u);
            let cell = (local + i * INVOCATIONS) % (SLICE / 4u);
            var value = vec4<f32>(0.0);
            if tile_row + row < params.rows && slice + cell < params.inner4 {
                value = act_load(x[starts[i] + slice + cell]);
            }
            x_tile[cell * 4u][row] = value.x;
            x_tile[cell * 4u + 1u][row] = value.y;
            x_tile[cell * 4u + 2u][row] = value.z;
            x_tile[cell * 4u + 3u][row] = value.w;
        }
        for (var i = 0u; i < W_CELLS; i++) { // unrolled
            let k = (local + i * INVOCATIONS) / CELLS;
            let cell = (local + i * INVOCATIONS) % CELLS;
            let inner = slice * 4u + k;
            var value = vec4<f32>(0.0);
            if inner < params.inner4 * 4u && tile_cell + cell < params.stride4 {
                value = weight_load(w[matrix + inner * params.stride4 + tile_cell + cell]);
            }
            w_tile[k][cell % 2u * ACROSS + cell / 2u] = value;
        }
        workgroupBarrier();
        for (var four = 0u; four < SLICE; four += 4u) {
            for (var k = 0u; k < 4u; k++) { // unrolled
                let left_cell = w_tile[four + k][across];
                let right_cell = w_tile[four + k][across + ACROSS];
                for (var r = 0u; r < MY_ROWS; r++) { // unrolled
                    let value = vec4<f32>(x_tile[four + k][my_row + r]);
                    left[r] = fma(value, left_cell, left[r]);
                    right[r] = fma(value, right_cell, right[r]);
                }
            }
        }
        workgroupBarrier();
    }

    for (var r = 0u; r < MY_ROWS; r++) { // unrolled
        finish_pair(left[r], right[r], tile_row + my_row + r, tile_cell + across * 2u);
    }
}
