//! Measures the distance between two rows of one text, and defines the tolerance for the distance.

use serde::Serialize;

use crate::dtype::{FloatDtype, Precision, Storage};

/// The limits within which the rows of a precision count as correct.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Tolerance {
    /// The smallest allowed cosine between a text's row and its expected row.
    pub min_cosine: f64,
    /// The largest allowed difference between a value and its expected value, for rows of length one.
    pub max_error: f64,
}

/// The distance between a row and its expected row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowDistance {
    pub cosine: f64,
    /// The largest absolute difference between two values, divided by the length of the expected row.
    pub error: f64,
}

impl RowDistance {
    /// Returns the distance between two rows of finite values.
    pub fn of(row: &[f32], expected: &[f64]) -> Self {
        let length = expected.iter().map(|v| v * v).sum::<f64>().sqrt();
        let scale = if length > 0.0 { 1.0 / length } else { 1.0 };
        let differences = row.iter().zip(expected).map(|(g, e)| (f64::from(*g) - e).abs());
        RowDistance {
            cosine: cosine(row, expected),
            error: differences.fold(0.0, f64::max) * scale,
        }
    }
}

impl Tolerance {
    /// Returns a distance as a share of the tolerance: at most 1 if the distance is within the tolerance.
    pub(crate) fn share(self, distance: RowDistance) -> f64 {
        let of_cosine = (1.0 - distance.cosine) / (1.0 - self.min_cosine);
        (distance.error / self.max_error).max(of_cosine)
    }
}

/// Returns the tolerance for comparing a precision with a reference, or with f32 on the CPU. The tolerance is tighter
/// for a reference that Vectile ships (`shipped`), because it was computed in float64 for a model whose rounding errors
/// were measured. Other references may come from any arithmetic and from deeper models.
///
/// | storage | shipped: smallest cosine | largest error | other: smallest cosine | largest error |
/// |---|---|---|---|---|
/// | f32, or a bf16 checkpoint in packed bf16, which is exact | 0.9999999 | 2e-6 | 0.9999999 | 1e-5 |
/// | f16 or packed f16 | 0.99999 | 1e-3 | 0.9999 | 1e-2 |
/// | another checkpoint rounded to packed bf16 | 0.9998 | 5e-3 | 0.998 | 4e-2 |
pub(crate) fn tolerance(precision: &Precision, shipped: bool) -> Tolerance {
    let lossless = match precision.weights {
        Storage::F32 => true,
        Storage::PackedBf16 => precision.checkpoint.dtype == FloatDtype::Bfloat16,
        Storage::F16 | Storage::PackedF16 => false,
    };
    let exact = lossless && precision.activations == Storage::F32;
    let rounded = precision.weights == Storage::PackedBf16 && !lossless;
    let (min_cosine, max_error) = match (exact, rounded, shipped) {
        (true, _, true) => (0.999_999_9, 2e-6),
        (true, _, false) => (0.999_999_9, 1e-5),
        (false, true, true) => (0.9998, 5e-3),
        (false, true, false) => (0.998, 4e-2),
        (false, false, true) => (0.999_99, 1e-3),
        (false, false, false) => (0.9999, 1e-2),
    };
    Tolerance { min_cosine, max_error }
}

/// Returns the cosine of two vectors. The result is 1 if both vectors are zero, and 0 if only one is. Equal vectors
/// give exactly 1.
pub fn cosine<B: Copy + Into<f64>>(a: &[f32], b: &[B]) -> f64 {
    let (mut dot, mut a_squares, mut b_squares) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        let (a, b): (f64, f64) = (f64::from(*a), (*b).into());
        dot += a * b;
        a_squares += a * a;
        b_squares += b * b;
    }
    match (a_squares > 0.0, b_squares > 0.0) {
        (true, true) => dot / (a_squares * b_squares).sqrt(),
        (false, false) => 1.0,
        _ => 0.0,
    }
}
