//! Turns texts into vectors.
//!
//! ```sh
//! cargo run --release --example embed -- .vectile/models/all-MiniLM-L6-v2
//! ```
//!
//! Without a directory, the example runs a tiny model from the tests, whose weights are random.
#![allow(clippy::print_stdout, reason = "an example prints its results")]

use vectile::{Embedder, Error, ModelFiles, block_on};

fn main() -> Result<(), Error> {
    run(std::env::args().nth(1))
}

/// Embeds two texts with the model in `directory`.
pub fn run(directory: Option<String>) -> Result<(), Error> {
    let directory = directory.unwrap_or("tests/fixtures/bert_mean_norm".to_owned());
    let files = ModelFiles::from_directory(directory)?;
    let embedder = block_on(Embedder::builder(files).build())?;
    // The printed precision shows the chosen dtype and the reason.
    println!("{}\n{}", embedder.adapter(), embedder.precision());

    let texts = ["A cat sat on the roof.", "The dog ran."];
    let embeddings = block_on(embedder.embed(&texts))?;
    for (text, row) in texts.iter().zip(embeddings.rows()) {
        println!("{text} → {} values: {:?} …", row.len(), &row[..4]);
    }
    Ok(())
}
