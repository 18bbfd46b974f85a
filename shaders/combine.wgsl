// combine: computes y = Σ weight · x + bias, where the sum runs over the experts of a token.
//
// - `x`: [tokens, top, width4] activations, in cells of four values; each token has one row for each chosen expert.
// - `choices`: [tokens, stride] pairs of f32 (expert, weight).
// - `bias`: [width4] f32, in cells of four values.
// - `y`: [tokens, width4] activations, in cells of four values.
//
// One invocation computes one cell of y; a cell is one `vec4`. The x dimension of the dispatch runs over the cells of a
// row, and the y dimension runs over tokens. Sums are f32 and add their terms in the order of `choices`.
#import storage as act
#import report
#import store

struct Params {
    tokens: u32,
    width4: u32,
    top: u32,
    stride: u32,
}

@group(0) @binding(0) var<storage, read> x: array<act_vec4>;
@group(0) @binding(1) var<storage, read> choices: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<act_vec4>;
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(64)
fn combine(@builtin(global_invocation_id) id: vec3<u32>) {
    sign(all(id == vec3<u32>(0u)));
    let cell = id.x;
    let token = id.y;
    if cell >= params.width4 || token >= params.tokens {
        return;
    }
    var sum = vec4<f32>(0.0);
    for (var j = 0u; j < params.top; j++) {
        let value = act_load(x[(token * params.top + j) * params.width4 + cell]);
        sum = fma(vec4<f32>(choices[token * params.stride + j].y), value, sum);
    }
    y[token * params.width4 + cell] = act_store(sum + bias[cell], token);
}
