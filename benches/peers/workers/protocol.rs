//! The worker's side of the protocol between `run.py` and the peers. Each request and each answer is one line of JSON.
//!
//! A worker first describes itself. Each request names a file of texts, one per line, and the number of runs. It may
//! also name a file for the vectors. The answer has the seconds of each run, from texts in memory to vectors in memory,
//! and the number of tokens. The worker ends at the end of stdin.

use std::error::Error;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

/// The vectors of the texts, in the order of the texts.
pub struct Vectors {
    pub dim: usize,
    pub values: Vec<f32>,
    /// The number of tokens of all texts, with special tokens and without padding.
    pub tokens: usize,
}

/// Answers requests until stdin ends.
pub fn serve(
    about: &Value,
    mut embed: impl FnMut(&[String]) -> Result<Vectors, Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    say(about)?;
    for line in std::io::stdin().lock().lines() {
        let answer = match answer(&serde_json::from_str(&line?)?, &mut embed) {
            Ok(answer) => answer,
            Err(error) => json!({"error": error.to_string()}),
        };
        say(&answer)?;
    }
    Ok(())
}

fn answer(
    request: &Value,
    embed: &mut impl FnMut(&[String]) -> Result<Vectors, Box<dyn Error>>,
) -> Result<Value, Box<dyn Error>> {
    let path = request["texts"].as_str().ok_or("a request names no texts")?;
    let texts: Vec<String> = std::fs::read_to_string(path)?.lines().map(str::to_owned).collect();
    let mut seconds = Vec::new();
    let mut tokens = 0;
    for time in 0..request["repeat"].as_u64().unwrap_or(1) {
        let begun = Instant::now();
        let vectors = embed(&texts)?;
        seconds.push(begun.elapsed().as_secs_f64());
        tokens = vectors.tokens;
        if let (0, Some(path)) = (time, request["npy"].as_str()) {
            write_npy(Path::new(path), vectors.dim, &vectors.values)?;
        }
    }
    Ok(json!({"seconds": seconds, "tokens": tokens}))
}

fn say(value: &Value) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}")?;
    out.flush()
}

/// Writes a NumPy file of version 1, with rows of little-endian f32.
fn write_npy(path: &Path, dim: usize, values: &[f32]) -> std::io::Result<()> {
    let rows = values.len() / dim.max(1);
    let mut header =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dim}), }}");
    // The magic number, the version, the header's length and the header together have a multiple of 64 bytes. The last
    // byte is a line feed.
    let spaces = 63 - (10 + header.len()) % 64;
    header.push_str(&" ".repeat(spaces));
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(header.len()).map_err(std::io::Error::other)?.to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    std::fs::write(path, bytes)
}
