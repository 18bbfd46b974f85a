//! Values to and from the bytes of each storage, with what was lost on the way.

use half::{bf16, f16};

use crate::dtype::Storage;

/// What rounding to a storage did to a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Loss {
    /// Values beyond the storage's range: they must not be used.
    pub overflowed: usize,
    /// The first of them.
    pub first_overflow: Option<f32>,
    /// Values that became zero or subnormal.
    pub flushed: usize,
    /// Infinities and NaNs in the source.
    pub non_finite: usize,
    /// The largest magnitude of the source.
    pub largest: f32,
}

impl Loss {
    fn see(&mut self, value: f32, stored: f32, storage: Storage) {
        if !value.is_finite() {
            self.non_finite += 1;
            return;
        }
        self.largest = self.largest.max(value.abs());
        if !stored.is_finite() {
            self.overflowed += 1;
            self.first_overflow.get_or_insert(value);
        }
        let smallest = match storage {
            Storage::F16 | Storage::PackedF16 => f16::MIN_POSITIVE.to_f32(),
            Storage::F32 | Storage::PackedBf16 => f32::MIN_POSITIVE,
        };
        if value != 0.0 && stored.abs() < smallest && stored != value {
            self.flushed += 1;
        }
    }

    /// Adds what happened to another part of the same tensor.
    pub fn add(&mut self, other: Loss) {
        self.overflowed += other.overflowed;
        self.first_overflow = self.first_overflow.or(other.first_overflow);
        self.flushed += other.flushed;
        self.non_finite += other.non_finite;
        self.largest = self.largest.max(other.largest);
    }
}

/// Appends values in a storage's format to `bytes`, rounding to nearest even.
pub fn encode(storage: Storage, values: &[f32], bytes: &mut Vec<u8>) -> Loss {
    let mut loss = Loss::default();
    bytes.reserve(values.len() * storage.bytes() as usize);
    for value in values {
        let stored = match storage {
            Storage::F32 => {
                bytes.extend_from_slice(&value.to_le_bytes());
                *value
            }
            Storage::F16 | Storage::PackedF16 => {
                let half = f16::from_f32(*value);
                bytes.extend_from_slice(&half.to_le_bytes());
                half.to_f32()
            }
            Storage::PackedBf16 => {
                let brain = bf16::from_f32(*value);
                bytes.extend_from_slice(&brain.to_le_bytes());
                brain.to_f32()
            }
        };
        loss.see(*value, stored, storage);
    }
    loss
}

/// The values that a storage's bytes stand for, exactly.
pub fn decode(storage: Storage, bytes: &[u8]) -> Vec<f32> {
    let pair = |b: &[u8]| u16::from_le_bytes([b[0], b[1]]);
    match storage {
        Storage::F32 => {
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        }
        Storage::F16 | Storage::PackedF16 => {
            bytes.chunks_exact(2).map(|b| f16::from_bits(pair(b)).to_f32()).collect()
        }
        Storage::PackedBf16 => {
            bytes.chunks_exact(2).map(|b| bf16::from_bits(pair(b)).to_f32()).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_storage_holds_comes_back_exactly() {
        let values = [0.0, -0.0, 1.0, -2.5, 65504.0, 6.1035156e-5, 5.9604645e-8];
        for storage in Storage::ALL {
            let mut once = Vec::new();
            encode(storage, &values, &mut once);
            let decoded = decode(storage, &once);
            let mut twice = Vec::new();
            let loss = encode(storage, &decoded, &mut twice);
            assert_eq!(once, twice, "{storage}");
            assert_eq!((loss.overflowed, loss.flushed), (0, 0), "{storage}");
        }
    }

    #[test]
    fn rounding_is_to_nearest_even() {
        // Halfway between two neighbours, to the even one: 2049 and 2051 for f16, 257 and 259 for bf16.
        for (storage, values, rounded) in [
            (Storage::PackedF16, [2049.0, 2051.0], [2048.0, 2052.0]),
            (Storage::PackedBf16, [257.0, 259.0], [256.0, 260.0]),
        ] {
            let mut bytes = Vec::new();
            encode(storage, &values, &mut bytes);
            assert_eq!(decode(storage, &bytes), rounded);
        }
    }

    #[test]
    fn losses_are_counted() {
        let values = [1.0, 65519.9, 65520.0, -1e30, 1e-7, 1e-30, 0.0, f32::NAN, f32::INFINITY];
        let mut bytes = Vec::new();
        let loss = encode(Storage::F16, &values, &mut bytes);
        assert_eq!(loss.overflowed, 2);
        assert_eq!(loss.first_overflow, Some(65520.0));
        assert_eq!(loss.flushed, 2);
        assert_eq!(loss.non_finite, 2);
        assert_eq!(loss.largest, 1e30);
        let loss = encode(Storage::PackedBf16, &[3.4e38, 3.39e38], &mut bytes);
        assert_eq!(loss.overflowed, 1);
    }
}
