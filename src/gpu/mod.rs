//! Devices, shaders, kernels, graphs and their execution. No other module uses wgpu directly.

pub mod adapter;
mod calls;
#[doc(hidden)]
pub mod constants;
pub mod device;
pub mod executor;
pub mod graph;
pub(crate) mod host_memory;
pub mod inject;
pub mod kernel;
#[doc(hidden)]
pub mod limits;
mod pipeline;
mod pipeline_cache;
pub mod shader;
pub mod trace;
mod unroll;
