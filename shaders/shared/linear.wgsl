// linear: the code that all matmuls share: parameters, bindings, and the epilogue of a finished sum.
//
// x         [rows, inner]     activations, four values a cell along inner
// w         [inner, columns]  weights, repacked at load with `columns` innermost: rows of stride4 cells, an even
//                             number, padded with zeros. w may hold a block of columns: cells4 cells from
//                             first_cell on. If EXPERTS, w holds one matrix after another
// bias      [columns]         f32
// residual  [rows, columns]   activations; read if HAS_RESIDUAL
// order     [rows]            f32 pairs (row of y, expert); read if EXPERTS, and if ROTARY
// y         [rows, columns]   activations; a dispatch starts at `first_row`, so the host can split long ones
//
// GATED: columns alternate between one cell of gates and one cell of the factors that these gates multiply. The result
// is y = f(gate + bias) · (factor + bias), so the rows of y have half as many cells. (Shazeer 2020)
//
// ROTARY: the first `rotated` cells of a row of y are heads of head4 cells each. In each head, the first `pairs` pairs
// (a, b) of neighbouring values are rotated by the angles of the row's position. A pair becomes a · cos − b · sin, b ·
// cos + a · sin. With ROTARY, `order` begins with a pair (row of angles, 0) for each row of x. From index `angles` on,
// it holds [positions, pairs] of (cos, sin). (Su et al. 2021)
//
// EXPERTS: the rows of a dispatch are slots of `order`. All slots of one tile have the same expert, and are multiplied
// by this expert's matrix. A slot with row −1 is empty. If the first slot of a tile is empty, the whole tile is empty.
// Each row of x gives x_share rows of y, and each token has token_share rows of y.

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

// Returns the index in `w` where the matrix for the tile at `row` begins.
fn matrix_of(row: u32) -> u32 {
    if EXPERTS {
        return u32(order[row].y) * params.inner4 * 4u * params.stride4;
    }
    return 0u;
}

// Returns the row of x from which a row of the dispatch is computed. For an empty slot it returns row 0.
fn source_of(row: u32) -> u32 {
    if EXPERTS {
        return u32(max(order[row].x, 0.0)) / params.x_share;
    }
    return row;
}

// Rotates a cell of y by the angles of its row's position.
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

// Applies the epilogue to two neighbouring cells. The first of them has an even index.
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

// Applies the epilogue to one cell of the block: bias, activation, rotation and residual. Then it stores the cell to y.
// Cells beyond the block are skipped.
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
