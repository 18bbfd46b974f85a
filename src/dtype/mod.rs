//! The dtype policy: the one place a dtype is chosen.
//!
//! `resolve` takes what the caller asked for, what the checkpoint holds, what the adapter can do
//! and what the architecture needs, and returns a [`Precision`]. It is a pure function. After it,
//! nothing in the program reads a dtype from a config or asks the adapter again.
//!
//! Products and sums are always f32: f16 and bf16 are *storage* formats. Matrices and embedding
//! tables take the weight storage; biases and norm weights, a thousandth of the bytes, stay f32.

mod precision;
mod resolve;
#[cfg(test)]
mod tests;
mod verdict;

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::error::Error;

pub use precision::{Precision, Reason};
pub use resolve::{needs_f16, resolve};
pub use verdict::{F16Safety, F16Verdict};

/// What the caller asks for: sentence-transformers' `model_kwargs={"dtype": …}`.
///
/// Parses from `auto`, `float32`, `float16`, `bfloat16`, their aliases (`f32`, `fp32`, `float`,
/// `f16`, `fp16`, `half`, `bf16`), in any case and with a `torch.` prefix.
///
/// ```
/// use vectile::DtypeRequest;
/// assert_eq!("torch.Half".parse(), Ok(DtypeRequest::Float16));
/// assert!("int8".parse::<DtypeRequest>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum DtypeRequest {
    /// What the checkpoint names, as far as the adapter can hold it.
    #[default]
    Auto,
    /// f32 weights and activations on any adapter.
    Float32,
    /// f16 weights and activations where the adapter has `SHADER_F16`.
    Float16,
    /// bf16 weights, packed, on any adapter.
    Bfloat16,
}

impl DtypeRequest {
    /// The name torch gives it.
    pub fn name(self) -> &'static str {
        match self {
            DtypeRequest::Auto => "auto",
            DtypeRequest::Float32 => "float32",
            DtypeRequest::Float16 => "float16",
            DtypeRequest::Bfloat16 => "bfloat16",
        }
    }
}

/// The float dtype that a name stands for, `None` for any other name.
fn float_named(name: &str) -> Option<DtypeRequest> {
    let name = name.trim().to_ascii_lowercase();
    match name.strip_prefix("torch.").unwrap_or(&name) {
        "float32" | "f32" | "fp32" | "float" => Some(DtypeRequest::Float32),
        "float16" | "f16" | "fp16" | "half" => Some(DtypeRequest::Float16),
        "bfloat16" | "bf16" => Some(DtypeRequest::Bfloat16),
        _ => None,
    }
}

impl FromStr for DtypeRequest {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        if name.trim().eq_ignore_ascii_case("auto") {
            return Ok(DtypeRequest::Auto);
        }
        float_named(name).ok_or_else(|| {
            Error::option(
                "dtype",
                format!(
                    "`{name}` is not a dtype; use auto, float32 (f32, fp32, float), float16 (f16, \
                     fp16, half) or bfloat16 (bf16)"
                ),
            )
        })
    }
}

/// A GPU buffer format. Every kernel is written once and runs over all four.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Storage {
    /// `array<vec4<f32>>`, any adapter.
    F32,
    /// `array<vec4<f16>>`, needs `SHADER_F16`.
    F16,
    /// Half floats in pairs in `u32`: f16 storage on adapters without `SHADER_F16`.
    PackedF16,
    /// bfloat16 in pairs in `u32`: exact for bf16 checkpoints, any adapter.
    PackedBf16,
}

impl Storage {
    /// All four.
    pub const ALL: [Storage; 4] =
        [Storage::F32, Storage::F16, Storage::PackedF16, Storage::PackedBf16];

    /// Bytes a value takes.
    pub fn bytes(self) -> u64 {
        if self == Storage::F32 { 4 } else { 2 }
    }

    /// The largest finite value it holds.
    pub fn max(self) -> f32 {
        match self {
            Storage::F32 => f32::MAX,
            Storage::F16 | Storage::PackedF16 => 65504.0,
            Storage::PackedBf16 => half::bf16::MAX.to_f32(),
        }
    }

    /// Its name in reports and in the names of the storage shaders.
    pub fn name(self) -> &'static str {
        match self {
            Storage::F32 => "f32",
            Storage::F16 => "f16",
            Storage::PackedF16 => "packed_f16",
            Storage::PackedBf16 => "packed_bf16",
        }
    }
}

impl fmt::Display for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name().replace('_', " "))
    }
}

impl Serialize for Storage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// The dtype a checkpoint names, and where it says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckpointDtype {
    /// `float32`, `float16` or `bfloat16`.
    pub dtype: FloatDtype,
    /// The config key or the tensor that decided.
    pub source: String,
    /// What was odd about it.
    #[serde(skip)]
    pub reasons: Vec<Reason>,
}

/// The float dtypes of checkpoints that Vectile tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FloatDtype {
    /// IEEE single.
    Float32,
    /// IEEE half.
    Float16,
    /// The upper half of an f32.
    Bfloat16,
}

