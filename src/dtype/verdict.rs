//! The verdict of `vectile verify` on a model's range, an input of [`resolve`](super::resolve).

use std::fmt;

use serde::{Deserialize, Serialize};

/// How far a model was measured to be safe in f16.
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

/// A measured verdict on f16, and the part of the model that decided it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct F16Verdict {
    /// How far f16 is safe for the model.
    pub safety: F16Safety,
    /// The layer, tensor or text that decided the verdict, with its value, such as `layer 0 up reaches 109400`.
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
