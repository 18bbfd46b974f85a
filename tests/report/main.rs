//! The HTML report of `vectile bench`: it shows every number, and browsers display it well.
#![cfg(feature = "lab")]
#![allow(clippy::unwrap_used)]

mod browser;
mod page;
mod sample;
mod schema;
#[path = "../support/mod.rs"]
mod support;
