// normalize_l2: computes y = x / max(‖x‖₂, 1e-12) over the last axis.
//
// - `x`, `y`: [rows, width] f32, in cells of four values. Padding does not enter the norm.
//
// One subgroup computes one row, and its lanes stride over the row. Without subgroups, one workgroup computes one row.
// torch.nn.functional.normalize has the same lower limit of 1e-12.
#import report
#import reduce

struct Params {
    rows: u32,
    width: u32,
    width4: u32,
    groups: u32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(64)
fn normalize_l2(group: Group, lane: Lane) {
    sign(is_first(group, lane));
    for (var first = first_row(group); first < params.rows; first += row_step(group, params.groups)) {
        // Every lane must call `reduce_sum`, so lanes beyond the last row compute the last row again and store nothing.
        let own = own_row(first, lane);
        let row = min(own, params.rows - 1u);
        let start = row * params.width4;
        var squares = vec4<f32>(0.0);
        for (var i = first_lane(lane); i < params.width4; i += lane_step(lane)) {
            let column = vec4<u32>(i * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
            let v = select(vec4<f32>(0.0), x[start + i], column < vec4<u32>(params.width));
            squares += v * v;
        }
        let norm = sqrt(reduce_sum(lane, squares.x + squares.y + squares.z + squares.w));
        if own == row {
            for (var i = first_lane(lane); i < params.width4; i += lane_step(lane)) {
                y[start + i] = x[start + i] / max(norm, 1e-12);
            }
        }
    }
}
