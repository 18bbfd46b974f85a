// matmul_tile: y = f(x · w + bias) + residual, for GPUs
//
// x, w, bias, residual and y are those of shared/linear.wgsl.
//
// A workgroup makes a tile of y of ROWS rows × CELLS cells, and each invocation MY_ROWS × MY_CELLS of it
// in registers. Slices of SLICE along inner pass through workgroup memory, x transposed so that a column is
// contiguous. Products and sums are f32, along inner in order, whatever the size of the tile: a row's result
// does not depend on the other rows of its batch, and tiles of all sizes give the same bits.
#import storage as weight
#import storage as act
#import store
#import activation
#import linear

// The size of a tile; the host picks it.
const ROWS: u32 = 64u;
const CELLS: u32 = 16u;
const SLICE: u32 = 16u;
// The part of it that an invocation makes.
const MY_ROWS: u32 = 8u;
const MY_CELLS: u32 = 1u;

// Invocations side by side, whose cells alternate; and all of them.
const ACROSS: u32 = CELLS / MY_CELLS;
const INVOCATIONS: u32 = ROWS / MY_ROWS * ACROSS;
const SUMS: u32 = MY_ROWS * MY_CELLS;
// Cells of x and w that an invocation brings for a slice.
const X_CELLS: u32 = ROWS * SLICE / 4u / INVOCATIONS;
const W_CELLS: u32 = SLICE * CELLS / INVOCATIONS;

// [inner][rows] of x and [inner][cells] of w.
var<workgroup> x_tile: array<array<f32, ROWS>, SLICE>;
var<workgroup> w_tile: array<array<vec4<f32>, CELLS>, SLICE>;

@compute @workgroup_size(INVOCATIONS)
fn matmul_tile(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let tile_row = params.first_row + group.y * ROWS;
    let tile_cell = group.x * CELLS;
    let my_row = local / ACROSS * MY_ROWS;
    let my_cell = local % ACROSS;
    if EXPERTS {
        if order[tile_row].x < 0.0 {
            return;
        }
    }
    let matrix = matrix_of(tile_row);

    // Where the rows of x begin whose cells this invocation brings.
    var starts: array<u32, X_CELLS>;
    for (var i = 0u; i < X_CELLS; i++) { // unrolled
        let row = tile_row + (local + i * INVOCATIONS) / (SLICE / 4u);
        starts[i] = source_of(min(row, params.rows - 1u)) * params.inner4;
    }

    var cells: array<vec4<f32>, MY_CELLS>;
    var sums: array<vec4<f32>, SUMS>;
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
            w_tile[k][cell] = value;
        }
        workgroupBarrier();
        for (var four = 0u; four < SLICE; four += 4u) {
            for (var k = 0u; k < 4u; k++) { // unrolled
                for (var c = 0u; c < MY_CELLS; c++) { // unrolled
                    cells[c] = w_tile[four + k][my_cell + c * ACROSS];
                }
                for (var r = 0u; r < MY_ROWS; r++) { // unrolled
                    let value = vec4<f32>(x_tile[four + k][my_row + r]);
                    for (var c = 0u; c < MY_CELLS; c++) { // unrolled
                        sums[r * MY_CELLS + c] = fma(value, cells[c], sums[r * MY_CELLS + c]);
                    }
                }
            }
        }
        workgroupBarrier();
    }

    for (var r = 0u; r < MY_ROWS; r++) { // unrolled
        for (var c = 0u; c < MY_CELLS; c++) { // unrolled
            finish(sums[r * MY_CELLS + c], tile_row + my_row + r, tile_cell + my_cell + c * ACROSS);
        }
    }
}
