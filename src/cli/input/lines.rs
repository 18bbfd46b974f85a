//! Reads files of one text per line, and of one JSON object per line.

use std::io::{BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::chunk::{CHUNK_BYTES, Chunk, MAX_ROW_BYTES, ReadOptions, RowReader};
use super::encoding::{skip_byte_order_mark, utf8};
use super::file::{InputFile, TextBytes};
use super::objects::ObjectFields;
use crate::cli::args::InputFormat;
use crate::cli::carried::CarriedSchema;
use crate::cli::failure::Failure;

/// Reads lines of a file or of stdin.
pub struct Lines {
    file: InputFile,
    reader: TextBytes,
    lossy: bool,
    /// Reads the fields of a line, if the lines are JSON objects.
    objects: Option<ObjectFields>,
    /// Is true if the input may pause for a long time, as stdin and pipes do. A chunk of such an input ends where the
    /// buffered input ends, so that rows do not wait until more input arrives.
    live: bool,
    line: u64,
    bytes_read: Arc<AtomicU64>,
}

impl Lines {
    pub fn open(file: &InputFile, options: &ReadOptions) -> Result<Self, Failure> {
        let (reader, bytes_read) = file.open()?;
        let objects = (file.format == InputFormat::Jsonl).then(|| ObjectFields::new(options));
        let (file, live, lossy) = (file.clone(), file.bytes.is_none(), options.lossy);
        Ok(Lines { file, reader, lossy, objects, live, line: 0, bytes_read })
    }

    /// Reads the next line, without its line break. Returns false at the end of the file. The last line needs no line
    /// break.
    fn next_line(&mut self, line: &mut Vec<u8>) -> Result<bool, Failure> {
        if self.line == 0 {
            // The byte order mark is skipped before the first line, not when the file is opened. Stdin may at first
            // have no data, and the model can load while the reader waits.
            skip_byte_order_mark(&mut self.reader, &self.file)?;
        }
        line.clear();
        let read = self.reader.by_ref().take(MAX_ROW_BYTES as u64 + 1).read_until(b'\n', line);
        if read.map_err(|e| Failure::file(&self.file.path, "read", &e))? == 0 {
            return Ok(false);
        }
        self.line += 1;
        if line.ends_with(b"\n") {
            line.pop();
            if line.ends_with(b"\r") {
                line.pop();
            }
        }
        if line.len() > MAX_ROW_BYTES {
            return Err(Failure::user(format!(
                "{}: line {} is longer than {} MiB; give a file with one text on each line, or name its format with \
                 --input-format",
                self.file.name,
                self.line,
                MAX_ROW_BYTES >> 20
            )));
        }
        if self.objects.is_some() && self.line == 1 && line.trim_ascii_start().starts_with(b"[") {
            return Err(Failure::user(format!(
                "{}: line 1: expected an object, not an array; if the file is one JSON array of objects, read it \
                 with --input-format json",
                self.file.name
            )));
        }
        Ok(true)
    }

    /// Returns true if a line counts as a row. A blank line between JSON objects is not a row.
    fn is_row(&self, line: &[u8]) -> bool {
        self.objects.is_none() || !line.trim_ascii().is_empty()
    }
}

impl RowReader for Lines {
    fn fill(&mut self, chunk: &mut Chunk, max_rows: usize) -> Result<(), Failure> {
        let mut line = Vec::new();
        let mut bytes = 0;
        while chunk.texts.len() < max_rows && bytes < CHUNK_BYTES && self.next_line(&mut line)? {
            if !self.is_row(&line) {
                continue;
            }
            bytes += line.len();
            match &mut self.objects {
                Some(objects) => objects.push(chunk, self.line, &line),
                None => chunk.push(self.line, utf8(&line, self.lossy), line.len()),
            }
            if self.live && self.reader.buffer().is_empty() {
                break;
            }
        }
        Ok(())
    }

    fn skip(&mut self, rows: u64) -> Result<u64, Failure> {
        let mut line = Vec::new();
        let mut skipped = 0;
        while skipped < rows && self.next_line(&mut line)? {
            skipped += u64::from(self.is_row(&line));
        }
        Ok(skipped)
    }

    fn schema(&self) -> CarriedSchema {
        if self.objects.is_some() { CarriedSchema::Objects } else { CarriedSchema::None }
    }

    fn position(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }
}
