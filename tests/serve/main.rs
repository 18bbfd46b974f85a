//! Tests `vectile serve` with real clients, in a browser, and under load.
#![cfg(all(feature = "cli", feature = "server"))]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a test fails by panicking, and tells what it measured"
)]

mod asked;
mod clients;
mod outside;
mod pages;
mod program;
mod short;
mod soak;
#[path = "../support/mod.rs"]
mod support;
