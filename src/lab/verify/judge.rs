//! Decides from the measured ranges and vectors whether f16 is safe for a model.

use super::agreement::Agreement;
use crate::dtype::{F16Safety, F16Verdict, Storage};
use crate::embedder::report::activation_ranges::{ActivationRange, WeightRange};

/// f16 activations are safe only if the largest measured activation is at most 65504 divided by this factor. Texts that
/// were not measured may have larger activations.
pub const HEADROOM: f32 = 4.0;

/// The minimum cosine between a text's vectors in f16 and in f32 for f16 to be safe.
pub const MIN_COSINE: f64 = 0.9999;

/// Returns a description of the first weight that overflows f16; `None` if no weight does.
pub(super) fn overflowing_weight(weights: &[WeightRange]) -> Option<String> {
    let weight = weights.iter().find(|w| w.takes_16_bits && w.overflowed > 0)?;
    let value = weight.first_overflow.unwrap_or(weight.largest);
    Some(format!(
        "tensor {} holds {value}, beyond {}, the largest f16 value",
        crate::error::plain(&weight.tensor),
        Storage::F16.max()
    ))
}

/// Returns the tensor with the largest activation. A value that is not finite counts as the largest.
pub(super) fn largest(activations: &[ActivationRange]) -> Option<&ActivationRange> {
    activations.iter().reduce(|a, b| match (a.largest, b.largest) {
        (None, _) => a,
        (_, None) => b,
        (Some(x), Some(y)) => {
            if y > x {
                b
            } else {
                a
            }
        }
    })
}

