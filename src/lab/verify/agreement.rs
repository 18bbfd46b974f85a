//! Measures the distance between the rows of one precision and the expected rows.

use serde::Serialize;

use crate::dtype::{Precision, Storage};
use crate::embedder::report::activation_ranges::Probed;
use crate::embedder::tolerance::RowDistance;
pub use crate::embedder::tolerance::Tolerance;

/// The distance between the rows in one precision and the expected rows of the same texts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Agreement {
    /// The source of the expected rows: `reference`, `f32` for the rows in f32 on this adapter, or `cpu` for the rows in
    /// f32 on the CPU.
    pub with: &'static str,
    /// The storage type of the weights.
    pub weights: Storage,
    /// The storage type of the activations.
    pub activations: Storage,
    /// The number of texts whose rows were compared.
    pub texts: usize,
    /// The indices of the texts without a usable row or without a finite expected row, because an activation exceeded
    /// the range of its storage type.
    pub unusable: Vec<usize>,
    /// The smallest cosine, over all texts, between a text's row and its expected row.
    pub min_cosine: f64,
    /// The mean cosine, over all texts, between a text's row and its expected row.
    pub mean_cosine: f64,
    /// The index of the text with the smallest cosine.
    pub worst_text: usize,
    /// The largest absolute difference between a value and its expected value, after both rows are divided by the
    /// length of the expected row.
    pub max_error: f64,
    /// The index of the text with the largest difference.
    pub max_error_text: usize,
    /// The limits within which the comparison passes; `None` if the figures are only reported.
    pub tolerance: Option<Tolerance>,
    /// The largest distance as a share of the tolerance, over all texts; `None` without a tolerance.
    pub share: Option<f64>,
    /// The indices of the texts whose rows exceed the tolerance.
    pub failed: Vec<usize>,
}

impl Agreement {
    /// Compares rows of a run in `precision` with `expected`. The first expected row belongs to the text with index
    /// `first`. An expected row that is not finite means that the text has none.
    pub(super) fn of(
        with: &'static str,
        precision: &Precision,
        got: &Probed,
        first: usize,
        expected: &[Vec<f64>],
        tolerance: Option<Tolerance>,
    ) -> Self {
        let mut agreement = Agreement {
            with,
            weights: precision.weights,
            activations: precision.activations,
            texts: 0,
            unusable: Vec::new(),
            min_cosine: 1.0,
            mean_cosine: 1.0,
            worst_text: first,
            max_error: 0.0,
            max_error_text: first,
            tolerance,
            share: tolerance.map(|_| 0.0),
            failed: Vec::new(),
        };
        let mut sum = 0.0;
        for (i, expected) in expected.iter().enumerate() {
            let text = first + i;
            if got.unusable.contains(&text) || expected.iter().any(|value| !value.is_finite()) {
                agreement.unusable.push(text);
                continue;
            }
            let distance = RowDistance::of(got.row(text), expected);
            if distance.error > agreement.max_error {
                agreement.max_error = distance.error;
                agreement.max_error_text = text;
            }
            if distance.cosine < agreement.min_cosine {
                agreement.min_cosine = distance.cosine;
                agreement.worst_text = text;
            }
            if let Some(tolerance) = tolerance {
                let share = tolerance.share(distance);
                agreement.share = agreement.share.map(|largest| largest.max(share));
                if share > 1.0 {
                    agreement.failed.push(text);
                }
            }
            sum += distance.cosine;
            agreement.texts += 1;
        }
        if agreement.texts > 0 {
            agreement.mean_cosine = sum / agreement.texts as f64;
        }
        agreement
    }

