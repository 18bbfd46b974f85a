//! The arguments of a kernel: a dispatch, and the contents of the tensors that the kernel reads.

use bytemuck::Pod;

use super::flags::Flags;
use super::packed::Packed;
use crate::dtype::Storage;
use crate::error::Error;
use crate::gpu::graph::Dispatch;

/// The contents of a tensor.
#[derive(Clone, Copy)]
pub(super) enum Operand<'a> {
    /// The tensor's values in its storage type, as 32-bit words.
    Words(&'a [u32]),
    /// The weight of a matmul, packed for this matmul.
    Packed(&'a Packed),
    /// The tensor that the dispatch writes.
    Written,
}

/// A dispatch, and the contents of the tensors that it reads.
pub(super) struct Call<'a> {
    pub dispatch: &'a Dispatch,
    /// The content of the tensor at each binding.
    pub operands: Vec<Operand<'a>>,
    pub flags: &'a Flags,
}

impl<'a> Call<'a> {
    /// Reads the parameters of the dispatch.
    pub fn params<P: Pod>(&self) -> Result<P, Error> {
        bytemuck::try_pod_read_unaligned(&self.dispatch.params)
            .map_err(|e| self.fault(&format!("its parameters cannot be read: {e}")))
    }

    /// Returns the value of a shader's override, or 0 if the dispatch does not set the override.
    pub fn setting(&self, name: &str) -> u32 {
        let overrides = &self.dispatch.variant.overrides;
        overrides.iter().find(|(known, _)| *known == name).map_or(0, |(_, value)| *value)
    }

    /// Returns the values of an f32 tensor.
    pub fn f32s(&self, binding: usize) -> Result<&'a [f32], Error> {
        self.words(binding).map(bytemuck::cast_slice)
    }

    /// Returns the content of a tensor as 32-bit words.
    pub fn words(&self, binding: usize) -> Result<&'a [u32], Error> {
        match self.operands.get(binding) {
            Some(Operand::Words(words)) => Ok(words),
            _ => Err(self.fault(&format!("binding {binding} does not hold 32-bit words"))),
        }
    }

    /// Returns the storage type of weights.
    pub fn weights(&self) -> Storage {
        self.dispatch.variant.weights
    }

    /// Returns the error for a dispatch that no model makes.
    pub fn fault(&self, problem: &str) -> Error {
        Error::Internal(format!("kernel {}: {problem}", self.dispatch.kernel.name))
    }
}
