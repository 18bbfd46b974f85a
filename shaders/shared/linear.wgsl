// linear: what the matmuls share: parameters, bindings, and what becomes of a finished sum.
//
// x         [rows, inner]     activations, four values a cell along inner
// w         [inner, columns]  weights, repacked at load with `columns` innermost: rows of stride4 cells,
//                             whole pairs, filled up with zeros. May be a block of the columns: cells4
//                             cells from first_cell on; where EXPERTS a matrix after the other
// bias      [columns]         f32
// residual  [rows, columns]   activations; read where HAS_RESIDUAL
// order     [rows]            f32 pairs (row of y, expert); read where EXPERTS, and where ROTARY
// y         [rows, columns]   activations; may be cut from `first_row` on, to keep a dispatch short
//
// GATED: columns lie in pairs of cells, one of a gate and one of what it is multiplied by:
// y = f(gate + bias) · (other + bias), and its rows have half as many cells. (Shazeer 2020)
//
// ROTARY: the first `turned` cells of a row are heads of head4 cells, and the first `pairs` pairs of
// neighbouring values of each are turned by the angles of the row's position: a · cos − b · sin,
// b · cos + a · sin. order then holds (row of angles, 0) for each row of x, and from `angles` on
// [positions, pairs] of (cos, sin). (Su et al. 2021)
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
    head4: u32,
    rotated: u32,
    pairs: u32,
    angles: u32,
}

override HAS_RESIDUAL: bool = false;
override EXPERTS: bool = false;
override GATED: bool = false;
override ROTARY: bool = false;

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

// A cell of y turned by the position of its row.
fn rotated(value: vec4<f32>, row: u32, column: u32) -> vec4<f32> {
    if column >= params.rotated {
        return value;
    }
    let at = params.angles + u32(order[row].x) * params.pairs;
    let pair = column % params.head4 * 2u;
    var y = value;
    if pair < params.pairs {
        y = rotate_first(y, order[at + pair]);
    }
    if pair + 1u < params.pairs {
        y = rotate_second(y, order[at + pair + 1u]);
    }
    return y;
}

// What becomes of the sums of two cells side by side, the first of them with an even number.
fn finish_pair(left: vec4<f32>, right: vec4<f32>, row: u32, cell: u32) {
    if !GATED {
        finish(left, row, cell);
        finish(right, row, cell + 1u);
        return;
    }
    if row >= params.rows || cell >= params.cells4 {
        return;
    }
    let column = params.first_cell + cell;
    let value = activate(left + bias[column]) * (right + bias[column + 1u]);
    y[row * params.columns4 + column / 2u] = act_store(value, row);
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
    if ROTARY {
        value = rotated(value, row, column);
    }
    if HAS_RESIDUAL {
        value += act_load(residual[at]);
    }
    y[at] = act_store(value, token);
}
