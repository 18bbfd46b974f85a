//! [`SimilarityFunction`]: the four functions that compare vectors, as sentence-transformers defines them.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// The minimum divisor when a vector is scaled to length 1, as in torch's `normalize`. The cosine with a zero vector is
/// therefore 0.
const MIN_LENGTH: f64 = 1e-12;

/// A function that compares two vectors. A larger result means that the vectors are more similar. A model's
/// `similarity_fn_name` names the function for which it was trained.
///
/// ```
/// use vectile::SimilarityFunction;
///
/// let (a, b) = ([3.0, 4.0], [3.0, 0.0]);
/// assert_eq!(SimilarityFunction::Cosine.score(&a, &b), 0.6);
/// assert_eq!(SimilarityFunction::Dot.score(&a, &b), 9.0);
/// assert_eq!(SimilarityFunction::Euclidean.score(&a, &b), -4.0);
/// assert_eq!("manhattan".parse(), Ok(SimilarityFunction::Manhattan));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum SimilarityFunction {
    /// The dot product of the vectors after both are scaled to length one, from -1 to 1.
    #[default]
    Cosine,
    /// The dot product of the vectors.
    Dot,
    /// The negative Euclidean distance, which is 0 for equal vectors.
    Euclidean,
    /// The negative Manhattan distance, which is the sum of absolute differences. The result is 0 for equal vectors.
    Manhattan,
}

impl SimilarityFunction {
    /// All four similarity functions.
    pub const ALL: [SimilarityFunction; 4] = [
        SimilarityFunction::Cosine,
        SimilarityFunction::Dot,
        SimilarityFunction::Euclidean,
        SimilarityFunction::Manhattan,
    ];

    /// Returns the name that `similarity_fn_name` has for this function.
    pub fn name(self) -> &'static str {
        match self {
            SimilarityFunction::Cosine => "cosine",
            SimilarityFunction::Dot => "dot",
            SimilarityFunction::Euclidean => "euclidean",
            SimilarityFunction::Manhattan => "manhattan",
        }
    }

    /// Returns the similarity of two vectors of the same width, computed in f64. If one vector is longer, its
    /// additional values are ignored.
    pub fn score(self, a: &[f32], b: &[f32]) -> f64 {
        self.of_pairs(a.iter().zip(b).map(|(a, b)| (f64::from(*a), f64::from(*b))))
    }

    /// Returns the similarity of two vectors. Each pair holds the values of both vectors at one position. Pairs of
    /// zeros may be left out.
    pub(crate) fn of_pairs(self, pairs: impl Iterator<Item = (f64, f64)>) -> f64 {
        match self {
            SimilarityFunction::Cosine => {
                let (mut dot, mut a_squares, mut b_squares) = (0.0, 0.0, 0.0);
                for (a, b) in pairs {
                    dot += a * b;
                    a_squares += a * a;
                    b_squares += b * b;
                }
                dot / (a_squares.sqrt().max(MIN_LENGTH) * b_squares.sqrt().max(MIN_LENGTH))
            }
            SimilarityFunction::Dot => pairs.map(|(a, b)| a * b).sum(),
            // The sum is subtracted from zero, because negating it would give -0 for equal vectors.
            SimilarityFunction::Euclidean => {
                0.0 - pairs.map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
            }
            SimilarityFunction::Manhattan => 0.0 - pairs.map(|(a, b)| (a - b).abs()).sum::<f64>(),
        }
    }
}

impl fmt::Display for SimilarityFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SimilarityFunction {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let wanted = name.trim().to_ascii_lowercase();
        Self::ALL.into_iter().find(|function| function.name() == wanted).ok_or_else(|| {
            let problem = format!(
                "`{name}` is not a similarity function; use `cosine`, `dot`, `euclidean` or `manhattan`"
            );
            Error::option("similarity", problem)
        })
    }
}

/// The similarity of each row of a matrix `a` with each row of a matrix `b`: a matrix of the shape `[rows of a, rows of
/// b]`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Similarities {
    /// The number of rows of `b`.
    pub columns: usize,
    /// The values of all rows, one row after the other.
    pub values: Vec<f32>,
}

impl Similarities {
    /// Returns the similarities of each row of `a`, in order.
    pub fn rows(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.columns.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The expected values were computed by hand by the formulas of `util/similarity.py` in sentence-transformers 6.2.0.
    #[test]
    fn values_are_those_of_sentence_transformers() {
        let (a, b) = ([1.0, -2.0, 2.0], [4.0, 0.0, 3.0]);
        let scores = SimilarityFunction::ALL.map(|function| function.score(&a, &b));
        assert_eq!(scores, [10.0 / 15.0, 10.0, -14f64.sqrt(), -6.0]);
    }

    #[test]
    fn vectors_of_any_length_have_a_cosine_and_zeros_have_none() {
        let cosine = |a: &[f32], b: &[f32]| SimilarityFunction::Cosine.score(a, b);
        assert!((cosine(&[3.0, 0.0], &[0.5, 0.5]) - 0.5f64.sqrt()).abs() < 1e-12);
        assert!((cosine(&[1e30, 1e30], &[-1e30, -1e30]) + 1.0).abs() < 1e-12);
        assert_eq!(cosine(&[0.0, 0.0], &[1.0, 0.0]), 0.0);
    }

    #[test]
    fn distances_are_negative_and_zero_for_equal_vectors() {
        for function in [SimilarityFunction::Euclidean, SimilarityFunction::Manhattan] {
            let same = function.score(&[1.5, -2.0], &[1.5, -2.0]);
            assert!(same == 0.0 && same.is_sign_positive(), "{function}: {same}");
            assert!(function.score(&[1.0], &[2.0]) < 0.0);
        }
    }

    #[test]
    fn names_are_those_of_similarity_fn_name() {
        for function in SimilarityFunction::ALL {
            assert_eq!(function.name().parse(), Ok(function));
        }
        let error = "maxsim".parse::<SimilarityFunction>().unwrap_err().to_string();
        assert!(error.contains("`maxsim`") && error.contains("euclidean"), "{error}");
    }
}
