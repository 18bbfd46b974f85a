//! A graph that is being built, and the activation tensors in it.

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
    /// The number of cells (four values each) in a row, including padding.
    pub width4: usize,
    /// The storage type of the values.
    pub storage: Storage,
}

/// Returns rows of `width` values, each padded with zeros to a multiple of four values.
pub fn pad_rows(values: &[f32], width: usize) -> Vec<f32> {
    let padded_width = width.next_multiple_of(4);
    let mut padded = Vec::with_capacity(values.len() / width.max(1) * padded_width);
    for row in values.chunks_exact(width) {
        padded.extend_from_slice(row);
        padded.resize(padded.len() + padded_width - width, 0.0);
    }
    padded
}

/// A graph that is being built, with the settings that every kernel needs.
#[derive(Debug)]
pub struct Builder {
    /// The graph with the dispatches added so far.
    pub graph: Graph,
    /// The plan, which decides which variant of each kernel runs.
    pub plan: KernelPlan,
    /// The storage type of weights.
    pub weights: Storage,
    /// The storage type of activations between kernels.
    pub activations: Storage,
}

impl Builder {
    /// Returns a builder with an empty graph.
    pub fn new(plan: &KernelPlan, precision: &Precision) -> Self {
        Builder {
            graph: Graph::default(),
            plan: plan.clone(),
            weights: precision.weights,
            activations: precision.activations,
        }
    }

    /// Assigns the tensors that are added after this call to a layer of the transformer, counted from 0. Reports show
    /// this layer beside the tensors. A model calls this function at the start of each layer. Tensors of the modules
    /// after the transformer belong to no layer, since the code that adds these modules resets the layer.
    pub fn layer(&mut self, layer: usize) {
        self.graph.layer = Some(layer);
    }

    /// Returns a weight of the model as a tensor of this graph.
    pub fn weight(&mut self, name: &'static str, weight: usize) -> TensorId {
        let source = TensorSource::Weight(weight);
        match self.graph.tensors.iter().position(|tensor| tensor.source == source) {
            Some(at) => TensorId(at),
            None => self.graph.add(name, 0, source),
        }
    }

    /// Adds values that are computed on the host for this batch, and returns their tensor.
    pub fn input<T: bytemuck::NoUninit>(&mut self, name: &'static str, values: &[T]) -> TensorId {
        self.input_bytes(name, bytemuck::cast_slice(values).to_vec())
    }

    /// Like [`Builder::input`], but takes bytes, which are not copied.
    pub fn input_bytes(&mut self, name: &'static str, bytes: Vec<u8>) -> TensorId {
        self.graph.add(name, bytes.len() as u64, TensorSource::Input(bytes))
    }

    /// Adds a tensor of activations, with the builder's storage type.
    pub fn activations(&mut self, name: &'static str, rows: usize, width: usize) -> Activations {
        let storage = self.activations;
        self.rows(name, rows, width.div_ceil(4), width, storage, TensorSource::Scratch)
    }

    /// Adds a tensor of `rows` rows of `width` values, which occupy `width4` cells of four values.
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

    /// Returns the variant of a kernel for the builder's storage type of weights, and for activations with the storage
    /// type `x`.
    pub(crate) fn variant(&self, kernel: &Kernel, x: Storage) -> ShaderVariant {
        let lanes = if kernel.has_subgroup_variant { self.plan.lanes } else { Lanes::Alone };
        let weights = if kernel.reads_weights { self.weights } else { Storage::F32 };
        ShaderVariant::new(weights, x, lanes)
    }
}

/// Returns the number of workgroups of 64 invocations for a kernel that works on rows. One subgroup computes a row, or
/// one workgroup if the kernel uses no subgroups. The number is computed from the adapter's smallest subgroup size. If
/// subgroups are larger, there are fewer of them, so each loops over several rows.
pub(crate) fn row_workgroups(lanes: Lanes, rows: usize) -> u32 {
    let rows_a_workgroup = match lanes {
        Lanes::Subgroup(smallest) => 64 / smallest.clamp(1, 64),
        Lanes::Alone => 1,
    };
    (rows as u32).div_ceil(rows_a_workgroup).max(1)
}
