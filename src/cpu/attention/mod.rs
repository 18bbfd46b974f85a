//! Attention over packed texts, for every variant of the attention shaders.
//!
//! Work is split into tiles of up to [`QUERIES`] queries of one text. Each lane of a SIMD vector belongs to a query, so
//! a row of scores belongs to one key. The first tile of a text starts at the text's first query, and sums add the
//! terms of keys in order. A text's result therefore does not depend on the other texts of the batch, or on the number
//! of threads.

mod distances;
mod product;

use std::cell::RefCell;

use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, SimdOp, SimdUnaryOp};
use rten_vecmath::Exp;

use super::call::Call;
use super::flags::Flags;
use super::vector::{is_finite, map};
use super::workers::each;
use crate::error::Error;
use crate::kernels::attention::{AttentionParams, queries_of};

use distances::Distances;
use product::{Left, Right, multiply};

/// The maximum number of queries in a tile. The number is a multiple of the number of lanes in a SIMD vector, whatever
/// the machine.
const QUERIES: usize = 32;

/// A tensor in which the heads of a token are side by side in the token's row.
#[derive(Clone, Copy)]
struct Heads<'a> {
    values: &'a [f32],
    /// The number of values in a row.
    stride: usize,
    /// The number of values that precede the first head in a row.
    first: usize,
}

impl<'a> Heads<'a> {
    fn new(values: &'a [f32], stride4: u32, first4: u32) -> Self {
        Heads { values, stride: stride4 as usize * 4, first: first4 as usize * 4 }
    }

    /// Returns the values of a token's row from index `at` on, counted from the first head.
    #[inline(always)]
    fn from(&self, token: usize, at: usize) -> &'a [f32] {
        &self.values[token * self.stride + self.first + at..]
    }
}

/// A tile of queries of one text, in the format that the shaders read.
#[derive(Clone, Copy)]
struct Tile {
    first_token: usize,
    first_query: usize,
    queries: usize,
    /// The number of tokens that are keys, counted from the text's first token.
    keys: usize,
}

/// The attention that a dispatch computes, over all its tiles.
struct Attention<'a> {
    q: Heads<'a>,
    k: Heads<'a>,
    v: Heads<'a>,
    distances: Distances<'a>,
    /// The number of values in a head.
    head: usize,
    first_head: usize,
    heads: usize,
    /// The number of query heads that share a key head.
    group: usize,
    windowed: bool,
    before: usize,
    after: usize,
    scale: f32,
    /// The number of values in a row of the result.
    stride: usize,
    flags: &'a Flags,
}

