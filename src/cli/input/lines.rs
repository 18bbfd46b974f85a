//! A text a line, or a JSON object a line.

use std::io::BufRead;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::format::{Bytes, File};
use super::{CHUNK_BYTES, Chunk, Reader, Wanted, jsonl};
use crate::cli::args::InputFormat;
use crate::cli::carried::{Carry, Cell, Row, Shape};
use crate::cli::failure::Failure;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Lines of a file or of stdin.
pub struct Lines {
    name: PathBuf,
    reader: Bytes,
    wanted: Wanted,
    objects: bool,
    /// What a read returns may be all there is for a while: better a small chunk than a long wait.
    live: bool,
    line: u64,
    count: Arc<AtomicU64>,
    /// Names of fields, which most objects have in common.
    names: Vec<Arc<str>>,
}

impl Lines {
    pub fn open(file: &File, wanted: &Wanted) -> Result<Self, Failure> {
        let (reader, count) = file.bytes()?;
        Ok(Lines {
            name: file.path.clone(),
            reader,
            wanted: wanted.clone(),
            objects: file.format == InputFormat::Jsonl,
            live: file.bytes.is_none(),
            line: 0,
            count,
            names: Vec::new(),
        })
    }

    /// The next line without what ends it; false at the end. A last line without a line end counts; a
    /// byte order mark before the first does not.
    fn next_line(&mut self, line: &mut Vec<u8>) -> Result<bool, Failure> {
        line.clear();
        let read = self.reader.read_until(b'\n', line);
        if read.map_err(|e| Failure::file(&self.name, "read", &e))? == 0 {
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
                let name = self.name.display();
                return Err(Failure::user(format!(
                    "{name}: line 1: the file is UTF-16; convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)"
                )));
            }
        }
        Ok(true)
    }

    /// Blank lines of JSON Lines are no rows.
    fn is_row(&self, line: &[u8]) -> bool {
        !self.objects || !line.trim_ascii().is_empty()
    }

    fn carried(&mut self, line: &str) -> Row {
        let mut row: Row = Vec::new();
        for (at, (name, json)) in jsonl::members(line).enumerate() {
            if !self.wanted.carry.takes(&name) {
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
            // Of a name that comes twice the last value counts, as in Python.
            match row.iter_mut().find(|(known, _)| *known == name) {
                Some((_, cell)) => *cell = Cell::Json(json.to_owned()),
                None => row.push((name, Cell::Json(json.to_owned()))),
            }
        }
        row
    }
}

/// Bytes as text, or which byte is none.
pub fn utf8(bytes: &[u8], lossy: bool) -> Result<String, String> {
    match str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) if lossy => Ok(String::from_utf8_lossy(bytes).into_owned()),
        Err(bad) => Err(format!(
            "byte {} is not UTF-8; convert the file (iconv -t UTF-8) or replace such bytes with \
             --lossy",
            bad.valid_up_to() + 1
        )),
    }
}

impl Reader for Lines {
    fn fill(&mut self, chunk: &mut Chunk, most: usize) -> Result<(), Failure> {
        let mut line = Vec::new();
        let mut bytes = 0;
        while chunk.texts.len() < most && bytes < CHUNK_BYTES && self.next_line(&mut line)? {
            if !self.is_row(&line) {
                continue;
            }
            bytes += line.len();
            let content = utf8(&line, self.wanted.lossy);
            let text = match &content {
                Ok(line) if self.objects => jsonl::text_of(line, &self.wanted.field),
                Ok(line) => Ok(line.clone()),
                Err(problem) => Err(problem.clone()),
            };
            let carries = self.objects && self.wanted.carry != Carry::None;
            // A line that is no object has no fields.
            let row = match &content {
                Ok(line) if carries && jsonl::is_object(line) => self.carried(line),
                _ => Row::new(),
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

    fn shape(&self) -> Shape {
        if self.objects { Shape::Objects } else { Shape::None }
    }

    fn position(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}
