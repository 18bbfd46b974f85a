// matmul_lane: computes y = epilogue(x · w + bias) on software adapters.
//
// shared/linear.wgsl describes the bindings, the parameters and the epilogue.
//
// Neighbouring lanes compute neighbouring columns. An invocation computes ROWS rows × two cells of y; a cell is one
// `vec4`. The code is written out instead of using loops, because a software driver does not keep variably indexed
// arrays in registers. The kernel uses no workgroup memory, since a software driver turns each barrier into a coroutine
// switch. Lanes load cells of x with the functions of the import `share`, so that one load serves SHARE lanes. Loads
// are the most expensive operation, since a software driver performs them lane by lane. If an invocation computes more
// rows, it uses each loaded cell of w for more sums. Products and sums are f32, in order along the inner axis. A row's
// result therefore depends neither on the other rows of its batch nor on ROWS.
#import storage as weight
#import storage as act
#import report
#import store
#import activation
#import share
#import rotate
#import linear

// Returns `sum` plus four products along the inner axis, for each of the four values of a cell of y.
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

// The number of rows that an invocation computes, 16 or 32; the host rewrites this constant.
const ROWS: u32 = 16u;

// SIXTEENS is the number of groups of 16 rows. HELD is the number of registers in which a lane holds its share of 16
// rows. ALL_HELD is the number of registers in which a lane holds its share of all ROWS rows.
const SIXTEENS: u32 = ROWS / 16u;
const HELD: u32 = 16u / SHARE;
const ALL_HELD: u32 = ROWS / SHARE;

