//! What `vectile verify` measured of a model's range, as an input of [`resolve`](super::resolve).

use std::fmt;

use serde::{Deserialize, Serialize};

/// How much of f16 a model was measured to bear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum F16Safety {
    /// f16 weights and activations.
    Safe,
    /// f16 weights; activations come near the largest f16 or pass it.
    SafeWithF32Activations,
    /// Neither: a weight is beyond the largest f16, or vectors are off with f16 weights alone.
    Unsafe,
}

/// A measured verdict on f16, and what of the model decided it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct F16Verdict {
    /// How much of f16 the model bears.
    pub safety: F16Safety,
    /// The layer, tensor or text that decided, with its measure: `layer 0 up reaches 109400`.
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
