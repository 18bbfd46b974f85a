//! The kernels: a small file per WGSL, and [`ALL`], the slice that every test and tool walks.
//!
//! Each file declares its parameter block, its descriptor and a function that puts a dispatch on a
//! graph. Tensors of activations are `[rows, width]` in cells of four values; a width that is no
//! multiple of four is filled up, with zeros unless an activation makes something else of them: the
//! weights that meet the filling are zero, and the norms pass it over.

pub mod answers;
pub mod attention;
mod choice;
pub mod combine;
pub mod forms;
pub mod group_rows;
pub mod layer_norm;
pub mod lookup;
pub mod matmul;
pub mod normalize_l2;
pub mod pool;
pub mod reference;
pub mod rms_norm;
pub mod rope;
pub mod route;
pub mod tuned;

use std::sync::Arc;

use crate::dtype::{Precision, Storage};
use crate::gpu::graph::{Graph, Source, TensorId};
use crate::gpu::kernel::Kernel;
use crate::gpu::shader::{Lanes, Variant};

/// Every kernel.
pub static ALL: &[&Kernel] = &[
    &lookup::LOOKUP,
    &layer_norm::LAYER_NORM,
    &rms_norm::RMS_NORM,
    &rope::ROPE,
    &route::ROUTE,
    &group_rows::GROUP_ROWS,
    &combine::COMBINE,
    &matmul::MATMUL_TILE,
    &matmul::MATMUL_FEW,
    &matmul::MATMUL_COOP,
    &matmul::MATMUL_LANE,
    &attention::ATTENTION_TILE,
    &attention::ATTENTION_COOP,
    &attention::ATTENTION_LANE,
    &pool::POOL,
    &normalize_l2::NORMALIZE_L2,
];

/// The most tokens of a batch: row kernels take up to a workgroup a token, and WebGPU allows 65,535
/// per dimension.
pub const MAX_BATCH_TOKENS: usize = 32768;

/// An activation function, numbered as `shared/activation.wgsl` numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// y = x
    None = 0,
    /// The exact one, by the error function: torch's `GELU()`.
    Gelu = 1,
    /// The tanh approximation: torch's `GELU(approximate="tanh")`, `gelu_new`.
    GeluTanh = 2,
    /// max(x, 0)
    Relu = 3,
    /// x · sigmoid(x), also called swish.
    Silu = 4,
    /// Hyperbolic tangent.
    Tanh = 5,
    /// 1 / (1 + e⁻ˣ)
    Sigmoid = 6,
}

/// Which form of each kernel suits an adapter, and how far a dispatch may go.
///
/// Fixed for an adapter: a row's result does not depend on the batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelPlan {
    /// The matmul and attention for software adapters, instead of those for GPUs.
    pub software: bool,
    /// Whether and how lanes work together.
    pub lanes: Lanes,
    /// Bytes of workgroup memory.
    pub workgroup_memory: u32,
    /// Invocations of a workgroup.
    pub workgroup_invocations: u32,
    /// Floating point operations after which a dispatch is cut, for the operating system's watchdog.
    pub max_flops: u64,
    /// Cooperative matrices of f16 with f32 sums, where the adapter has them and they are used.
    pub cooperative: Option<forms::Cooperative>,
    /// As `by_rows`, for the tiles that cooperative matrices make.
    pub matrices_by_rows: bool,
    /// The largest tile of the matmul that suits the class of adapter.
    pub largest_tile: forms::Tile,
    /// Whether the number of rows may pick among the forms of the matmul that give the same bits: not where a
    /// device gives other bits.
    pub by_rows: bool,
    /// What was measured of the forms on this adapter, instead of what suits its class.
    pub tuned: Option<Arc<tuned::Tuned>>,
    /// The form of every matmul, whatever suits: for tests and for measuring.
    pub forced: Option<forms::Form>,
}

#[cfg(test)]
impl KernelPlan {
    /// Of a GPU at WebGPU's default limits, with cooperative matrices of 16.
    pub(crate) fn of_gpu() -> Self {
        KernelPlan {
            software: false,
            lanes: Lanes::Alone,
            workgroup_memory: 16384,
            workgroup_invocations: 256,
            max_flops: u64::MAX,
            cooperative: Some(forms::Cooperative::of(16, 128)),
            matrices_by_rows: true,
            largest_tile: forms::Tile::PLAIN,
            by_rows: true,
            tuned: None,
            forced: None,
        }
    }
}

