// matmul_lane: y = f(x · w + bias) + residual, for software adapters
//
// x, w, bias, residual and y are those of shared/linear.wgsl.
//
// Lanes lie along the columns: an invocation makes 16 rows × 8 columns in registers, written out by
// hand because a CPU driver keeps neither indexed arrays nor loops in registers. No workgroup memory:
// a barrier there is a coroutine switch. x comes through `share`, one load for SHARE lanes.
// Products and sums are f32, along inner in order: a row's result does not depend on the other rows
// of its batch.
#import storage as weight
#import storage as act
#import store
#import activation
#import share
#import linear

// Four steps along inner for one row and one cell of columns.
fn step4(
    sum: vec4<f32>,
    a: vec4<f32>,
    w0: vec4<f32>,
    w1: vec4<f32>,
    w2: vec4<f32>,
    w3: vec4<f32>,
) -> vec4<f32> {
    return fma(
        vec4<f32>(a.w),
        w3,
        fma(vec4<f32>(a.z), w2, fma(vec4<f32>(a.y), w1, fma(vec4<f32>(a.x), w0, sum))),
    );
}

@compute @workgroup_size(16)
fn matmul_lane(place: Place) {
    let row = params.first_row + place.group.y * 16u;
    let cell = (place.group.x * 16u + place.local) * 2u;
    // Lanes beyond the last column work on the last one, so that the subgroup stays whole.
    let left = min(cell, params.stride4 - 2u);
    let mine = row + share_lane(place);
    if EXPERTS {
        if order[row].x < 0.0 {
            return;
        }
    }
    let matrix = matrix_of(row);

    var left0 = vec4<f32>(0.0);
    var right0 = vec4<f32>(0.0);
    var left1 = vec4<f32>(0.0);
    var right1 = vec4<f32>(0.0);
    var left2 = vec4<f32>(0.0);
    var right2 = vec4<f32>(0.0);
    var left3 = vec4<f32>(0.0);
    var right3 = vec4<f32>(0.0);
    var left4 = vec4<f32>(0.0);
    var right4 = vec4<f32>(0.0);
    var left5 = vec4<f32>(0.0);
    var right5 = vec4<f32>(0.0);
    var left6 = vec4<f32>(0.0);
    var right6 = vec4<f32>(0.0);
    var left7 = vec4<f32>(0.0);
    var right7 = vec4<f32>(0.0);
    var left8 = vec4<f32>(0.0);
    var right8 = vec4<f32>(0.0);
    var left9 = vec4<f32>(0.0);
    var right9 = vec4<f32>(0.0);
    var left10 = vec4<f32>(0.0);
    var right10 = vec4<f32>(0.0);
    var left11 = vec4<f32>(0.0);
    var right11 = vec4<f32>(0.0);
    var left12 = vec4<f32>(0.0);
    var right12 = vec4<f32>(0.0);
    var left13 = vec4<f32>(0.0);
    var right13 = vec4<f32>(0.0);
    var left14 = vec4<f32>(0.0);
    var right14 = vec4<f32>(0.0);
    var left15 = vec4<f32>(0.0);
    var right15 = vec4<f32>(0.0);
    var shared_rows: array<vec4<f32>, 16u / SHARE>;
    var starts: array<u32, 16u / SHARE>;
    for (var i = 0u; i < 16u / SHARE; i++) {
        starts[i] = source_of(min(mine + i * SHARE, params.rows - 1u)) * params.inner4;
    }
    for (var k = 0u; k < params.inner4; k++) {
        for (var i = 0u; i < 16u / SHARE; i++) {
            shared_rows[i] = act_load(x[starts[i] + k]);
        }
        let at = matrix + k * 4u * params.stride4 + left;
        let l0 = weight_load(w[at]);
        let r0 = weight_load(w[at + 1u]);
        let l1 = weight_load(w[at + params.stride4]);
        let r1 = weight_load(w[at + params.stride4 + 1u]);
        let l2 = weight_load(w[at + 2u * params.stride4]);
        let r2 = weight_load(w[at + 2u * params.stride4 + 1u]);
        let l3 = weight_load(w[at + 3u * params.stride4]);
        let r3 = weight_load(w[at + 3u * params.stride4 + 1u]);
        let a0 = from_lane0(shared_rows[0u / SHARE]);
        left0 = step4(left0, a0, l0, l1, l2, l3);
        right0 = step4(right0, a0, r0, r1, r2, r3);
        let a1 = from_lane1(shared_rows[1u / SHARE]);
        left1 = step4(left1, a1, l0, l1, l2, l3);
        right1 = step4(right1, a1, r0, r1, r2, r3);
        let a2 = from_lane2(shared_rows[2u / SHARE]);
        left2 = step4(left2, a2, l0, l1, l2, l3);
        right2 = step4(right2, a2, r0, r1, r2, r3);
        let a3 = from_lane3(shared_rows[3u / SHARE]);
        left3 = step4(left3, a3, l0, l1, l2, l3);
        right3 = step4(right3, a3, r0, r1, r2, r3);
        let a4 = from_lane4(shared_rows[4u / SHARE]);
        left4 = step4(left4, a4, l0, l1, l2, l3);
        right4 = step4(right4, a4, r0, r1, r2, r3);
        let a5 = from_lane5(shared_rows[5u / SHARE]);
        left5 = step4(left5, a5, l0, l1, l2, l3);
        right5 = step4(right5, a5, r0, r1, r2, r3);
        let a6 = from_lane6(shared_rows[6u / SHARE]);
        left6 = step4(left6, a6, l0, l1, l2, l3);
        right6 = step4(right6, a6, r0, r1, r2, r3);
        let a7 = from_lane7(shared_rows[7u / SHARE]);
        left7 = step4(left7, a7, l0, l1, l2, l3);
        right7 = step4(right7, a7, r0, r1, r2, r3);
        let a8 = from_lane8(shared_rows[8u / SHARE]);
        left8 = step4(left8, a8, l0, l1, l2, l3);
        right8 = step4(right8, a8, r0, r1, r2, r3);
        let a9 = from_lane9(shared_rows[9u / SHARE]);
        left9 = step4(left9, a9, l0, l1, l2, l3);
        right9 = step4(right9, a9, r0, r1, r2, r3);
        let a10 = from_lane10(shared_rows[10u / SHARE]);
        left10 = step4(left10, a10, l0, l1, l2, l3);
        right10 = step4(right10, a10, r0, r1, r2, r3);
        let a11 = from_lane11(shared_rows[11u / SHARE]);
        left11 = step4(left11, a11, l0, l1, l2, l3);
        right11 = step4(right11, a11, r0, r1, r2, r3);
        let a12 = from_lane12(shared_rows[12u / SHARE]);
        left12 = step4(left12, a12, l0, l1, l2, l3);
        right12 = step4(right12, a12, r0, r1, r2, r3);
        let a13 = from_lane13(shared_rows[13u / SHARE]);
        left13 = step4(left13, a13, l0, l1, l2, l3);
        right13 = step4(right13, a13, r0, r1, r2, r3);
        let a14 = from_lane14(shared_rows[14u / SHARE]);
        left14 = step4(left14, a14, l0, l1, l2, l3);
        right14 = step4(right14, a14, r0, r1, r2, r3);
        let a15 = from_lane15(shared_rows[15u / SHARE]);
        left15 = step4(left15, a15, l0, l1, l2, l3);
        right15 = step4(right15, a15, r0, r1, r2, r3);
    }

    finish(left0, row + 0u, cell);
    finish(right0, row + 0u, cell + 1u);
    finish(left1, row + 1u, cell);
    finish(right1, row + 1u, cell + 1u);
    finish(left2, row + 2u, cell);
    finish(right2, row + 2u, cell + 1u);
    finish(left3, row + 3u, cell);
    finish(right3, row + 3u, cell + 1u);
    finish(left4, row + 4u, cell);
    finish(right4, row + 4u, cell + 1u);
    finish(left5, row + 5u, cell);
    finish(right5, row + 5u, cell + 1u);
    finish(left6, row + 6u, cell);
    finish(right6, row + 6u, cell + 1u);
    finish(left7, row + 7u, cell);
    finish(right7, row + 7u, cell + 1u);
    finish(left8, row + 8u, cell);
    finish(right8, row + 8u, cell + 1u);
    finish(left9, row + 9u, cell);
    finish(right9, row + 9u, cell + 1u);
    finish(left10, row + 10u, cell);
    finish(right10, row + 10u, cell + 1u);
    finish(left11, row + 11u, cell);
    finish(right11, row + 11u, cell + 1u);
    finish(left12, row + 12u, cell);
    finish(right12, row + 12u, cell + 1u);
    finish(left13, row + 13u, cell);
    finish(right13, row + 13u, cell + 1u);
    finish(left14, row + 14u, cell);
    finish(right14, row + 14u, cell + 1u);
    finish(left15, row + 15u, cell);
    finish(right15, row + 15u, cell + 1u);
}
