//! Orders documents by their relevance to a question, with a cross-encoder.
//!
//! ```sh
//! cargo run --release --example rerank -- models/ms-marco-MiniLM-L6-v2
//! ```
//!
//! Without a directory, the example runs a tiny model from the tests. Its weights are random, and so are its
//! scores.
#![allow(clippy::print_stdout, reason = "an example prints its results")]

use vectile::{Error, ModelFiles, Reranker, block_on};

fn main() -> Result<(), Error> {
    run(std::env::args().nth(1))
}

/// Ranks three documents with the model in `directory`.
pub fn run(directory: Option<String>) -> Result<(), Error> {
    let directory = directory.unwrap_or("tests/fixtures/rerankers/bert".to_owned());
    let files = ModelFiles::from_directory(directory)?;
    let reranker = block_on(Reranker::builder(files).build())?;

    let documents = ["A cat sat on the roof.", "The dog ran.", "Bread keeps best in a paper bag."];
    let ranked = block_on(reranker.rank("Where is the cat?", &documents))?;
    for document in ranked {
        println!("{:8.4}  {}", document.score, documents[document.index]);
    }
    Ok(())
}
