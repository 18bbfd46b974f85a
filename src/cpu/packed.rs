//! The weights of matmuls in the layout that the library for matrix products (rten-gemm) reads fastest.
//!
//! A weight is split into panels of [`PANEL`] columns. The product of a block of rows and a panel stays in the cache
//! while its epilogue runs. For a single row and an unpacked matrix, the library uses another algorithm, whose results
//! differ in some bits. To avoid this algorithm, a single row is passed to the library twice.

use std::cell::RefCell;

use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_tensor::NdTensorView;

use super::widen::widen_columns;
use crate::dtype::Storage;
use crate::error::Error;

/// The number of columns of a panel. The number is a multiple of eight and of the widths of all kernels of rten-gemm.
pub(super) const PANEL: usize = 96;

thread_local! {
    /// The fastest kernels of rten-gemm that this machine can run. They cannot move between threads.
    static GEMM: GemmExecutor<f32> = GemmExecutor::new();
    /// The values of a panel, widened to f32.
    static PANEL_VALUES: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Returns the name of rten-gemm's kernels on this machine.
pub(super) fn kernel_name() -> String {
    GEMM.with(|gemm| gemm.kernel_name().to_owned())
}

/// Computes y = x · b, where `x` has `rows` rows.
fn multiply(x: &[f32], rows: usize, b: GemmInputB<'_, f32>, y: &mut [f32]) -> Result<(), Error> {
    let x = NdTensorView::from_data([rows, b.rows()], &x[..rows * b.rows()]);
    GEMM.with(|gemm| gemm.gemm(y, GemmInputA::Unpacked(x), b, GemmOptions::default()))
        .map_err(|e| Error::Internal(format!("a matrix multiplication on the CPU failed: {e}")))
}

/// The shape of a weight, in the layout that the shaders use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// The number of rows.
    pub inner: usize,
    /// The number of values in a row, including padding.
    pub stride: usize,
    /// The number of columns that are used.
    pub columns: usize,
}

impl Shape {
    /// Returns the number of panels of one matrix.
    pub fn panels(self) -> usize {
        self.columns.div_ceil(PANEL)
    }

    /// Returns the first column of a panel and its number of columns.
    pub fn panel(self, at: usize) -> (usize, usize) {
        let first = at * PANEL;
        (first, PANEL.min(self.columns - first))
    }
}

/// A weight whose panels are packed. The weight of experts consists of several matrices, one after the other.
pub(super) struct Packed {
    shape: Shape,
    panels: Vec<PackedBMatrix<f32>>,
    bytes: u64,
}

impl Packed {
    /// Packs all matrices of a weight, on all threads.
    pub fn new(storage: Storage, words: &[u32], shape: Shape) -> Self {
        use rayon::prelude::{IntoParallelIterator, ParallelIterator};
        let values = words.len() * 4 / storage.bytes() as usize;
        let size = shape.inner * shape.stride;
        let matrices = values.checked_div(size).unwrap_or(0);
        let pack = |at: usize| {
            let (first, width) = shape.panel(at % shape.panels());
            let first = at / shape.panels() * size + first;
            let mut panel = vec![0.0; shape.inner * width];
            widen_columns(storage, words, shape.stride, first, width, &mut panel);
            let panel = NdTensorView::from_data([shape.inner, width], panel.as_slice());
            GEMM.with(|gemm| gemm.prepack_b(panel))
        };
        let panels = (0..matrices * shape.panels()).into_par_iter().map(pack).collect();
        Packed { shape, panels, bytes: words.len() as u64 * 4 }
    }

    /// Returns the size in bytes that the weight had before it was packed.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// The weight of a matmul, in the format in which it is stored.
#[derive(Clone, Copy)]
pub(super) enum Weight<'a> {
    /// The weight is packed at its first use.
    Packed(&'a Packed),
    /// The weight keeps 16 bits a value, and a panel is widened for each block of rows.
    Wide { storage: Storage, words: &'a [u32], shape: Shape },
}

impl Weight<'_> {
    /// Returns the shape of one matrix.
    pub fn shape(&self) -> Shape {
        match self {
            Weight::Packed(packed) => packed.shape,
            Weight::Wide { shape, .. } => *shape,
        }
    }

    /// Returns the maximum number of rows of a block. Widening a panel is worth its cost only if many rows use it.
    pub fn block_rows(&self) -> usize {
        match self {
            Weight::Packed(_) => 60,
            Weight::Wide { .. } => 240,
        }
    }

    /// Computes y = x · panel, `[rows, columns of the panel]`. The bits of a row do not depend on the number of rows.
    pub fn product(
        &self,
        (matrix, panel): (usize, usize),
        x: &[f32],
        rows: usize,
        y: &mut [f32],
    ) -> Result<(), Error> {
        let shape = self.shape();
        let (first, width) = shape.panel(panel);
        let y = &mut y[..rows * width];
        match self {
            Weight::Packed(packed) => {
                let packed = &packed.panels[matrix * shape.panels() + panel];
                multiply(x, rows, GemmInputB::Packed(packed), y)
            }
            Weight::Wide { storage, words, .. } => {
                let mut values = PANEL_VALUES.take();
                values.resize(shape.inner * width, 0.0);
                let first = matrix * shape.inner * shape.stride + first;
                widen_columns(*storage, words, shape.stride, first, width, &mut values);
                let b = GemmInputB::Unpacked(NdTensorView::from_data(
                    [shape.inner, width],
                    values.as_slice(),
                ));
                let result = if rows == 1 {
                    // For a single row, rten-gemm would add the products in another order, so the row is passed twice,
                    // as two rows.
                    let twice = [x, x].concat();
                    let mut both = vec![0.0; 2 * width];
                    let result = multiply(&twice, 2, b, &mut both);
                    y.copy_from_slice(&both[..width]);
                    result
                } else {
                    multiply(x, rows, b, y)
                };
                PANEL_VALUES.replace(values);
                result
            }
        }
    }
}
