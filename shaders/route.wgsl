// route: for each token, selects the `top` experts with the largest values of softmax(x · w), and writes these values
// as weights.
//
// - `x`: [tokens, inner4] activations, in cells of four values along the inner axis.
// - `w`: [inner, experts] weights, arranged as for the matmuls: each row has stride4 cells.
// - `choices`: [tokens, stride] pairs of f32 (expert, weight), the largest weight first. For equal weights, the lower
//   expert comes first. Pairs after the first `top` are zero.
//
// One subgroup computes one token. Without subgroups, one workgroup computes one token. Lanes stride along the inner
// axis, and each lane has a partial sum for each expert. The weights come from the softmax over all experts, and are
// not rescaled to a sum of 1. All arithmetic is f32.
#import storage as weight
#import storage as act
#import report
#import reduce

struct Params {
    tokens: u32,
    inner4: u32,
    stride4: u32,
    experts: u32,
    top: u32,
    stride: u32,
    groups: u32,
}

// The number of `vec4` cells that hold one value for each expert; the host rewrites this constant.
const CELLS: u32 = 2u;

@group(0) @binding(0) var<storage, read> x: array<act_vec4>;
@group(0) @binding(1) var<storage, read> w: array<weight_vec4>;
@group(0) @binding(2) var<storage, read_write> choices: array<vec2<f32>>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(64)
fn route(group: Group, lane: Lane) {
    sign(is_first(group, lane));
    for (var first = first_row(group); first < params.tokens; first += row_step(group, params.groups)) {
        // Every lane must call `reduce_sum`, so lanes beyond the last token compute the last token again and store
        // nothing.
        let own = own_row(first, lane);
        let token = min(own, params.tokens - 1u);
        var sums: array<vec4<f32>, CELLS>;
        for (var c = 0u; c < CELLS; c++) {
            sums[c] = vec4<f32>(0.0);
        }
        for (var i = first_lane(lane); i < params.inner4; i += lane_step(lane)) {
            let value = act_load(x[token * params.inner4 + i]);
            for (var c = 0u; c < CELLS; c++) {
                let at = i * 4u * params.stride4 + c;
                var sum = sums[c];
                sum = fma(vec4<f32>(value.x), weight_load(w[at]), sum);
                sum = fma(vec4<f32>(value.y), weight_load(w[at + params.stride4]), sum);
                sum = fma(vec4<f32>(value.z), weight_load(w[at + 2u * params.stride4]), sum);
                sum = fma(vec4<f32>(value.w), weight_load(w[at + 3u * params.stride4]), sum);
                sums[c] = sum;
            }
        }
        var logits: array<f32, 4u * CELLS>;
        for (var e = 0u; e < 4u * CELLS; e++) {
            logits[e] = reduce_sum(lane, sums[e / 4u][e % 4u]);
        }

        var largest = logits[0];
        for (var e = 1u; e < params.experts; e++) {
            largest = max(largest, logits[e]);
        }
        var total = 0.0;
        for (var e = 0u; e < params.experts; e++) {
            total += exp(logits[e] - largest);
        }
        // In `taken`, the bits of the experts that are already chosen are set. The search starts with the first expert
        // that is not chosen, so it finds a valid expert even if logits are NaN.
        var taken = 0u;
        for (var j = 0u; j < params.stride; j++) {
            var choice = vec2<f32>(0.0);
            if j < params.top {
                var best = 0u;
                var found = false;
                for (var e = 0u; e < params.experts; e++) {
                    let left = ((taken >> e) & 1u) == 0u;
                    if left && (!found || logits[e] > logits[best]) {
                        best = e;
                        found = true;
                    }
                }
                taken |= 1u << best;
                choice = vec2<f32>(f32(best), exp(logits[best] - largest) / total);
            }
            if own == token && first_lane(lane) == 0u {
                choices[token * params.stride + j] = choice;
            }
        }
    }
}
