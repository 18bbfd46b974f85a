//! Tests the server through sockets, with tiny models on the default adapter.
#![cfg(feature = "server")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod cohere;
mod errors;
mod faults;
mod health;
mod load;
mod multi_vector;
mod ollama;
mod openai;
mod outside;
mod reports;
mod rerank;
mod shutdown;
mod support;
mod tei;
