//! Reads comma-separated and tab-separated values with a header line, in any dialect.

use std::io::{BufRead, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use csv::{ByteRecord, ErrorKind};

use super::chunk::{CHUNK_BYTES, Chunk, ReadOptions, RowReader};
use super::encoding::{skip_byte_order_mark, utf8};
use super::file::{InputFile, TextBytes};
use super::header::{NamedColumn, carried_columns, text_beside_vectors};
use super::quotes::{QuoteState, QuoteWatcher, Separators, is_quote_problem};
use crate::cli::args::{Dialect, InputFormat, Quote};
use crate::cli::carried::{CarriedRow, CarriedSchema, CarriedValue};
use crate::cli::failure::Failure;

/// The maximum number of bytes that are read to find the delimiter in the header line.
const MAXIMUM_HEADER_BYTES: u64 = 1 << 20;

/// The delimiters that are tried if the header of a CSV file has no comma.
const OTHER_DELIMITERS: [u8; 3] = [b';', b'\t', b'|'];

/// The bytes of a file: the header line, which was read first to find the delimiter, and then all other lines.
type Bytes = std::io::Chain<Cursor<Vec<u8>>, TextBytes>;

/// Reads the records of a CSV or TSV file, or of stdin.
pub struct Delimited {
    name: Arc<str>,
    reader: csv::Reader<QuoteWatcher<Bytes>>,
    quotes: Arc<QuoteState>,
    quote: Option<u8>,
    lossy: bool,
    /// Index of the column that holds the texts, or `None` if the file has vectors but no texts.
    text: Option<usize>,
    /// Number of columns in the header.
    columns: usize,
    carried: Vec<NamedColumn>,
    /// The number of lines before the header.
    lines_before: u64,
    bytes_read: Arc<AtomicU64>,
}

impl Delimited {
    pub fn open(file: &InputFile, options: &ReadOptions) -> Result<Self, Failure> {
        let name = file.name.clone();
        let failed = |problem: String| Failure::user(format!("{name}: {problem}"));
        let (mut bytes, bytes_read) = file.open()?;
        skip_byte_order_mark(&mut bytes, file)?;
        let mut header_line = read_line(&mut bytes, file)?;
        let sep = sep_line(&header_line).filter(|_| file.format == InputFormat::Csv);
        if sep.is_some() {
            header_line = read_line(&mut bytes, file)?;
        }
        let lines_before = u64::from(sep.is_some());
        let separators =
            separators(file.format, &options.dialect, sep, &header_line, &options.field)
                .map_err(failed)?;
        let bytes = Cursor::new(header_line.clone()).chain(bytes);
        let watcher = QuoteWatcher::new(bytes, separators, lines_before + 1);
        let quotes = watcher.state();
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(separators.delimiter)
            .quoting(separators.quote.is_some())
            .quote(separators.quote.unwrap_or(b'"'))
            .escape(separators.escape)
            .from_reader(watcher);
        let header = match reader.byte_headers() {
            Ok(header) => header.clone(),
            Err(error) => return Err(failed(describe(&error))),
        };
        if let Some(problem) = quotes.problem_at_end() {
            return Err(failed(problem));
        }
        let mut names: Vec<Arc<str>> = Vec::new();
        for field in &header {
            let line = lines_before + 1;
            let column = utf8(field, false).map_err(|e| failed(format!("line {line}: {e}")))?;
            names.push(Arc::from(column));
        }
        let text = text_beside_vectors(&name, &names, options)
            .map_err(|failure| with_delimiter_advice(failure, &header_line, separators))?;
        let carried = carried_columns(&name, &names, &options.carry)?;
        let (columns, lossy) = (names.len(), options.lossy);
        Ok(Delimited {
            name,
            reader,
            quotes,
            quote: separators.quote,
            lossy,
            text,
            columns,
            carried,
            lines_before,
            bytes_read,
        })
    }

    /// Reads the next record. The first result is false at the end of the file. The second result is the problem with
    /// this record, if the record cannot be used.
    fn next_record(&mut self, record: &mut ByteRecord) -> Result<(bool, Option<String>), Failure> {
        let read = self.reader.read_byte_record(record);
        // If a quote is never closed, the parser reads everything up to the end of the file as one value.
        if let Some(problem) = self.quotes.problem_at_end() {
            return Err(Failure::user(format!("{}: {problem}", self.name)));
        }
        match read {
            Ok(more) => Ok((more, None)),
            Err(error) => match error.kind() {
                ErrorKind::UnequalLengths { len, .. } => {
                    let columns = self.columns;
                    let mut problem =
                        format!("has {len} values, but the header has {columns} columns");
                    if self.quotes.may_need_escape() {
                        problem +=
                            "; if quotation marks are escaped by backslashes, give --escape '\\'";
                    }
                    if self.quote.is_none() && record.as_slice().contains(&b'"') {
                        problem += "; if values are in quotation marks, give --quote '\"'";
                    }
                    Ok((true, Some(problem)))
                }
                _ => Err(Failure::user(format!("{}: {}", self.name, describe(&error)))),
            },
        }
    }

    /// Returns the text of a record, and the values that `--carry` copies.
    fn values(&self, record: &ByteRecord) -> (Result<String, String>, CarriedRow) {
        let value = |at: usize| {
            utf8(record.get(at).unwrap_or_default(), self.lossy)
                .map_err(|problem| format!("in column {}, {problem}", at + 1))
        };
        let named = |column: &NamedColumn| -> Result<(Arc<str>, CarriedValue), String> {
            Ok((column.name.clone(), CarriedValue::Text(value(column.index)?)))
        };
        let text = self.text.map_or_else(|| Err("has no text".to_owned()), value);
        match self.carried.iter().map(named).collect() {
            Ok(row) => (text, row),
            // If one of the values that `--carry` copies is not UTF-8, the whole row fails.
            Err(problem) => (text.and(Err(problem)), CarriedRow::new()),
        }
    }
}

fn read_line(bytes: &mut TextBytes, file: &InputFile) -> Result<Vec<u8>, Failure> {
    let mut line = Vec::new();
    let read = bytes.take(MAXIMUM_HEADER_BYTES).read_until(b'\n', &mut line);
    read.map_err(|e| Failure::file(&file.path, "read", &e))?;
    Ok(line)
}

/// Returns the delimiter that a line such as `sep=;` names, or `None` for any other line. Excel reads and writes this
/// line before the header.
fn sep_line(line: &[u8]) -> Option<u8> {
    let line = line.trim_ascii_end();
    let line = line.strip_prefix(b"\"").and_then(|l| l.strip_suffix(b"\"")).unwrap_or(line);
    let (name, delimiter) = line.split_at_checked(4)?;
    match delimiter {
        [delimiter] if name.eq_ignore_ascii_case(b"sep=") => Some(*delimiter),
        // The line ended with a tab after `sep=`, but trimming has removed the tab.
        [] if name.eq_ignore_ascii_case(b"sep=") => Some(b'\t'),
        _ => None,
    }
}

/// Returns the separators of a file. An option has the highest precedence, then a `sep=` line, and then the header and
/// the format.
fn separators(
    format: InputFormat,
    dialect: &Dialect,
    sep: Option<u8>,
    header: &[u8],
    field: &str,
) -> Result<Separators, String> {
    let quote = match (dialect.quote, format) {
        (Some(Quote::Char(quote)), _) => Some(quote),
        (None, InputFormat::Csv) => Some(b'"'),
        _ => None,
    };
    let delimiter = match (dialect.delimiter.or(sep), format) {
        (Some(delimiter), _) => delimiter,
        (None, InputFormat::Tsv) => b'\t',
        (None, _) => find_delimiter(header, quote, field)?,
    };
    let escape = dialect.escape;
    if escape.is_some() && quote.is_none() {
        return Err(
            "--escape applies only inside quotes; add --quote '\"', or leave --escape out".into()
        );
    }
    if Some(delimiter) == quote || Some(delimiter) == escape {
        let delimiter = name_of(delimiter);
        return Err(format!("{delimiter} is the delimiter and cannot be --quote or --escape too"));
    }
    Ok(Separators { delimiter, quote, escape })
}

/// Returns the delimiter of a CSV header: a comma, or another delimiter if the header has no comma.
fn find_delimiter(header: &[u8], quote: Option<u8>, field: &str) -> Result<u8, String> {
    let present = |delimiter: &u8| outside_quotes(header, quote).any(|byte| byte == *delimiter);
    let names = header.trim_ascii_end();
    if present(&b',') || names == field.as_bytes() {
        return Ok(b',');
    }
    let found: Vec<u8> = OTHER_DELIMITERS.into_iter().filter(present).collect();
    let splits_off_field = |delimiter: &&u8| {
        let trim = |name: &[u8]| -> Vec<u8> {
            name.iter().copied().filter(|byte| Some(*byte) != quote).collect()
        };
        names.split(|byte| byte == *delimiter).any(|name| trim(name) == field.as_bytes())
    };
    match &found[..] {
        [] => Ok(b','),
        [delimiter] => Ok(*delimiter),
        several => match several.iter().filter(splits_off_field).collect::<Vec<_>>()[..] {
            [delimiter] => Ok(*delimiter),
            _ => {
                let list = several.iter().map(|d| name_of(*d)).collect::<Vec<_>>().join(" and ");
                Err(format!(
                    "the header has no comma, but it has {list}; name the delimiter with --delimiter"
                ))
            }
        },
    }
}

fn outside_quotes(line: &[u8], quote: Option<u8>) -> impl Iterator<Item = u8> {
    let mut quoted = false;
    line.iter().copied().filter(move |byte| {
        quoted ^= Some(*byte) == quote;
        !quoted
    })
}

/// Returns the name of a delimiter, for messages.
fn name_of(delimiter: u8) -> String {
    match delimiter {
        b'\t' => "tab".to_owned(),
        other => format!("`{}`", char::from(other)),
    }
}

/// Returns the error about a missing column. If the header contains another delimiter, the error advises the user to
/// set the delimiter.
fn with_delimiter_advice(failure: Failure, header: &[u8], separators: Separators) -> Failure {
    let other = [b',', b';', b'\t', b'|'].into_iter().find(|delimiter| {
        *delimiter != separators.delimiter
            && outside_quotes(header, separators.quote).any(|byte| byte == *delimiter)
    });
    match (failure, other) {
        (Failure::User(sentence), Some(b'\t')) => {
            Failure::User(format!("{sentence}; if tabs separate the values, give --delimiter tab"))
        }
        (Failure::User(sentence), Some(other)) => {
            let other = char::from(other);
            Failure::User(format!(
                "{sentence}; if `{other}` separates the values, give --delimiter '{other}'"
            ))
        }
        (failure, _) => failure,
    }
}

/// Returns the message for an error of the parser, with the line of the error.
fn describe(error: &csv::Error) -> String {
    match error.kind() {
        ErrorKind::Io(error) if is_quote_problem(error) => error.to_string(),
        ErrorKind::Io(error) => format!("cannot be read: {error}"),
        _ => format!("cannot be read: {error}"),
    }
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
            let size = record.as_slice().len();
            bytes += size;
            let line = record.position().map_or(0, |position| position.line()) + self.lines_before;
            let (text, row) = match problem {
                Some(problem) => (Err(problem), CarriedRow::new()),
                None => self.values(&record),
            };
            chunk.push(line, text, size);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sep_line_names_the_delimiter() {
        assert_eq!(sep_line(b"sep=;\r\n"), Some(b';'));
        assert_eq!(sep_line(b"\"SEP=|\"\n"), Some(b'|'));
        assert_eq!(sep_line(b"sep=\t\r\n"), Some(b'\t'));
        for line in [&b"sep;text\n"[..], b"sep=ab\n", b"se\n", b""] {
            assert_eq!(sep_line(line), None, "{line:?}");
        }
    }

    #[test]
    fn the_delimiter_is_found_in_the_header() {
        let find = |header: &str| find_delimiter(header.as_bytes(), Some(b'"'), "text");
        assert_eq!(find("id,text;more\n"), Ok(b','));
        assert_eq!(find("id;text\r\n"), Ok(b';'));
        assert_eq!(find("id\ttext\n"), Ok(b'\t'));
        assert_eq!(find("\"a,b\"|\"text\"\n"), Ok(b'|'));
        assert_eq!(find("text\n"), Ok(b','));
        assert_eq!(find("id;a|b;text\n"), Ok(b';'));
        assert!(find("a;b|c\n").unwrap_err().contains("--delimiter"));
    }
}
