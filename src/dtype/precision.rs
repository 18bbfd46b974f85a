//! The chosen precision, and the reasons for it.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::dtype::{CheckpointDtype, DtypeRequest, F16Verdict, Storage};

/// A reason why a precision differs from the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The adapter lacks `SHADER_F16`.
    AdapterNoShaderF16,
    /// The CPU stores activations in f32.
    CpuActivationsF32,
    /// The caller disabled `SHADER_F16`.
    ShaderF16Disabled,
    /// `SHADER_F16` gave wrong results in its known-answer test on this adapter.
    ShaderF16FailedSelfTest,
    /// The architecture's activations exceed the largest f16.
    ActivationsUnsafeInF16,
    /// `vectile verify` measured activations close to or above the largest f16. The field `measured` of the
    /// [`Precision`] names the layer.
    ActivationsMeasuredUnsafeInF16,
    /// `vectile verify` found weights that f16 cannot represent. The field `measured` of the [`Precision`] names them.
    WeightsMeasuredUnsafeInF16,
    /// `vectile verify` measured that this model stays within the range of f16, although its architecture may exceed
    /// it.
    MeasuredSafeInF16,
    /// The checkpoint has another dtype, and its weights were rounded to bf16.
    RoundedToBf16,
    /// The checkpoint has another dtype, and its weights were rounded to f16.
    RoundedToF16,
    /// The caller chose the storage type of activations.
    ActivationsRequested,
    /// The config's `dtype` and `torch_dtype` differ, so `dtype` takes precedence.
    DtypeOverTorchDtype,
    /// The checkpoint is float64, which is computed in f32.
    Float64AsF32,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::AdapterNoShaderF16 => "the adapter has no SHADER_F16",
            Reason::CpuActivationsF32 => "the CPU stores activations in f32",
            Reason::ShaderF16Disabled => "SHADER_F16 was disabled",
            Reason::ShaderF16FailedSelfTest => "SHADER_F16 failed its self-test on this adapter",
            Reason::ActivationsUnsafeInF16 => {
                "activations of this architecture exceed the range of f16"
            }
            Reason::ActivationsMeasuredUnsafeInF16 => {
                "a measurement found the activations too large for f16"
            }
            Reason::WeightsMeasuredUnsafeInF16 => {
                "a measurement found that the weights cannot safely be rounded to f16"
            }
            Reason::MeasuredSafeInF16 => "a measurement found the model safe in f16",
            Reason::RoundedToBf16 => "weights are rounded to bf16",
            Reason::RoundedToF16 => "weights are rounded to f16",
            Reason::ActivationsRequested => "activations are stored as requested",
            Reason::DtypeOverTorchDtype => {
                "`dtype` and `torch_dtype` of config.json differ, and `dtype` takes precedence"
            }
            Reason::Float64AsF32 => "float64 weights are converted to f32",
        })
    }
}

/// The precision in which a model runs: the request, the choice, and the reasons for the choice.
///
/// A precision is displayed as one sentence and serialised as JSON. `inspect`, the log at load and every report use the
/// same object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Precision {
    /// The dtype that the caller requested.
    pub requested: DtypeRequest,
    /// The checkpoint's dtype, and the source that states it.
    pub checkpoint: CheckpointDtype,
    /// The storage type of matrices and tables.
    pub weights: Storage,
    /// The storage type of activations between kernels.
    pub activations: Storage,
    /// The total size in bytes of the weights on the adapter and the tables on the host. The number is 0 before the
    /// model is loaded.
    pub weight_bytes: u64,
    /// The reasons why the choice differs from the request.
    pub reasons: Vec<Reason>,
    /// The stored result of `vectile verify` on the model; `None` if there is no result, or if the choice does not
    /// depend on f16.
    pub measured: Option<F16Verdict>,
}

impl Precision {
    /// Returns whether texts whose activations overflow f16 are run again with f32 activations. This happens if the
    /// requested dtype is `auto`, unless the caller chose the storage type of activations.
    pub fn retries_in_f32(&self) -> bool {
        self.requested == DtypeRequest::Auto
            && self.activations != Storage::F32
            && !self.reasons.contains(&Reason::ActivationsRequested)
    }

    /// Returns the storage type of products and sums, which is always f32.
    pub fn accumulate(&self) -> Storage {
        Storage::F32
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} weights, {} activations, f32 sums, because ",
            self.weights, self.activations
        )?;
        if self.requested == DtypeRequest::Auto {
            write!(f, "{} is {}", self.checkpoint.source, self.checkpoint.dtype.name())?;
        } else {
            write!(f, "{} was requested", self.requested.name())?;
        }
        for reason in &self.reasons {
            write!(f, "; {reason}")?;
            let measured = matches!(
                reason,
                Reason::ActivationsMeasuredUnsafeInF16
                    | Reason::WeightsMeasuredUnsafeInF16
                    | Reason::MeasuredSafeInF16
            );
            if let Some(verdict) = self.measured.as_ref().filter(|_| measured) {
                write!(f, " ({})", verdict.decided_by)?;
            }
        }
        Ok(())
    }
}

impl Serialize for Precision {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut s = serializer.serialize_struct("Precision", 8)?;
        s.serialize_field("requested", self.requested.name())?;
        s.serialize_field("checkpoint", &self.checkpoint)?;
        s.serialize_field("weights", &self.weights)?;
        s.serialize_field("activations", &self.activations)?;
        s.serialize_field("accumulate", &self.accumulate())?;
        s.serialize_field("weight_bytes", &self.weight_bytes)?;
        s.serialize_field("reasons", &self.reasons)?;
        s.serialize_field("measured", &self.measured)?;
        s.end()
    }
}
