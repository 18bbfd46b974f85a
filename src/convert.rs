//! Converts f32 values to and from the bytes of each storage type, and counts the values that rounding damaged.

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};

use crate::dtype::Storage;

/// The number of values in a block. The values of a block are examined one by one only if rounding damages at least one
/// of them.
const SCAN: usize = 64;

/// The losses from rounding a tensor to a storage type.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Loss {
    /// The number of values outside the range of the storage type. If it is not zero, the tensor must not be used.
    pub overflowed: usize,
    /// The first of these values in the tensor's order; `None` if there is none.
    pub first_overflow: Option<f32>,
    /// The number of values that became zero or subnormal.
    pub flushed: usize,
    /// The number of infinities and NaNs in the source.
    pub non_finite: usize,
    /// The largest magnitude among the source values.
    pub largest: f32,
}

impl Loss {
    /// Returns the losses from rounding these values to `storage`.
    fn of(storage: Storage, values: &[f32]) -> Self {
        // `too_large` is the smallest magnitude that is stored as infinity, and `normal` is the smallest normal number.
        // Both are bit patterns of f32 values, which sort in the same order as the magnitudes.
        let (too_large, normal) = match storage {
            Storage::F32 => (f32::INFINITY.to_bits(), 0),
            Storage::F16 | Storage::PackedF16 => {
                (65520f32.to_bits(), f16::MIN_POSITIVE.to_f32().to_bits())
            }
            // A magnitude rounds to infinity if it is at least half a step above the largest bf16 value.
            Storage::PackedBf16 => {
                (bf16::MAX.to_f32().to_bits() + 0x8000, f32::MIN_POSITIVE.to_bits())
            }
        };
        let mut loss = Loss::default();
        let mut largest = 0;
        for values in values.chunks(SCAN) {
            let mut block_max = 0;
            let mut small = false;
            for value in values {
                let magnitude = value.to_bits() & 0x7fff_ffff;
                block_max = block_max.max(magnitude);
                small |= (1..normal).contains(&magnitude);
            }
            if block_max < too_large && !small {
                largest = largest.max(block_max);
            } else {
                values.iter().for_each(|value| loss.see(*value, storage));
            }
        }
        loss.largest = loss.largest.max(f32::from_bits(largest));
        loss
    }

    /// Returns the losses of values that are stored as `storage` already. Nothing is rounded, so only infinities and
    /// NaNs are counted.
    pub(crate) fn none_of(storage: Storage, bytes: &[u8]) -> Self {
        let (halves, infinite) = match storage {
            Storage::F32 => return Loss::of(storage, &decode(storage, bytes)),
            Storage::F16 | Storage::PackedF16 => (bytes, f16::INFINITY.to_bits()),
            Storage::PackedBf16 => (bytes, bf16::INFINITY.to_bits()),
        };
        let halves: Vec<u16> = bytemuck::pod_collect_to_vec(halves);
        let largest = halves.iter().fold(0, |largest: u16, bits| largest.max(bits & 0x7fff));
        match largest < infinite {
            true => Loss {
                largest: decode(storage, &largest.to_le_bytes()).first().copied().unwrap_or(0.0),
                ..Loss::default()
            },
            false => Loss::of(storage, &decode(storage, bytes)),
        }
    }

    fn see(&mut self, value: f32, storage: Storage) {
        if !value.is_finite() {
            self.non_finite += 1;
            return;
        }
        let (stored, smallest) = match storage {
            Storage::F32 => (value, f32::MIN_POSITIVE),
            Storage::F16 | Storage::PackedF16 => {
                (f16::from_f32(value).to_f32(), f16::MIN_POSITIVE.to_f32())
            }
            Storage::PackedBf16 => (bf16::from_f32(value).to_f32(), f32::MIN_POSITIVE),
        };
        self.largest = self.largest.max(value.abs());
        if !stored.is_finite() {
            self.overflowed += 1;
            self.first_overflow.get_or_insert(value);
        }
        if value != 0.0 && stored.abs() < smallest && stored != value {
            self.flushed += 1;
        }
    }

    /// Adds the losses from another part of the same tensor.
    pub fn add(&mut self, other: Loss) {
        self.overflowed += other.overflowed;
        self.first_overflow = self.first_overflow.or(other.first_overflow);
        self.flushed += other.flushed;
        self.non_finite += other.non_finite;
        self.largest = self.largest.max(other.largest);
    }
}

/// Rounds values to the nearest value of the storage type, ties to even, and appends the bytes to `bytes`. Returns the
/// losses.
pub fn encode(storage: Storage, values: &[f32], bytes: &mut Vec<u8>) -> Loss {
    match storage {
        Storage::F32 => bytes.extend_from_slice(bytemuck::cast_slice(values)),
        Storage::F16 | Storage::PackedF16 => {
            let mut stored = vec![0u16; values.len()];
            stored.reinterpret_cast_mut::<f16>().convert_from_f32_slice(values);
            bytes.extend_from_slice(bytemuck::cast_slice(&stored));
        }
        Storage::PackedBf16 => {
            let mut stored = vec![0u16; values.len()];
            stored.reinterpret_cast_mut::<bf16>().convert_from_f32_slice(values);
            bytes.extend_from_slice(bytemuck::cast_slice(&stored));
        }
    }
    Loss::of(storage, values)
}

/// Returns the f32 values of a tensor that is given as bytes of this storage type. The conversion to f32 is exact.
pub fn decode(storage: Storage, bytes: &[u8]) -> Vec<f32> {
    match storage {
        Storage::F32 => bytemuck::pod_collect_to_vec(bytes),
        Storage::F16 | Storage::PackedF16 => {
            bytemuck::pod_collect_to_vec::<u8, f16>(bytes).to_f32_vec()
        }
        Storage::PackedBf16 => bytemuck::pod_collect_to_vec::<u8, bf16>(bytes).to_f32_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storable_values_survive_a_round_trip() {
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
        // 2049 and 2051 lie halfway between two f16 values, and 257 and 259 lie halfway between two bf16 values. Each
        // rounds to the neighbour whose last bit is zero.
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

    #[test]
    fn values_already_in_a_format_lose_nothing() {
        let values = [1.0, -3.5, 0.0, 1e-7, 1e-30, -60000.0];
        for storage in Storage::ALL {
            let mut bytes = Vec::new();
            encode(storage, &values, &mut bytes);
            let loss = Loss::none_of(storage, &bytes);
            assert_eq!(loss, Loss { largest: loss.largest, ..Loss::default() }, "{storage}");
            assert!((59900.0..60100.0).contains(&loss.largest), "{storage} {}", loss.largest);
            encode(storage, &[f32::NAN, f32::NEG_INFINITY], &mut bytes);
            let loss = Loss::none_of(storage, &bytes);
            assert_eq!((loss.non_finite, loss.overflowed), (2, 0), "{storage}");
        }
    }

    #[test]
    fn losses_at_range_limits_match_a_count_value_by_value() {
        let edges = [0.0, f32::MIN_POSITIVE, 6.1035156e-5, 65504.0, 65520.0, 3.3895314e38];
        for storage in Storage::ALL {
            for edge in edges.map(f32::to_bits) {
                for bits in edge.saturating_sub(70)..edge + 70 {
                    let value = f32::from_bits(bits);
                    for values in [vec![value], vec![1.0, -value, 0.0], vec![value; 3 * SCAN]] {
                        let mut each = Loss::default();
                        values.iter().for_each(|value| each.see(*value, storage));
                        assert_eq!(Loss::of(storage, &values), each, "{storage} {value:e}");
                    }
                }
            }
        }
    }
}
