// top_k: selects the `keep` best candidates of each tile of TILE candidates, best first.
//
// - `candidates`: if PAIRS is 0, [queries, stride] f32: the scores of rows 0, 1, 2 and so on. If PAIRS is 1, [queries,
//   stride] pairs of f32 (score, row); a pair with row -1 is empty.
// - `best`: [queries, best_stride] pairs of f32 (score, row): the `keep` best pairs of each tile, best first. If a tile
//   has fewer candidates, its last pairs are (0, -1). The kernel does not write pairs after those of the last tile.
//
// A workgroup computes one tile of one query. The x dimension of the dispatch runs over tiles, and the y dimension runs
// over queries. The workgroup loads the tile into workgroup memory. For each candidate, a lane counts the better
// candidates of the tile; this count is the candidate's place. If scores are equal, the candidate with the lower row is
// better. The kernel compares integers that it makes from the bits of the scores (see `key_of`). Therefore no two
// candidates have the same place, even if scores are NaN. Pairs hold row numbers as f32, which is exact below 2²⁴.
#import report

struct Params {
    candidates: u32,
    stride: u32,
    keep: u32,
    best_stride: u32,
}

// Is 1 if `candidates` holds pairs (score, row), and 0 if it holds scores.
override PAIRS: u32 = 0u;

// The number of candidates in a tile, a multiple of 64; the host rewrites this constant.
const TILE: u32 = 64u;

@group(0) @binding(0) var<storage, read> candidates: array<f32>;
@group(0) @binding(1) var<storage, read_write> best: array<vec2<f32>>;
@group(0) @binding(2) var<uniform> params: Params;

// `keys` holds the sort keys of the tile's candidates (see `key_of`), and `rows` holds the row numbers of the
// candidates. If an index has no candidate, its key is 0 and its row is at least MISSING.
var<workgroup> keys: array<u32, TILE>;
var<workgroup> rows: array<u32, TILE>;

// Row numbers from MISSING on mean that the index has no candidate.
const MISSING: u32 = 0x80000000u;

// Returns an integer that grows with the score. The keys of 0.0 and -0.0 are equal.
fn key_of(score: f32) -> u32 {
    let bits = bitcast<u32>(score);
    let magnitude = bits & 0x7fffffffu;
    return select(0x80000000u + magnitude, 0x80000000u - magnitude, (bits >> 31u) == 1u);
}

// Returns the score whose key is `key`.
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
