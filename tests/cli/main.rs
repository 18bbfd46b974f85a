//! Tests the command line. Each test runs the program.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used)]

mod bench;
mod bulk;
#[cfg(feature = "bulk")]
mod columns;
mod dialects;
mod embed;
mod faults;
mod help;
mod input;
mod interrupt;
mod json_input;
mod messages;
#[cfg(feature = "bulk")]
mod metadata;
mod output;
#[cfg(feature = "bulk")]
mod reports;
mod rerank;
mod resume;
mod search;
mod support;
mod tune;
mod vectors;
mod verify;
mod windows;
