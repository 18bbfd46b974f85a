// matmul_tile: y = f(x · w + bias) + residual, for GPUs
//
// x, w, bias, residual and y are those of shared/linear.wgsl.
//
// A workgroup makes a 64 × 64 tile of y with 128 invocations, each 8 rows × 4 columns in registers.
// Slices of 16 along inner pass through workgroup memory, x transposed so that a column is
// contiguous. Products and sums are f32, along inner in order: a row's result does not depend on
// the other rows of its batch.
#import storage as weight
#import storage as act
#import store
#import activation
#import linear

// [inner][rows] of x and [inner][columns] of w: 16 × 64 values each.
var<workgroup> x_tile: array<array<f32, 64>, 16>;
var<workgroup> w_tile: array<array<vec4<f32>, 16>, 16>;

@compute @workgroup_size(128)
fn matmul_tile(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let tile_row = params.first_row + group.y * 64u;
    let tile_cell = group.x * 16u;
    let my_row = (local / 16u) * 8u;
    let my_cell = local % 16u;
    if EXPERTS {
        if order[tile_row].x < 0.0 {
            return;
        }
    }
    let matrix = matrix_of(tile_row);

    // The rows of x whose cells this invocation brings: two, 32 apart.
    var sources: array<u32, 2>;
    for (var i = 0u; i < 2u; i++) {
        sources[i] = source_of(min(tile_row + local / 4u + i * 32u, params.rows - 1u));
    }

    var sums: array<vec4<f32>, 8>;
    for (var slice = 0u; slice < params.inner4; slice += 4u) {
        // 64 rows × 4 cells of x and 16 rows × 16 cells of w: two cells each an invocation.
        for (var i = 0u; i < 2u; i++) {
            let at = local + i * 128u;
            let row = tile_row + at / 4u;
            let cell = slice + at % 4u;
            var value = vec4<f32>(0.0);
            if row < params.rows && cell < params.inner4 {
                value = act_load(x[sources[i] * params.inner4 + cell]);
            }
            let k = (at % 4u) * 4u;
            x_tile[k][at / 4u] = value.x;
            x_tile[k + 1u][at / 4u] = value.y;
            x_tile[k + 2u][at / 4u] = value.z;
            x_tile[k + 3u][at / 4u] = value.w;

            let inner = slice * 4u + at / 16u;
            let column = tile_cell + at % 16u;
            var weights = vec4<f32>(0.0);
            if inner < params.inner4 * 4u && column < params.stride4 {
                weights = weight_load(w[matrix + inner * params.stride4 + column]);
            }
            w_tile[at / 16u][at % 16u] = weights;
        }
        workgroupBarrier();
        for (var k = 0u; k < 16u; k++) {
            let weights = w_tile[k][my_cell];
            for (var r = 0u; r < 8u; r++) {
                sums[r] = fma(vec4<f32>(x_tile[k][my_row + r]), weights, sums[r]);
            }
        }
        workgroupBarrier();
    }

    for (var r = 0u; r < 8u; r++) {
        finish(sums[r], tile_row + my_row + r, tile_cell + my_cell);
    }
}
