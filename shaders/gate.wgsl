// gate: y = activation(gate) · up, value by value
//
// x   [rows, 2 · width4]   activations, four values a cell: gate and up side by side, each filled up to
//                          whole cells; gate starts at cell gate4, up at up4
// y   [rows, width4]       activations
//
// One invocation per cell: x over the cells of a row, y over rows. In f32.
// Shazeer 2020: GEGLU with a GELU, SwiGLU with SiLU.
#import storage as act
#import store
#import activation

struct Params {
    rows: u32,
    width4: u32,
    gate4: u32,
    up4: u32,
}

@group(0) @binding(0) var<storage, read> x: array<act_vec4>;
@group(0) @binding(1) var<storage, read_write> y: array<act_vec4>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(64)
fn gate(@builtin(global_invocation_id) id: vec3<u32>) {
    let cell = id.x;
    let row = id.y;
    if cell >= params.width4 || row >= params.rows {
        return;
    }
    let start = row * params.width4 * 2u + cell;
    let value = activate(act_load(x[start + params.gate4])) * act_load(x[start + params.up4]);
    y[row * params.width4 + cell] = act_store(value, row);
}
