//! Tests the HTML report of `vectile bench`. It must show every number, and browsers must display it well.
#![cfg(feature = "lab")]
#![allow(clippy::unwrap_used)]

mod browser;
mod page;
mod sample;
mod schema;
#[path = "../support/mod.rs"]
mod support;
