//! The library for JavaScript. This crate only converts values. `js/` has the package's interface, and the crate
//! `vectile` computes.

mod embedder;
mod error;
mod files;
mod kinds;
mod options;
mod values;

use wasm_bindgen::prelude::wasm_bindgen;

use crate::values::json;

/// The adapters of this browser as JSON, best first: the GPU, if the browser has WebGPU, and the CPU.
#[wasm_bindgen]
pub async fn adapters() -> String {
    json(&vectile::adapters().await)
}

/// The version of the library.
#[wasm_bindgen]
pub fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}
