//! Values between commas (CSV, RFC 4180) or tabs, under a line of names.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use csv::{ByteRecord, ErrorKind};

use super::format::{Bytes, File};
use super::lines::utf8;
use super::{CHUNK_BYTES, Chunk, Reader, Wanted};
use crate::cli::args::InputFormat;
use crate::cli::carried::{Carry, Cell, Row, Shape};
use crate::cli::failure::Failure;

/// Records of a file or of stdin.
pub struct Delimited {
    name: Arc<str>,
    reader: csv::Reader<Bytes>,
    lossy: bool,
    /// The column of the texts.
    text: usize,
    columns: usize,
    /// The columns that are carried.
    carried: Vec<(usize, Arc<str>)>,
    count: Arc<AtomicU64>,
}

impl Delimited {
    pub fn open(file: &File, wanted: &Wanted) -> Result<Self, Failure> {
        let (bytes, count) = file.bytes()?;
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
        let text = column_of(&name, &names, &wanted.field)?;
        let carried = carried_of(&name, &names, &wanted.carry)?;
        Ok(Delimited {
            name,
            reader,
            lossy: wanted.lossy,
            text,
            columns: names.len(),
            carried,
            count,
        })
    }

    /// The next record with its line, and what is wrong with it; false at the end.
    fn next_record(&mut self, record: &mut ByteRecord) -> Result<(bool, Option<String>), Failure> {
        match self.reader.read_byte_record(record) {
            Ok(more) => Ok((more, None)),
            Err(error) => match error.kind() {
                ErrorKind::UnequalLengths { len, .. } => {
                    let columns = self.columns;
                    Ok((true, Some(format!("has {len} values, and the first line {columns}"))))
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

/// Which of the columns holds the texts.
pub fn column_of(file: &str, names: &[Arc<str>], field: &str) -> Result<usize, Failure> {
    let mut found = names.iter().enumerate().filter(|(_, name)| &***name == field);
    match (found.next(), found.next()) {
        (Some((at, _)), None) => Ok(at),
        (Some(_), Some(_)) => {
            Err(Failure::user(format!("{file}: has several columns `{field}`; rename them")))
        }
        (None, _) => Err(Failure::user(format!(
            "{file}: has no column `{field}`, only {}; name the column that holds the texts with \
             --field",
            listed(names)
        ))),
    }
}

/// The columns that are carried, by their place.
pub fn carried_of(
    file: &str,
    names: &[Arc<str>],
    carry: &Carry,
) -> Result<Vec<(usize, Arc<str>)>, Failure> {
    if let Carry::These(wanted) = carry
        && let Some(missing) = wanted.iter().find(|wanted| !names.iter().any(|n| **n == ***wanted))
    {
        return Err(Failure::user(format!(
            "--carry: {file} has no column `{missing}`, only {}",
            listed(names)
        )));
    }
    let carried: Vec<(usize, Arc<str>)> = names
        .iter()
        .enumerate()
        .filter(|(_, n)| carry.takes(n))
        .map(|(i, n)| (i, n.clone()))
        .collect();
    for (at, name) in &carried {
        if carried.iter().any(|(other, known)| other < at && known == name) {
            return Err(Failure::user(format!(
                "{file}: has several columns `{name}`; rename them, or leave them out with --carry"
            )));
        }
    }
    Ok(carried)
}

fn listed(names: &[Arc<str>]) -> String {
    const SHOWN: usize = 12;
    let mut list =
        names.iter().take(SHOWN).map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        list.push_str(", …");
    }
    list
}

impl Reader for Delimited {
    fn fill(&mut self, chunk: &mut Chunk, most: usize) -> Result<(), Failure> {
        let mut record = ByteRecord::new();
        let mut bytes = 0;
        while chunk.texts.len() < most && bytes < CHUNK_BYTES {
            let (more, problem) = self.next_record(&mut record)?;
            if !more {
                break;
            }
            bytes += record.as_slice().len();
            let line = record.position().map_or(0, |position| position.line());
            let (text, row) = match problem {
                Some(problem) => (Err(problem), Row::new()),
                None => {
                    let value = |at: usize| utf8(record.get(at).unwrap_or_default(), self.lossy);
                    let named =
                        |(at, name): &(usize, Arc<str>)| -> Result<(Arc<str>, Cell), String> {
                            // Text that cannot be carried makes the row a bad one.
                            Ok((name.clone(), Cell::Text(value(*at)?)))
                        };
                    let row: Result<Row, String> = self.carried.iter().map(named).collect();
                    let text = value(self.text)
                        .map_err(|problem| format!("in column {}, {problem}", self.text + 1));
                    match row {
                        Ok(row) => (text, row),
                        Err(problem) => (text.and(Err(problem)), Row::new()),
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

    fn shape(&self) -> Shape {
        match self.carried.is_empty() {
            true => Shape::None,
            false => Shape::Texts(self.carried.iter().map(|(_, name)| name.clone()).collect()),
        }
    }

    fn position(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}
