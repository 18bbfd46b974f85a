//! Finds the passages that are nearest to a question.
//!
//! ```sh
//! cargo run --release --example search -- .vectile/models/all-MiniLM-L6-v2
//! ```
//!
//! Without a directory, the example runs a tiny model from the tests. Its weights are random, and so are its
//! results.
#![allow(clippy::print_stdout, reason = "an example prints its results")]

use vectile::{Embedder, Error, ModelFiles, block_on};

fn main() -> Result<(), Error> {
    run(std::env::args().nth(1))
}

/// Searches the passages with the model in `directory`.
pub fn run(directory: Option<String>) -> Result<(), Error> {
    let directory = directory.unwrap_or("tests/fixtures/bert_mean_norm".to_owned());
    let files = ModelFiles::from_directory(directory)?;
    let embedder = block_on(Embedder::builder(files).build())?;

    let passages: Vec<&str> = include_str!("collection.txt").lines().collect();
    let question = "How do I keep bread from going stale?";
    // `embed_document` and `embed_query` prepend the model's prompt to the texts, if the model has one.
    let documents = block_on(embedder.embed_document(&passages))?;
    let query = block_on(embedder.embed_query(&[question]))?;

    let cosines = documents.rows().map(|document| cosine(query.row(0), document));
    let mut ranked: Vec<(f32, &str)> = cosines.zip(passages).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    println!("{question}");
    for (cosine, passage) in ranked.iter().take(3) {
        println!("{cosine:8.4}  {passage}");
    }
    Ok(())
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
