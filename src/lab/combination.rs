//! Defines the precisions that a bench compares. A precision combines a storage type of weights with a storage type of
//! activations.

use std::fmt;
use std::str::FromStr;

use crate::dtype::{ActivationsRequest, DtypeRequest, HalfFallback, Storage};
use crate::embedder::EmbedderBuilder;
use crate::error::Error;
use crate::gpu::adapter::Feature;

/// A precision: the storage types of the weights and of the activations. A precision is written as
/// `weights/activations`, such as `f16/f32`. The short text `weights`, such as `f16`, means the default storage type of
/// activations for these weights.
///
/// ```
/// use vectile::lab::Combination;
/// let wide: Combination = "f16/f32".parse()?;
/// assert_eq!(wide.to_string(), "f16/f32");
/// assert_eq!("f16/f16".parse::<Combination>()?.to_string(), "f16");
/// # Ok::<(), vectile::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Combination {
    /// The storage type of the weights.
    pub weights: Storage,
    /// The storage type of the activations.
    pub activations: Storage,
}

/// Returns the storage type of activations that the dtype policy uses by default for weights of this storage type.
fn usual_activations(weights: Storage) -> Storage {
    if weights == Storage::F16 { Storage::F16 } else { Storage::F32 }
}

impl Combination {
    /// The precision f32, with which all other precisions are compared.
    pub const F32: Combination = Combination { weights: Storage::F32, activations: Storage::F32 };

    /// Returns the default precisions of a bench. If `quick` is true, there are fewer precisions.
    pub fn usual(quick: bool) -> Vec<Combination> {
        let of = |weights, activations| Combination { weights, activations };
        let mut all = vec![
            Combination::F32,
            of(Storage::F16, Storage::F16),
            of(Storage::PackedF16, Storage::F32),
            of(Storage::PackedBf16, Storage::F32),
        ];
        if !quick {
            all.insert(2, of(Storage::F16, Storage::F32));
            all.insert(4, of(Storage::PackedF16, Storage::PackedF16));
        }
        all
    }

    /// Returns the builder with settings that request this precision. The dtype policy may refuse the precision or
    /// replace it, so the caller must check the precision of the loaded model.
    pub fn request(self, builder: EmbedderBuilder, disabled: &[Feature]) -> EmbedderBuilder {
        let mut disabled = disabled.to_vec();
        if (self.weights == Storage::PackedF16 || self.activations == Storage::PackedF16)
            && !disabled.contains(&Feature::ShaderF16)
        {
            disabled.push(Feature::ShaderF16);
        }
        let (dtype, fallback) = match self.weights {
            Storage::F32 => (DtypeRequest::Float32, HalfFallback::Error),
            Storage::F16 => (DtypeRequest::Float16, HalfFallback::Error),
            Storage::PackedF16 => (DtypeRequest::Float16, HalfFallback::Packed),
            Storage::PackedBf16 => (DtypeRequest::Bfloat16, HalfFallback::Error),
        };
        let builder = builder.dtype(dtype).half_fallback(fallback).disable(disabled);
        if self.activations == usual_activations(self.weights) {
            return builder;
        }
        builder.activations(match self.activations {
            Storage::F32 => ActivationsRequest::F32,
            _ => ActivationsRequest::F16,
        })
    }
}

impl fmt::Display for Combination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.weights.name())?;
        if self.activations == usual_activations(self.weights) {
            return Ok(());
        }
        write!(f, "/{}", self.activations.name())
    }
}

impl FromStr for Combination {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let named = |name: &str| {
            let name = name.trim().to_ascii_lowercase().replace('-', "_");
            Storage::ALL.into_iter().find(|storage| storage.name() == name)
        };
        let (weights, activations) = match text.split_once('/') {
            Some((weights, activations)) => (named(weights), Some(named(activations))),
            None => (named(text), None),
        };
        let found = match (weights, activations) {
            (Some(weights), None) => {
                Some(Combination { weights, activations: usual_activations(weights) })
            }
            (Some(weights), Some(Some(activations))) => Some(Combination { weights, activations }),
            _ => None,
        };
        // Native f16 and packed f16 cannot be combined in one precision.
        let possible = |c: &Combination| {
            use Storage::{F16, PackedBf16, PackedF16};
            c.activations != PackedBf16
                && !matches!((c.weights, c.activations), (F16, PackedF16) | (PackedF16, F16))
        };
        found.filter(possible).ok_or_else(|| {
            let problem = format!(
                "`{text}` is not a precision; use f32, f16, packed_f16 or packed_bf16, optionally followed \
                 by /f32, /f16 or /packed_f16 for activations (f16 and packed_f16 cannot be combined)"
            );
            Error::option("precisions", problem)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_to_the_same_precision() {
        for quick in [false, true] {
            for combination in Combination::usual(quick) {
                assert_eq!(combination.to_string().parse(), Ok(combination));
            }
        }
        for (text, name) in [
            ("F32", "f32"),
            ("f16/f32", "f16/f32"),
            ("f16/f16", "f16"),
            ("packed-f16", "packed_f16"),
            ("packed_f16/f32", "packed_f16"),
            ("packed_bf16/f16", "packed_bf16/f16"),
            ("f32/packed_f16", "f32/packed_f16"),
        ] {
            assert_eq!(text.parse::<Combination>().unwrap().to_string(), name);
        }
        for bad in
            ["", "bf16", "f16/packed_f16", "packed_f16/f16", "f32/packed_bf16", "f16/", "/f32"]
        {
            assert!(bad.parse::<Combination>().is_err(), "{bad}");
        }
    }
}
