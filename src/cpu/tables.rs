//! The kernels that gather rows: `lookup`, `pool`, `route`, `group_rows` and `combine`.

use super::call::Call;
use super::widen::widen_row;
use super::workers::{chunks, rows_a_chunk};
use crate::error::Error;
use crate::kernels::combine::CombineParams;
use crate::kernels::group_rows::GroupRowsParams;
use crate::kernels::lookup::LookupParams;
use crate::kernels::pool::PoolParams;
use crate::kernels::route::RouteParams;

/// The minimum number of rows in a chunk of work for a thread.
const CHUNK_ROWS: usize = 16;

/// Computes x: the sum of rows of one to three tables, multiplied by a factor.
pub(super) fn lookup(call: &Call<'_>, x: &mut [f32]) -> Result<(), Error> {
    let params: LookupParams = call.params()?;
    let tokens: &[[u32; 4]] = bytemuck::cast_slice(whole(call.words(0)?, 4));
    let tables = (call.setting("TABLES") as usize).clamp(1, 3);
    let tables = (0..tables).map(|at| call.words(1 + at)).collect::<Result<Vec<_>, _>>()?;
    let (storage, width) = (call.weights(), params.width4 as usize * 4);
    let count = params.tokens as usize;
    let run = rows_a_chunk(count, CHUNK_ROWS);
    chunks(&mut x[..count * width], run * width, |at, x| {
        let mut row = vec![0.0; width];
        for (token, x) in (at * run..).zip(x.chunks_exact_mut(width)) {
            for (table, words) in tables.iter().enumerate() {
                let first = tokens[token][table] as usize * width;
                if table == 0 {
                    widen_row(storage, words, first, x);
                } else {
                    widen_row(storage, words, first, &mut row);
                    x.iter_mut().zip(&row).for_each(|(x, value)| *x += value);
                }
            }
            if params.scale != 1.0 {
                x.iter_mut().for_each(|x| *x *= params.scale);
            }
            check(call, x, token);
        }
    });
    Ok(())
}

/// Returns the words without the incomplete group of `size` words at the end, which is padding: small tensors are
/// padded to 16 bytes.
fn whole(words: &[u32], size: usize) -> &[u32] {
    &words[..words.len() / size * size]
}

/// Sets the overflow flag of a token if a value of its row is not finite.
fn check(call: &Call<'_>, row: &[f32], token: usize) {
    if row.iter().any(|value| !value.is_finite()) {
        call.flags.set(token);
    }
}

/// Computes one row for each text from the hidden states of its tokens. Sums add the tokens in order.
pub(super) fn pool(call: &Call<'_>, pooled: &mut [f32]) -> Result<(), Error> {
    let params: PoolParams = call.params()?;
    let x = call.f32s(0)?;
    let spans: &[[u32; 4]] = bytemuck::cast_slice(whole(call.words(1)?, 4));
    let mode = call.setting("MODE");
    let (width, width4, stride) =
        (params.width as usize, params.width4 as usize * 4, params.stride as usize);
    let texts = params.texts as usize;
    let run = rows_a_chunk(texts, 1);
    chunks(&mut pooled[..texts * stride], run * stride, |at, pooled| {
        for (text, pooled) in (at * run..).zip(pooled.chunks_exact_mut(stride)) {
            let span = spans[text].map(|value| value as usize);
            let out = &mut pooled[params.column as usize..][..width];
            let row = |token: usize| &x[token * width4..][..width];
            pool_text(mode, span, row, out);
        }
    });
    Ok(())
}

fn pool_text<'x>(mode: u32, span: [usize; 4], row: impl Fn(usize) -> &'x [f32], out: &mut [f32]) {
    let (mut first, mut end) = (span[0] + span[2], span[0] + span[1]);
    match mode {
        0 => end = first + 1,
        5 => first = end.saturating_sub(1),
        _ => {}
    }
    if mode == 1 {
        out.copy_from_slice(row(first));
    } else {
        out.fill(0.0);
    }
    let mut total = 0.0f32;
    for token in first..end {
        let values = out.iter_mut().zip(row(token));
        match mode {
            1 => values.for_each(|(out, x)| *out = out.max(*x)),
            4 => {
                let weight = (token - span[0] + 1) as f32;
                values.for_each(|(out, x)| *out += x * weight);
                total += weight;
            }
            _ => {
                values.for_each(|(out, x)| *out += x);
                total += 1.0;
            }
        }
    }
    // The count is at least 1, so the mean of a text without tokens is zero.
    let total = total.max(1.0);
    match mode {
        2 | 4 => out.iter_mut().for_each(|out| *out /= total),
        3 => out.iter_mut().for_each(|out| *out /= total.sqrt()),
        _ => {}
    }
}

