// top_k: the KEEP best candidates of each tile of TILE candidates, best first
//
// candidates  [queries, stride]              f32, the scores of rows 0, 1, 2, … (PAIRS 0)
//             [queries, stride] of 2         f32 pairs (score, row) (PAIRS 1); a pair with row -1 is no candidate
// best        [queries, best_stride] of 2    f32 pairs (score, row): `keep` of each tile, best first. Pairs without a
//                                            candidate are (0, -1). Pairs after the last tile's are not written
//
// A workgroup takes one tile of one query: the x dimension runs over tiles, and the y dimension runs over queries. It
// loads the tile into workgroup memory and counts, for each candidate, the candidates that are better. This count is
// the candidate's place. If scores are equal, the candidate with the lower row is better. The kernel compares integers,
// which it makes from the bits of the scores (see `key_of`). So no two candidates have the same place, even if scores
// are NaN. Row numbers below 2²⁴ are exact in f32.
#import report

struct Params {
    candidates: u32,
    stride: u32,
    keep: u32,
    best_stride: u32,
}

// 1 if candidates are pairs (score, row), 0 if they are scores.
override PAIRS: u32 = 0u;

// The number of candidates in a tile, a multiple of 64; the host rewrites this constant.
const TILE: u32 = 64u;

@group(0) @binding(0) var<storage, read> candidates: array<f32>;
@group(0) @binding(1) var<storage, read_write> best: array<vec2<f32>>;
@group(0) @binding(2) var<uniform> params: Params;

// `keys` holds the sort keys of the tile's candidates (see `key_of`), and `rows` holds their rows. An index without a
// candidate has key 0 and a row of at least MISSING.
var<workgroup> keys: array<u32, TILE>;
var<workgroup> rows: array<u32, TILE>;

// Rows from MISSING on mark an index without a candidate.
const MISSING: u32 = 0x80000000u;

// Returns an integer that grows with the score. The keys of 0.0 and -0.0 are equal.
fn key_of(score: f32) -> u32 {
    let bits = bitcast<u32>(score);
    let magnitude = bits & 0x7fffffffu;
    return select(0x80000000u + magnitude, 0x80000000u - magnitude, (bits >> 31u) == 1u);
}

// Returns the score that has this key.
fn score_of(key: u32) -> f32 {
    let positive = key >= 0x80000000u;
    return bitcast<f32>(select((0x80000000u - key) | 0x80000000u, key - 0x80000000u, positive));
}

@compute @workgroup_size(64)
fn top_k(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    sign(lane == 0u && all(group == vec3<u32>(0u)));
    let start = group.x * TILE;
    let own = group.y * params.stride;
    for (var i = lane; i < TILE; i += 64u) {
        let at = start + i;
        var key = 0u;
        var row = MISSING + i;
        if at < params.candidates {
            if PAIRS == 0u {
                key = key_of(candidates[own + at]);
                row = at;
            } else if candidates[2u * (own + at) + 1u] >= 0.0 {
                key = key_of(candidates[2u * (own + at)]);
                row = u32(candidates[2u * (own + at) + 1u]);
            }
        }
        keys[i] = key;
        rows[i] = row;
    }
    workgroupBarrier();
    for (var i = lane; i < TILE; i += 64u) {
        let key = keys[i];
        let row = rows[i];
        var place = 0u;
        for (var j = 0u; j < TILE; j++) {
            let other = keys[j];
            place += select(0u, 1u, other > key || (other == key && rows[j] < row));
        }
        if place < params.keep {
            var pair = vec2<f32>(0.0, -1.0);
            if row < MISSING {
                pair = vec2<f32>(score_of(key), f32(row));
            }
            best[group.y * params.best_stride + group.x * params.keep + place] = pair;
        }
    }
}
