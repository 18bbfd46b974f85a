//! Makes repeatable inputs for kernels.

use vectile::Storage;
use vectile::convert;

/// Returns a repeatable value in [-1, 1) for each seed and index.
pub fn noise(seed: u32, index: usize) -> f32 {
    let mut h = (index as u32).wrapping_mul(0x9e37_79b9) ^ seed.wrapping_mul(0x85eb_ca6b);
    h = (h ^ (h >> 16)).wrapping_mul(0x7feb_352d);
    h = (h ^ (h >> 15)).wrapping_mul(0x846c_a68b);
    (h ^ (h >> 16)) as f32 / 2f32.powi(31) - 1.0
}

/// Returns noise in [-scale, scale) that a storage type holds exactly. A test therefore measures the error of the
/// kernel, and not of the input.
pub fn storable(seed: u32, count: usize, scale: f32, storage: Storage) -> Vec<f32> {
    let raw: Vec<f32> = (0..count).map(|i| noise(seed, i) * scale).collect();
    convert::decode(storage, &encoded(&raw, storage))
}

/// Returns the bytes of values in a storage type.
pub fn encoded(values: &[f32], storage: Storage) -> Vec<u8> {
    let mut bytes = Vec::new();
    convert::encode(storage, values, &mut bytes);
    bytes
}
