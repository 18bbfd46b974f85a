// group_rows: sorts rows by expert, so that the rows of each expert start at a tile boundary of the matmul.
//
// - `choices`: [tokens, stride] pairs of f32 (expert, weight). Row t · top + j belongs to choice j of token t.
// - `order`: [slots] pairs of f32 (row, expert), in ascending order of experts, and of rows within an expert. Slots
//   with row −1 pad each expert to a multiple of `tile` slots, and pad `order` to its end.
//
// A single workgroup writes all slots of `order`. Each lane has a range of consecutive rows, and counts the rows of
// each expert in this range. Then one lane for each expert computes positions from these counts, and each lane writes
// its rows to these positions. Pairs hold row numbers as f32, which is exact up to 2²⁴.
#import report

struct Params {
    tokens: u32,
    top: u32,
    stride: u32,
    tile: u32,
    slots: u32,
}

// The number of experts; the host rewrites this constant.
const EXPERTS: u32 = 8u;

@group(0) @binding(0) var<storage, read> choices: array<vec2<f32>>;
@group(0) @binding(1) var<storage, read_write> order: array<vec2<f32>>;
@group(0) @binding(2) var<uniform> params: Params;

// `positions[lane][expert]` first counts the expert's rows in the range of rows of the lane. Later it is the position,
// among all rows of the expert, of the next row that the lane writes.
var<workgroup> positions: array<array<u32, EXPERTS>, 64>;
var<workgroup> totals: array<u32, EXPERTS>;

fn expert_of(row: u32) -> u32 {
    let choice = choices[row / params.top * params.stride + row % params.top];
    return min(u32(choice.x), EXPERTS - 1u);
}

fn whole_tiles(rows: u32) -> u32 {
    return (rows + params.tile - 1u) / params.tile * params.tile;
}

@compute @workgroup_size(64)
fn group_rows(@builtin(local_invocation_index) lane: u32) {
    sign(lane == 0u);
    let rows = params.tokens * params.top;
    let run = (rows + 63u) / 64u;
    let first = min(lane * run, rows);
    let end = min(first + run, rows);
    for (var e = 0u; e < EXPERTS; e++) {
        positions[lane][e] = 0u;
    }
    for (var row = first; row < end; row++) {
        positions[lane][expert_of(row)] += 1u;
    }
    workgroupBarrier();
    if lane < EXPERTS {
        var total = 0u;
        for (var l = 0u; l < 64u; l++) {
            let count = positions[l][lane];
            positions[l][lane] = total;
            total += count;
        }
        totals[lane] = total;
    }
    workgroupBarrier();

    var starts: array<u32, EXPERTS>;
    var start = 0u;
    for (var e = 0u; e < EXPERTS; e++) {
        starts[e] = start;
        let next = start + whole_tiles(totals[e]);
        for (var slot = start + totals[e] + lane; slot < next; slot += 64u) {
            order[slot] = vec2<f32>(-1.0, f32(e));
        }
        start = next;
    }
    for (var slot = start + lane; slot < params.slots; slot += 64u) {
        order[slot] = vec2<f32>(-1.0, 0.0);
    }
    for (var row = first; row < end; row++) {
        let e = expert_of(row);
        order[starts[e] + positions[lane][e]] = vec2<f32>(f32(row), f32(e));
        positions[lane][e] += 1u;
    }
}
