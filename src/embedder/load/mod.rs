//! Loads a model from files with the given options.

mod builder;
pub(super) mod f16_record;
pub(super) mod f16_verdict;
mod plan;
#[cfg(any(test, fuzzing))]
mod planned;
mod read_model;

pub use builder::ModelBuilder;
#[cfg(feature = "lab")]
pub(crate) use plan::LoadPlan;
#[cfg(any(test, fuzzing))]
pub(crate) use planned::plan_without_device;
#[cfg(test)]
pub(super) use read_model::read_model;
