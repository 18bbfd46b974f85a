//! The result of measuring whether a model is safe in f16, which is an input of [`resolve`](super::resolve). `vectile
//! verify` makes this measurement.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The parts of a model that are safe in f16, according to a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum F16Safety {
    /// f16 is safe for weights and activations.
    Safe,
    /// f16 is safe for weights, but activations come close to the largest f16 or exceed it.
    SafeWithF32Activations,
    /// f16 is not safe: a weight exceeds the largest f16, or vectors are wrong with f16 weights alone.
    Unsafe,
}

/// The result of measuring whether a model is safe in f16, and the part of the model that decided it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct F16Verdict {
    /// The parts of the model that are safe in f16.
    pub safety: F16Safety,
    /// The layer, tensor or text that decided the result, with its value, such as `layer 0 up reaches 109400`.
    pub decided_by: String,
}

impl fmt::Display for F16Safety {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            F16Safety::Safe => "safe",
            F16Safety::SafeWithF32Activations => "safe with f32 activations",
            F16Safety::Unsafe => "unsafe",
        })
    }
}