/// Selects for each token the experts with the largest weights, and computes these weights.
pub(super) fn route(call: &Call<'_>, choices: &mut [f32]) -> Result<(), Error> {
    let params: RouteParams = call.params()?;
    let (x, w, storage) = (call.f32s(0)?, call.words(1)?, call.weights());
    let (inner, columns) = (params.inner4 as usize * 4, params.stride4 as usize * 4);
    let (experts, top, stride) =
        (params.experts as usize, params.top as usize, params.stride as usize);
    let mut router = vec![0.0; inner * columns];
    widen_row(storage, w, 0, &mut router);
    let tokens = params.tokens as usize;
    let run = rows_a_chunk(tokens, CHUNK_ROWS);
    chunks(&mut choices[..tokens * stride * 2], run * stride * 2, |at, choices| {
        let mut logits = vec![0.0f32; columns];
        for (token, choices) in (at * run..).zip(choices.chunks_exact_mut(stride * 2)) {
            logits.fill(0.0);
            for (value, weights) in
                x[token * inner..][..inner].iter().zip(router.chunks_exact(columns))
            {
                logits.iter_mut().zip(weights).for_each(|(sum, w)| *sum += value * w);
            }
            choose(&logits[..experts], top, choices);
        }
    });
    Ok(())
}

/// Writes the pairs (expert, weight) of the `top` largest logits, followed by zeros.
fn choose(logits: &[f32], top: usize, choices: &mut [f32]) {
    let largest = logits.iter().copied().fold(logits[0], f32::max);
    let total: f32 = logits.iter().map(|logit| (logit - largest).exp()).sum();
    let mut taken = vec![false; logits.len()];
    choices.fill(0.0);
    for choice in choices.chunks_exact_mut(2).take(top) {
        // The search starts with the first expert that is not chosen, so that it returns a valid expert even if logits
        // are NaN.
        let mut best = None;
        for expert in (0..logits.len()).filter(|expert| !taken[*expert]) {
            if best.is_none_or(|best: usize| logits[expert] > logits[best]) {
                best = Some(expert);
            }
        }
        let best = best.unwrap_or(0);
        taken[best] = true;
        choice.copy_from_slice(&[best as f32, (logits[best] - largest).exp() / total]);
    }
}

/// Sorts rows by expert. The rows of each expert start at a tile boundary. The row number −1 pads the last tile of each
/// expert.
pub(super) fn group_rows(call: &Call<'_>, order: &mut [f32]) -> Result<(), Error> {
    let params: GroupRowsParams = call.params()?;
    let choices = call.f32s(0)?;
    let experts = call.dispatch.variant.constant_or("EXPERTS", 8) as usize;
    let (top, stride, tile) = (params.top as usize, params.stride as usize, params.tile as usize);
    let rows = params.tokens as usize * top;
    let expert_of = |row: usize| {
        let expert = choices[2 * (row / top * stride + row % top)] as usize;
        expert.min(experts - 1)
    };
    let mut counts = vec![0; experts];
    (0..rows).for_each(|row| counts[expert_of(row)] += 1);
    let mut next = Vec::with_capacity(experts);
    let mut start = 0;
    let slots = &mut order[..params.slots as usize * 2];
    for slot in slots.chunks_exact_mut(2) {
        slot.copy_from_slice(&[-1.0, 0.0]);
    }
    for (expert, count) in counts.iter().enumerate() {
        next.push(start);
        let end = start + usize::next_multiple_of(*count, tile);
        slots[2 * start..2 * end].chunks_exact_mut(2).for_each(|slot| slot[1] = expert as f32);
        start = end;
    }
    for row in 0..rows {
        let expert = expert_of(row);
        slots[2 * next[expert]] = row as f32;
        next[expert] += 1;
    }
    Ok(())
}

/// Computes y = Σ weight · x + bias over the experts of a token.
pub(super) fn combine(call: &Call<'_>, y: &mut [f32]) -> Result<(), Error> {
    let params: CombineParams = call.params()?;
    let (x, choices, bias) = (call.f32s(0)?, call.f32s(1)?, call.f32s(2)?);
    let (width, top, stride) =
        (params.width4 as usize * 4, params.top as usize, params.stride as usize);
    let tokens = params.tokens as usize;
    let run = rows_a_chunk(tokens, CHUNK_ROWS);
    chunks(&mut y[..tokens * width], run * width, |at, y| {
        for (token, y) in (at * run..).zip(y.chunks_exact_mut(width)) {
            y.fill(0.0);
            for choice in 0..top {
                let weight = choices[2 * (token * stride + choice) + 1];
                let x = &x[(token * top + choice) * width..][..width];
                y.iter_mut().zip(x).for_each(|(y, x)| *y += weight * x);
            }
            y.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias);
            check(call, y, token);
        }
    });
    Ok(())
}
