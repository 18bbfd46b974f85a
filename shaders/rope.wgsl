// rope: computes y = rotate(norm(x)) for each head of a token, with the angles of the token's position.
//
// The norm is norm(x) = x / sqrt(mean(x²) + eps) · weight. In each head, the first `pairs` pairs (a, b) of neighbouring
// values become (a · cos − b · sin, b · cos + a · sin). The values after these pairs are not rotated.
//
// - `x`: [tokens, stride4] activations, in cells of four values: first the heads of queries, then the heads of keys.
// - `rotary`: [tokens] pairs of f32 (row of angles, 0). From index `angles` on, [positions, pairs] pairs of f32 (cos,
//   sin).
// - `weight`: [2, head4 · 4] f32, padded with zeros: first the row for queries, then the row for keys.
// - `y`: [tokens, heads, head4] activations, in cells of four values.
//
// One subgroup computes one head, and its lanes stride over the head's cells. Without subgroups, one workgroup computes
// one head. All arithmetic is f32. (Su et al. 2021)
#import storage as act
#import report
#import store
#import reduce
#import rotate

struct Params {
    tokens: u32,
    heads: u32,
    query_heads: u32,
    head: u32,
    head4: u32,
    stride4: u32,
    pairs: u32,
    angles: u32,
    groups: u32,
    eps: f32,
}

@group(0) @binding(0) var<storage, read> x: array<act_vec4>;
@group(0) @binding(1) var<storage, read> rotary: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<act_vec4>;
@group(0) @binding(4) var<uniform> params: Params;

// Returns, for each of the four values of cell `i`, whether the value is not padding.
fn inside(i: u32) -> vec4<bool> {
    return vec4<u32>(i * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(params.head);
}

@compute @workgroup_size(64)
fn rope(group: Group, lane: Lane) {
    sign(is_first(group, lane));
    let count = params.tokens * params.heads;
    for (var first = first_row(group); first < count; first += row_step(group, params.groups)) {
        // Every lane must call `reduce_sum`, so lanes beyond the last head compute the last head again and store
        // nothing.
        let own = own_row(first, lane);
        let at = min(own, count - 1u);
        let token = at / params.heads;
        let number = at % params.heads;
        let start = token * params.stride4 + number * params.head4;
        let weights = select(0u, params.head4, number >= params.query_heads);
        let angles = params.angles + u32(rotary[token].x) * params.pairs;

        var squares = vec4<f32>(0.0);
        for (var i = first_lane(lane); i < params.head4; i += lane_step(lane)) {
            let value = select(vec4<f32>(0.0), act_load(x[start + i]), inside(i));
            squares += value * value;
        }
        let sum = reduce_sum(lane, squares.x + squares.y + squares.z + squares.w);
        let scale = 1.0 / sqrt(sum / f32(params.head) + params.eps);

        if own == at {
            for (var i = first_lane(lane); i < params.head4; i += lane_step(lane)) {
                var value = act_load(x[start + i]) * scale * weight[weights + i];
                if 2u * i < params.pairs {
                    value = rotate_first(value, rotary[angles + 2u * i]);
                }
                if 2u * i + 1u < params.pairs {
                    value = rotate_second(value, rotary[angles + 2u * i + 1u]);
                }
                y[at * params.head4 + i] = act_store(value, token);
            }
        }
    }
}
