//! Files of one text per line, and of one JSON object per line.

use std::io::BufRead;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::chunk::{CHUNK_BYTES, Chunk, ReadOptions, RowReader};
use super::encoding::{BYTE_ORDER_MARK, utf8};
use super::file::{InputFile, TextBytes};
use super::jsonl;
use crate::cli::args::InputFormat;
use crate::cli::carried::{CarriedRow, CarriedSchema, CarriedValue};
use crate::cli::failure::Failure;

/// Reads lines of a file or of stdin.
pub struct Lines {
    path: PathBuf,
    reader: TextBytes,
    options: ReadOptions,
    /// Whether lines are JSON objects.
    objects: bool,
    /// Whether the input may pause for a long time, as stdin and pipes do. A chunk then ends where the buffer
    /// does, so that rows are not held back until more input arrives.
    live: bool,
    line: u64,
    bytes_read: Arc<AtomicU64>,
    /// Field names by position, shared between rows: most objects have the same fields.
    names: Vec<Arc<str>>,
}

impl Lines {
    pub fn open(file: &InputFile, options: &ReadOptions) -> Result<Self, Failure> {
        let (reader, bytes_read) = file.open()?;
        Ok(Lines {
            path: file.path.clone(),
            reader,
            options: options.clone(),
            objects: file.format == InputFormat::Jsonl,
            live: file.bytes.is_none(),
            line: 0,
            bytes_read,
            names: Vec::new(),
        })
    }

    /// Reads the next line, without its line end. Returns false at the end of the file.
    ///
    /// The last line needs no line end. A byte order mark before the first line is dropped.
    fn next_line(&mut self, line: &mut Vec<u8>) -> Result<bool, Failure> {
        line.clear();
        let read = self.reader.read_until(b'\n', line);
        if read.map_err(|e| Failure::file(&self.path, "read", &e))? == 0 {
            return Ok(false);
        }
        self.line += 1;
        if line.ends_with(b"\n") {
            line.pop();
            if line.ends_with(b"\r") {
                line.pop();
            }
        }
        if self.line == 1 {
            if line.starts_with(BYTE_ORDER_MARK) {
                line.drain(..BYTE_ORDER_MARK.len());
            }
            if line.starts_with(b"\xff\xfe") || line.starts_with(b"\xfe\xff") {
                let name = self.path.display();
                return Err(Failure::user(format!(
                    "{name}: line 1: the file is UTF-16; convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)"
                )));
            }
        }
        Ok(true)
    }

    /// Whether a line is a row. Blank lines between JSON objects are not.
    fn is_row(&self, line: &[u8]) -> bool {
        !self.objects || !line.trim_ascii().is_empty()
    }

    fn carried(&mut self, object: &str) -> CarriedRow {
        let mut row = CarriedRow::new();
        for (at, (name, json)) in jsonl::members(object).enumerate() {
            if !self.options.carry.takes(&name) {
                continue;
            }
            let name = match self.names.get(at) {
                Some(known) if **known == *name => known.clone(),
                _ => {
                    let name: Arc<str> = Arc::from(&*name);
                    self.names.resize_with(self.names.len().max(at + 1), || name.clone());
                    self.names[at] = name.clone();
                    name
                }
            };
            // If a field occurs twice, the last value counts, as in Python.
            match row.iter_mut().find(|(known, _)| *known == name) {
                Some((_, value)) => *value = CarriedValue::Json(json.to_owned()),
                None => row.push((name, CarriedValue::Json(json.to_owned()))),
            }
        }
        row
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
            let content = utf8(&line, self.options.lossy);
            let text = match &content {
                Ok(line) if self.objects => jsonl::text_of(line, &self.options.field),
                Ok(line) => Ok(line.clone()),
                Err(problem) => Err(problem.clone()),
            };
            let carries = self.objects && !self.options.carry.is_none();
            // A line that is not a valid object has no fields.
            let row = match &content {
                Ok(line) if carries && jsonl::is_object(line) => self.carried(line),
                _ => CarriedRow::new(),
            };
            chunk.push(self.line, text, line.len());
            if carries {
                chunk.carry(row);
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
        if self.objects { CarriedSchema::Objects } else { CarriedSchema::None }
    }

    fn position(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }
}