/// Memory that a thread reuses for each tile and head. In the shapes, `head` is the number of values in a head. `width`
/// is the number of queries in a tile, rounded up to whole SIMD vectors.
#[derive(Default)]
struct Scratch {
    /// The queries, `[head, width]`.
    queries: Vec<f32>,
    /// The scores, which are later replaced by weights, `[keys, width]`.
    scores: Vec<f32>,
    /// The values, with each row padded to whole SIMD vectors, `[keys, padded head]`.
    values: Vec<f32>,
    /// The sums of weighted values, `[queries, padded head]`.
    sums: Vec<f32>,
    /// The products with relative keys or with relative queries.
    relative: Vec<f32>,
    /// The keys, `[head, width]`, for relative queries.
    keys: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Computes the attention of a dispatch.
pub(super) fn attention(call: &Call<'_>, c: &mut [f32]) -> Result<(), Error> {
    let params: AttentionParams = call.params()?;
    let head = call.dispatch.variant.constant_or("HEAD4", 8) as usize * 4;
    let attention = Attention {
        q: Heads::new(call.f32s(0)?, params.q_stride4, params.q_first4),
        k: Heads::new(call.f32s(1)?, params.k_stride4, params.k_first4),
        v: Heads::new(call.f32s(2)?, params.v_stride4, params.v_first4),
        distances: Distances::new(call, &params)?,
        head,
        first_head: params.first_head as usize,
        heads: call.dispatch.workgroups.y as usize,
        group: params.group as usize,
        windowed: call.setting("WINDOW") == 1,
        before: params.before as usize,
        after: params.after as usize,
        scale: params.scale,
        stride: params.heads as usize * head,
        flags: call.flags,
    };
    let mut rest = c;
    let mut passed = 0;
    let mut work = Vec::new();
    for tile in tiles(call)? {
        let first = tile.first_token + tile.first_query;
        let skipped = first.checked_sub(passed);
        let skipped =
            skipped.ok_or_else(|| call.fault("the tiles of queries are not in ascending order"))?;
        let (_, from) = rest.split_at_mut(skipped * attention.stride);
        let (own, others) = from.split_at_mut(tile.queries * attention.stride);
        passed = first + tile.queries;
        work.push((tile, own));
        rest = others;
    }
    each(work, |(tile, c)| {
        let mut scratch = SCRATCH.take();
        Run { attention: &attention, tile, c, scratch: &mut scratch }.dispatch();
        SCRATCH.replace(scratch);
    });
    Ok(())
}

/// Returns the tiles of a dispatch, each with at most [`QUERIES`] queries.
fn tiles(call: &Call<'_>) -> Result<Vec<Tile>, Error> {
    let size = queries_of(call.dispatch) as usize;
    let count = call.dispatch.workgroups.x as usize;
    let mut tiles = Vec::with_capacity(count);
    for tile in call.words(3)?.chunks_exact(4).take(count) {
        let [first_token, tokens, first, keys] = [tile[0], tile[1], tile[2], tile[3]];
        let (tokens, first) = (tokens as usize, first as usize);
        for first_query in (first..tokens.min(first + size)).step_by(QUERIES) {
            tiles.push(Tile {
                first_token: first_token as usize,
                first_query,
                queries: QUERIES.min(tokens.min(first + size) - first_query),
                keys: keys as usize,
            });
        }
    }
    Ok(tiles)
}

struct Run<'r, 'a> {
    attention: &'r Attention<'a>,
    tile: Tile,
    /// The rows of the result that belong to the tile's queries.
    c: &'r mut [f32],
    scratch: &'r mut Scratch,
}

impl SimdOp for Run<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let Run { attention, tile, c, scratch } = self;
        let lanes = isa.f32().len();
        let block = Block { attention, tile, width: tile.queries.next_multiple_of(lanes), lanes };
        let Attention { head, stride, .. } = *attention;
        for at in attention.first_head..attention.first_head + attention.heads {
            block.scores(isa, at, scratch);
            let totals = block.weights(isa, scratch);
            block.sums(isa, at, scratch);
            let padded = head.next_multiple_of(lanes);
            for (query, row) in c.chunks_exact_mut(stride).enumerate() {
                let out = &mut row[at * head..][..head];
                out.copy_from_slice(&scratch.sums[query * padded..][..head]);
                let total = totals[query];
                // If a query sees no key, its sum of weighted values is zero.
                let factor = if total > 0.0 { 1.0 / total } else { total };
                let ops = isa.f32();
                let factor = ops.splat(factor);
                map(
                    isa,
                    out,
                    #[inline(always)]
                    |sum| ops.mul(sum, factor),
                );
                if !is_finite(isa, out) {
                    attention.flags.set(tile.first_token + tile.first_query + query);
                }
            }
        }
    }
}

/// A tile whose queries are the lanes of SIMD vectors.
#[derive(Clone, Copy)]
struct Block<'r, 'a> {
    attention: &'r Attention<'a>,
    tile: Tile,
    /// The number of queries, rounded up to a multiple of the vector width.
    width: usize,
    /// The number of lanes in a SIMD vector.
    lanes: usize,
}

impl Block<'_, '_> {
    /// Returns the keys to which at least one query of the tile attends.
    #[inline(always)]
    fn keys(&self) -> std::ops::Range<usize> {
        let Tile { first_query, queries, keys, .. } = self.tile;
        if !self.attention.windowed {
            return 0..keys;
        }
        let last = first_query + queries - 1;
        let from = first_query.saturating_sub(self.attention.before).min(keys);
        from..keys.min(last.saturating_add(self.attention.after).saturating_add(1)).max(from)
    }

    /// Returns the lanes of the queries that attend to a key.
    #[inline(always)]
    fn seen_by(&self, key: usize) -> std::ops::Range<usize> {
        let Tile { first_query, queries, .. } = self.tile;
        let from = key.saturating_sub(self.attention.after).saturating_sub(first_query);
        let end = key.saturating_add(self.attention.before).saturating_add(1);
        let end = end.saturating_sub(first_query).min(queries);
        from.min(end)..end
    }

