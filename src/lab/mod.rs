//! The precision lab: what a model costs and how right it is in each precision, on this adapter.

pub mod report;