    /// Returns true if every text has a usable row within the tolerance.
    pub fn passed(&self) -> bool {
        self.failed.is_empty() && self.unusable.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::FloatDtype;
    use crate::embedder::tolerance::tolerance;

    fn probed(rows: &[[f32; 2]]) -> Probed {
        Probed { rows: rows.concat(), dim: 2, ..Probed::default() }
    }

    fn precision(weights: Storage, activations: Storage, dtype: FloatDtype) -> Precision {
        Precision {
            requested: crate::DtypeRequest::Auto,
            checkpoint: crate::CheckpointDtype { dtype, source: String::new(), reasons: vec![] },
            weights,
            activations,
            weight_bytes: 0,
            reasons: vec![],
            measured: None,
        }
    }

    #[test]
    fn rows_are_compared_text_by_text_and_scaled_to_length_one() {
        let p = precision(Storage::F32, Storage::F32, FloatDtype::Float32);
        let mut got = probed(&[[9.0, 9.0], [3.0, 4.0], [0.0, 2.0], [7.0, 7.0], [0.0, 0.0]]);
        got.unusable = vec![3];
        let expected = [vec![3.0, 4.5], vec![2.0, 0.0], vec![1.0, 1.0], vec![0.0, 0.0]];
        let a = Agreement::of("reference", &p, &got, 1, &expected, None);
        assert_eq!((a.texts, a.worst_text, a.min_cosine), (3, 2, 0.0));
        assert_eq!(a.unusable, [3]);
        assert_eq!((a.max_error, a.max_error_text), (1.0, 2));
        assert_eq!((a.share, &a.failed[..]), (None, &[][..]));
        assert!(a.mean_cosine > 0.66 && a.mean_cosine < 0.67, "{a:?}");
        assert!(!a.passed(), "a text without a row");
    }

    #[test]
    fn every_text_is_judged_by_its_share_of_the_tolerance() {
        let p = precision(Storage::F32, Storage::F32, FloatDtype::Float32);
        let tolerance = Tolerance { min_cosine: 0.9, max_error: 0.25 };
        let of = |rows: &[[f32; 2]], expected: &[Vec<f64>]| {
            Agreement::of("cpu", &p, &probed(rows), 0, expected, Some(tolerance))
        };
        let a = of(&[[2.25, 0.0], [0.0, 1.0]], &[vec![2.0, 0.0], vec![0.0, 1.0]]);
        assert_eq!((a.share, a.max_error, &a.failed[..]), (Some(0.5), 0.125, &[][..]));
        assert!(a.passed());
        let turned = [vec![2.0, 0.0], vec![1.0, 0.0], vec![f64::NAN, 0.0]];
        let a = of(&[[3.0, 0.0], [0.0, 1.0], [1.0, 0.0]], &turned);
        assert_eq!((&a.failed[..], &a.unusable[..], a.max_error_text), (&[0, 1][..], &[2][..], 1));
        assert!(a.share.unwrap() > 9.9 && !a.passed(), "{a:?}");
    }

    #[test]
    fn figures_outside_the_tolerance_do_not_pass() {
        let p = precision(Storage::F32, Storage::F32, FloatDtype::Float32);
        let rows = probed(&[[1.0, 1e-4]]);
        let passed =
            |tolerance| Agreement::of("f32", &p, &rows, 0, &[vec![1.0, 0.0]], tolerance).passed();
        assert!(passed(None));
        assert!(!passed(Some(Tolerance { min_cosine: 0.9, max_error: 1e-5 })));
        assert!(!passed(Some(Tolerance { min_cosine: 1.0, max_error: 1.0 })));
        assert!(passed(Some(Tolerance { min_cosine: 0.9, max_error: 1e-3 })));
    }

    #[test]
    fn tolerances_depend_on_the_storages() {
        use FloatDtype::{Bfloat16, Float32};
        use Storage::*;
        for (weights, activations, checkpoint, max_error) in [
            (F32, F32, Float32, 2e-6),
            (PackedBf16, F32, Bfloat16, 2e-6),
            (PackedBf16, F32, Float32, 5e-3),
            (F16, F16, Float32, 1e-3),
            (PackedF16, F32, Float32, 1e-3),
            (F32, F16, Float32, 1e-3),
            (PackedBf16, F16, Bfloat16, 1e-3),
        ] {
            let p = precision(weights, activations, checkpoint);
            assert_eq!(tolerance(&p, true).max_error, max_error, "{weights} {activations}");
        }
        let p = precision(F32, F32, Float32);
        assert_eq!(tolerance(&p, false).max_error, 1e-5);
        let p = precision(PackedBf16, F32, Float32);
        assert_eq!(tolerance(&p, false).max_error, 4e-2);
    }
}
