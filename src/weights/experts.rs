//! The matrices of experts, which checkpoints keep in one tensor, one after the other.

use super::loader::{Loader, stored_rows};
use crate::error::Error;
use crate::kernels::matmul::{ExpertLinear, stride4};

/// How the matrices of experts lie: `[experts · rows, width]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExpertShape {
    pub experts: usize,
    /// Of an expert's matrix.
    pub rows: usize,
    pub width: usize,
    /// False where a row makes a value of the result, as in `torch.nn.Linear`: x · wᵀ. True where a row
    /// is what a value of x is multiplied by: x · w.
    pub flipped: bool,
}

impl Loader<'_, '_> {
    /// A linear layer of each expert, for [`matmul_experts`](crate::kernels::matmul::matmul_experts):
    /// the matrices one after the other in one buffer, without biases.
    ///
    /// # Errors
    /// [`Error::Tensor`] for a missing tensor, a wrong shape or unusable values; [`Error::Adapter`] where
    /// a shader does not see as much at once.
    pub fn experts(&mut self, name: &str, shape: ExpertShape) -> Result<ExpertLinear, Error> {
        let ExpertShape { experts, rows, width, flipped } = shape;
        let files = self.files;
        let (name, entry) = files.find(name)?;
        self.shaped(&name, entry, &[experts * rows, width])?;
        let (inner, columns) = if flipped { (rows, width) } else { (width, rows) };
        let columns4 = columns.div_ceil(4);
        let stride = stride4(columns4) * 4;
        let size = self.storage.bytes() as usize;
        let matrix = inner.next_multiple_of(4) * stride * size;
        let weight = self.to.add(&name, (experts * matrix) as u64)?;
        self.to.put_in_order(matrix as u64);
        for expert in 0..experts {
            if self.to.is_counting() {
                break;
            }
            let of = (name.as_str(), entry, None);
            let (bytes, loss) = stored_rows(files, self.storage, of, expert * rows, [rows, width])?;
            self.usable(&name, entry, loss)?;
            let mut packed = vec![0u8; matrix];
            for (at, value) in bytes.chunks_exact(size).enumerate() {
                let (row, i) = (at / width, at % width);
                let (k, column) = if flipped { (row, i) } else { (i, row) };
                packed[(k * stride + column) * size..][..size].copy_from_slice(value);
            }
            self.to.write(weight, (expert * matrix) as u64, &packed)?;
        }
        let bias = self.upload(&name, &vec![0u8; columns4 * 16])?;
        Ok(ExpertLinear { weight, bias, columns, columns4 })
    }

    /// A bias by itself, `[width]` in f32, filled up.
    ///
    /// # Errors
    /// [`Error::Tensor`] for a missing tensor, a wrong shape or unusable values.
    pub fn bias(&mut self, name: &str, width: usize) -> Result<usize, Error> {
        let filled = crate::kernels::pad_rows(&self.vector(name, width)?, width);
        self.upload(name, bytemuck::cast_slice(&filled))
    }
}
