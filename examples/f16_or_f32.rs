//! Compares a model in float16 with the same model in float32: their precision, time and vectors.
//!
//! ```sh
//! cargo run --release --example f16_or_f32 -- .vectile/models/all-MiniLM-L6-v2
//! ```
//!
//! Without a directory, the example runs a tiny model from the tests. `vectile bench` measures more figures,
//! and in several rounds.
#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::time::Instant;

use vectile::{DtypeRequest, Embedder, Embeddings, Error, HalfFallback, ModelFiles, block_on};

fn main() -> Result<(), Error> {
    run(std::env::args().nth(1))
}

/// Runs the model in `directory` in both precisions.
pub fn run(directory: Option<String>) -> Result<(), Error> {
    let directory = directory.unwrap_or("tests/fixtures/bert_mean_norm".to_owned());
    let files = ModelFiles::from_directory(directory)?;
    let wide = measure(files.clone(), DtypeRequest::Float32)?;
    let half = measure(files, DtypeRequest::Float16)?;
    let cosines = wide.rows().zip(half.rows()).map(|(a, b)| cosine(a, b));
    println!("smallest cosine: {:.7}", cosines.fold(1.0, f32::min));
    Ok(())
}

fn measure(files: ModelFiles, dtype: DtypeRequest) -> Result<Embeddings, Error> {
    // On an adapter without SHADER_F16, two f16 values are stored in one u32.
    let builder = Embedder::builder(files).dtype(dtype).half_fallback(HalfFallback::Packed);
    let embedder = block_on(builder.build())?;
    println!("{}", embedder.precision());

    let passages: Vec<&str> = include_str!("collection.txt").lines().take(16).collect();
    // The first run is not timed, because it may compile pipelines that loading did not compile.
    block_on(embedder.embed(&passages))?;
    let begun = Instant::now();
    let embeddings = block_on(embedder.embed(&passages))?;
    println!("  {} tokens in {:.1?}", embeddings.tokens, begun.elapsed());
    Ok(embeddings)
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
