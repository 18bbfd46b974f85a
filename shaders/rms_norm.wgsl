// rms_norm: y = x / sqrt(mean(x²) + eps) * weight + residual, over the last axis
//
// x, residual, y   [rows, width]   activations, four values a cell; what lies beyond width is not counted
// weight           [width]         f32, zeros beyond width; a model that scales by 1 + w has added the 1
//
// A row to each group of lanes that `reduce` names; each lane strides over the row. The residual is
// added after the norm, where HAS_RESIDUAL (a norm that closes a block). All in f32.
// Zhang and Sennrich 2019, without the bias.
#import storage as act
#import store
#import reduce

struct Params {
    rows: u32,
    width: u32,
    width4: u32,
    groups: u32,
    eps: f32,
}

override HAS_RESIDUAL: bool = false;

@group(0) @binding(0) var<storage, read> x: array<act_vec4>;
@group(0) @binding(1) var<storage, read> residual: array<act_vec4>;
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<act_vec4>;
@group(0) @binding(4) var<uniform> params: Params;

// Which values of cell i of a row are within its width.
fn inside(i: u32) -> vec4<bool> {
    return vec4<u32>(i * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(params.width);
}

@compute @workgroup_size(64)
fn rms_norm(place: Lane) {
    for (var row = first_row(place); row < params.rows; row += row_step(place, params.groups)) {
        let start = row * params.width4;
        var squares = vec4<f32>(0.0);
        for (var i = first_lane(place); i < params.width4; i += lane_step(place)) {
            let value = select(vec4<f32>(0.0), act_load(x[start + i]), inside(i));
            squares += value * value;
        }
        let sum = reduce_sum(place, squares.x + squares.y + squares.z + squares.w);
        let scale = 1.0 / sqrt(sum / f32(params.width) + params.eps);

        for (var i = first_lane(place); i < params.width4; i += lane_step(place)) {
            var value = act_load(x[start + i]) * scale * weight[i];
            if HAS_RESIDUAL {
                value += act_load(residual[start + i]);
            }
            y[start + i] = act_store(value, row);
        }
    }
}
