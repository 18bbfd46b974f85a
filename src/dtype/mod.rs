//! The dtype policy: the only place where a dtype is chosen.
//!
//! `resolve` takes the caller's request, the checkpoint's dtype, the adapter's support for f16 and the facts of the
//! architecture. `resolve` returns a [`Precision`], and is a pure function. No other code reads a dtype from a config,
//! or checks whether the adapter supports f16.
//!
//! Products and sums are always f32; f16 and bf16 are storage types. Matrices and embedding tables have the storage
//! type of weights. Biases and norm weights stay f32, because they are about a thousandth of a model's bytes.

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

/// The dtype that the caller requests, like sentence-transformers' `model_kwargs={"dtype": …}`.
///
/// A request is parsed from `auto`, `float32`, `float16`, `bfloat16` or an alias: `f32`, `fp32`, `float`, `f16`,
/// `fp16`, `half`, `bf16`. Upper and lower case are equal, and names may have the prefix `torch.`.
///
/// ```
/// use vectile::DtypeRequest;
/// assert_eq!("torch.Half".parse(), Ok(DtypeRequest::Float16));
/// assert!("int8".parse::<DtypeRequest>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum DtypeRequest {
    /// Uses the checkpoint's dtype, as far as the adapter supports it.
    #[default]
    Auto,
    /// Uses f32 weights and activations, on any adapter.
    Float32,
    /// Uses f16 weights and activations on adapters with `SHADER_F16`.
    Float16,
    /// Uses bf16 weights, packed in pairs, on any adapter.
    Bfloat16,
}

impl DtypeRequest {
    /// Returns the name of the dtype in torch.
    pub fn name(self) -> &'static str {
        match self {
            DtypeRequest::Auto => "auto",
            DtypeRequest::Float32 => "float32",
            DtypeRequest::Float16 => "float16",
            DtypeRequest::Bfloat16 => "bfloat16",
        }
    }
}

/// Returns the float dtype that has this name or alias.
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
                    "`{name}` is not a dtype; supported: auto, float32 (f32, fp32, float), float16 (f16, \
                     fp16, half) or bfloat16 (bf16)"
                ),
            )
        })
    }
}

/// A storage type: the format of values in a GPU buffer. Every kernel is written once and runs with all four storage
/// types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Storage {
    /// `array<vec4<f32>>`, on any adapter.
    F32,
    /// `array<vec4<f16>>`, on adapters with `SHADER_F16`.
    F16,
    /// Pairs of f16 packed in `u32`, on any adapter.
    PackedF16,
    /// Pairs of bf16 packed in `u32`, on any adapter. This storage type is exact for bf16 checkpoints.
    PackedBf16,
}

impl Storage {
    /// All four storage types.
    pub const ALL: [Storage; 4] =
        [Storage::F32, Storage::F16, Storage::PackedF16, Storage::PackedBf16];

    /// Returns the size of one value in bytes.
    pub fn bytes(self) -> u64 {
        if self == Storage::F32 { 4 } else { 2 }
    }

    /// Returns the largest finite value.
    pub fn max(self) -> f32 {
        match self {
            Storage::F32 => f32::MAX,
            Storage::F16 | Storage::PackedF16 => 65504.0,
            Storage::PackedBf16 => half::bf16::MAX.to_f32(),
        }
    }

    /// Returns the name of the storage type, as reports and the file names of the storage shaders spell it.
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

/// The dtype of a checkpoint, and the source that states it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckpointDtype {
    /// The name of the dtype: `float32`, `float16` or `bfloat16`.
    pub dtype: FloatDtype,
    /// The config field or the tensor that states the dtype.
    pub source: String,
    /// Remarks that become part of the [`Precision`], for example on contradictory fields.
    #[serde(skip)]
    pub reasons: Vec<Reason>,
}

/// The float dtypes of checkpoints that Vectile distinguishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FloatDtype {
    /// IEEE single precision, 32 bits.
    Float32,
    /// IEEE half precision, 16 bits.
    Float16,
    /// The upper 16 bits of an f32.
    Bfloat16,
}

