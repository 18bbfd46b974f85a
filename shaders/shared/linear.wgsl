// linear: what the matmuls share: parameters, bindings, and what becomes of a finished sum.
//
// x         [rows, inner]     activations, four values a cell along inner
// w         [inner, columns]  weights, repacked at load with `columns` innermost: rows of stride4 cells,
//                             whole pairs, filled up with zeros. May be a block of the columns: cells4
//                             cells from first_cell on; where EXPERTS a matrix after the other
// bias      [columns]         f32
// residual  [rows, columns]   activations; read where HAS_RESIDUAL
// order     [rows]            f32 pairs (row of y, expert); read where EXPERTS
// y         [rows, columns]   activations; may be cut from `first_row` on, to keep a dispatch short
//
// EXPERTS: the rows that a dispatch counts are slots of `order`, and those of one tile have one expert,
// whose matrix they are multiplied by. A slot of row −1 is empty, and a tile whose first slot is empty
// has none. `x_share` rows of y are made of each row of x, `token_share` rows of y belong to a token.

struct Params {
    rows: u32,
    first_row: u32,
    inner4: u32,
    columns4: u32,
    stride4: u32,
    first_cell: u32,
    cells4: u32,
    x_share: u32,
    token_share: u32,
}

override HAS_RESIDUAL: bool = false;
override EXPERTS: bool = false;

@group(0) @binding(0) var<storage, read> x: array<act_vec4>;
@group(0) @binding(1) var<storage, read> w: array<weight_vec4>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> residual: array<act_vec4>;
@group(0) @binding(4) var<storage, read> order: array<vec2<f32>>;
@group(0) @binding(5) var<storage, read_write> y: array<act_vec4>;
@group(0) @binding(6) var<uniform> params: Params;

// The first cell of the matrix that the tile at `row` is multiplied by.
fn matrix_of(row: u32) -> u32 {
    if EXPERTS {
        return u32(order[row].y) * params.inner4 * 4u * params.stride4;
    }
    return 0u;
}

// The row of x for a row; any for an empty slot.
fn source_of(row: u32) -> u32 {
    if EXPERTS {
        return u32(max(order[row].x, 0.0)) / params.x_share;
    }
    return row;
}

// Bias, activation and residual of one cell of the block, and storing it in y; cells beyond the block
// are passed over.
fn finish(sum: vec4<f32>, row: u32, cell: u32) {
    if row >= params.rows || cell >= params.cells4 {
        return;
    }
    var target_row = row;
    var token = row;
    if EXPERTS {
        let stored = order[row].x;
        if stored < 0.0 {
            return;
        }
        target_row = u32(stored);
        token = target_row / params.token_share;
    }
    let column = params.first_cell + cell;
    let at = target_row * params.columns4 + column;
    var value = activate(sum + bias[column]);
    if HAS_RESIDUAL {
        value += act_load(residual[at]);
    }
    y[at] = act_store(value, token);
}
