//! Measures the speed, memory and accuracy of a model in each precision on an adapter.
//!
//! [`bench()`] runs a model in several precisions side by side and returns a [`report::Report`]. The report has the
//! speed and memory of each precision, and its accuracy against f32 on the same texts. [`verify()`](verify::verify())
//! checks a model on an adapter, and measures whether the model's activations stay within the range of f16.
//! The bench also gives a predicted maximum of the speed on known GPUs.
//! [`tune()`](tune::tune()) finds the fastest variants of kernels.

mod accuracy;
mod bench;
mod combination;
pub mod compare;
mod html;
pub mod report;
pub(crate) mod roofline;
pub mod tune;
pub mod verify;

pub use bench::{BenchOptions, Pair, Progress, bench};
pub use combination::Combination;
pub use html::html;