impl FloatDtype {
    /// The name torch gives it.
    pub fn name(self) -> &'static str {
        match self {
            FloatDtype::Float32 => "float32",
            FloatDtype::Float16 => "float16",
            FloatDtype::Bfloat16 => "bfloat16",
        }
    }
}

impl CheckpointDtype {
    /// From `config.json`'s fields: `dtype`, else `torch_dtype`, else the same under `text_config`, else the
    /// first floating tensor (`safetensors` name of its dtype and its own name), else float32.
    ///
    /// Null and unknown names count as unset. Where both keys are there and differ, `dtype` wins and
    /// the reason says so. float64 is computed in f32, which the reason says too.
    pub fn find<'a>(
        config: impl Fn(&str) -> Option<&'a serde_json::Value>,
        first_tensor: Option<(&str, &str)>,
    ) -> Self {
        let float = |value: &serde_json::Value| value.as_str().and_then(known_float);
        let nested = |key| config("text_config").and_then(|text| text.get(key)).and_then(float);
        let found = [
            (config("dtype").and_then(float), "config.json dtype"),
            (config("torch_dtype").and_then(float), "config.json torch_dtype"),
            (nested("dtype"), "config.json text_config.dtype"),
            (nested("torch_dtype"), "config.json text_config.torch_dtype"),
        ];
        let mut reasons = Vec::new();
        if let (Some(a), Some(b)) = (&found[0].0, &found[1].0)
            && a.0 != b.0
        {
            reasons.push(Reason::DtypeOverTorchDtype);
        }
        let named = found.into_iter().find_map(|(value, source)| value.map(|v| (v, source)));
        let (value, source) = match (named, first_tensor) {
            (Some((value, source)), _) => (value, source.to_owned()),
            (None, Some((dtype, tensor))) => match known_float(dtype) {
                Some(value) => (value, format!("the first tensor ({tensor})")),
                None => ((FloatDtype::Float32, false), "what names no dtype".to_owned()),
            },
            (None, None) => ((FloatDtype::Float32, false), "what names no dtype".to_owned()),
        };
        if value.1 {
            reasons.push(Reason::Float64AsF32);
        }
        CheckpointDtype { dtype: value.0, source, reasons }
    }
}

/// The float dtype of a config value or of a safetensors dtype, and whether it stands for float64.
fn known_float(name: &str) -> Option<(FloatDtype, bool)> {
    if ["float64", "torch.float64", "f64", "double"].contains(&name.to_ascii_lowercase().as_str()) {
        return Some((FloatDtype::Float32, true));
    }
    match float_named(name)? {
        DtypeRequest::Float16 => Some((FloatDtype::Float16, false)),
        DtypeRequest::Bfloat16 => Some((FloatDtype::Bfloat16, false)),
        _ => Some((FloatDtype::Float32, false)),
    }
}

/// What the adapter offers for f16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ShaderF16 {
    /// The adapter has `SHADER_F16`, and it passed the known-answer test.
    Passed,
    /// The adapter lacks `SHADER_F16`.
    Absent,
    /// The caller disabled it.
    Disabled,
    /// The adapter has `SHADER_F16`, but gave wrong answers.
    FailedSelfTest,
}

/// What an architecture says about f16, from `models/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct F16Facts {
    /// Its activations are known to pass 65504, the largest f16, or not known to stay below it. A
    /// measured [`F16Verdict`] on the model itself overrides this.
    pub activations_unsafe: bool,
}

/// What becomes of f16 on an adapter without `SHADER_F16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum HalfFallback {
    /// Widen to f32, exactly: twice the memory.
    #[default]
    F32,
    /// Keep 16 bits, packed in `u32`.
    Packed,
    /// Refuse: nobody then times f32 believing it is f16.
    Error,
}

impl FromStr for HalfFallback {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name.to_ascii_lowercase().as_str() {
            "f32" | "float32" => Ok(HalfFallback::F32),
            "packed" => Ok(HalfFallback::Packed),
            "error" => Ok(HalfFallback::Error),
            _ => Err(Error::option(
                "half-fallback",
                format!("`{name}` is unknown; use f32, packed or error"),
            )),
        }
    }
}

/// How activations are stored, where the caller overrides the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ActivationsRequest {
    /// 32 bits.
    F32,
    /// 16 bits: F16 where `SHADER_F16` is trusted, else packed.
    F16,
}

impl FromStr for ActivationsRequest {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match float_named(name) {
            Some(DtypeRequest::Float32) => Ok(ActivationsRequest::F32),
            Some(DtypeRequest::Float16) => Ok(ActivationsRequest::F16),
            _ => Err(Error::option("activations", format!("`{name}` is unknown; use f32 or f16"))),
        }
    }
}

/// Everything the caller may say about dtypes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DtypeOptions {
    /// The dtype of the model.
    pub dtype: DtypeRequest,
    /// What to do without `SHADER_F16`.
    pub half_fallback: HalfFallback,
    /// How to store activations; `None` leaves it to the policy.
    pub activations: Option<ActivationsRequest>,
}
