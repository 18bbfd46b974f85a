//! Loops over slices in SIMD vectors of the machine's width, for kernels that run as a [`rten_simd::SimdOp`].
//!
//! A closure that computes with vectors must be `#[inline(always)]`. Otherwise the compiler may keep it as a function
//! without the machine's vector instructions, and each operation in it becomes a call.
//!
//! A sum adds the values of a slice in an order that depends only on the slice's length. So no row influences the bits
//! of another row.

use rten_simd::Isa;
use rten_simd::ops::{BitOps, NumOps};

/// Sets each value of y to f(y).
#[inline(always)]
pub(super) fn map<I: Isa>(isa: I, y: &mut [f32], f: impl Fn(I::F32) -> I::F32) {
    let ops = isa.f32();
    let mut chunks = y.chunks_exact_mut(ops.len());
    for chunk in &mut chunks {
        ops.store(f(ops.load(chunk)), chunk);
    }
    let tail = chunks.into_remainder();
    if !tail.is_empty() {
        let (value, mask) = ops.load_pad(tail);
        // SAFETY: the mask allows stores only to the values of `tail`.
        unsafe { ops.store_ptr_mask(f(value), tail.as_mut_ptr(), mask) };
    }
}

/// Sets each value of y to f(a, b). All slices have the same length.
#[inline(always)]
pub(super) fn zip<I: Isa>(
    isa: I,
    y: &mut [f32],
    a: &[f32],
    b: &[f32],
    f: impl Fn(I::F32, I::F32) -> I::F32,
) {
    let ops = isa.f32();
    let (a, b) = (&a[..y.len()], &b[..y.len()]);
    let mut at = 0;
    let mut chunks = y.chunks_exact_mut(ops.len());
    for chunk in &mut chunks {
        ops.store(f(ops.load(&a[at..]), ops.load(&b[at..])), chunk);
        at += ops.len();
    }
    let tail = chunks.into_remainder();
    if !tail.is_empty() {
        let (left, mask) = ops.load_pad(&a[at..]);
        let (right, _) = ops.load_pad(&b[at..]);
        // SAFETY: the mask allows stores to as many values as `tail` has.
        unsafe { ops.store_ptr_mask(f(left, right), tail.as_mut_ptr(), mask) };
    }
}

/// Sets each value of y to f(y, b). Both slices have the same length.
#[inline(always)]
pub(super) fn update<I: Isa>(
    isa: I,
    y: &mut [f32],
    b: &[f32],
    f: impl Fn(I::F32, I::F32) -> I::F32,
) {
    let ops = isa.f32();
    let b = &b[..y.len()];
    let mut at = 0;
    let mut chunks = y.chunks_exact_mut(ops.len());
    for chunk in &mut chunks {
        ops.store(f(ops.load(chunk), ops.load(&b[at..])), chunk);
        at += ops.len();
    }
    let tail = chunks.into_remainder();
    if !tail.is_empty() {
        let (left, mask) = ops.load_pad(tail);
        let (right, _) = ops.load_pad(&b[at..]);
        // SAFETY: the mask allows stores only to the values of `tail`.
        unsafe { ops.store_ptr_mask(f(left, right), tail.as_mut_ptr(), mask) };
    }
}

/// Returns the sum of f(x) over a slice. The order of additions depends only on the slice's length.
#[inline(always)]
pub(super) fn sum<I: Isa>(isa: I, x: &[f32], f: impl Fn(I::F32) -> I::F32) -> f32 {
    let ops = isa.f32();
    let mut sum = ops.zero();
    let chunks = x.chunks_exact(ops.len());
    let tail = chunks.remainder();
    for chunk in chunks {
        sum = ops.add(sum, f(ops.load(chunk)));
    }
    if !tail.is_empty() {
        let (value, mask) = ops.load_pad(tail);
        sum = ops.add(sum, ops.select(f(value), ops.zero(), mask));
    }
    ops.sum(sum)
}

/// Returns a sum with one term for each pair of values. The order of additions depends only on the slices' length. Both
/// slices have the same length, and the term of two zeros must be zero, because the last SIMD vector is padded with
/// zeros.
#[inline(always)]
pub(super) fn sum_pairs<I: Isa>(
    isa: I,
    a: &[f32],
    b: &[f32],
    f: impl Fn(I::F32, I::F32, I::F32) -> I::F32,
) -> f32 {
    let ops = isa.f32();
    let b = &b[..a.len()];
    let mut sum = ops.zero();
    let mut at = 0;
    while at + ops.len() <= a.len() {
        sum = f(ops.load(&a[at..]), ops.load(&b[at..]), sum);
        at += ops.len();
    }
    if at < a.len() {
        sum = f(ops.load_pad(&a[at..]).0, ops.load_pad(&b[at..]).0, sum);
    }
    ops.sum(sum)
}

/// Returns true if every value is finite.
#[inline(always)]
pub(super) fn is_finite<I: Isa>(isa: I, x: &[f32]) -> bool {
    let ops = isa.f32();
    // The product of zero and a value is NaN if the value is infinite or NaN.
    sum(
        isa,
        x,
        #[inline(always)]
        |x| ops.mul(x, ops.zero()),
    ) == 0.0
}

#[cfg(test)]
mod tests {
    use rten_simd::SimdOp;

    use super::*;

    struct Run<F>(F);

    trait Check {
        fn check<I: Isa>(self, isa: I);
    }

    impl<F: Check> SimdOp for Run<F> {
        type Output = ();

        #[inline(always)]
        fn eval<I: Isa>(self, isa: I) {
            self.0.check(isa);
        }
    }

    struct Ragged;

    impl Check for Ragged {
        fn check<I: Isa>(self, isa: I) {
            let ops = isa.f32();
            for length in [0, 1, 3, 15, 16, 17, 31, 64, 65] {
                let a: Vec<f32> = (0..length).map(|i| i as f32).collect();
                let mut y = a.clone();
                map(
                    isa,
                    &mut y,
                    #[inline(always)]
                    |v| ops.add(v, ops.one()),
                );
                assert!(y.iter().zip(&a).all(|(y, a)| *y == a + 1.0), "{length}");
                zip(
                    isa,
                    &mut y,
                    &a,
                    &a,
                    #[inline(always)]
                    |a, b| ops.mul(a, b),
                );
                assert!(y.iter().zip(&a).all(|(y, a)| *y == a * a), "{length}");
                update(
                    isa,
                    &mut y,
                    &a,
                    #[inline(always)]
                    |y, a| ops.sub(y, a),
                );
                assert!(y.iter().zip(&a).all(|(y, a)| *y == a * a - a), "{length}");
                // f(0) is 1 here, so the sum would be wrong if it included the padding of the last vector.
                let ones = sum(
                    isa,
                    &a,
                    #[inline(always)]
                    |v| ops.add(v, ops.one()),
                );
                assert_eq!(ones, a.iter().map(|a| a + 1.0).sum::<f32>(), "{length}");
                assert!(is_finite(isa, &a));
                for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    for at in 0..length {
                        let mut x = a.clone();
                        x[at] = bad;
                        assert!(!is_finite(isa, &x), "{length}: {bad} at {at}");
                    }
                }
            }
        }
    }

    #[test]
    fn slices_of_any_length_are_covered_exactly() {
        Run(Ragged).dispatch();
    }
}
