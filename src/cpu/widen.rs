//! Reads weights of any storage type as f32. Widening is exact.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::dtype::Storage;

/// Reads as many values as `out` holds, starting at value `first`.
///
/// # Panics
/// Panics if there are fewer values. This does not happen, because row numbers and tokens are checked against the sizes
/// of their tables before a kernel runs.
pub(super) fn widen_row(storage: Storage, words: &[u32], first: usize, out: &mut [f32]) {
    let range = first..first + out.len();
    match storage {
        Storage::F32 => out.copy_from_slice(&bytemuck::cast_slice::<u32, f32>(words)[range]),
        Storage::F16 | Storage::PackedF16 => {
            bytemuck::cast_slice::<u32, f16>(words)[range].convert_to_f32_slice(out);
        }
        Storage::PackedBf16 => {
            bytemuck::cast_slice::<u32, bf16>(words)[range].convert_to_f32_slice(out);
        }
    }
}

/// Reads columns of a matrix with rows of `stride` values, starting at column `first`. `out` is `[rows, width]`.
pub(super) fn widen_columns(
    storage: Storage,
    words: &[u32],
    stride: usize,
    first: usize,
    width: usize,
    out: &mut [f32],
) {
    for (row, out) in out.chunks_exact_mut(width).enumerate() {
        widen_row(storage, words, row * stride + first, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert;

    #[test]
    fn columns_of_every_storage_are_read_exactly() {
        // Every storage type represents small multiples of 1/8 exactly, so the test can compare values for equality.
        let values: Vec<f32> = (0..6 * 16).map(|i| (i as f32 - 40.0) / 8.0).collect();
        for storage in Storage::ALL {
            let mut bytes = Vec::new();
            convert::encode(storage, &values, &mut bytes);
            let words: Vec<u32> = bytemuck::pod_collect_to_vec(&bytes);
            let mut out = vec![0.0; 6 * 5];
            widen_columns(storage, &words, 16, 3, 5, &mut out);
            for (row, out) in out.chunks(5).enumerate() {
                assert_eq!(out, &values[row * 16 + 3..row * 16 + 8], "{storage} {row}");
            }
        }
    }
}