impl FloatDtype {
    /// Returns the name of the dtype in torch.
    pub fn name(self) -> &'static str {
        match self {
            FloatDtype::Float32 => "float32",
            FloatDtype::Float16 => "float16",
            FloatDtype::Bfloat16 => "bfloat16",
        }
    }
}

/// The source to report for a dtype that neither the config nor a tensor states.
const NO_DTYPE: &str = "the default, as neither config.json nor a tensor names a dtype,";

impl CheckpointDtype {
    /// Returns the dtype of a checkpoint. The field `dtype` in `config.json` states the dtype, or else `torch_dtype`,
    /// or else the same fields in `text_config`. If no field states it, the dtype is that of the first floating-point
    /// tensor, or else float32. `first_tensor` is the safetensors dtype and the name of that tensor.
    ///
    /// Null and unknown names count as missing. If `dtype` and `torch_dtype` differ, `dtype` takes precedence. A
    /// float64 checkpoint is computed in f32. A [`Reason`] is added if the two fields differ, and if the checkpoint is
    /// float64.
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
                None => ((FloatDtype::Float32, false), NO_DTYPE.to_owned()),
            },
            (None, None) => ((FloatDtype::Float32, false), NO_DTYPE.to_owned()),
        };
        if value.1 {
            reasons.push(Reason::Float64AsF32);
        }
        CheckpointDtype { dtype: value.0, source, reasons }
    }
}

/// Returns the float dtype that a config value or a safetensors dtype names, and whether the name was that of float64.
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

/// Whether Vectile can use the adapter's `SHADER_F16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ShaderF16 {
    /// The adapter has `SHADER_F16`, and `SHADER_F16` passed its known-answer test.
    Passed,
    /// The adapter lacks `SHADER_F16`.
    Absent,
    /// The caller disabled `SHADER_F16`.
    Disabled,
    /// The adapter has `SHADER_F16`, but `SHADER_F16` failed its known-answer test.
    FailedSelfTest,
    /// The model runs on the CPU, which runs no shaders. The CPU widens weights where it uses them, and its activations
    /// are f32.
    NoShaders,
}

/// The facts about f16 that an architecture in `models/` states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct F16Facts {
    /// True if the architecture's activations are known to exceed 65504, the largest f16, or are not known to stay
    /// below it. The measurement of a model ([`F16Verdict`]) takes precedence over this value.
    pub activations_unsafe: bool,
}

/// The storage type that replaces f16 on an adapter without `SHADER_F16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum HalfFallback {
    /// Widens values to f32. This is exact and takes twice the memory.
    #[default]
    F32,
    /// Keeps 16 bits, with pairs of values packed in `u32`.
    Packed,
    /// Returns an error at load. With this choice, a benchmark of f16 fails on such an adapter and does not measure
    /// f32.
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
                format!("`{name}` is not a half fallback; supported: `f32`, `packed` and `error`"),
            )),
        }
    }
}

/// The caller's choice of the storage type of activations, which overrides the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ActivationsRequest {
    /// Stores activations in f32.
    F32,
    /// Stores activations in f16 if `SHADER_F16` passed its test, or else in packed f16. On the CPU they stay f32.
    F16,
}

impl FromStr for ActivationsRequest {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match float_named(name) {
            Some(DtypeRequest::Float32) => Ok(ActivationsRequest::F32),
            Some(DtypeRequest::Float16) => Ok(ActivationsRequest::F16),
            _ => Err(Error::option(
                "activations",
                format!(
                    "`{name}` is not a storage type of activations; supported: `f32` and `f16`"
                ),
            )),
        }
    }
}

/// The caller's options that affect the choice of dtypes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DtypeOptions {
    /// The requested dtype of the model.
    pub dtype: DtypeRequest,
    /// The storage type that replaces f16 on an adapter without `SHADER_F16`.
    pub half_fallback: HalfFallback,
    /// The storage type of activations. `None` leaves the choice to the policy.
    pub activations: Option<ActivationsRequest>,
}
