//! The layout of the weights of linear layers in buffers.

use crate::gpu::graph::TensorId;

/// The weight of a linear layer, repacked as `[inner, columns]`, and its bias. Both are buffers of the model.
#[derive(Debug, Clone)]
pub struct Linear {
    /// The repacked matrix, split into blocks of columns that each fit a buffer.
    pub blocks: Vec<Block>,
    /// The buffer of the bias, `[columns]` in f32; zeros where the layer has no bias.
    pub bias: usize,
    /// The number of values in an output row.
    pub columns: usize,
    /// The number of cells in an output row.
    pub columns4: usize,
}

/// Columns of a linear layer's weight that lie in one buffer.
#[derive(Debug, Clone, Copy)]
pub struct Block {
    /// The number of the buffer.
    pub weight: usize,
    /// The number of cells that the block contributes to an output row.
    pub cells: usize,
}

/// A matrix for each expert, repacked as `[inner, columns]`, one after the other in one buffer.
#[derive(Debug, Clone, Copy)]
pub struct ExpertLinear {
    /// The number of the buffer with the repacked matrices.
    pub weight: usize,
    /// The buffer of the bias, `[columns]` in f32, shared by all experts; zeros where the layer has no bias.
    pub bias: usize,
    /// The number of values in an output row.
    pub columns: usize,
    /// The number of cells in an output row.
    pub columns4: usize,
}

/// The size of an output row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowSize {
    /// The values, without padding.
    pub values: usize,
    /// Cells of four values, with padding.
    pub cells: usize,
}

impl RowSize {
    /// An output row of `values` values, in as few cells as hold them.
    pub fn of(values: usize) -> Self {
        RowSize { values, cells: values.div_ceil(4) }
    }
}

/// The weight and bias of a linear layer as tensors of a graph.
#[derive(Debug, Clone, Copy)]
pub struct LinearTensors {
    /// The repacked matrix, or the matrices of the experts.
    pub weight: TensorId,
    /// The bias `[columns]`, f32.
    pub bias: TensorId,
}

/// The number of cells in a row of a repacked matrix. It is even, since `matmul_lane` reads two cells at once.
pub fn stride4(columns4: usize) -> usize {
    columns4.next_multiple_of(2)
}

/// Repacks a matrix `[columns, inner]`, as checkpoints store it, to the layout `[inner, columns]` that the kernels
/// read. It is padded with zeros to whole cells along inner and to rows of [`stride4`] cells.
pub fn repacked(w: &[f32], columns: usize) -> Vec<f32> {
    let inner = w.len() / columns;
    let stride = stride4(columns.div_ceil(4)) * 4;
    let mut packed = vec![0.0; inner.next_multiple_of(4) * stride];
    for (at, value) in w.iter().enumerate() {
        packed[at % inner * stride + at / inner] = *value;
    }
    packed
}
