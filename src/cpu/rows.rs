//! The kernels that work on one row at a time: `layer_norm`, `rms_norm`, `normalize_l2` and `rope`.

use rten_simd::Isa;
use rten_simd::SimdOp;
use rten_simd::ops::{BitOps, FloatOps, NumOps};

use super::call::Call;
use super::flags::Flags;
use super::vector::{is_finite, map, sum, update, zip};
use super::workers::{chunks, rows_a_chunk};
use crate::error::Error;
use crate::kernels::layer_norm::LayerNormParams;
use crate::kernels::normalize_l2::NormalizeParams;
use crate::kernels::rms_norm::RmsNormParams;
use crate::kernels::rope::RopeParams;

/// The minimum number of values in a chunk of work for a thread.
const CHUNK_VALUES: usize = 16_384;

/// A run of consecutive rows: the index of the first row, and the values of the rows in y.
struct Rows<'y> {
    first: usize,
    stride: usize,
    y: &'y mut [f32],
}

/// Splits y into runs of rows, and calls `work` with each run, on all threads.
fn in_runs(y: &mut [f32], rows: usize, stride: usize, work: impl Fn(Rows<'_>) + Sync + Send) {
    let run = rows_a_chunk(rows, CHUNK_VALUES.div_ceil(stride.max(1)));
    chunks(&mut y[..rows * stride], run * stride, |at, y| {
        work(Rows { first: at * run, stride, y })
    });
}

struct LayerNorm<'a, 'y> {
    rows: Rows<'y>,
    x: &'a [f32],
    residual: Option<&'a [f32]>,
    weight: &'a [f32],
    bias: &'a [f32],
    width: usize,
    eps: f32,
    flags: &'a Flags,
}

impl SimdOp for LayerNorm<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        let LayerNorm { rows: Rows { first, stride, y }, x, residual, .. } = self;
        for (at, y) in y.chunks_exact_mut(stride).enumerate() {
            let row = (first + at) * stride..(first + at + 1) * stride;
            match residual {
                Some(residual) => {
                    zip(
                        isa,
                        y,
                        &x[row.clone()],
                        &residual[row],
                        #[inline(always)]
                        |a, b| ops.add(a, b),
                    );
                }
                None => y.copy_from_slice(&x[row]),
            }
            let values = &y[..self.width];
            let mean = sum(
                isa,
                values,
                #[inline(always)]
                |v| v,
            ) / self.width as f32;
            let shift = ops.splat(mean);
            let squares = sum(
                isa,
                values,
                #[inline(always)]
                |v| {
                    let difference = ops.sub(v, shift);
                    ops.mul(difference, difference)
                },
            );
            let scale = 1.0 / (squares / self.width as f32 + self.eps).sqrt();
            let factor = ops.splat(scale);
            update(
                isa,
                y,
                self.weight,
                #[inline(always)]
                |v, weight| ops.mul(ops.mul(ops.sub(v, shift), factor), weight),
            );
            update(
                isa,
                y,
                self.bias,
                #[inline(always)]
                |v, bias| ops.add(v, bias),
            );
            if !is_finite(isa, y) {
                self.flags.set(first + at);
            }
        }
    }
}

/// Computes y = layer_norm(x + residual).
pub(super) fn layer_norm(call: &Call<'_>, y: &mut [f32]) -> Result<(), Error> {
    let params: LayerNormParams = call.params()?;
    let (x, weight, bias) = (call.f32s(0)?, call.f32s(2)?, call.f32s(3)?);
    let residual = if call.setting("HAS_RESIDUAL") == 1 { Some(call.f32s(1)?) } else { None };
    let stride = params.width4 as usize * 4;
    in_runs(y, params.rows as usize, stride, |rows| {
        let width = params.width as usize;
        let (eps, flags) = (params.eps, call.flags);
        LayerNorm { rows, x, residual, weight, bias, width, eps, flags }.dispatch();
    });
    Ok(())
}

struct RmsNorm<'a, 'y> {
    rows: Rows<'y>,
    x: &'a [f32],
    residual: Option<&'a [f32]>,
    weight: &'a [f32],
    width: usize,
    eps: f32,
    flags: &'a Flags,
}

impl SimdOp for RmsNorm<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        let RmsNorm { rows: Rows { first, stride, y }, x, residual, .. } = self;
        for (at, y) in y.chunks_exact_mut(stride).enumerate() {
            let row = (first + at) * stride..(first + at + 1) * stride;
            let x = &x[row.clone()];
            let squares = sum(
                isa,
                &x[..self.width],
                #[inline(always)]
                |v| ops.mul(v, v),
            );
            let scale = 1.0 / (squares / self.width as f32 + self.eps).sqrt();
            let factor = ops.splat(scale);
            zip(
                isa,
                y,
                x,
                self.weight,
                #[inline(always)]
                |v, weight| ops.mul(ops.mul(v, factor), weight),
            );
            if let Some(residual) = residual {
                update(
                    isa,
                    y,
                    &residual[row],
                    #[inline(always)]
                    |v, residual| ops.add(v, residual),
                );
            }
            if !is_finite(isa, y) {
                self.flags.set(first + at);
            }
        }
    }
}

