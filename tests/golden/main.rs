//! Whole models against vectors that sentence-transformers made in float64, on a real adapter
//! (software Vulkan counts).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod bits;
mod families;
mod fixtures;
mod loss;
mod minilm;
mod multi_vector;
mod pipelines;
mod range;
mod rerankers;
mod sparse;
mod storages;
#[cfg(feature = "lab")]
mod tasks;
#[cfg(feature = "lab")]
mod tune;
mod verify;

use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use vectile::{Built, Embedder, EmbedderBuilder, Error, ModelBuilder, ModelFiles, block_on};

/// A file or directory of `tests/fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A model, or `None`, said aloud, where the machine has no adapter. Fails where
/// `VECTILE_REQUIRE_ADAPTER` says there must be one, and for any other error.
pub fn build<M: Built>(builder: ModelBuilder<M>) -> Option<M> {
    match block_on(builder.build()) {
        Ok(model) => Some(model),
        Err(Error::Adapter { adapter, problem }) if adapter == "none" => {
            assert!(std::env::var_os("VECTILE_REQUIRE_ADAPTER").is_none(), "{problem}");
            eprintln!("SKIPPED: {problem}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Starts an embedder of a fixture.
pub fn builder(name: &str) -> EmbedderBuilder {
    Embedder::builder(ModelFiles::from_directory(fixture(name)).unwrap())
}

/// The texts of a fixture.
pub fn texts(name: &str) -> Vec<String> {
    serde_json::from_slice(&std::fs::read(fixture(name).join("texts.json")).unwrap()).unwrap()
}

/// A tensor of a safetensors file as f64, with its shape.
pub fn tensor(file: &Path, name: &str) -> (Vec<usize>, Vec<f64>) {
    let bytes = std::fs::read(file).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let view = tensors.tensor(name).unwrap_or_else(|_| panic!("no {name} in {}", file.display()));
    let data = view.data();
    let values = match view.dtype() {
        Dtype::F64 => {
            data.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect()
        }
        Dtype::F32 => data
            .chunks_exact(4)
            .map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())))
            .collect(),
        Dtype::I64 => {
            data.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64).collect()
        }
        other => panic!("{name} is {other:?}"),
    };
    (view.shape().to_vec(), values)
}

/// How far rows are from what they should be.
#[derive(Debug, Clone, Copy, Default)]
pub struct Distance {
    pub max_abs: f64,
    /// `max_abs` over the largest magnitude of the reference.
    pub relative: f64,
    pub min_cosine: f64,
}

pub fn distance(got: &[f32], expected: &[f64], dim: usize) -> Distance {
    assert_eq!(got.len(), expected.len());
    assert!(got.iter().all(|v| v.is_finite()));
    let max_abs =
        got.iter().zip(expected).map(|(g, e)| (f64::from(*g) - e).abs()).fold(0.0, f64::max);
    let largest = expected.iter().map(|e| e.abs()).fold(0.0, f64::max);
    let cosines = got.chunks_exact(dim).zip(expected.chunks_exact(dim)).map(|(g, e)| {
        let dot: f64 = g.iter().zip(e).map(|(g, e)| f64::from(*g) * e).sum();
        let norm = |squares: f64| squares.sqrt();
        let g = norm(g.iter().map(|g| f64::from(*g).powi(2)).sum());
        let e = norm(e.iter().map(|e| e * e).sum());
        dot / (g * e)
    });
    Distance { max_abs, relative: max_abs / largest, min_cosine: cosines.fold(1.0, f64::min) }
}
