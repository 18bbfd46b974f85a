//! The command line: each test runs the program.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used)]

mod bench;
mod bulk;
#[cfg(feature = "bulk")]
mod columns;
mod embed;
mod help;
mod input;
mod interrupt;
mod output;
mod rerank;
mod search;
mod support;
mod tune;
mod verify;
