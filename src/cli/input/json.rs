//! Reads a JSON array of objects, as pandas' `to_json(orient="records")` writes it, or JSON objects one after the
//! other.

use std::io::BufRead;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::chunk::{CHUNK_BYTES, Chunk, MAX_ROW_BYTES, ReadOptions, RowReader};
use super::encoding::skip_byte_order_mark;
use super::file::{InputFile, TextBytes};
use super::objects::ObjectFields;
use crate::cli::carried::CarriedSchema;
use crate::cli::failure::Failure;

/// Reads the objects of a file or of stdin. Only one object at a time is in memory.
pub struct JsonObjects {
    file: InputFile,
    reader: TextBytes,
    fields: ObjectFields,
    state: DocumentState,
    /// The number of objects read so far.
    objects: u64,
    /// The current line, from 1.
    line: u64,
    bytes_read: Arc<AtomicU64>,
}

/// The position of the reader in the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DocumentState {
    Start,
    /// The reader is in the array, before its first value.
    ArrayStart,
    /// The reader is in the array, after a value.
    AfterValue,
    /// The reader is between two values, outside of an array.
    Between,
    End,
}

impl JsonObjects {
    pub fn open(file: &InputFile, options: &ReadOptions) -> Result<Self, Failure> {
        let (reader, bytes_read) = file.open()?;
        Ok(JsonObjects {
            file: file.clone(),
            reader,
            fields: ObjectFields::new(options),
            state: DocumentState::Start,
            objects: 0,
            line: 1,
            bytes_read,
        })
    }

    /// Returns the next byte without consuming it, or `None` at the end of the file.
    fn peek(&mut self) -> Result<Option<u8>, Failure> {
        let buffer = self.reader.fill_buf();
        Ok(buffer.map_err(|e| Failure::file(&self.file.path, "read", &e))?.first().copied())
    }

    fn advance(&mut self, byte: u8) {
        self.line += u64::from(byte == b'\n');
        self.reader.consume(1);
    }

    /// Returns the next byte that is not white space, without consuming it.
    fn peek_token(&mut self) -> Result<Option<u8>, Failure> {
        while let Some(byte) = self.peek()? {
            if !byte.is_ascii_whitespace() {
                return Ok(Some(byte));
            }
            self.advance(byte);
        }
        Ok(None)
    }

    fn malformed(&self, problem: &str) -> Failure {
        Failure::user(format!("{}: line {}: {problem}", self.file.name, self.line))
    }

    /// Reads the next object or other value. Returns false at the end of the file.
    fn next_value(&mut self, value: &mut Vec<u8>) -> Result<bool, Failure> {
        if self.state == DocumentState::Start {
            skip_byte_order_mark(&mut self.reader, &self.file)?;
            self.state = match self.peek_token()? {
                Some(b'[') => {
                    self.advance(b'[');
                    DocumentState::ArrayStart
                }
                _ => DocumentState::Between,
            };
        }
        // A file may have any number of empty arrays before its next value, so this is a loop and not a recursion.
        loop {
            let next = self.peek_token()?;
            match (self.state, next) {
                (DocumentState::Between | DocumentState::End, None) => return Ok(false),
                (_, None) => {
                    return Err(self.malformed("the JSON array has no end; is the file complete?"));
                }
                // Another array begins after the end of an array. Some files of the `datasets` library have one array for
                // each batch of rows.
                (DocumentState::End, Some(b'[')) => {
                    self.advance(b'[');
                    self.state = DocumentState::ArrayStart;
                    continue;
                }
                (DocumentState::End, Some(_)) => {
                    return Err(self.malformed("expected nothing after the end of the JSON array"));
                }
                (DocumentState::ArrayStart | DocumentState::AfterValue, Some(b']')) => {
                    self.advance(b']');
                    self.state = DocumentState::End;
                    continue;
                }
                (DocumentState::AfterValue, Some(b',')) => self.advance(b','),
                (DocumentState::AfterValue, Some(_)) => {
                    let problem = format!("expected a comma after object {}", self.objects);
                    return Err(self.malformed(&problem));
                }
                (
                    DocumentState::Start | DocumentState::ArrayStart | DocumentState::Between,
                    Some(_),
                ) => {}
            }
            break;
        }
        if self.state != DocumentState::Between {
            self.state = DocumentState::AfterValue;
        }
        self.read_value(value)?;
        self.objects += 1;
        Ok(true)
    }

    /// Reads a value up to its end. Line breaks between the tokens of the value become spaces, so that a copied field
    /// fits on one line.
    fn read_value(&mut self, value: &mut Vec<u8>) -> Result<(), Failure> {
        value.clear();
        let in_array = self.state == DocumentState::AfterValue;
        let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
        self.peek_token()?;
        let first_line = self.line;
        while let Some(byte) = self.peek()? {
            let ends_before = match byte {
                b',' | b']' => in_array,
                b'{' => !value.is_empty(),
                _ => byte.is_ascii_whitespace(),
            };
            if depth == 0 && !quoted && ends_before {
                break;
            }
            if value.len() == MAX_ROW_BYTES {
                self.line = first_line;
                let mib = MAX_ROW_BYTES >> 20;
                return Err(self.malformed(&format!(
                    "the value that starts here is longer than {mib} MiB; give a file with one object for each text"
                )));
            }
            self.advance(byte);
            let is_break = !quoted && (byte == b'\n' || byte == b'\r');
            value.push(if is_break { b' ' } else { byte });
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                _ if quoted => {}
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 && !quoted && matches!(byte, b']' | b'}' | b'"') {
                return Ok(());
            }
        }
        match (depth > 0 || quoted, value.is_empty()) {
            (true, _) => {
                self.line = first_line;
                Err(self.malformed("the value that starts here has no end; is the file complete?"))
            }
            (_, true) => Err(self.malformed("expected an object")),
            _ => Ok(()),
        }
    }
}

impl RowReader for JsonObjects {
    fn fill(&mut self, chunk: &mut Chunk, max_rows: usize) -> Result<(), Failure> {
        let mut value = Vec::new();
        let mut bytes = 0;
        while chunk.texts.len() < max_rows && bytes < CHUNK_BYTES && self.next_value(&mut value)? {
            bytes += value.len();
            self.fields.push(chunk, self.objects, &value);
        }
        Ok(())
    }

    fn skip(&mut self, rows: u64) -> Result<u64, Failure> {
        let mut value = Vec::new();
        let mut skipped = 0;
        while skipped < rows && self.next_value(&mut value)? {
            skipped += 1;
        }
        Ok(skipped)
    }

    fn schema(&self) -> CarriedSchema {
        CarriedSchema::Objects
    }

    fn unit(&self) -> &'static str {
        "object"
    }

    fn position(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }
}
