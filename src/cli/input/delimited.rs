//! Comma-separated values (RFC 4180) and tab-separated values, with a header line.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use csv::{ByteRecord, ErrorKind};

use super::chunk::{CHUNK_BYTES, Chunk, ReadOptions, RowReader};
use super::encoding::utf8;
use super::file::{InputFile, TextBytes};
use super::header::{NamedColumn, carried_columns, text_column};
use crate::cli::args::InputFormat;
use crate::cli::carried::{CarriedRow, CarriedSchema, CarriedValue};
use crate::cli::failure::Failure;

/// Reads records of a file or of stdin.
pub struct Delimited {
    name: Arc<str>,
    reader: csv::Reader<TextBytes>,
    lossy: bool,
    /// Index of the column of the texts.
    text: usize,
    /// Number of columns of the header.
    columns: usize,
    carried: Vec<NamedColumn>,
    bytes_read: Arc<AtomicU64>,
}

impl Delimited {
    pub fn open(file: &InputFile, options: &ReadOptions) -> Result<Self, Failure> {
        let (bytes, bytes_read) = file.open()?;
        let delimiter = if file.format == InputFormat::Tsv { b'\t' } else { b',' };
        let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(bytes);
        let name = file.name.clone();
        let mut names: Vec<Arc<str>> = Vec::new();
        let header = match reader.byte_headers() {
            Ok(header) => header.clone(),
            Err(error) => return Err(unreadable(&name, &error)),
        };
        for field in &header {
            let column = utf8(field, false)
                .map_err(|problem| Failure::user(format!("{name}: line 1: {problem}")))?;
            names.push(Arc::from(column.trim_start_matches('\u{feff}')));
        }
        let text = text_column(&name, &names, &options.field)?;
        let carried = carried_columns(&name, &names, &options.carry)?;
        Ok(Delimited {
            name,
            reader,
            lossy: options.lossy,
            text,
            columns: names.len(),
            carried,
            bytes_read,
        })
    }

    /// Reads the next record. Returns false at the end, and what is wrong with the record if something is.
    fn next_record(&mut self, record: &mut ByteRecord) -> Result<(bool, Option<String>), Failure> {
        match self.reader.read_byte_record(record) {
            Ok(more) => Ok((more, None)),
            Err(error) => match error.kind() {
                ErrorKind::UnequalLengths { len, .. } => {
                    let columns = self.columns;
                    Ok((true, Some(format!("has {len} values, but the header has {columns}"))))
                }
                _ => Err(unreadable(&self.name, &error)),
            },
        }
    }
}

fn unreadable(name: &str, error: &csv::Error) -> Failure {
    let problem = match error.kind() {
        ErrorKind::Io(error) => error.to_string(),
        _ => error.to_string(),
    };
    Failure::user(format!("{name}: cannot be read: {problem}"))
}

impl RowReader for Delimited {
    fn fill(&mut self, chunk: &mut Chunk, max_rows: usize) -> Result<(), Failure> {
        let mut record = ByteRecord::new();
        let mut bytes = 0;
        while chunk.texts.len() < max_rows && bytes < CHUNK_BYTES {
            let (more, problem) = self.next_record(&mut record)?;
            if !more {
                break;
            }
            bytes += record.as_slice().len();
            let line = record.position().map_or(0, |position| position.line());
            let (text, row) = match problem {
                Some(problem) => (Err(problem), CarriedRow::new()),
                None => {
                    let value = |at: usize| utf8(record.get(at).unwrap_or_default(), self.lossy);
                    let named = |column: &NamedColumn| -> Result<(Arc<str>, CarriedValue), String> {
                        // A row whose carried text is not UTF-8 has failed as a whole.
                        Ok((column.name.clone(), CarriedValue::Text(value(column.index)?)))
                    };
                    let row: Result<CarriedRow, String> = self.carried.iter().map(named).collect();
                    let text = value(self.text)
                        .map_err(|problem| format!("in column {}, {problem}", self.text + 1));
                    match row {
                        Ok(row) => (text, row),
                        Err(problem) => (text.and(Err(problem)), CarriedRow::new()),
                    }
                }
            };
            chunk.push(line, text, record.as_slice().len());
            if !self.carried.is_empty() {
                chunk.carry(row);
            }
        }
        Ok(())
    }

    fn skip(&mut self, rows: u64) -> Result<u64, Failure> {
        let mut record = ByteRecord::new();
        let mut skipped = 0;
        while skipped < rows && self.next_record(&mut record)?.0 {
            skipped += 1;
        }
        Ok(skipped)
    }

    fn schema(&self) -> CarriedSchema {
        match self.carried.is_empty() {
            true => CarriedSchema::None,
            false => CarriedSchema::Texts(
                self.carried.iter().map(|column| column.name.clone()).collect(),
            ),
        }
    }

    fn position(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }
}
