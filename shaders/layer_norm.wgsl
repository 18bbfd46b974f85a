// layer_norm: computes y = (v − mean(v)) / sqrt(var(v) + eps) · weight + bias over the last axis, where v = x +
// residual.
//
// - `x`, `residual`, `y`: [rows, width] activations, in cells of four values. Padding does not enter the sums.
// - `weight`, `bias`: [width] f32, padded with zeros.
//
// One subgroup computes one row, and its lanes stride over the row. Without subgroups, one workgroup computes one row.
// A second pass over the row computes the variance from the differences to the mean. A single pass with E[v²] − E[v]²
// would lose digits if |mean| is large. The variance is divided by the width, as in torch.nn.LayerNorm. All arithmetic
// is f32.
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
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<act_vec4>;
@group(0) @binding(5) var<uniform> params: Params;

fn value(at: u32) -> vec4<f32> {
    if HAS_RESIDUAL {
        return act_load(x[at]) + act_load(residual[at]);
    }
    return act_load(x[at]);
}

// Returns, for each of the four values of cell `i`, whether the value is not padding.
fn inside(i: u32) -> vec4<bool> {
    return vec4<u32>(i * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(params.width);
}

@compute @workgroup_size(64)
fn layer_norm(group: Group, lane: Lane) {
    sign(is_first(group, lane));
    let width = f32(params.width);
    for (var first = first_row(group); first < params.rows; first += row_step(group, params.groups)) {
        // Every lane must call `reduce_sum`, so lanes beyond the last row compute the last row again and store nothing.
        let own = own_row(first, lane);
        let row = min(own, params.rows - 1u);
        let start = row * params.width4;
        var sum = vec4<f32>(0.0);
        for (var i = first_lane(lane); i < params.width4; i += lane_step(lane)) {
            sum += select(vec4<f32>(0.0), value(start + i), inside(i));
        }
        let mean = reduce_sum(lane, sum.x + sum.y + sum.z + sum.w) / width;

        var squares = vec4<f32>(0.0);
        for (var i = first_lane(lane); i < params.width4; i += lane_step(lane)) {
            let difference = select(vec4<f32>(0.0), value(start + i) - mean, inside(i));
            squares += difference * difference;
        }
        let variance = reduce_sum(lane, squares.x + squares.y + squares.z + squares.w) / width;
        let scale = 1.0 / sqrt(variance + params.eps);

        if own == row {
            for (var i = first_lane(lane); i < params.width4; i += lane_step(lane)) {
                let normed = (value(start + i) - mean) * scale;
                y[start + i] = act_store(normed * weight[i] + bias[i], row);
            }
        }
    }
}
