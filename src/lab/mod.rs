//! The precision lab: what a model costs and how right it is in each precision, on this adapter.
//!
//! [`bench()`] runs a model in several precisions side by side and returns a [`report::Report`]: speed, memory, and
//! the accuracy of each precision against f32 on the same texts. [`verify()`](verify::verify) asks whether a model
//! is right on an adapter, and how much of f16 it bears. [`tune()`](tune::tune) finds the fastest forms of kernels.

mod accuracy;
mod bench;
mod combination;
pub mod compare;
mod html;
mod profile;
pub mod report;
mod sweep;
mod texts;
pub mod tune;
pub mod verify;

pub use bench::{BenchOptions, Pair, Progress, bench};
pub use combination::Combination;
pub use html::html;
