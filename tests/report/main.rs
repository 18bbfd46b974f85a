//! The report of `vectile bench` as a page: that it has every number, and what a browser makes of it.
#![cfg(feature = "lab")]
#![allow(clippy::unwrap_used)]

mod browser;
mod page;
mod sample;
mod schema;
#[path = "../support/mod.rs"]
mod support;
