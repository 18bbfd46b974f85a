//! The kernels, one Rust file for each WGSL file, and [`ALL`], the list that every test and tool iterates over.
//!
//! Each file declares the kernel's parameters, its descriptor and a function that adds a dispatch to a graph. The
//! matmul and attention have several kernels, and a directory each: `matmul/` and `attention/`.
//!
//! An activation tensor is `[rows, width]`, stored in cells of four values. If the width is not a multiple of four,
//! each row is padded. The padding is zero, unless an activation function maps zero to another value. Such padding has
//! no effect, since it is multiplied by weights that are zero, and norms ignore it.

mod activation;
pub mod answers;
pub mod attention;
mod builder;
pub mod combine;
pub mod group_rows;
pub mod layer_norm;
pub mod lookup;
pub mod matmul;
pub mod normalize_l2;
mod plan;
pub mod pool;
pub mod reference;
pub mod rms_norm;
pub mod rope;
pub mod route;
pub mod similarity;
pub mod top_k;

use crate::gpu::kernel::Kernel;

pub use activation::Activation;
pub(crate) use builder::row_workgroups;
pub use builder::{Activations, Builder, pad_rows};
pub use plan::KernelPlan;

/// The list of all kernels, each once. Tests and benches iterate over this list.
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
    &similarity::SIMILARITY,
    &top_k::TOP_K,
];

/// The maximum number of tokens in a batch. Kernels that work on rows use up to one workgroup for each token, and
/// WebGPU allows 65,535 workgroups in a dimension.
pub const MAX_BATCH_TOKENS: usize = 32768;
