//! Loads a model from memory. Programs that contain their model or have no file system need this.
//!
//! ```sh
//! cargo run --release --example from_bytes -- .vectile/models/all-MiniLM-L6-v2
//! ```
//!
//! Without a directory, the example reads a tiny model from the tests.
#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::fs;
use std::path::Path;

use vectile::{Embedder, ModelFiles, block_on};

type Files = Vec<(String, Vec<u8>)>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    run(std::env::args().nth(1))
}

/// Reads the files of `directory` and loads the model from them.
pub fn run(directory: Option<String>) -> Result<(), Box<dyn std::error::Error>> {
    let directory = directory.unwrap_or("tests/fixtures/bert_mean_norm".to_owned());
    let mut files = Files::new();
    read(Path::new(&directory), "", &mut files)?;
    for (name, bytes) in &files {
        println!("{name}: {} bytes", bytes.len());
    }

    let embedder = block_on(Embedder::builder(ModelFiles::from_bytes(files)?).build())?;
    let embeddings = block_on(embedder.embed(&["A cat sat on the roof."]))?;
    println!("{} values", embeddings.row(0).len());
    Ok(())
}

/// Adds the files of a directory. The names are relative to the model's directory and have forward slashes, such as
/// `1_Pooling/config.json`.
fn read(directory: &Path, prefix: &str, files: &mut Files) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        match entry.file_type()?.is_dir() {
            true => read(&entry.path(), &format!("{name}/"), files)?,
            false => files.push((name, fs::read(entry.path())?)),
        }
    }
    Ok(())
}
