// matmul_coop: y = epilogue(x · w + bias), for GPUs with cooperative matrices
//
// shared/linear.wgsl describes x, w, bias, residual and y. Here x and w are f16.
//
// A workgroup computes a tile of y in four parts, two by two. Each part has PART_ROWS × PART_COLUMNS sums, which a
// subgroup holds in matrices of SIDE × SIDE. The workgroup copies slices of x and w into workgroup memory, SLICE deep
// along the inner axis. Both slices are contiguous along the inner axis, so that a lane loads its values of a matrix
// with few wide loads. In the buffer of w, the values of a row are contiguous, but the slice needs contiguous columns.
// Each invocation therefore transposes blocks of 4 × 4 values in registers. Finished sums pass through workgroup
// memory, since only the driver knows which invocation holds which sum.
//
// Loads of matrices are not bounds-checked. Beyond the inner axis, the slice of w contains zeros, and the slice of x
// repeats the last cell of each row. Beyond the last row of x or the last column of w, the slices repeat this row or
// column, and the epilogue skips the sums.
//
// The host cannot request a subgroup size, so a workgroup has four times as many invocations as the adapter's largest
// subgroup. If the driver uses smaller subgroups, the workgroup has more than four, and several subgroups compute the
// same part with equal results. Operations on matrices must be in uniform control flow, so no subgroup may skip them.
//
// Products of two f16 are exact in f32, and sums are f32. The kernel adds steps of SIDE products in order along the
// inner axis. Within a step, the hardware chooses the order and the rounding of the sum. It uses the same order and
// rounding for every row. Therefore a row's result does not depend on the other rows of its batch, and tiles of all
// sizes are bit-identical. The results are not bit-identical to those of matmul_tile.
#import storage as weight
#import storage as act
#import report_plain
#import store
#import activation
#import rotate
#import linear
#import coop
#import elements

// The number of invocations in a workgroup: four times the adapter's largest subgroup size.
const INVOCATIONS: u32 = 128u;
// The rows and the columns of a part, and the depth of a slice; the host rewrites these constants.
const PART_ROWS: u32 = 32u;
const PART_COLUMNS: u32 = 32u;
const SLICE: u32 = 32u;
// The number of cells that pad each row in workgroup memory, so that neighbouring rows lie in different banks. The
// number is even, since Vulkan requires that rows of matrices begin at multiples of 16 bytes.
const PAD: u32 = 2u;
// True if the inner axis has a whole number of slices. The loop then needs no checks for the end of the axis.
override WHOLE: bool = false;

const ROWS: u32 = 2u * PART_ROWS;
const COLUMNS: u32 = 2u * PART_COLUMNS;
// A part consists of DOWN × ACROSS matrices. A slice has STEPS matrices along the inner axis.
const DOWN: u32 = PART_ROWS / SIDE;
const ACROSS: u32 = PART_COLUMNS / SIDE;
const MATRICES: u32 = DOWN * ACROSS;
const STEPS: u32 = SLICE / SIDE;
// The number of steps that are unrolled: all steps of a slice, or one step if SIDE is 8. With small matrices, a step
// has four times as many products, and drivers would take long to compile those of a whole slice.
const UNROLLED: u32 = max(SIDE / 16u * STEPS, 1u);
// DEEP is the number of cells in a row of a slice. STRIDE is the number of elements in a row of workgroup memory, and
// MATRIX is the number of elements along a matrix.
const DEEP: u32 = SLICE / 4u;
const STRIDE: u32 = (DEEP + PAD) * ELEMENTS;
const MATRIX: u32 = SIDE / 4u * ELEMENTS;
// An invocation copies one cell in each of MY_ROWS neighbouring rows of x, and repeats this PASSES times. A part has
// GROUPS groups of such rows.
const MY_ROWS: u32 = min(ROWS * DEEP / INVOCATIONS, 4u);
const PASSES: u32 = ROWS * DEEP / INVOCATIONS / MY_ROWS;
const GROUPS: u32 = PART_ROWS / MY_ROWS;
// A block consists of four values along the inner axis of each of four columns. An invocation copies BLOCKS blocks of
// w. If a slice has fewer blocks than the workgroup has invocations, only BUSY invocations copy a block.
const CELLS: u32 = COLUMNS / 4u;
const BLOCKS: u32 = max(DEEP * CELLS / INVOCATIONS, 1u);
const BUSY: u32 = min(DEEP * CELLS, INVOCATIONS);
// An invocation copies a slice in TURNS turns: four turns if INVOCATIONS is 32, as with a software driver, or else one.
// In one turn, each of 32 invocations would make 64 loads, which the driver would take long to compile.
const TURNS: u32 = max(PASSES / 8u * 4u, 1u);
const TURN_PASSES: u32 = PASSES / TURNS;
const TURN_BLOCKS: u32 = BLOCKS / TURNS;
const PART_CELLS: u32 = PART_COLUMNS / 4u;
// A band is a row of BAND neighbouring matrices, with 32 columns. Each part moves one band at a time through workgroup
// memory, and all invocations share the pairs of cells in the four bands.
const BAND: u32 = 32u / SIDE;
const BANDS: u32 = ACROSS / BAND;
const BAND_STRIDE: u32 = 8u * ELEMENTS;
const PAIRS: u32 = 4u * SIDE * 4u;
const TAKES: u32 = (PAIRS + INVOCATIONS - 1u) / INVOCATIONS;

