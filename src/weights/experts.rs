//! Loads the weight matrices of experts (mixture of experts), which a checkpoint stacks in one tensor.

use super::loader::{Loader, stored_rows};
use crate::error::Error;
use crate::kernels::matmul::{ExpertLinear, stride4};
use crate::weights::MatrixShape;

/// The shape `[experts · rows, width]` of a tensor that holds the matrices of all experts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExpertShape {
    pub experts: usize,
    /// The number of rows in one expert's matrix.
    pub rows: usize,
    pub width: usize,
    /// True if the matrix w is applied as x · w. False if it is applied as x · wᵀ, as in `torch.nn.Linear`.
    pub untransposed: bool,
}

impl Loader<'_, '_> {
    /// Loads one linear layer per expert, for [`matmul_experts`](crate::kernels::matmul::matmul_experts). The
    /// matrices are stacked in one buffer and have no biases.
    ///
    /// # Errors
    /// Returns [`Error::Tensor`] for a missing tensor, a wrong shape or unusable values. Returns [`Error::Adapter`] if
    /// the buffer is larger than a shader can bind.
    pub fn experts(&mut self, name: &str, shape: ExpertShape) -> Result<ExpertLinear, Error> {
        let ExpertShape { experts, rows, width, untransposed } = shape;
        let files = self.files;
        let (name, entry) = files.find(name)?;
        self.shaped(&name, entry, &[experts * rows, width])?;
        let (inner, columns) = if untransposed { (rows, width) } else { (width, rows) };
        let columns4 = columns.div_ceil(4);
        let stride = stride4(columns4) * 4;
        let size = self.storage.bytes() as usize;
        let matrix = inner.next_multiple_of(4) * stride * size;
        let weight = self.to.add(&name, (experts * matrix) as u64)?;
        self.to.count_staged(matrix as u64);
        for expert in 0..experts {
            if self.to.is_counting() {
                break;
            }
            let of = (name.as_str(), entry, None);
            let (bytes, loss) =
                stored_rows(files, self.storage, of, expert * rows, MatrixShape { rows, width })?;
            self.usable(&name, entry, loss)?;
            let mut packed = vec![0u8; matrix];
            for (at, value) in bytes.chunks_exact(size).enumerate() {
                let (row, i) = (at / width, at % width);
                let (k, column) = if untransposed { (row, i) } else { (i, row) };
                packed[(k * stride + column) * size..][..size].copy_from_slice(value);
            }
            self.to.write(weight, (expert * matrix) as u64, &packed)?;
        }
        let bias = self.upload(&name, &vec![0u8; columns4 * 16])?;
        Ok(ExpertLinear { weight, bias, columns, columns4 })
    }

    /// Loads a bias `[width]` that has no weight matrix of its own, as padded f32 values. Returns the index of its buffer.
    ///
    /// # Errors
    /// Returns [`Error::Tensor`] for a missing tensor, a wrong shape or unusable values.
    pub fn bias(&mut self, name: &str, width: usize) -> Result<usize, Error> {
        let padded = crate::kernels::pad_rows(&self.vector(name, width)?, width);
        self.upload(name, bytemuck::cast_slice(&padded))
    }
}
