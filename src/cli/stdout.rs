//! Prints text and JSON on stdout.

use std::io::{BufWriter, Stdout, Write};

use super::failure::Failure;

/// A buffered writer of lines to stdout. If the reader of stdout has closed the pipe, methods return
/// [`Failure::ClosedPipe`].
pub struct StdoutLines(BufWriter<Stdout>);

impl StdoutLines {
    pub fn new() -> Self {
        StdoutLines(BufWriter::new(std::io::stdout()))
    }

    pub fn line(&mut self, line: std::fmt::Arguments<'_>) -> Result<(), Failure> {
        writeln!(self.0, "{line}").map_err(|e| Failure::stdout(&e))
    }

    pub fn json_line<T: serde::Serialize>(&mut self, value: &T) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.0, value).map_err(|e| Failure::stdout(&e.into()))?;
        writeln!(self.0).map_err(|e| Failure::stdout(&e))
    }

    /// Writes the buffered lines to stdout.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.0.flush().map_err(|e| Failure::stdout(&e))
    }
}

/// Prints a text so that the output ends with exactly one line break.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = StdoutLines::new();
    out.line(format_args!("{}", text.trim_end()))?;
    out.flush()
}

/// Returns a value as indented JSON.
pub fn to_json<T: serde::Serialize + ?Sized>(value: &T) -> Result<String, Failure> {
    serde_json::to_string_pretty(value).map_err(|e| Failure::internal(format_args!("JSON: {e}")))
}