    /// Transposes the values of a head in consecutive rows to `[head, width]`, and multiplies the values by the scale.
    /// The columns after the last row's column are zero.
    #[inline(always)]
    fn transpose(&self, of: Heads<'_>, at: usize, first: usize, rows: usize, out: &mut Vec<f32>) {
        let (head, width) = (self.attention.head, self.width.max(rows));
        out.clear();
        out.resize(head * width, 0.0);
        for row in 0..rows {
            let values = &of.from(self.tile.first_token + first + row, at)[..head];
            for (i, value) in values.iter().enumerate() {
                out[i * width + row] = value * self.attention.scale;
            }
        }
    }

    /// Computes the scores of all keys.
    #[inline(always)]
    fn scores<I: Isa>(&self, isa: I, at: usize, scratch: &mut Scratch) {
        let Block { attention, tile, width, .. } = *self;
        let head = attention.head;
        let keys = self.keys();
        self.transpose(
            attention.q,
            at * head,
            tile.first_query,
            tile.queries,
            &mut scratch.queries,
        );
        scratch.scores.resize((keys.len() * width).max(scratch.scores.len()), 0.0);
        if keys.is_empty() {
            return;
        }
        let own = attention.k.from(tile.first_token + keys.start, at / attention.group * head);
        multiply(
            isa,
            Left { values: own, row: attention.k.stride, column: 1 },
            keys.len(),
            Right { values: &scratch.queries, stride: width },
            width,
            head,
            &mut scratch.scores,
        );
        attention.distances.add(isa, self, at, scratch);
    }

    /// Replaces scores by weights: exp(score − the query's largest score). Returns the sum of each query's weights.
    #[inline(always)]
    fn weights<I: Isa>(&self, isa: I, scratch: &mut Scratch) -> [f32; QUERIES] {
        let ops = isa.f32();
        let (width, lanes) = (self.width, self.lanes);
        let keys = self.keys();
        let hidden = |key: usize| {
            let seen = self.seen_by(key);
            (self.attention.windowed && seen.len() < self.tile.queries).then_some(seen)
        };
        for (key, row) in keys.clone().zip(scratch.scores.chunks_exact_mut(width)) {
            if let Some(seen) = hidden(key) {
                row[..seen.start].fill(-1e30);
                row[seen.end..].fill(-1e30);
            }
        }
        let mut totals = [0.0; QUERIES];
        for first in (0..width).step_by(lanes) {
            let mut largest = ops.splat(-1e30);
            for row in scratch.scores.chunks_exact(width).take(keys.len()) {
                largest = ops.max(largest, ops.load(&row[first..]));
            }
            for row in scratch.scores.chunks_exact_mut(width).take(keys.len()) {
                let score = ops.load(&row[first..]);
                ops.store(Exp::apply(isa, ops.sub(score, largest)), &mut row[first..]);
            }
            if self.attention.windowed {
                for (key, row) in keys.clone().zip(scratch.scores.chunks_exact_mut(width)) {
                    if let Some(seen) = hidden(key) {
                        let own = first..first + lanes;
                        row[own.start.min(seen.start)..own.end.min(seen.start)].fill(0.0);
                        row[own.start.max(seen.end).min(own.end)..own.end].fill(0.0);
                    }
                }
            }
            let mut total = ops.zero();
            for row in scratch.scores.chunks_exact(width).take(keys.len()) {
                total = ops.add(total, ops.load(&row[first..]));
            }
            ops.store(total, &mut totals[first..]);
        }
        totals
    }

    /// Computes the sums of weighted values.
    #[inline(always)]
    fn sums<I: Isa>(&self, isa: I, at: usize, scratch: &mut Scratch) {
        let Block { attention, tile, width, lanes } = *self;
        let head = attention.head;
        let padded = head.next_multiple_of(lanes);
        let keys = self.keys();
        scratch.sums.clear();
        scratch.sums.resize(tile.queries * padded, 0.0);
        if keys.is_empty() {
            return;
        }
        let first = tile.first_token + keys.start;
        let at = at / attention.group * head;
        let right = if head == padded {
            Right { values: attention.v.from(first, at), stride: attention.v.stride }
        } else {
            scratch.values.clear();
            scratch.values.resize(keys.len() * padded, 0.0);
            for (key, out) in scratch.values.chunks_exact_mut(padded).enumerate() {
                out[..head].copy_from_slice(&attention.v.from(first + key, at)[..head]);
            }
            Right { values: &scratch.values, stride: padded }
        };
        multiply(
            isa,
            Left { values: &scratch.scores, row: 1, column: width },
            tile.queries,
            right,
            padded,
            keys.len(),
            &mut scratch.sums,
        );
    }
}
