//! The server, as its clients meet it: over sockets, with tiny models on whatever adapter there is.
#![cfg(feature = "server")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod errors;
mod health;
mod load;
mod ollama;
mod openai;
mod rerank;
mod shutdown;
mod support;
mod tei;
