//! The operations that a matmul applies to its sums before it stores them in y: bias, activation, gate, rotation and
//! residual.

use rten_simd::Isa;
use rten_simd::SimdOp;
use rten_simd::ops::NumOps;

use super::activation::{activate, numbered};
use super::call::Call;
use super::flags::Flags;
use super::rows::rotate;
use super::vector::{is_finite, update, zip};
use crate::error::Error;
use crate::kernels::Activation;
use crate::kernels::matmul::MatmulParams;

/// The epilogue of a dispatch.
pub(super) struct Epilogue<'a> {
    bias: &'a [f32],
    residual: Option<&'a [f32]>,
    activation: Activation,
    gated: bool,
    rotary: Option<Rotary<'a>>,
    /// The column of y that belongs to the first column of the weight. The column is counted before a gate halves the
    /// columns.
    first_column: usize,
    /// The number of values in a row of y.
    stride: usize,
    flags: &'a Flags,
}

/// The rotation of the first columns of each row.
#[derive(Clone, Copy)]
struct Rotary<'a> {
    /// First a pair (n, 0) for each token, where n is the number of the token's row of angles. The rows of angles
    /// follow, each a list of pairs (cos, sin).
    order: &'a [f32],
    head: usize,
    columns: usize,
    pairs: usize,
    angles: usize,
}

impl<'a> Epilogue<'a> {
    /// Returns the epilogue that a dispatch requires.
    pub fn new(call: &Call<'a>, params: &MatmulParams) -> Result<Self, Error> {
        let activation = numbered(call.setting("ACTIVATION")).ok_or_else(|| {
            call.fault("the override ACTIVATION is not the number of an activation function")
        })?;
        let rotary = match call.setting("ROTARY") {
            1 => Some(Rotary {
                order: call.f32s(4)?,
                head: params.head4 as usize * 4,
                columns: params.rotated as usize * 4,
                pairs: params.pairs as usize,
                angles: params.angles as usize,
            }),
            _ => None,
        };
        Ok(Epilogue {
            bias: call.f32s(2)?,
            residual: if call.setting("HAS_RESIDUAL") == 1 { Some(call.f32s(3)?) } else { None },
            activation,
            gated: call.setting("GATED") == 1,
            rotary,
            first_column: params.first_cell as usize * 4,
            stride: params.columns4 as usize * 4,
            flags: call.flags,
        })
    }

    /// Returns the number of values of y that are computed from this many sums.
    pub fn columns(&self, sums: usize) -> usize {
        if self.gated { sums / 2 } else { sums }
    }

    /// Adds biases to the sums of a panel, and applies the activation and the gate. `tile` is `[rows, width]`, and its
    /// first column is column `column` of the weight. A gate leaves its result in the first half of each row.
    pub fn finish(&self, tile: &mut [f32], width: usize, column: usize) {
        let bias = &self.bias[self.first_column + column..][..width];
        Finish { epilogue: self, tile, width, bias }.dispatch();
    }

    /// Rotates the rows of a panel after [`Epilogue::finish`], adds the residual, and stores the rows. `y` starts with
    /// row `first_row`.
    pub fn store(
        &self,
        tile: &mut [f32],
        width: usize,
        column: usize,
        first_row: usize,
        y: &mut [f32],
    ) {
        Store { epilogue: self, tile, width, column, first_row, y }.dispatch();
    }

    /// Copies the rows of a panel, after [`Epilogue::finish`], into rows of `columns` values.
    pub fn copy(&self, tile: &[f32], width: usize, column: usize, columns: usize, out: &mut [f32]) {
        let (used, first) = (self.columns(width), self.columns(column));
        for (tile, out) in tile.chunks_exact(width).zip(out.chunks_exact_mut(columns)) {
            out[first..first + used].copy_from_slice(&tile[..used]);
        }
    }

    /// Adds the residual to the values, and stores them in y, starting at the index `at`. Sets the token's overflow
    /// flag if a value is not finite.
    pub fn store_row(&self, values: &[f32], token: usize, at: usize, y: &mut [f32]) {
        y.copy_from_slice(values);
        if let Some(residual) = self.residual {
            y.iter_mut().zip(&residual[at..]).for_each(|(y, residual)| *y += residual);
        }
        if y.iter().any(|value| !value.is_finite()) {
            self.flags.set(token);
        }
    }
}

struct Finish<'e, 'a, 't> {
    epilogue: &'e Epilogue<'a>,
    tile: &'t mut [f32],
    width: usize,
    bias: &'e [f32],
}

impl SimdOp for Finish<'_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        let activation = self.epilogue.activation;
        let mut parts = if self.epilogue.gated { vec![0.0; self.width] } else { Vec::new() };
        for row in self.tile.chunks_exact_mut(self.width) {
            update(
                isa,
                row,
                self.bias,
                #[inline(always)]
                |sum, bias| ops.add(sum, bias),
            );
            if !self.epilogue.gated {
                activate(isa, activation, row);
                continue;
            }
            let (gates, others) = parts.split_at_mut(self.width / 2);
            for (at, pair) in row.chunks_exact(8).enumerate() {
                gates[at * 4..][..4].copy_from_slice(&pair[..4]);
                others[at * 4..][..4].copy_from_slice(&pair[4..]);
            }
            activate(isa, activation, gates);
            zip(
                isa,
                &mut row[..self.width / 2],
                gates,
                others,
                #[inline(always)]
                |gate, other| ops.mul(gate, other),
            );
        }
    }
}

struct Store<'e, 'a, 't> {
    epilogue: &'e Epilogue<'a>,
    tile: &'t mut [f32],
    width: usize,
    column: usize,
    first_row: usize,
    y: &'t mut [f32],
}

impl SimdOp for Store<'_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        let ops = isa.f32();
        let epilogue = self.epilogue;
        let used = epilogue.columns(self.width);
        let column = epilogue.columns(epilogue.first_column + self.column);
        let rows =
            self.tile.chunks_exact_mut(self.width).zip(self.y.chunks_exact_mut(epilogue.stride));
        for (at, (tile, y)) in rows.enumerate() {
            let row = self.first_row + at;
            if let Some(rotary) = epilogue.rotary {
                rotary.rotate(tile, row, column);
            }
            let (tile, y) = (&tile[..used], &mut y[column..column + used]);
            match epilogue.residual {
                Some(residual) => {
                    let residual = &residual[row * epilogue.stride + column..];
                    zip(
                        isa,
                        y,
                        tile,
                        residual,
                        #[inline(always)]
                        |value, residual| ops.add(value, residual),
                    );
                }
                None => y.copy_from_slice(tile),
            }
            if !is_finite(isa, y) {
                epilogue.flags.set(row);
            }
        }
    }
}

impl Rotary<'_> {
    /// Rotates the values of a row, starting at column `column`. Heads start at multiples of the head's size, and a
    /// panel may begin or end within a head.
    #[inline(always)]
    fn rotate(self, values: &mut [f32], row: usize, column: usize) {
        let first = self.angles + self.order[2 * row] as usize * self.pairs;
        let angles = &self.order[2 * first..][..2 * self.pairs];
        let end = values.len().min(self.columns.saturating_sub(column));
        let mut at = 0;
        while at < end {
            let within = (column + at) % self.head;
            let length = (self.head - within).min(end - at);
            let rest = angles.get(within..).unwrap_or_default();
            rotate(&mut values[at..at + length], rest);
            at += length;
        }
    }
}
