//! Measures the distance between computed vectors and expected vectors.

/// Returns the cosine of two vectors, or NaN if one of them is zero.
pub fn cosine<A: Copy + Into<f64>, B: Copy + Into<f64>>(a: &[A], b: &[B]) -> f64 {
    assert_eq!(a.len(), b.len());
    let a: Vec<f64> = a.iter().map(|v| (*v).into()).collect();
    let b: Vec<f64> = b.iter().map(|v| (*v).into()).collect();
    let dot = |x: &[f64], y: &[f64]| -> f64 { x.iter().zip(y).map(|(x, y)| x * y).sum() };
    dot(&a, &b) / (dot(&a, &a).sqrt() * dot(&b, &b).sqrt())
}

/// The differences between computed rows and expected rows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Distance {
    /// The largest difference between a value and the expected value.
    pub max_abs: f64,
    /// `max_abs`, divided by the largest magnitude of the expected values.
    pub relative: f64,
    /// The smallest cosine between a row and the expected row.
    pub min_cosine: f64,
}

/// Returns the distance between rows of `dim` finite values and the expected rows.
#[track_caller]
pub fn distance(got: &[f32], expected: &[f64], dim: usize) -> Distance {
    assert_eq!(got.len(), expected.len());
    assert!(got.iter().all(|v| v.is_finite()));
    let differences = got.iter().zip(expected).map(|(g, e)| (f64::from(*g) - e).abs());
    let max_abs = differences.fold(0.0, f64::max);
    let largest = expected.iter().map(|e| e.abs()).fold(0.0, f64::max);
    let rows = got.chunks_exact(dim).zip(expected.chunks_exact(dim));
    let min_cosine = rows.map(|(got, expected)| cosine(got, expected)).fold(1.0, f64::min);
    Distance { max_abs, relative: max_abs / largest, min_cosine }
}