/// Computes y = rms_norm(x) + residual.
pub(super) fn rms_norm(call: &Call<'_>, y: &mut [f32]) -> Result<(), Error> {
    let params: RmsNormParams = call.params()?;
    let (x, weight) = (call.f32s(0)?, call.f32s(2)?);
    let residual = if call.setting("HAS_RESIDUAL") == 1 { Some(call.f32s(1)?) } else { None };
    let stride = params.width4 as usize * 4;
    in_runs(y, params.rows as usize, stride, |rows| {
        let width = params.width as usize;
        let (eps, flags) = (params.eps, call.flags);
        RmsNorm { rows, x, residual, weight, width, eps, flags }.dispatch();
    });
    Ok(())
}

struct NormalizeL2<'a, 'y> {
    rows: Rows<'y>,
    x: &'a [f32],
    width: usize,
}

impl SimdOp for NormalizeL2<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        let Rows { first, stride, y } = self.rows;
        for (at, y) in y.chunks_exact_mut(stride).enumerate() {
            let x = &self.x[(first + at) * stride..][..stride];
            let norm = sum(
                isa,
                &x[..self.width],
                #[inline(always)]
                |v| ops.mul(v, v),
            )
            .sqrt()
            .max(1e-12);
            y.copy_from_slice(x);
            // A division rounds once, but a product with the reciprocal would round twice.
            let norm = ops.splat(norm);
            map(
                isa,
                y,
                #[inline(always)]
                |v| ops.div(v, norm),
            );
        }
    }
}

/// Computes y = x / max(‖x‖₂, 1e-12) for each row.
pub(super) fn normalize_l2(call: &Call<'_>, y: &mut [f32]) -> Result<(), Error> {
    let params: NormalizeParams = call.params()?;
    let x = call.f32s(0)?;
    let stride = params.width4 as usize * 4;
    in_runs(y, params.rows as usize, stride, |rows| {
        NormalizeL2 { rows, x, width: params.width as usize }.dispatch();
    });
    Ok(())
}

struct RopeTokens<'a, 'y> {
    rows: Rows<'y>,
    x: &'a [f32],
    rotary: &'a [f32],
    weight: &'a [f32],
    params: &'a RopeParams,
    flags: &'a Flags,
}

impl SimdOp for RopeTokens<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        let Rows { first, stride, y } = self.rows;
        let head = self.params.head4 as usize * 4;
        let (pairs, values) = (self.params.pairs as usize, self.params.head as usize);
        for (at, y) in y.chunks_exact_mut(stride).enumerate() {
            let token = first + at;
            let x = &self.x[token * self.params.stride4 as usize * 4..];
            let row = self.params.angles as usize + self.rotary[2 * token] as usize * pairs;
            let angles = &self.rotary[2 * row..][..2 * pairs];
            for (number, y) in y.chunks_exact_mut(head).enumerate() {
                let x = &x[number * head..][..head];
                let keys = usize::from(number >= self.params.query_heads as usize);
                let weight = &self.weight[keys * head..][..head];
                let squares = sum(
                    isa,
                    &x[..values],
                    #[inline(always)]
                    |v| ops.mul(v, v),
                );
                let scale = 1.0 / (squares / values as f32 + self.params.eps).sqrt();
                let factor = ops.splat(scale);
                zip(
                    isa,
                    y,
                    x,
                    weight,
                    #[inline(always)]
                    |v, weight| ops.mul(ops.mul(v, factor), weight),
                );
                rotate(y, angles);
            }
            if !is_finite(isa, y) {
                self.flags.set(token);
            }
        }
    }
}

/// Rotates pairs of neighbouring values by angles, given as (cos, sin).
#[inline(always)]
pub(super) fn rotate(values: &mut [f32], angles: &[f32]) {
    for (pair, angle) in values.chunks_exact_mut(2).zip(angles.chunks_exact(2)) {
        let (a, b) = (pair[0], pair[1]);
        pair[0] = a * angle[0] - b * angle[1];
        pair[1] = b * angle[0] + a * angle[1];
    }
}

/// Computes y = rotate(norm(x)) for each head of a token.
pub(super) fn rope(call: &Call<'_>, y: &mut [f32]) -> Result<(), Error> {
    let params: RopeParams = call.params()?;
    let (x, rotary, weight) = (call.f32s(0)?, call.f32s(1)?, call.f32s(2)?);
    let stride = (params.heads * params.head4) as usize * 4;
    in_runs(y, params.tokens as usize, stride, |rows| {
        let (params, flags) = (&params, call.flags);
        RopeTokens { rows, x, rotary, weight, params, flags }.dispatch();
    });
    Ok(())
}
