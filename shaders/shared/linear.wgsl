// linear: what the matmuls share: parameters, bindings, and what becomes of a finished sum.
//
// x         [rows, inner]     activations, four values a cell along inner
// w         [inner, columns]  weights, repacked at load with `columns` innermost: rows of stride4 cells,
//                             whole pairs, filled up with zeros. May be a block of the columns: cells4
//                             cells from first_cell on
// bias      [columns]         f32
// residual  [rows, columns]   activations; read where HAS_RESIDUAL
// y         [rows, columns]   activations; may be cut from `first_row` on, to keep a dispatch short

struct Params {
    rows: u32,
    first_row: u32,
    inner4: u32,
    columns4: u32,
    stride4: u32,
    first_cell: u32,
    cells4: u32,
}

override HAS_RESIDUAL: bool = false;

@group(0) @binding(0) var<storage, read> x: array<act_vec4>;
@group(0) @binding(1) var<storage, read> w: array<weight_vec4>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> residual: array<act_vec4>;
@group(0) @binding(4) var<storage, read_write> y: array<act_vec4>;
@group(0) @binding(5) var<uniform> params: Params;

// Bias, activation and residual of one cell of the block, and storing it in y; cells beyond the block
// are passed over.
fn finish(sum: vec4<f32>, row: u32, cell: u32) {
    if row >= params.rows || cell >= params.cells4 {
        return;
    }
    let column = params.first_cell + cell;
    let at = row * params.columns4 + column;
    var value = activate(sum + bias[column]);
    if HAS_RESIDUAL {
        value += act_load(residual[at]);
    }
    y[at] = act_store(value, row);
}
