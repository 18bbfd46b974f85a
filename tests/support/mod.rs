//! The helpers that all test suites and the benches share: fixtures, adapters, skips with a message, repeatable noise,
//! and the distance between vectors. See `tests/README.md`.
#![allow(
    dead_code,
    unused_imports,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "each suite uses a part of this, and a test fails by panicking"
)]

mod adapter;
mod distance;
mod fixture;
mod memory;
mod noise;
#[cfg(feature = "cli")]
mod program;
mod skip;
mod tools;

pub use adapter::{
    ADAPTER, REQUIRE_ADAPTER, adapter, build, built, have_adapter, lacks_shaders, on_cpu, open,
    precision,
};
pub use distance::{Distance, cosine, distance};
pub use fixture::{
    contents, directories, fixture, model_files, read_json, root, tensor, test_model, texts,
};
pub use memory::{peak_memory, resident_memory};
pub use noise::{encoded, noise, storable};
#[cfg(feature = "cli")]
pub use program::{is_windows_program, vectile, windows_path};
pub use skip::{lacks, must_have, skip};
pub use tools::{chromium, on_path};
