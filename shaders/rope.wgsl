// rope: y = rotate(norm(x)) of each head of a token, by the angles of its position
//
//   of `pairs` pairs (a, b) of a head:   a · cos − b · sin,   b · cos + a · sin
//   pair p is values p and p + pairs, or 2p and 2p + 1 where INTERLEAVED; what lies beyond stays
//   norm(x) = x / sqrt(mean(x²) + eps) * weight where HAS_NORM, else x
//
// x        [tokens, stride4]         activations, four values a cell: heads of queries, then of keys, first
// rows     [tokens]                  the row of `angles` for each token
// angles   [positions, pairs]        f32 (cos, sin)
// weight   [2, head4 · 4]            f32: of queries, of keys; zeros beyond the head
// y        [tokens, heads, head4]    activations
//
// A head to each group of lanes that `reduce` names; each lane strides over its cells. All in f32.
// Su et al. 2021.
#import storage as act
#import store
#import reduce

struct Params {
    tokens: u32,
    heads: u32,
    query_heads: u32,
    head: u32,
    head4: u32,
    stride4: u32,
    pairs: u32,
    groups: u32,
    eps: f32,
}

override INTERLEAVED: bool = false;
override HAS_NORM: bool = false;

@group(0) @binding(0) var<storage, read> x: array<act_vec4>;
@group(0) @binding(1) var<storage, read> rows: array<u32>;
@group(0) @binding(2) var<storage, read> angles: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<act_vec4>;
@group(0) @binding(5) var<uniform> params: Params;

// Where a head lies in x, in `weight` and in `angles`, and what its norm multiplies it by.
struct Head {
    start: u32,
    weights: u32,
    angles: u32,
    scale: f32,
}

fn cell(head: Head, i: u32) -> vec4<f32> {
    let value = act_load(x[head.start + i]);
    if HAS_NORM {
        return value * head.scale * weight[head.weights + i];
    }
    return value;
}

// Value i of a head, rotated.
fn rotated(head: Head, i: u32) -> f32 {
    let own = cell(head, i / 4u)[i % 4u];
    if i >= 2u * params.pairs {
        return own;
    }
    var pair = i / 2u;
    var other = i ^ 1u;
    var second = i % 2u == 1u;
    if !INTERLEAVED {
        second = i >= params.pairs;
        pair = select(i, i - params.pairs, second);
        other = select(i + params.pairs, pair, second);
    }
    let angle = angles[head.angles + pair];
    let turned = cell(head, other / 4u)[other % 4u] * angle.y;
    return own * angle.x + select(-turned, turned, second);
}

// Which values of cell i are within the head.
fn inside(i: u32) -> vec4<bool> {
    return vec4<u32>(i * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(params.head);
}

@compute @workgroup_size(64)
fn rope(place: Place) {
    let count = params.tokens * params.heads;
    for (var at = first_row(place); at < count; at += row_step(place, params.groups)) {
        let token = at / params.heads;
        let number = at % params.heads;
        var head: Head;
        head.start = token * params.stride4 + number * params.head4;
        head.weights = select(0u, params.head4, number >= params.query_heads);
        head.angles = rows[token] * params.pairs;
        head.scale = 1.0;
        if HAS_NORM {
            var squares = vec4<f32>(0.0);
            for (var i = first_lane(place); i < params.head4; i += lane_step(place)) {
                let value = select(vec4<f32>(0.0), act_load(x[head.start + i]), inside(i));
                squares += value * value;
            }
            let sum = reduce_sum(place, squares.x + squares.y + squares.z + squares.w);
            head.scale = 1.0 / sqrt(sum / f32(params.head) + params.eps);
        }

        for (var i = first_lane(place); i < params.head4; i += lane_step(place)) {
            let value = vec4<f32>(
                rotated(head, i * 4u),
                rotated(head, i * 4u + 1u),
                rotated(head, i * 4u + 2u),
                rotated(head, i * 4u + 3u),
            );
            y[at * params.head4 + i] = act_store(value, token);
        }
    }
}
