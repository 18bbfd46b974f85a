//! Output precisions, which are the formats in which finished embeddings are stored.
//!
//! The precisions are the values of the argument `precision` of sentence-transformers' `encode`. The stored values are
//! bit-identical to those of sentence-transformers. A precision does not affect the dtype in which a model runs,
//! because rows are converted after they are computed.

use std::fmt;
use std::str::FromStr;

use half::f16;

use crate::error::Error;

/// The number format in which embeddings are written.
///
/// ```
/// use vectile::OutputPrecision;
/// assert_eq!("ubinary".parse(), Ok(OutputPrecision::Ubinary));
/// assert_eq!(OutputPrecision::Binary.columns(20), 3);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum OutputPrecision {
    /// f32 values, stored as they were computed.
    #[default]
    Float32,
    /// f16 values. Each computed f32 value is rounded to the nearest f16 value.
    Float16,
    /// Integers from −128 to 127, in equal steps between the smallest and the largest value of each column.
    Int8,
    /// The same steps as in `Int8`, numbered from 0 to 255.
    Uint8,
    /// One bit for each column, which is set if the value is positive. A byte holds eight columns, the first of them in
    /// its highest bit. Then 128 is subtracted from the byte.
    Binary,
    /// The bytes of `Binary` before 128 is subtracted.
    Ubinary,
}

impl OutputPrecision {
    /// All six output precisions.
    pub const ALL: [OutputPrecision; 6] = [
        OutputPrecision::Float32,
        OutputPrecision::Float16,
        OutputPrecision::Int8,
        OutputPrecision::Uint8,
        OutputPrecision::Binary,
        OutputPrecision::Ubinary,
    ];

    /// Returns the name that sentence-transformers uses for this precision.
    pub fn name(self) -> &'static str {
        match self {
            OutputPrecision::Float32 => "float32",
            OutputPrecision::Float16 => "float16",
            OutputPrecision::Int8 => "int8",
            OutputPrecision::Uint8 => "uint8",
            OutputPrecision::Binary => "binary",
            OutputPrecision::Ubinary => "ubinary",
        }
    }

    /// Returns true if the [`Ranges`] of all columns must be known before the first row can be stored.
    pub fn needs_ranges(self) -> bool {
        matches!(self, OutputPrecision::Int8 | OutputPrecision::Uint8)
    }

    /// Returns the number of columns in a stored row of `dim` values. In `Binary` and `Ubinary`, a stored column is a
    /// byte, which holds one bit for each of eight values.
    pub fn columns(self, dim: usize) -> usize {
        match self {
            OutputPrecision::Binary | OutputPrecision::Ubinary => dim.div_ceil(8),
            _ => dim,
        }
    }
}

impl fmt::Display for OutputPrecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for OutputPrecision {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let wanted = name.trim().to_ascii_lowercase();
        Self::ALL.into_iter().find(|precision| precision.name() == wanted).ok_or_else(|| {
            Error::option(
                "precision",
                format!(
                    "`{name}` is not an output precision; use `float32`, `float16`, `int8`, `uint8`, \
                     `binary` or `ubinary`"
                ),
            )
        })
    }
}

/// The smallest and the largest value of each column, over all rows seen so far.
///
/// Rows may be added in several calls. A caller that does not hold all rows in memory reads them twice: first to
/// [`update`](Ranges::update) the ranges, and then to [`quantize`] the rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranges {
    min: Vec<f32>,
    max: Vec<f32>,
    rows: usize,
}

impl Ranges {
    /// Returns empty ranges for rows of `dim` values.
    pub fn new(dim: usize) -> Self {
        Ranges { min: vec![f32::INFINITY; dim], max: vec![f32::NEG_INFINITY; dim], rows: 0 }
    }

    /// Extends the ranges to include the values of more rows. An incomplete row at the end is ignored.
    pub fn update(&mut self, values: &[f32]) {
        if self.min.is_empty() {
            return;
        }
        for row in values.chunks_exact(self.min.len()) {
            self.rows += 1;
            for (column, &value) in row.iter().enumerate() {
                self.min[column] = self.min[column].min(value);
                self.max[column] = self.max[column].max(value);
            }
        }
    }

    /// Returns the number of rows seen so far. The ranges of fewer than 100 rows are coarse.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Returns the smallest value of each column.
    pub fn min(&self) -> &[f32] {
        &self.min
    }

    /// Returns the largest value of each column.
    pub fn max(&self) -> &[f32] {
        &self.max
    }

    /// Returns the width of a step in each column. The width is 1 for a column whose values are all equal, so each of
    /// these values becomes step 0.
    fn steps(&self) -> Vec<f32> {
        let step = |(&min, &max): (&f32, &f32)| {
            let step = (max - min) / 255.0;
            if step == 0.0 { 1.0 } else { step }
        };
        self.min.iter().zip(&self.max).map(step).collect()
    }
}

/// Rows in an [`OutputPrecision`], stored one after the other.
#[derive(Debug, Clone, PartialEq)]
pub enum Quantized {
    /// Rows stored in [`OutputPrecision::Float32`].
    Float32(Vec<f32>),
    /// Rows stored in [`OutputPrecision::Float16`].
    Float16(Vec<f16>),
    /// Rows in [`OutputPrecision::Int8`] or [`OutputPrecision::Binary`].
    Int8(Vec<i8>),
    /// Rows in [`OutputPrecision::Uint8`] or [`OutputPrecision::Ubinary`].
    Uint8(Vec<u8>),
}

