//! The only place that names wgpu: devices, shaders, kernels, graphs and their execution.

pub mod device;
pub mod executor;
pub mod graph;
pub mod kernel;
pub mod selftest;
pub mod shader;