/// Returns the verdict on whether f16 is safe, from the first rule that applies:
///
/// 1. If a weight matrix or an embedding table has a value with a magnitude above 65504, f16 is unsafe.
/// 2. If an activation is not finite when stored as f32, f16 is unsafe.
/// 3. If f16 weights with f32 activations give a vector whose cosine with the f32 vector is below [`MIN_COSINE`], f16
///    is unsafe.
/// 4. If an activation has a magnitude above 65504 / [`HEADROOM`], f16 is safe with f32 activations.
/// 5. If a text has no vector with f16 activations, or a vector whose cosine with the f32 vector is below
///    [`MIN_COSINE`], f16 is safe with f32 activations.
/// 6. Otherwise f16 is safe.
///
/// `f16` has 16-bit weights and activations, and `weights_alone` has 16-bit weights and f32 activations. Either of them
/// may be `None` if an earlier rule decides.
pub(super) fn judge(
    weights: &[WeightRange],
    activations: &[ActivationRange],
    f16: Option<&Agreement>,
    weights_alone: Option<&Agreement>,
) -> F16Verdict {
    let verdict = |safety, decided_by| F16Verdict { safety, decided_by };
    if let Some(decided_by) = overflowing_weight(weights) {
        return verdict(F16Safety::Unsafe, decided_by);
    }
    let Some(peak) = largest(activations) else {
        return verdict(
            F16Safety::SafeWithF32Activations,
            "no value of an activation was measured".into(),
        );
    };
    let place = peak.place();
    let Some(largest) = peak.largest else {
        return verdict(
            F16Safety::Unsafe,
            format!("{place} is infinite or not a number even in f32"),
        );
    };
    if let Some(alone) = weights_alone.filter(|a| a.min_cosine < MIN_COSINE) {
        let decided_by = format!(
            "with f16 weights and f32 activations, the vector of text {} has a cosine of {:.6} \
             with its vector in f32",
            alone.worst_text, alone.min_cosine
        );
        return verdict(F16Safety::Unsafe, decided_by);
    }
    let most = Storage::F16.max();
    if largest > most {
        let decided_by = format!("{place} reaches {largest}, beyond {most}, the largest f16 value");
        return verdict(F16Safety::SafeWithF32Activations, decided_by);
    }
    let times = most / largest;
    let reaches = format!(
        "{place} reaches {largest}, which is {times:.1} times smaller than {most}, the largest \
         f16 value"
    );
    if times < HEADROOM {
        let decided_by = format!(
            "{reaches}; f16 activations are safe only if it is at least {HEADROOM} times smaller"
        );
        return verdict(F16Safety::SafeWithF32Activations, decided_by);
    }
    let Some(f16) = f16 else {
        return verdict(
            F16Safety::SafeWithF32Activations,
            "the model was not run with f16 activations".into(),
        );
    };
    if let Some(text) = f16.unusable.first() {
        let decided_by = format!("text {text} has no vector with f16 activations");
        return verdict(F16Safety::SafeWithF32Activations, decided_by);
    }
    if f16.min_cosine < MIN_COSINE {
        let decided_by = format!(
            "with f16 activations, the vector of text {} has a cosine of {:.6} with its vector in \
             f32",
            f16.worst_text, f16.min_cosine
        );
        return verdict(F16Safety::SafeWithF32Activations, decided_by);
    }
    verdict(F16Safety::Safe, reaches)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(tensor: &str, takes_16_bits: bool, first_overflow: Option<f32>) -> WeightRange {
        WeightRange {
            tensor: tensor.into(),
            dtype: "F32".into(),
            values: 10,
            takes_16_bits,
            largest: 70000.0,
            overflowed: usize::from(first_overflow.is_some()),
            first_overflow,
            flushed: 0,
            non_finite: 0,
        }
    }

    fn activation(layer: usize, tensor: &str, largest: Option<f32>) -> ActivationRange {
        ActivationRange {
            layer: Some(layer),
            tensor: tensor.into(),
            kernel: "matmul_tile".into(),
            largest,
            text: 3,
            token: 1,
            texts_beyond_f16: 0,
        }
    }

    fn agreement(min_cosine: f64) -> Agreement {
        Agreement {
            with: "f32",
            weights: Storage::F16,
            activations: Storage::F16,
            texts: 9,
            unusable: vec![],
            min_cosine,
            mean_cosine: 1.0,
            worst_text: 7,
            max_error: 0.0,
            max_error_text: 0,
            tolerance: None,
            share: None,
            failed: vec![],
        }
    }

    #[test]
    fn the_first_rule_that_applies_decides_and_names_the_cause() {
        use F16Safety::*;
        let fine = || vec![weight("w", true, None), weight("bias", false, Some(7e4))];
        let calm = || vec![activation(0, "up", Some(12.0)), activation(1, "down", Some(40.0))];
        let (good, bad) = (agreement(0.999_95), agreement(0.999));
        let lost = Agreement { unusable: vec![5], ..agreement(1.0) };
        let overflow = vec![weight("w", true, Some(-70000.0))];
        let with = |largest| {
            let mut all = calm();
            all.push(activation(2, "up", largest));
            all
        };
        type Row<'a> = (
            Vec<WeightRange>,
            Vec<ActivationRange>,
            Option<&'a Agreement>,
            Option<&'a Agreement>,
            F16Safety,
            &'a [&'a str],
        );
        let rows: Vec<Row> = vec![
            (fine(), calm(), Some(&good), None, Safe, &["layer 1 down", "40", "1637.6 times"]),
            (overflow, calm(), None, None, Unsafe, &["tensor w", "-70000", "65504"]),
            (fine(), with(None), Some(&good), Some(&good), Unsafe, &["layer 2 up", "f32"]),
            (fine(), calm(), Some(&bad), Some(&bad), Unsafe, &["weights", "text 7", "0.999000"]),
            (
                fine(),
                with(Some(109_400.0)),
                Some(&lost),
                Some(&good),
                SafeWithF32Activations,
                &["layer 2 up reaches 109400", "beyond 65504"],
            ),
            (
                fine(),
                with(Some(16_377.0)),
                Some(&good),
                Some(&good),
                SafeWithF32Activations,
                &["layer 2 up", "4.0 times", "only if it is at least 4 times smaller"],
            ),
            (fine(), with(Some(16_376.0)), Some(&good), None, Safe, &["layer 2 up", "4.0 times"]),
            (fine(), calm(), Some(&bad), Some(&good), SafeWithF32Activations, &["text 7"]),
            (fine(), calm(), Some(&lost), Some(&good), SafeWithF32Activations, &["text 5"]),
            (
                fine(),
                vec![],
                Some(&good),
                None,
                SafeWithF32Activations,
                &["no value of an activation"],
            ),
        ];
        for (at, (weights, activations, f16, alone, safety, words)) in rows.iter().enumerate() {
            let got = judge(weights, activations, *f16, *alone);
            assert_eq!(got.safety, *safety, "row {at}: {got:?}");
            for word in *words {
                assert!(got.decided_by.contains(word), "row {at}: no `{word}` in {got:?}");
            }
        }
    }
}