/// Converts rows of `dim` values, stored one after the other, to `precision`.
///
/// `int8` and `uint8` divide the range of each column into 255 equal steps, and store the step number of each
/// value. A value outside the range gets the nearest step. The largest value is step 254 or 255, depending on
/// how the f32 division rounds, as in sentence-transformers. If `ranges` is `None`, the ranges of `values`
/// are used. If all values of a column are equal, such as zeros, the column becomes step 0 in every row (−128
/// in `int8`).
///
/// `binary` and `ubinary` pad the last byte of a row with zero bits if `dim` is not a multiple of eight.
///
/// ```
/// use vectile::{OutputPrecision, Quantized, quantize};
/// let rows = [0.5, -0.5, 0.0, 0.25];
/// let bits = quantize(&rows, 2, OutputPrecision::Ubinary, None)?;
/// assert_eq!(bits, Quantized::Uint8(vec![0b1000_0000, 0b0100_0000]));
/// let steps = quantize(&rows, 2, OutputPrecision::Uint8, None)?;
/// assert_eq!(steps, Quantized::Uint8(vec![254, 0, 0, 255]));
/// # Ok::<(), vectile::Error>(())
/// ```
///
/// # Errors
/// Returns [`Error::Option`] if `values` are not rows of `dim` values, or if a value for `float16` exceeds the largest
/// f16. Also returns [`Error::Option`] for `int8` and `uint8` if the ranges come from rows of another width, or from
/// fewer than two rows.
pub fn quantize(
    values: &[f32],
    dim: usize,
    precision: OutputPrecision,
    ranges: Option<&Ranges>,
) -> Result<Quantized, Error> {
    if dim == 0 || !values.len().is_multiple_of(dim) {
        let problem =
            format!("{} values cannot be divided into rows of {dim} values", values.len());
        return Err(Error::option("dim", problem));
    }
    Ok(match precision {
        OutputPrecision::Float32 => Quantized::Float32(values.to_vec()),
        OutputPrecision::Float16 => Quantized::Float16(to_f16(values, dim)?),
        OutputPrecision::Int8 => Quantized::Int8(signed(scale(values, dim, precision, ranges)?)),
        OutputPrecision::Uint8 => Quantized::Uint8(scale(values, dim, precision, ranges)?),
        OutputPrecision::Binary => Quantized::Int8(signed(pack_bits(values, dim))),
        OutputPrecision::Ubinary => Quantized::Uint8(pack_bits(values, dim)),
    })
}

/// Subtracts 128 from each byte. In two's complement, the subtraction only flips the highest bit.
fn signed(bytes: Vec<u8>) -> Vec<i8> {
    bytes.into_iter().map(|byte| (byte ^ 0x80) as i8).collect()
}

fn to_f16(values: &[f32], dim: usize) -> Result<Vec<f16>, Error> {
    let convert = |(i, &value): (usize, &f32)| {
        let half = f16::from_f32(value);
        if half.is_finite() {
            return Ok(half);
        }
        let problem = format!(
            "{value} in column {} is beyond the largest float16, 65504; use float32 or normalize \
             the embeddings",
            i % dim
        );
        Err(Error::option("precision", problem))
    };
    values.iter().enumerate().map(convert).collect()
}

fn scale(
    values: &[f32],
    dim: usize,
    precision: OutputPrecision,
    ranges: Option<&Ranges>,
) -> Result<Vec<u8>, Error> {
    if values.is_empty() {
        return Ok(Vec::new());
    }
    let own;
    let ranges = match ranges {
        Some(ranges) => ranges,
        None => {
            let mut ranges = Ranges::new(dim);
            ranges.update(values);
            own = ranges;
            &own
        }
    };
    if ranges.min.len() != dim {
        let problem =
            format!("the ranges have {} columns, but the rows have {dim} values", ranges.min.len());
        return Err(Error::option("precision", problem));
    }
    if ranges.rows < 2 {
        let problem = format!(
            "{precision} needs the range of each column over at least two embeddings, but the \
             number of embeddings is {}; give more texts, or use float32, float16, binary or \
             ubinary",
            ranges.rows
        );
        return Err(Error::option("precision", problem));
    }
    let steps = ranges.steps();
    let mut out = Vec::with_capacity(values.len());
    for row in values.chunks_exact(dim) {
        for ((value, min), step) in row.iter().zip(&ranges.min).zip(&steps) {
            out.push(((value - min) / step).floor().clamp(0.0, 255.0) as u8);
        }
    }
    Ok(out)
}

fn pack_bits(values: &[f32], dim: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(values.len() / dim * dim.div_ceil(8));
    for row in values.chunks_exact(dim) {
        for eight in row.chunks(8) {
            let bit = |(i, &value): (usize, &f32)| u8::from(value > 0.0) << (7 - i);
            out.push(eight.iter().enumerate().map(bit).sum());
        }
    }
    out
}

#[cfg(test)]
mod tests;