/// An activation tensor of a graph: `[rows, width]`.
#[derive(Debug, Clone, Copy)]
pub struct Activations {
    /// Its number in the graph.
    pub id: TensorId,
    /// Rows.
    pub rows: usize,
    /// Values of a row, without filling.
    pub width: usize,
    /// Cells of four values of a row, with filling.
    pub width4: usize,
    /// How it is stored.
    pub storage: Storage,
}

/// Rows of `width` values, filled up with zeros to whole cells.
pub fn fill_rows(values: &[f32], width: usize) -> Vec<f32> {
    let padded = width.next_multiple_of(4);
    let mut filled = Vec::with_capacity(values.len() / width.max(1) * padded);
    for row in values.chunks_exact(width) {
        filled.extend_from_slice(row);
        filled.resize(filled.len() + padded - width, 0.0);
    }
    filled
}

/// A graph in the making, with what every kernel needs to know.
#[derive(Debug)]
pub struct Builder {
    /// The graph.
    pub graph: Graph,
    /// Which kernels.
    pub plan: KernelPlan,
    /// How weights are stored.
    pub weights: Storage,
    /// How activations between kernels are stored.
    pub activations: Storage,
}

impl Builder {
    /// An empty graph.
    pub fn new(plan: &KernelPlan, precision: &Precision) -> Self {
        Builder {
            graph: Graph::default(),
            plan: plan.clone(),
            weights: precision.weights,
            activations: precision.activations,
        }
    }

    /// What is added from here on belongs to this layer of the transformer, counted from 0: for
    /// reports. A model says it at the head of each layer; what comes after the transformer is told
    /// apart by who builds that.
    pub fn layer(&mut self, layer: usize) {
        self.graph.layer = Some(layer);
    }

    /// A weight of the model as a tensor of this graph.
    pub fn weight(&mut self, name: &'static str, weight: usize) -> TensorId {
        let known = self.graph.tensors.iter().position(|t| t.source == Source::Weight(weight));
        match known {
            Some(at) => TensorId(at),
            None => self.graph.add(name, 0, Source::Weight(weight)),
        }
    }

    /// Bytes of this batch as a tensor.
    pub fn input<T: bytemuck::NoUninit>(&mut self, name: &'static str, values: &[T]) -> TensorId {
        let bytes = bytemuck::cast_slice(values).to_vec();
        self.graph.add(name, bytes.len() as u64, Source::Input(bytes))
    }

    /// A new tensor of activations between kernels.
    pub fn activations(&mut self, name: &'static str, rows: usize, width: usize) -> Activations {
        let storage = self.activations;
        self.rows(name, rows, width.div_ceil(4), width, storage, Source::Scratch)
    }

    pub(crate) fn rows(
        &mut self,
        name: &'static str,
        rows: usize,
        width4: usize,
        width: usize,
        storage: Storage,
        source: Source,
    ) -> Activations {
        let bytes = (rows * width4 * 4) as u64 * storage.bytes();
        let id = self.graph.add(name, bytes, source);
        Activations { id, rows, width, width4, storage }
    }

    /// A variant over the storage of `weights` and of the tensor `x`.
    pub(crate) fn variant(&self, kernel: &Kernel, x: Storage) -> Variant {
        let lanes = if kernel.has_lanes { self.plan.lanes } else { Lanes::Alone };
        let weights = if kernel.reads_weights { self.weights } else { Storage::F32 };
        Variant::new(weights, x, lanes)
    }
}

/// Workgroups of 64 invocations for rows that are spread over subgroups: enough for any subgroup
/// size, since the kernel strides over what is left.
pub(crate) fn row_groups(lanes: Lanes, rows: usize) -> u32 {
    let rows_a_group = match lanes {
        Lanes::Subgroup(smallest) => 64 / smallest.clamp(1, 64),
        Lanes::Alone => 1,
    };
    (rows as u32).div_ceil(rows_a_group).max(1)
}