@compute @workgroup_size(16)
fn matmul_lane(group: Group, lane: Lane) {
    sign(is_first(group, lane));
    let row = params.first_row + group.id.y * ROWS;
    let cell = (group.id.x * 16u + lane.local) * 2u;
    // Lanes beyond the last column compute the last two cells again, so that every lane of the subgroup stays active.
    let column = min(cell, params.stride4 - 2u);
    let mine = row + share_lane(lane);
    if EXPERTS {
        if order[row].x < 0.0 {
            return;
        }
    }
    let matrix = matrix_of(row);

    var left: array<vec4<f32>, ROWS>;
    var right: array<vec4<f32>, ROWS>;
    for (var r = 0u; r < ROWS; r++) { // unrolled
        left[r] = vec4<f32>(0.0);
        right[r] = vec4<f32>(0.0);
    }
    var rows: array<vec4<f32>, ALL_HELD>;
    var starts: array<u32, ALL_HELD>;
    for (var i = 0u; i < ALL_HELD; i++) { // unrolled
        starts[i] = source_of(min(mine + i * SHARE, params.rows - 1u)) * params.inner4;
    }
    for (var k = 0u; k < params.inner4; k++) {
        for (var i = 0u; i < ALL_HELD; i++) { // unrolled
            rows[i] = act_load(x[starts[i] + k]);
        }
        let at = matrix + k * 4u * params.stride4 + column;
        let l0 = weight_load(w[at]);
        let r0 = weight_load(w[at + 1u]);
        let l1 = weight_load(w[at + params.stride4]);
        let r1 = weight_load(w[at + params.stride4 + 1u]);
        let l2 = weight_load(w[at + 2u * params.stride4]);
        let r2 = weight_load(w[at + 2u * params.stride4 + 1u]);
        let l3 = weight_load(w[at + 3u * params.stride4]);
        let r3 = weight_load(w[at + 3u * params.stride4 + 1u]);
        for (var s = 0u; s < SIXTEENS; s++) { // unrolled
            let a0 = from_lane0(rows[s * HELD + 0u / SHARE]);
            left[s * 16u + 0u] = step4(left[s * 16u + 0u], a0, l0, l1, l2, l3);
            right[s * 16u + 0u] = step4(right[s * 16u + 0u], a0, r0, r1, r2, r3);
            let a1 = from_lane1(rows[s * HELD + 1u / SHARE]);
            left[s * 16u + 1u] = step4(left[s * 16u + 1u], a1, l0, l1, l2, l3);
            right[s * 16u + 1u] = step4(right[s * 16u + 1u], a1, r0, r1, r2, r3);
            let a2 = from_lane2(rows[s * HELD + 2u / SHARE]);
            left[s * 16u + 2u] = step4(left[s * 16u + 2u], a2, l0, l1, l2, l3);
            right[s * 16u + 2u] = step4(right[s * 16u + 2u], a2, r0, r1, r2, r3);
            let a3 = from_lane3(rows[s * HELD + 3u / SHARE]);
            left[s * 16u + 3u] = step4(left[s * 16u + 3u], a3, l0, l1, l2, l3);
            right[s * 16u + 3u] = step4(right[s * 16u + 3u], a3, r0, r1, r2, r3);
            let a4 = from_lane4(rows[s * HELD + 4u / SHARE]);
            left[s * 16u + 4u] = step4(left[s * 16u + 4u], a4, l0, l1, l2, l3);
            right[s * 16u + 4u] = step4(right[s * 16u + 4u], a4, r0, r1, r2, r3);
            let a5 = from_lane5(rows[s * HELD + 5u / SHARE]);
            left[s * 16u + 5u] = step4(left[s * 16u + 5u], a5, l0, l1, l2, l3);
            right[s * 16u + 5u] = step4(right[s * 16u + 5u], a5, r0, r1, r2, r3);
            let a6 = from_lane6(rows[s * HELD + 6u / SHARE]);
            left[s * 16u + 6u] = step4(left[s * 16u + 6u], a6, l0, l1, l2, l3);
            right[s * 16u + 6u] = step4(right[s * 16u + 6u], a6, r0, r1, r2, r3);
            let a7 = from_lane7(rows[s * HELD + 7u / SHARE]);
            left[s * 16u + 7u] = step4(left[s * 16u + 7u], a7, l0, l1, l2, l3);
            right[s * 16u + 7u] = step4(right[s * 16u + 7u], a7, r0, r1, r2, r3);
            let a8 = from_lane8(rows[s * HELD + 8u / SHARE]);
            left[s * 16u + 8u] = step4(left[s * 16u + 8u], a8, l0, l1, l2, l3);
            right[s * 16u + 8u] = step4(right[s * 16u + 8u], a8, r0, r1, r2, r3);
            let a9 = from_lane9(rows[s * HELD + 9u / SHARE]);
            left[s * 16u + 9u] = step4(left[s * 16u + 9u], a9, l0, l1, l2, l3);
            right[s * 16u + 9u] = step4(right[s * 16u + 9u], a9, r0, r1, r2, r3);
            let a10 = from_lane10(rows[s * HELD + 10u / SHARE]);
            left[s * 16u + 10u] = step4(left[s * 16u + 10u], a10, l0, l1, l2, l3);
            right[s * 16u + 10u] = step4(right[s * 16u + 10u], a10, r0, r1, r2, r3);
            let a11 = from_lane11(rows[s * HELD + 11u / SHARE]);
            left[s * 16u + 11u] = step4(left[s * 16u + 11u], a11, l0, l1, l2, l3);
            right[s * 16u + 11u] = step4(right[s * 16u + 11u], a11, r0, r1, r2, r3);
            let a12 = from_lane12(rows[s * HELD + 12u / SHARE]);
            left[s * 16u + 12u] = step4(left[s * 16u + 12u], a12, l0, l1, l2, l3);
            right[s * 16u + 12u] = step4(right[s * 16u + 12u], a12, r0, r1, r2, r3);
            let a13 = from_lane13(rows[s * HELD + 13u / SHARE]);
            left[s * 16u + 13u] = step4(left[s * 16u + 13u], a13, l0, l1, l2, l3);
            right[s * 16u + 13u] = step4(right[s * 16u + 13u], a13, r0, r1, r2, r3);
            let a14 = from_lane14(rows[s * HELD + 14u / SHARE]);
            left[s * 16u + 14u] = step4(left[s * 16u + 14u], a14, l0, l1, l2, l3);
            right[s * 16u + 14u] = step4(right[s * 16u + 14u], a14, r0, r1, r2, r3);
            let a15 = from_lane15(rows[s * HELD + 15u / SHARE]);
            left[s * 16u + 15u] = step4(left[s * 16u + 15u], a15, l0, l1, l2, l3);
            right[s * 16u + 15u] = step4(right[s * 16u + 15u], a15, r0, r1, r2, r3);
        }
    }

    for (var r = 0u; r < ROWS; r++) { // unrolled
        finish_pair(left[r], right[r], row + r, cell);
    }
}