// `x_tile` holds a slice of x as [parts][groups of rows][rows][inner]. `w_tile` holds a slice of w as
// [parts][cells][columns of a cell][inner]. An index that is a constant needs no bounds check, so only the outer
// indices are variable.
var<workgroup> x_tile: array<array<array<array<HalfElement, STRIDE>, MY_ROWS>, GROUPS>, 2>;
var<workgroup> w_tile: array<array<array<array<HalfElement, STRIDE>, 4>, PART_CELLS>, 2>;
// A band of each part.
var<workgroup> bands: array<array<array<SumElement, BAND_STRIDE>, SIDE>, 4>;

@compute @workgroup_size(INVOCATIONS)
fn matmul_coop(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    sign(local == 0u && all(group == vec3<u32>(0u)));
    let tile_row = params.first_row + group.y * ROWS;
    let tile_cell = group.x * CELLS;
    if EXPERTS {
        if order[tile_row].x < 0.0 {
            return;
        }
    }
    let matrix = matrix_of(tile_row);
    let part = subgroup % 4u;

    // Sums are initialised by loading zeros, since the value of an uninitialised matrix differs between drivers.
    for (var i = local; i < SIDE * BAND_STRIDE; i += INVOCATIONS) {
        bands[0][i / BAND_STRIDE][i % BAND_STRIDE] = SumElement();
    }
    workgroupBarrier();
    var left: array<Left, DOWN>;
    var sums: array<Sum, MATRICES>;
    let zeros = coopLoadT<Sum>(&bands[0][0][0], BAND_STRIDE);
    for (var i = 0u; i < MATRICES; i++) { // unrolled
        sums[i] = zeros;
    }

    // `x_at` and `w_at` hold the index of the first cell of each row of x, and of each block of w, that this invocation
    // copies.
    let last = params.inner4 - 1u;
    let x_cell = local % DEEP;
    let x_group = local / DEEP;
    var x_at: array<array<u32, MY_ROWS>, PASSES>;
    for (var p = 0u; p < PASSES; p++) { // unrolled
        for (var i = 0u; i < MY_ROWS; i++) { // unrolled
            let row = tile_row + (x_group + p * (INVOCATIONS / DEEP)) * MY_ROWS + i;
            x_at[p][i] = source_of(min(row, params.rows - 1u)) * params.inner4;
        }
    }
    let w_cell = local % CELLS;
    let w_deep = local / CELLS;
    let column = matrix + min(tile_cell + w_cell, params.stride4 - 1u);
    var w_at: array<u32, BLOCKS>;
    for (var i = 0u; i < BLOCKS; i++) { // unrolled
        w_at[i] = column + (w_deep + i * (INVOCATIONS / CELLS)) * 4u * params.stride4;
    }

    var xs: array<array<vec4<f16>, MY_ROWS>, TURN_PASSES>;
    var ws: array<array<vec4<f16>, 4>, TURN_BLOCKS>;
    for (var slice = 0u; slice < params.inner4; slice += DEEP) {
        for (var turn = 0u; turn < TURNS; turn++) { // unrolled up to 1
            // All loads of a turn come before all stores, so that they wait for memory once.
            for (var p = 0u; p < TURN_PASSES; p++) { // unrolled
                for (var i = 0u; i < MY_ROWS; i++) { // unrolled
                    if WHOLE {
                        xs[p][i] = x[x_at[turn * TURN_PASSES + p][i] + slice + x_cell];
                    } else {
                        xs[p][i] = x[x_at[turn * TURN_PASSES + p][i] + min(slice + x_cell, last)];
                    }
                }
            }
            for (var i = 0u; i < TURN_BLOCKS; i++) { // unrolled
                for (var k = 0u; k < 4u; k++) { // unrolled
                    if WHOLE {
                        ws[i][k] = w[w_at[turn * TURN_BLOCKS + i] + k * params.stride4];
                    } else {
                        let block = turn * TURN_BLOCKS + i;
                        let four = slice + w_deep + block * (INVOCATIONS / CELLS);
                        let cell = w[column + (min(four, last) * 4u + k) * params.stride4];
                        ws[i][k] = select(vec4<f16>(), cell, four <= last);
                    }
                }
                w_at[turn * TURN_BLOCKS + i] += SLICE * params.stride4;
            }
            for (var p = 0u; p < TURN_PASSES; p++) { // unrolled
                let at = x_group + (turn * TURN_PASSES + p) * (INVOCATIONS / DEEP);
                let to = &x_tile[at / GROUPS][at % GROUPS];
                for (var i = 0u; i < MY_ROWS; i++) { // unrolled
                    for (var e = 0u; e < ELEMENTS; e++) { // unrolled
                        (*to)[i][x_cell * ELEMENTS + e] = half_element(xs[p][i], e);
                    }
                }
            }
            if BUSY == INVOCATIONS || local < BUSY {
                let to = &w_tile[w_cell / PART_CELLS][w_cell % PART_CELLS];
                for (var i = 0u; i < TURN_BLOCKS; i++) { // unrolled
                    let block = turn * TURN_BLOCKS + i;
                    let at = (w_deep + block * (INVOCATIONS / CELLS)) * ELEMENTS;
                    for (var c = 0u; c < 4u; c++) { // unrolled
                        let cell = vec4<f16>(ws[i][0][c], ws[i][1][c], ws[i][2][c], ws[i][3][c]);
                        for (var e = 0u; e < ELEMENTS; e++) { // unrolled
                            (*to)[c][at + e] = half_element(cell, e);
                        }
                    }
                }
            }
        }
        workgroupBarrier();
        let x_part = &x_tile[part / 2u];
        let w_part = &w_tile[part % 2u];
        for (var step = 0u; step < STEPS; step += UNROLLED) {
            for (var s = 0u; s < UNROLLED; s++) { // unrolled
                let at = (step + s) * MATRIX;
                for (var r = 0u; r < DOWN; r++) { // unrolled
                    left[r] = coopLoadT<Left>(&(*x_part)[r * SIDE / MY_ROWS][0][at], STRIDE);
                }
                for (var c = 0u; c < ACROSS; c++) { // unrolled
                    let right = coopLoad<Right>(&(*w_part)[c * SIDE / 4u][0][at], STRIDE);
                    for (var r = 0u; r < DOWN; r++) { // unrolled
                        let sum = sums[r * ACROSS + c];
                        sums[r * ACROSS + c] = coopMultiplyAdd(left[r], right, sum);
                    }
                }
            }
        }
        workgroupBarrier();
    }

    for (var b = 0u; b < BANDS; b++) { // unrolled
        for (var r = 0u; r < DOWN; r++) { // unrolled
            for (var m = 0u; m < BAND; m++) { // unrolled
                let sum = sums[r * ACROSS + b * BAND + m];
                coopStoreT(sum, &bands[part][0][m * MATRIX], BAND_STRIDE);
            }
            workgroupBarrier();
            for (var t = 0u; t < TAKES; t++) { // unrolled up to 2
                // Index `i` stands for two neighbouring cells in the band of part `whose`.
                let i = local + t * INVOCATIONS;
                if PAIRS % INVOCATIONS == 0u || i < PAIRS {
                    let whose = i / (PAIRS / 4u);
                    let row = i / 4u % SIDE;
                    let pair = i % 4u * 2u;
                    let band = &bands[whose][row];
                    let a = pair * ELEMENTS;
                    let z = a + ELEMENTS;
                    let first = sum_cell(
                        (*band)[a],
                        (*band)[a + 1u % ELEMENTS],
                        (*band)[a + 2u % ELEMENTS],
                        (*band)[a + 3u % ELEMENTS],
                    );
                    let second = sum_cell(
                        (*band)[z],
                        (*band)[z + 1u % ELEMENTS],
                        (*band)[z + 2u % ELEMENTS],
                        (*band)[z + 3u % ELEMENTS],
                    );
                    finish_pair(
                        first,
                        second,
                        tile_row + whose / 2u * PART_ROWS + r * SIDE + row,
                        tile_cell + whose % 2u * PART_CELLS + b * 8u + pair,
                    );
                }
            }
            workgroupBarrier();
        }
    }
}
