//! The kernels of a search: `similarity` and `top_k`.

use rten_simd::ops::{FloatOps, NumOps};
use rten_simd::{Isa, SimdOp};

use super::call::Call;
use super::vector::{sum, sum_pairs};
use super::widen::widen_row;
use super::workers::{chunks, each, rows_a_chunk};
use crate::error::Error;
use crate::kernels::similarity::SimilarityParams;
use crate::kernels::top_k::TopKParams;

/// The scores of one row of a corpus for every query.
struct Scores<'a> {
    function: u32,
    row: &'a [f32],
    queries: &'a [f32],
    scores: &'a mut [f32],
}

impl SimdOp for Scores<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        let Scores { function, row, queries, scores } = self;
        // torch.nn.functional.normalize uses the same minimum of 1e-12.
        let length = match function {
            0 => sum(
                isa,
                row,
                #[inline(always)]
                |v| ops.mul(v, v),
            )
            .sqrt()
            .max(1e-12),
            _ => 1.0,
        };
        for (query, score) in queries.chunks_exact(row.len()).zip(scores) {
            *score = match function {
                0 => {
                    sum_pairs(
                        isa,
                        query,
                        row,
                        #[inline(always)]
                        |q, r, sum| ops.mul_add(q, r, sum),
                    ) / length
                }
                1 => sum_pairs(
                    isa,
                    query,
                    row,
                    #[inline(always)]
                    |q, r, sum| ops.mul_add(q, r, sum),
                ),
                2 => -sum_pairs(
                    isa,
                    query,
                    row,
                    #[inline(always)]
                    |q, r, sum| {
                        let difference = ops.sub(q, r);
                        ops.mul_add(difference, difference, sum)
                    },
                )
                .sqrt(),
                _ => -sum_pairs(
                    isa,
                    query,
                    row,
                    #[inline(always)]
                    |q, r, sum| ops.add(sum, ops.abs(ops.sub(q, r))),
                ),
            };
        }
    }
}

/// Computes the similarity of each row of a corpus to each query.
pub(super) fn similarity(call: &Call<'_>, scores: &mut [f32]) -> Result<(), Error> {
    let params: SimilarityParams = call.params()?;
    let (corpus, queries) = (call.words(0)?, call.f32s(1)?);
    let (storage, function) = (call.weights(), call.setting("FUNCTION"));
    let width = params.width4 as usize * 4;
    let (rows, count) = (params.rows as usize, params.queries as usize);
    let queries = &queries[..count * width];
    // Each thread compares some rows of the corpus with all queries, so that each row is widened only once.
    let mut by_row = vec![0.0; rows * count];
    let run = rows_a_chunk(rows, 64);
    chunks(&mut by_row, run * count, |at, by_row| {
        let mut row = vec![0.0; width];
        for (number, scores) in (at * run..).zip(by_row.chunks_exact_mut(count)) {
            widen_row(storage, corpus, number * width, &mut row);
            Scores { function, row: &row, queries, scores }.dispatch();
        }
    });
    let stride = params.stride as usize;
    chunks(&mut scores[..count * stride], stride, |query, scores| {
        for (row, score) in scores.iter_mut().take(rows).enumerate() {
            *score = by_row[row * count + query];
        }
    });
    Ok(())
}

/// Returns an integer that is larger for a larger score. The scores 0.0 and -0.0 have the same integer.
fn key_of(score: f32) -> u32 {
    let bits = score.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    match bits >> 31 {
        1 => 0x8000_0000 - magnitude,
        _ => 0x8000_0000 + magnitude,
    }
}

/// Selects the best candidates of each tile, best first. A tile is a run of consecutive candidates of one query. If two
/// candidates have equal scores, the candidate with the lower row number is better.
pub(super) fn top_k(call: &Call<'_>, best: &mut [f32]) -> Result<(), Error> {
    let params: TopKParams = call.params()?;
    let candidates = call.f32s(0)?;
    let (pairs, tile) = (call.setting("PAIRS") == 1, call.dispatch.variant.constant_or("TILE", 64));
    let (count, keep) = (params.candidates as usize, params.keep as usize);
    let (stride, best_stride) = (params.stride as usize, params.best_stride as usize * 2);
    let [tiles, queries, _] = call.dispatch.workgroups.to_array();
    let tile = tile as usize;
    let rows = best.chunks_exact_mut(best_stride).take(queries as usize).enumerate();
    each(rows.collect(), |(query, best)| {
        let own = query * stride;
        let candidate = |at: usize| match pairs {
            true => {
                let pair = &candidates[2 * (own + at)..][..2];
                (pair[1] >= 0.0).then(|| (key_of(pair[0]), pair[1] as u32, pair[0]))
            }
            false => Some((key_of(candidates[own + at]), at as u32, candidates[own + at])),
        };
        for (at, best) in best.chunks_exact_mut(2 * keep).take(tiles as usize).enumerate() {
            let all = at * tile..count.min((at + 1) * tile);
            let mut sorted: Vec<(u32, u32, f32)> = all.filter_map(candidate).collect();
            sorted.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
            for (place, pair) in best.chunks_exact_mut(2).enumerate() {
                let found = sorted.get(place);
                // The keys of 0.0 and -0.0 are equal. The result is 0.0 for both, as in the shader.
                let score = found.map_or(0.0, |(_, _, score)| score + 0.0);
                pair.copy_from_slice(&[score, found.map_or(-1.0, |(_, row, _)| *row as f32)]);
            }
        }
    });
    Ok(())
}
