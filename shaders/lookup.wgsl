// lookup: computes x[t] = (table[row(t)] + positions[position(t)] + types[type(t)]) · scale for each token t.
//
// - `tokens`: [tokens] tuples of u32 (row, position, type, unused). The host has checked that each value is a row of
//   its table.
// - `table`: [rows, width] weights, in cells of four values.
// - `positions`: [positions, width] weights, in cells of four values.
// - `types`: [types, width] weights, in cells of four values.
// - `x`: [tokens, width] activations, in cells of four values.
//
// One invocation computes one cell of x; a cell is one `vec4`. The x dimension of the dispatch runs over the cells of a
// row, and the y dimension runs over tokens. Sums are f32. TABLES is the number of tables that the model has. With 1,
// the model has only `table`; with 2, also `positions`; with 3, also `types`. If `table` exceeds the adapter's binding
// limit, the host uploads only the rows that the batch needs, and row(t) = t.
#import storage as weight
#import storage as act
#import report
#import store

struct Params {
    tokens: u32,
    width4: u32,
    scale: f32,
}

override TABLES: u32 = 3u;

@group(0) @binding(0) var<storage, read> tokens: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> table: array<weight_vec4>;
@group(0) @binding(2) var<storage, read> positions: array<weight_vec4>;
@group(0) @binding(3) var<storage, read> types: array<weight_vec4>;
@group(0) @binding(4) var<storage, read_write> x: array<act_vec4>;
@group(0) @binding(5) var<uniform> params: Params;

@compute @workgroup_size(64)
fn lookup(@builtin(global_invocation_id) id: vec3<u32>) {
    sign(all(id == vec3<u32>(0u)));
    let cell = id.x;
    let token = id.y;
    if cell >= params.width4 || token >= params.tokens {
        return;
    }
    let rows = tokens[token];
    var sum = weight_load(table[rows.x * params.width4 + cell]);
    if TABLES > 1u {
        sum += weight_load(positions[rows.y * params.width4 + cell]);
    }
    if TABLES > 2u {
        sum += weight_load(types[rows.z * params.width4 + cell]);
    }
    x[token * params.width4 + cell] = act_store(sum * params.scale, token);
}
