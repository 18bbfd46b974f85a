//! The layout of the weights of linear layers in buffers.

use crate::gpu::graph::TensorId;

/// The weight of a linear layer, repacked as `[inner, columns]`, and its bias. Both are in buffers of the model.
#[derive(Debug, Clone)]
pub struct Linear {
    /// The repacked matrix, split into blocks of columns, so that each block fits into one buffer.
    pub blocks: Vec<Block>,
    /// The number of the buffer that holds the bias, `[columns]` in f32. The bias is zero if the layer has none.
    pub bias: usize,
    /// The number of values in an output row.
    pub columns: usize,
    /// The number of cells (four values each) in an output row.
    pub columns4: usize,
}

/// A block of columns of a linear layer's weight, stored in one buffer.
#[derive(Debug, Clone, Copy)]
pub struct Block {
    /// The number of the buffer that holds the block.
    pub weight: usize,
    /// The number of cells (four values each) that the block contributes to an output row.
    pub cells: usize,
}

/// One matrix for each expert, repacked as `[inner, columns]`. The matrices follow one another in one buffer.
#[derive(Debug, Clone, Copy)]
pub struct ExpertLinear {
    /// The number of the buffer that holds the repacked matrices.
    pub weight: usize,
    /// The number of the buffer that holds the bias, `[columns]` in f32, which all experts share. The bias is zero if
    /// the layer has none.
    pub bias: usize,
    /// The number of values in an output row.
    pub columns: usize,
    /// The number of cells (four values each) in an output row.
    pub columns4: usize,
}

/// The size of an output row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowSize {
    /// The number of values, without padding.
    pub values: usize,
    /// The number of cells of four values, with padding.
    pub cells: usize,
}

impl RowSize {
    /// Returns the size of an output row of `values` values, in the smallest number of cells that hold them.
    pub fn of(values: usize) -> Self {
        RowSize { values, cells: values.div_ceil(4) }
    }
}

/// The weight and bias of a linear layer as tensors of a graph.
#[derive(Debug, Clone, Copy)]
pub struct LinearTensors {
    /// The repacked matrix, or the repacked matrices of the experts.
    pub weight: TensorId,
    /// The bias `[columns]`, f32.
    pub bias: TensorId,
}

/// Returns the number of cells (four values each) in a row of a repacked matrix. It is even, since `matmul_lane` reads
/// two cells at once.
pub fn stride4(columns4: usize) -> usize {
    columns4.next_multiple_of(2)
}

/// Repacks a matrix `[columns, inner]`, as checkpoints store it, to the layout `[inner, columns]`, which the kernels
/// read. The dimension `inner` is padded with zeros to a multiple of four values, and each row of the result to
/// [`stride4`] cells of four values.
pub fn repacked(w: &[f32], columns: usize) -> Vec<f32> {
    let inner = w.len() / columns;
    let stride = stride4(columns.div_ceil(4)) * 4;
    let mut packed = vec![0.0; inner.next_multiple_of(4) * stride];
    for (at, value) in w.iter().enumerate() {
        packed[at % inner * stride + at / inner] = *value;
    }
    packed
}
