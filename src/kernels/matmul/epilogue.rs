//! The operation of a matmul on each sum before the sum is stored: activation, residual, gate or rotation.

use super::descriptors::MatmulParams;
use crate::gpu::shader::ShaderVariant;
use crate::kernels::rope::Rotation;
use crate::kernels::{Activation, Activations};

/// The operation of a matmul on the sums of a row, `[columns]`, after the bias is added and before they are stored.
#[derive(Debug, Clone, Copy)]
pub enum Epilogue {
    /// Computes activation(sum) + residual.
    Plain(Activation, Option<Activations>),
    /// Computes activation(gate) · other. In each row, four values of the gate alternate with four values of the other
    /// factor, so a row of y has half as many values.
    Gated(Activation),
    /// Rotates the heads of queries and keys by the position of the row's token. The columns after these heads do not
    /// change.
    Rotated(Rotation),
}

impl Epilogue {
    /// Is true if the epilogue computes four values of y from eight sums.
    pub(super) fn is_gated(&self) -> bool {
        matches!(self, Epilogue::Gated(_))
    }

    /// Returns the residual that the epilogue adds, if any.
    pub(super) fn residual(&self) -> Option<Activations> {
        match self {
            Epilogue::Plain(_, residual) => *residual,
            Epilogue::Gated(_) | Epilogue::Rotated(_) => None,
        }
    }

    /// Returns the rotation, if any.
    pub(super) fn rotation(&self) -> Option<Rotation> {
        match self {
            Epilogue::Rotated(rotation) => Some(*rotation),
            Epilogue::Plain(..) | Epilogue::Gated(_) => None,
        }
    }

    /// Sets the `override` constants of a kernel for this epilogue.
    pub(super) fn set(&self, variant: ShaderVariant) -> ShaderVariant {
        let activation = match self {
            Epilogue::Plain(activation, _) | Epilogue::Gated(activation) => *activation,
            Epilogue::Rotated(_) => Activation::None,
        };
        variant
            .set("ACTIVATION", activation as u32)
            .set("HAS_RESIDUAL", u32::from(self.residual().is_some()))
            .set("GATED", u32::from(self.is_gated()))
            .set("ROTARY", u32::from(self.rotation().is_some()))
    }

    /// Sets the parameters of the rotation, which stay zero for other epilogues.
    pub(super) fn fill(&self, params: &mut MatmulParams) {
        if let Some(rotation) = self.rotation() {
            params.head4 = rotation.head4 as u32;
            params.rotated = rotation.cells as u32;
            params.pairs = rotation.angles.pairs as u32;
            params.angles = rotation.angles.tokens as u32;
        }
    }
}
