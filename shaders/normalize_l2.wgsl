// normalize_l2: y = x / max(‖x‖₂, 1e-12), over the last axis
//
// x, y   [rows, width]   f32, four values a cell; what lies beyond width is not counted
//
// A row to each group of lanes that `reduce` names; each lane strides over the row. The floor is the
// one of torch.nn.functional.normalize.
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
fn normalize_l2(place: Lane) {
    for (var row = first_row(place); row < params.rows; row += row_step(place, params.groups)) {
        let start = row * params.width4;
        var squares = vec4<f32>(0.0);
        for (var i = first_lane(place); i < params.width4; i += lane_step(place)) {
            let column = vec4<u32>(i * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
            let v = select(vec4<f32>(0.0), x[start + i], column < vec4<u32>(params.width));
            squares += v * v;
        }
        let norm = sqrt(reduce_sum(place, squares.x + squares.y + squares.z + squares.w));
        for (var i = first_lane(place); i < params.width4; i += lane_step(place)) {
            y[start + i] = x[start + i] / max(norm, 1e-12);
        }
    }
}
