// rms_norm: computes y = x / sqrt(mean(x²) + eps) · weight + residual over the last axis.
//
// - `x`, `residual`, `y`: [rows, width] activations, in cells of four values. Padding does not enter the mean.
// - `weight`: [width] f32, padded with zeros. If a model scales by 1 + w, the host stores 1 + w.
//
// One subgroup computes one row, and its lanes stride over the row. Without subgroups, one workgroup computes one row.
// With HAS_RESIDUAL, the kernel adds the residual after the norm. Models that apply a norm at the end of a block add
// the residual in this order. All arithmetic is f32. (Zhang and Sennrich 2019, without the bias)
#import storage as act
#import report
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

// Returns, for each of the four values of cell `i`, whether the value is not padding.
fn inside(i: u32) -> vec4<bool> {
    return vec4<u32>(i * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(params.width);
}

@compute @workgroup_size(64)
fn rms_norm(group: Group, lane: Lane) {
    sign(is_first(group, lane));
    for (var first = first_row(group); first < params.rows; first += row_step(group, params.groups)) {
        // Every lane must call `reduce_sum`, so lanes beyond the last row compute the last row again and store nothing.
        let own = own_row(first, lane);
        let row = min(own, params.rows - 1u);
        let start = row * params.width4;
        var squares = vec4<f32>(0.0);
        for (var i = first_lane(lane); i < params.width4; i += lane_step(lane)) {
            let value = select(vec4<f32>(0.0), act_load(x[start + i]), inside(i));
            squares += value * value;
        }
        let sum = reduce_sum(lane, squares.x + squares.y + squares.z + squares.w);
        let scale = 1.0 / sqrt(sum / f32(params.width) + params.eps);

        if own == row {
            for (var i = first_lane(lane); i < params.width4; i += lane_step(lane)) {
                var value = act_load(x[start + i]) * scale * weight[i];
                if HAS_RESIDUAL {
                    value += act_load(residual[start + i]);
                }
                y[start + i] = act_store(value, row);
            }
        }
    }
}
