//! Known-answer tests of an adapter: each kernel runs on small fixed inputs, and its results are compared with a
//! plain-Rust reference.
//!
//! | test | when | if it fails |
//! |---|---|---|
//! | `check_model` | at every load | the adapter is refused |
//! | `shader_f16` | at loads that would use `SHADER_F16` | f16 is not used |
//! | `cooperative_fault` | at loads in f16 on GPUs with cooperative matrices | tiles are used instead |
//! | `variants_are_bit_identical` | at loads on GPUs | the number of rows does not select variants |
//! | `check_all` | `vectile verify` | the failed test is reported |
//!
//! Test results are cached under a key of the adapter, the driver and the WGSL sources of the kernels. If a driver
//! stops computing later, the cached result does not show this. Each batch therefore counts its own dispatches on the
//! device (`gpu/executor/report.rs`).

mod bit_identity;
mod check;
mod cooperative;
mod every_kernel;
mod model;
mod needed;
mod question;
mod shader_f16;
mod verdicts;

#[doc(hidden)]
pub use bit_identity::differing_variants;
pub(crate) use bit_identity::{matrix_tiles_are_bit_identical, variants_are_bit_identical};
pub use check::KernelCheck;
pub(crate) use cooperative::cooperative_fault;
pub use every_kernel::{STORAGES, check_all};
pub(crate) use model::check_model;
#[cfg(feature = "server")]
pub(crate) use model::wrong_kernels;
pub use shader_f16::check_shader_f16;
#[cfg(feature = "lab")]
pub(crate) use shader_f16::judge_f16;
pub(crate) use shader_f16::shader_f16;
