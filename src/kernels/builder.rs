//! A graph under construction, and the activation tensors in it.

use super::plan::KernelPlan;
use crate::dtype::{Precision, Storage};
use crate::gpu::graph::{Graph, TensorId, TensorSource};
use crate::gpu::kernel::Kernel;
use crate::gpu::shader::{Lanes, ShaderVariant};

/// An activation tensor of a graph: `[rows, width]`.
#[derive(Debug, Clone, Copy)]
pub struct Activations {
    /// The tensor's number in the graph.
    pub id: TensorId,
    /// The number of rows.
    pub rows: usize,
    /// The number of values in a row, without padding.
    pub width: usize,
    /// The number of cells of four values in a row, with padding.
    pub width4: usize,
    /// The format in which the values are stored.
    pub storage: Storage,
}

/// Rows of `width` values, padded with zeros to whole cells of four.
pub fn pad_rows(values: &[f32], width: usize) -> Vec<f32> {
    let padded_width = width.next_multiple_of(4);
    let mut padded = Vec::with_capacity(values.len() / width.max(1) * padded_width);
    for row in values.chunks_exact(width) {
        padded.extend_from_slice(row);
        padded.resize(padded.len() + padded_width - width, 0.0);
    }
    padded
}

/// A graph under construction, with the settings that every kernel needs.
#[derive(Debug)]
pub struct Builder {
    /// The graph so far.
    pub graph: Graph,
    /// Which variants of the kernels to run.
    pub plan: KernelPlan,
    /// How weights are stored.
    pub weights: Storage,
    /// How activations between kernels are stored.
    pub activations: Storage,
}

impl Builder {
    /// A builder of an empty graph.
    pub fn new(plan: &KernelPlan, precision: &Precision) -> Self {
        Builder {
            graph: Graph::default(),
            plan: plan.clone(),
            weights: precision.weights,
            activations: precision.activations,
        }
    }

    /// Assigns the tensors that are added after this call to a layer of the transformer, counted from 0, for reports. A
    /// model calls this at the start of each layer. Tensors of the modules after the transformer belong to no layer,
    /// since the code that adds the modules resets it.
    pub fn layer(&mut self, layer: usize) {
        self.graph.layer = Some(layer);
    }

    /// A weight of the model as a tensor of this graph.
    pub fn weight(&mut self, name: &'static str, weight: usize) -> TensorId {
        let source = TensorSource::Weight(weight);
        match self.graph.tensors.iter().position(|tensor| tensor.source == source) {
            Some(at) => TensorId(at),
            None => self.graph.add(name, 0, source),
        }
    }

    /// Bytes of this batch as a tensor.
    pub fn input<T: bytemuck::NoUninit>(&mut self, name: &'static str, values: &[T]) -> TensorId {
        self.input_bytes(name, bytemuck::cast_slice(values).to_vec())
    }

    /// As [`Builder::input`], but without a copy of the bytes.
    pub fn input_bytes(&mut self, name: &'static str, bytes: Vec<u8>) -> TensorId {
        self.graph.add(name, bytes.len() as u64, TensorSource::Input(bytes))
    }

    /// A new tensor of activations between kernels.
    pub fn activations(&mut self, name: &'static str, rows: usize, width: usize) -> Activations {
        let storage = self.activations;
        self.rows(name, rows, width.div_ceil(4), width, storage, TensorSource::Scratch)
    }

    /// A new tensor of `rows` rows of `width` values in `width4` cells.
    pub(crate) fn rows(
        &mut self,
        name: &'static str,
        rows: usize,
        width4: usize,
        width: usize,
        storage: Storage,
        source: TensorSource,
    ) -> Activations {
        let bytes = (rows * width4 * 4) as u64 * storage.bytes();
        let id = self.graph.add(name, bytes, source);
        Activations { id, rows, width, width4, storage }
    }

    /// The variant of a kernel for the builder's storage of weights, and for activations stored as `x`.
    pub(crate) fn variant(&self, kernel: &Kernel, x: Storage) -> ShaderVariant {
        let lanes = if kernel.has_subgroup_variant { self.plan.lanes } else { Lanes::Alone };
        let weights = if kernel.reads_weights { self.weights } else { Storage::F32 };
        ShaderVariant::new(weights, x, lanes)
    }
}

/// The number of workgroups of 64 invocations for rows that are spread over subgroups. It is enough for any subgroup
/// size, since the kernel strides over the remaining rows.
pub(crate) fn row_workgroups(lanes: Lanes, rows: usize) -> u32 {
    let rows_a_workgroup = match lanes {
        Lanes::Subgroup(smallest) => 64 / smallest.clamp(1, 64),
        Lanes::Alone => 1,
    };
    (rows as u32).div_ceil(rows_a_workgroup).max(1)
}
