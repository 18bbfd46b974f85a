// pool: computes one row for each text from the hidden states of its tokens, by the function that MODE selects.
//
//   MODE 0 cls            the hidden state of the first token
//        1 max            the largest value of each column
//        2 mean           sum / count
//        3 mean_sqrt_len  sum / sqrt(count)
//        4 weighted_mean  sum of (i + 1) · x[i] / sum of (i + 1); i is 0 at the first token
//        5 last_token     the hidden state of the last token
//
// - `x`: [tokens, width] activations, in cells of four values.
// - `spans`: [texts] tuples of u32 (first token of the text, number of tokens, number of tokens to skip at the front,
//   unused).
// - `pooled`: [texts, stride] f32. The kernel writes the columns that start at `column`.
//
// One invocation computes four columns of one text. Sums are f32 and add the tokens in order.
#import storage as act
#import report

struct Params {
    texts: u32,
    width: u32,
    width4: u32,
    stride: u32,
    column: u32,
}

override MODE: u32 = 2u;

@group(0) @binding(0) var<storage, read> x: array<act_vec4>;
@group(0) @binding(1) var<storage, read> spans: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> pooled: array<f32>;
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(64)
fn pool(@builtin(global_invocation_id) id: vec3<u32>) {
    sign(all(id == vec3<u32>(0u)));
    let cell = id.x;
    let text = id.y;
    if cell >= params.width4 || text >= params.texts {
        return;
    }
    let span = spans[text];
    var first = span.x + span.z;
    var end = span.x + span.y;
    if MODE == 0u {
        end = first + 1u;
    }
    if MODE == 5u {
        first = end - 1u;
    }

    var value = vec4<f32>(0.0);
    if MODE == 1u {
        value = act_load(x[first * params.width4 + cell]);
    }
    var total = 0.0;
    for (var token = first; token < end; token++) {
        let hidden = act_load(x[token * params.width4 + cell]);
        if MODE == 1u {
            value = max(value, hidden);
        } else if MODE == 4u {
            let weight = f32(token - span.x + 1u);
            value += hidden * weight;
            total += weight;
        } else {
            value += hidden;
            total += 1.0;
        }
    }
    // The count is at least 1, so the mean of a text without tokens is zero.
    total = max(total, 1.0);
    if MODE == 2u || MODE == 4u {
        value = value / total;
    }
    if MODE == 3u {
        value = value / sqrt(total);
    }

    let row = text * params.stride + params.column;
    for (var i = 0u; i < 4u; i++) {
        let column = cell * 4u + i;
        if column < params.width {
            pooled[row + column] = value[i];
        }
    }
}
