// matmul_coop: y = epilogue(x · w + bias), for GPUs with cooperative matrices
//
// shared/linear.wgsl describes x, w, bias, residual and y. Here x and w are f16.
//
// A workgroup computes a tile of y in four parts, two by two. Each part has PART_ROWS × PART_COLUMNS sums, which a
// subgroup holds in matrices of SIDE × SIDE. The workgroup copies slices of x and w into workgroup memory, SLICE deep
// along the inner axis. Slices contain zeros beyond the ends of x and w, since loads of matrices are not
// bounds-checked. Finished sums pass through workgroup memory, since only the driver knows which invocation holds which
// sum. Each part of the tile moves 256 sums at a time.
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

// The number of invocations in a workgroup: four times the adapter's largest subgroup size.
const INVOCATIONS: u32 = 128u;
// The rows and the columns of a part, and the depth of a slice; the host rewrites these constants.
const PART_ROWS: u32 = 32u;
const PART_COLUMNS: u32 = 32u;
const SLICE: u32 = 32u;

const ROWS: u32 = 2u * PART_ROWS;
const COLUMNS: u32 = 2u * PART_COLUMNS;
// Rows in workgroup memory are 16 bytes longer than needed, so that neighbouring rows lie in different banks.
const X_STRIDE: u32 = SLICE + 8u;
const W_STRIDE: u32 = COLUMNS + 8u;
// A part consists of DOWN × ACROSS matrices. A slice has STEPS matrices along the inner axis.
const DOWN: u32 = PART_ROWS / SIDE;
const ACROSS: u32 = PART_COLUMNS / SIDE;
const MATRICES: u32 = DOWN * ACROSS;
const STEPS: u32 = SLICE / SIDE;
// A band is a row of neighbouring matrices that together hold 256 sums. Each part moves one band through workgroup
// memory at a time.
const BAND: u32 = 256u / (SIDE * SIDE);
const BANDS: u32 = ACROSS / BAND;
const BAND_COLUMNS: u32 = BAND * SIDE;
const BAND_PAIRS: u32 = BAND_COLUMNS / 8u;

// `x_tile` holds a slice of x as [rows][inner], and `w_tile` holds a slice of w as [inner][columns]. `band` holds 256
// sums of each part.
var<workgroup> x_tile: array<Half, ROWS * X_STRIDE>;
var<workgroup> w_tile: array<Half, SLICE * W_STRIDE>;
var<workgroup> band: array<f32, 1024>;

@compute @workgroup_size(INVOCATIONS)
fn matmul_coop(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    sign(local == 0u && all(group == vec3<u32>(0u)));
    let tile_row = params.first_row + group.y * ROWS;
    let tile_cell = group.x * (COLUMNS / 4u);
    if EXPERTS {
        if order[tile_row].x < 0.0 {
            return;
        }
    }
    let matrix = matrix_of(tile_row);
    let part = subgroup % 4u;
    let part_row = part / 2u * PART_ROWS;
    let part_column = part % 2u * PART_COLUMNS;

    // Sums are initialised by loading zeros, since the value of an uninitialised matrix differs between drivers.
    for (var i = local; i < 1024u; i += INVOCATIONS) {
        band[i] = 0.0;
    }
    workgroupBarrier();
    var left: array<Left, DOWN>;
    var sums: array<Sum, MATRICES>;
    for (var i = 0u; i < MATRICES; i++) { // unrolled
        sums[i] = coopLoadT<Sum>(&band[0], SIDE);
    }

    for (var slice = 0u; slice < params.inner4; slice += SLICE / 4u) {
        for (var i = local; i < ROWS * SLICE / 4u; i += INVOCATIONS) {
            let row = i / (SLICE / 4u);
            let cell = i % (SLICE / 4u);
            var value = vec4<f32>(0.0);
            if tile_row + row < params.rows && slice + cell < params.inner4 {
                value = act_load(x[source_of(tile_row + row) * params.inner4 + slice + cell]);
            }
            let at = row * X_STRIDE + cell * 4u;
            x_tile[at] = Half(value.x);
            x_tile[at + 1u] = Half(value.y);
            x_tile[at + 2u] = Half(value.z);
            x_tile[at + 3u] = Half(value.w);
        }
        for (var i = local; i < SLICE * COLUMNS / 4u; i += INVOCATIONS) {
            let row = i / (COLUMNS / 4u);
            let cell = i % (COLUMNS / 4u);
            let inner = slice * 4u + row;
            var value = vec4<f32>(0.0);
            if inner < params.inner4 * 4u && tile_cell + cell < params.stride4 {
                value = weight_load(w[matrix + inner * params.stride4 + tile_cell + cell]);
            }
            let at = row * W_STRIDE + cell * 4u;
            w_tile[at] = Half(value.x);
            w_tile[at + 1u] = Half(value.y);
            w_tile[at + 2u] = Half(value.z);
            w_tile[at + 3u] = Half(value.w);
        }
        workgroupBarrier();
        for (var step = 0u; step < STEPS; step++) {
            for (var r = 0u; r < DOWN; r++) { // unrolled
                let at = (part_row + r * SIDE) * X_STRIDE + step * SIDE;
                left[r] = coopLoadT<Left>(&x_tile[at], X_STRIDE);
            }
            for (var c = 0u; c < ACROSS; c++) { // unrolled
                let at = step * SIDE * W_STRIDE + part_column + c * SIDE;
                let right = coopLoadT<Right>(&w_tile[at], W_STRIDE);
                for (var r = 0u; r < DOWN; r++) { // unrolled
                    let sum = sums[r * ACROSS + c];
                    sums[r * ACROSS + c] = coopMultiplyAdd(left[r], right, sum);
                }
            }
        }
        workgroupBarrier();
    }

    for (var r = 0u; r < DOWN; r++) { // unrolled
        for (var b = 0u; b < BANDS; b++) { // unrolled
            for (var m = 0u; m < BAND; m++) { // unrolled
                let at = part * 256u + m * SIDE;
                coopStoreT(sums[r * ACROSS + b * BAND + m], &band[at], BAND_COLUMNS);
            }
            workgroupBarrier();
            for (var i = local; i < 128u; i += INVOCATIONS) {
                // Index `i` stands for two neighbouring cells in the band of part `i / 32`; a cell is one `vec4`.
                let row = i / 64u * PART_ROWS + r * SIDE + i % 32u / BAND_PAIRS;
                let column = i / 32u % 2u * PART_COLUMNS + b * BAND_COLUMNS;
                let cell = column / 4u + i % BAND_PAIRS * 2u;
                let at = i * 8u;
                let left = vec4<f32>(band[at], band[at + 1u], band[at + 2u], band[at + 3u]);
                let right = vec4<f32>(band[at + 4u], band[at + 5u], band[at + 6u], band[at + 7u]);
                finish_pair(left, right, tile_row + row, tile_cell + cell);
            }
            workgroupBarrier();
        }
    }
}
