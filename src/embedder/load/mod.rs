//! Loads a model from files with the given options.

mod builder;
pub(super) mod f16_record;
pub(super) mod f16_verdict;
mod plan;
mod read_model;

pub use builder::ModelBuilder;
#[cfg(feature = "lab")]
pub(crate) use plan::LoadPlan;
#[cfg(test)]
pub(super) use read_model::read_model;
