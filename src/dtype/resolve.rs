//! The dtype policy as a table.

use crate::dtype::{
    ActivationsRequest, CheckpointDtype, DtypeOptions, DtypeRequest, F16Facts, F16Safety,
    F16Verdict, FloatDtype, HalfFallback, Precision, Reason, ShaderF16, Storage,
};
use crate::error::Error;

/// Chooses the storage types of a model's weights and activations.
///
/// Column A applies if the adapter has `SHADER_F16` and `SHADER_F16` passed its known-answer test. An entry is the
/// storage type of both weights and activations, except that activations are F32 where weights are packed.
///
/// | requested | checkpoint | A | not A |
/// |---|---|---|---|
/// | auto | f32 | F32 | F32 |
/// | auto | f16 | F16 | half fallback |
/// | auto | bf16 | PackedBf16 | PackedBf16 |
/// | float32 | any | F32 | F32 |
/// | float16 | any | F16 | half fallback |
/// | bfloat16 | any | PackedBf16 | PackedBf16 |
///
/// The half fallback is F32 (widened exactly), PackedF16 or an error, as the caller chooses. If the architecture's
/// activations are unsafe in f16, F16 applies only to the weights. If the caller chooses f16 activations, they are F16
/// where column A applies and PackedF16 otherwise, whatever the architecture. If the caller chooses f32 activations,
/// they are F32.
///
/// On the CPU, weights have the storage type in column A, and activations are always F32. On the CPU, the half fallback
/// matters only if it is an error.
///
/// The result of measuring the model itself, `measured`, takes precedence over the facts of its architecture. With
/// `Safe`, F16 applies to weights and activations. With `SafeWithF32Activations`, F16 applies only to the weights. With
/// `Unsafe`, F16 and PackedF16 become F32, or an error if the half fallback is an error.
///
/// # Errors
/// Returns [`Error::Option`] if f16 is wanted but unusable on this adapter or for this model, and the half fallback is
/// [`HalfFallback::Error`].
pub fn resolve(
    options: DtypeOptions,
    checkpoint: CheckpointDtype,
    shader_f16: ShaderF16,
    facts: F16Facts,
    measured: Option<&F16Verdict>,
) -> Result<Precision, Error> {
    let mut reasons = checkpoint.reasons.clone();
    let wanted = wanted(options.dtype, &checkpoint);
    let safety = measured.map(|verdict| verdict.safety);
    let at_risk = match safety {
        Some(F16Safety::Safe) => None,
        Some(_) => Some(Reason::ActivationsMeasuredUnsafeInF16),
        None => facts.activations_unsafe.then_some(Reason::ActivationsUnsafeInF16),
    };
    let unfit = (safety == Some(F16Safety::Unsafe)).then_some(Reason::WeightsMeasuredUnsafeInF16);
    let lacking = match shader_f16 {
        ShaderF16::Passed => None,
        ShaderF16::NoShaders => Some(Reason::CpuActivationsF32),
        ShaderF16::Absent => Some(Reason::AdapterNoShaderF16),
        ShaderF16::Disabled => Some(Reason::ShaderF16Disabled),
        ShaderF16::FailedSelfTest => Some(Reason::ShaderF16FailedSelfTest),
    };
    let on_cpu = shader_f16 == ShaderF16::NoShaders;
    let (weights, mut activations) = match wanted {
        FloatDtype::Float32 => (Storage::F32, Storage::F32),
        FloatDtype::Bfloat16 => (Storage::PackedBf16, Storage::F32),
        FloatDtype::Float16 => match (unfit.or(lacking), options.half_fallback) {
            (None, _) => match at_risk {
                Some(reason) => {
                    reasons.push(reason);
                    (Storage::F16, Storage::F32)
                }
                None => {
                    if facts.activations_unsafe {
                        reasons.push(Reason::MeasuredSafeInF16);
                    }
                    (Storage::F16, Storage::F16)
                }
            },
            (Some(reason), HalfFallback::F32 | HalfFallback::Packed)
                if on_cpu && unfit.is_none() =>
            {
                reasons.push(reason);
                (Storage::F16, Storage::F32)
            }
            (Some(reason), HalfFallback::Packed) if unfit.is_none() => {
                reasons.push(reason);
                (Storage::PackedF16, Storage::F32)
            }
            (Some(reason), HalfFallback::F32 | HalfFallback::Packed) => {
                reasons.push(reason);
                (Storage::F32, Storage::F32)
            }
            (Some(reason), HalfFallback::Error) => {
                return Err(Error::option(
                    "dtype",
                    format!(
                        "float16 was requested, but {reason}; set the half fallback to `f32` or \
                         `packed`, or the dtype to `float32`"
                    ),
                ));
            }
        },
    };
    if weights != Storage::F32 && wanted != checkpoint.dtype {
        reasons.push(match wanted {
            FloatDtype::Bfloat16 => Reason::RoundedToBf16,
            _ => Reason::RoundedToF16,
        });
    }
    match options.activations {
        None => {}
        Some(ActivationsRequest::F32) => {
            activations = Storage::F32;
            reasons.push(Reason::ActivationsRequested);
        }
        Some(ActivationsRequest::F16) if on_cpu => {
            let reason = Reason::CpuActivationsF32;
            reasons.extend((!reasons.contains(&reason)).then_some(reason));
        }
        Some(ActivationsRequest::F16) => {
            activations = if lacking.is_none() { Storage::F16 } else { Storage::PackedF16 };
            // The caller's request overrides the policy's choice of activations, so reasons for that choice are
            // removed.
            reasons.retain(|reason| {
                *reason != Reason::ActivationsUnsafeInF16
                    && *reason != Reason::ActivationsMeasuredUnsafeInF16
                    && *reason != Reason::MeasuredSafeInF16
            });
            reasons.push(Reason::ActivationsRequested);
        }
    }
    Ok(Precision {
        requested: options.dtype,
        checkpoint,
        weights,
        activations,
        weight_bytes: 0,
        reasons,
        measured: measured.cloned(),
    })
}

/// Returns true if the result of [`resolve`] can depend on the adapter's support for f16, or on a measurement of the
/// model. Otherwise, the caller of [`resolve`] need not determine either of them.
pub fn needs_f16(options: DtypeOptions, checkpoint: &CheckpointDtype) -> bool {
    wanted(options.dtype, checkpoint) == FloatDtype::Float16
        || options.activations == Some(ActivationsRequest::F16)
}

fn wanted(requested: DtypeRequest, checkpoint: &CheckpointDtype) -> FloatDtype {
    match requested {
        DtypeRequest::Auto => checkpoint.dtype,
        DtypeRequest::Float32 => FloatDtype::Float32,
        DtypeRequest::Float16 => FloatDtype::Float16,
        DtypeRequest::Bfloat16 => FloatDtype::Bfloat16,
    }
}
