// linear: the code that all matmuls share: parameters, bindings, and the epilogue that is applied to a finished sum.
//
// - `x`: [rows, inner] activations, in cells of four values along the inner axis.
// - `w`: [inner, columns] weights, arranged while they load: each row has stride4 cells, an even number, and is padded
//   with zeros. w may hold only a block of the columns: cells4 cells, which start at cell first_cell of y. With
//   EXPERTS, w holds one matrix for each expert.
// - `bias`: [columns] f32, in cells of four values.
// - `residual`: [rows, columns] activations, in cells of four values. The kernel reads it only with HAS_RESIDUAL.
// - `order`: [rows] pairs of f32 (row of y, expert). The kernel reads it only with EXPERTS or ROTARY.
// - `y`: [rows, columns] activations, in cells of four values. A dispatch starts at row `first_row`, so that the host
//   can split long work into several dispatches.
//
// GATED: the columns of w alternate between one cell of gates and one cell of the factors that these gates multiply.
// The result is y = f(gate + bias) · (factor + bias), so the rows of y have half as many cells as those of w. (Shazeer
// 2020)
//
// ROTARY: the first `rotated` cells of a row of y are heads of head4 cells each. In each head, the first `pairs` pairs
// (a, b) of neighbouring values are rotated by the angles of the row's position. A pair becomes (a · cos − b · sin, b ·
// cos + a · sin). With ROTARY, `order` begins with a pair (row of angles, 0) for each row of x. From index `angles` on,
// it holds [positions, pairs] pairs (cos, sin). (Su et al. 2021)
//
// EXPERTS: the rows of a dispatch are the slots of `order`. All slots of one tile have the same expert, and are
// multiplied by this expert's matrix. A slot with row −1 is empty. If the first slot of a tile is empty, the whole tile
// is empty. x_share is the number of rows of y that are computed from one row of x. token_share is the number of rows
// of y that belong to one token.

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

// Returns the index in `w` of the first cell of the matrix by which the tile at `row` is multiplied.
fn matrix_of(row: u32) -> u32 {
    if EXPERTS {
        return u32(order[row].y) * params.inner4 * 4u * params.stride4;
    }
    return 0u;
}

// Returns the row of x from which a row of the dispatch is computed, or row 0 for an empty slot.
fn source_of(row: u32) -> u32 {
    if EXPERTS {
        return u32(max(order[row].x, 0.0)) / params.x_share;
    }
    return row;
}

// Returns a cell of y, rotated by the angles of its row's position. Cells outside the rotated heads are returned
// unchanged.
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

// Applies the epilogue (bias, activation, gate, rotary positions, residual) to two neighbouring cells of the block, and
// stores the result to y. The first of the two cells has an even index. Cells beyond the block are ignored.
fn finish_pair(left: vec4<f32>, right: vec4<f32>, row: u32, cell: u32) {
    if row >= params.rows || cell >= params.cells4 {
        return;
    }
    let column = params.first_cell + cell;
    var first = activate(left + bias[column]);
    if GATED {
        let value = first * (right + bias[column + 1u]);
        y[row * params.columns4 + column / 2u] = act_store(value, row);
        return;
    }
    let to = target_of(row);
    if to.row < 0 {
        return;
    }
    let at = u32(to.row) * params.columns4 + column;
    first = after_activation(first, row, column, at);
    // The last pair of the block may have one cell.
    var second = vec4<f32>(0.0);
    if cell + 1u < params.cells4 {
        second = after_activation(activate(right + bias[column + 1u]), row, column + 1u, at + 1u);
    }
    act_check(first, second, to.token);
    y[at] = act_narrow(first);
    if cell + 1u < params.cells4 {
        y[at + 1u] = act_narrow(second);
    }
}

// Applies the epilogue (bias, activation, rotary positions, residual) to one cell of the block, and stores the result
// to y. Cells beyond the block are ignored.
fn finish(sum: vec4<f32>, row: u32, cell: u32) {
    if row >= params.rows || cell >= params.cells4 {
        return;
    }
    let to = target_of(row);
    if to.row < 0 {
        return;
    }
    let column = params.first_cell + cell;
    let at = u32(to.row) * params.columns4 + column;
    y[at] = act_store(after_activation(activate(sum + bias[column]), row, column, at), to.token);
}

// The result of a row of the dispatch: the row of y that it computes, or −1 for an empty slot, and the token of this
// row of y.
struct Target {
    row: i32,
    token: u32,
}

// Returns the row of y, and its token, for a row of the dispatch.
fn target_of(row: u32) -> Target {
    if EXPERTS {
        let target_row = i32(order[row].x);
        return Target(target_row, u32(max(target_row, 0)) / params.token_share);
    }
    return Target(i32(row), row);
}

// Returns a cell after the steps that follow the activation: rotary positions and residual. `at` is the index of the
// cell in y.
fn after_activation(activated: vec4<f32>, row: u32, column: u32, at: u32) -> vec4<f32> {
    var value = activated;
    if ROTARY {
        value = rotated(value, row, column);
    }
    if HAS_RESIDUAL {
        value += act_load(residual[at]);
    }
    return value;
}
