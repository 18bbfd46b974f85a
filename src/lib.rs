//! Vectile.
pub mod convert;
pub mod dtype;
pub mod error;
pub mod gpu;
pub mod kernels;
pub use dtype::{DtypeRequest};
