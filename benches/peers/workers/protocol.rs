//! The workers' side of the protocol between `run.py` and the peers: a line of JSON each way.
//!
//! A worker first says what it is. Then each request names a file of texts, one a line, how often to embed them,
//! and perhaps where to leave the vectors; the answer has the seconds of each time, from texts in memory to
//! vectors in memory, and the tokens of one time. It ends when its input does.

use std::error::Error;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

/// Vectors of texts, in their order.
pub struct Vectors {
    pub dim: usize,
    pub values: Vec<f32>,
    /// Tokens of all texts, special ones included and padding not.
    pub tokens: usize,
}

/// Answers requests until there are no more.
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

/// NumPy's format, version 1: little-endian f32 in rows.
fn write_npy(path: &Path, dim: usize, values: &[f32]) -> std::io::Result<()> {
    let rows = values.len() / dim.max(1);
    let mut header =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dim}), }}");
    // Magic, version, the header's length and the header make a multiple of 64 bytes, the last of which ends the line.
    let spaces = 63 - (10 + header.len()) % 64;
    header.push_str(&" ".repeat(spaces));
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(header.len()).map_err(std::io::Error::other)?.to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    std::fs::write(path, bytes)
}
