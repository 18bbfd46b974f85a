//! A small matrix product in registers.

use rten_simd::Isa;
use rten_simd::ops::{BitOps, NumOps};

/// A matrix whose values are each copied to all SIMD lanes. The value (r, d) has the index `r · row + d · column`.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    pub values: &'a [f32],
    pub row: usize,
    pub column: usize,
}

/// A matrix that is read in SIMD vectors. Row d has the index `d · stride`.
#[derive(Clone, Copy)]
pub(super) struct Right<'a> {
    pub values: &'a [f32],
    pub stride: usize,
}

/// Repeats a block for each of these numbers that is below a constant, in place of a loop. In the package for browsers,
/// the compiler optimizes for size and unrolls no loops. It would keep an array that a loop indexes in memory instead
/// of registers.
macro_rules! unrolled {
    ($index:ident < $count:ident: $($number:literal)* => $block:block) => {
        $(
            if $number < $count {
                let $index: usize = $number;
                $block
            }
        )*
    };
}

/// The number of rows in a block of sums. Each row has two SIMD vectors of sums, so the sums of all rows fit into 16
/// registers.
const ROWS: usize = 6;

/// Computes out = left · right, `[rows, width]`. `width` is a multiple of the vector width, and `depth` is at least 1.
/// Each sum adds its `depth` products in order, whatever the number of rows.
#[inline(always)]
pub(super) fn multiply<I: Isa>(
    isa: I,
    left: Left<'_>,
    rows: usize,
    right: Right<'_>,
    width: usize,
    depth: usize,
    out: &mut [f32],
) {
    if rows == 0 || depth == 0 {
        return;
    }
    let lanes = isa.f32().len();
    // These assertions cover every access to memory below.
    assert!(width.is_multiple_of(lanes));
    assert!((rows - 1) * left.row + (depth - 1) * left.column < left.values.len());
    assert!((depth - 1) * right.stride + width <= right.values.len());
    assert!(rows * width <= out.len());
    let mut column = 0;
    while column < width {
        let two = column + 2 * lanes <= width;
        for first in (0..rows).step_by(ROWS) {
            let block = Sums {
                // SAFETY: the assertions above cover all rows, columns and depths.
                left: unsafe { left.values.as_ptr().add(first * left.row) },
                row: left.row,
                column: left.column,
                right: unsafe { right.values.as_ptr().add(column) },
                stride: right.stride,
                depth,
                out: unsafe { out.as_mut_ptr().add(first * width + column) },
                width,
            };
            // SAFETY: the assertions above cover the block, and the block does not exceed the remaining rows.
            unsafe {
                match (ROWS.min(rows - first), two) {
                    (6, true) => block.compute::<I, 6, 2>(isa),
                    (5, true) => block.compute::<I, 5, 2>(isa),
                    (4, true) => block.compute::<I, 4, 2>(isa),
                    (3, true) => block.compute::<I, 3, 2>(isa),
                    (2, true) => block.compute::<I, 2, 2>(isa),
                    (1, true) => block.compute::<I, 1, 2>(isa),
                    (6, false) => block.compute::<I, 6, 1>(isa),
                    (5, false) => block.compute::<I, 5, 1>(isa),
                    (4, false) => block.compute::<I, 4, 1>(isa),
                    (3, false) => block.compute::<I, 3, 1>(isa),
                    (2, false) => block.compute::<I, 2, 1>(isa),
                    _ => block.compute::<I, 1, 1>(isa),
                }
            }
        }
        column += if two { 2 * lanes } else { lanes };
    }
}

/// A block of sums that are computed in registers.
struct Sums {
    left: *const f32,
    row: usize,
    column: usize,
    right: *const f32,
    stride: usize,
    depth: usize,
    out: *mut f32,
    width: usize,
}

impl Sums {
    /// Computes `R` output rows, each `V` SIMD vectors wide.
    ///
    /// # Safety
    /// All rows, vectors and depths must lie within the matrices.
    #[inline(always)]
    unsafe fn compute<I: Isa, const R: usize, const V: usize>(&self, isa: I) {
        let ops = isa.f32();
        let lanes = ops.len();
        let mut sums = [[ops.zero(); V]; R];
        for d in 0..self.depth {
            let mut vectors = [ops.zero(); V];
            unrolled!(v < V: 0 1 => {
                // SAFETY: the caller guarantees that all rows, columns and depths are within bounds.
                vectors[v] = unsafe { ops.load_ptr(self.right.add(d * self.stride + v * lanes)) };
            });
            unrolled!(r < R: 0 1 2 3 4 5 => {
                // SAFETY: the caller guarantees that all rows, columns and depths are within bounds.
                let value = unsafe { *self.left.add(r * self.row + d * self.column) };
                let value = ops.splat(value);
                unrolled!(v < V: 0 1 => {
                    sums[r][v] = ops.mul_add(value, vectors[v], sums[r][v]);
                });
            });
        }
        unrolled!(r < R: 0 1 2 3 4 5 => {
            unrolled!(v < V: 0 1 => {
                // SAFETY: the caller guarantees that all rows, columns and depths are within bounds.
                unsafe { ops.store_ptr(sums[r][v], self.out.add(r * self.width + v * lanes)) };
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use rten_simd::SimdOp;

    use super::*;

    struct Check;

    impl SimdOp for Check {
        type Output = ();

        #[inline(always)]
        fn eval<I: Isa>(self, isa: I) {
            let lanes = isa.f32().len();
            for rows in [1, 5, 6, 7, 13] {
                for vectors in 1..=3 {
                    for depth in [1, 2, 17] {
                        check(isa, rows, vectors * lanes, depth);
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn check<I: Isa>(isa: I, rows: usize, width: usize, depth: usize) {
        let small = |i: usize| ((i * 7919) % 23) as f32 - 11.0;
        let a: Vec<f32> = (0..rows * depth).map(small).collect();
        let b: Vec<f32> = (0..depth * width).map(|i| small(i + 5)).collect();
        let transposed: Vec<f32> = (0..depth)
            .flat_map(|d| (0..rows).map(move |r| (r, d)))
            .map(|(r, d)| a[r * depth + d])
            .collect();
        let right = Right { values: &b, stride: width };
        for left in [
            Left { values: &a, row: depth, column: 1 },
            Left { values: &transposed, row: 1, column: rows },
        ] {
            let mut out = vec![f32::NAN; rows * width];
            multiply(isa, left, rows, right, width, depth, &mut out);
            for r in 0..rows {
                for c in 0..width {
                    let sum: f32 = (0..depth).map(|d| a[r * depth + d] * b[d * width + c]).sum();
                    assert_eq!(out[r * width + c], sum, "{rows} {width} {depth}: {r} {c}");
                }
            }
        }
    }

    #[test]
    fn products_of_any_size_are_exact_on_small_integers() {
        Check.dispatch();
    }
}
