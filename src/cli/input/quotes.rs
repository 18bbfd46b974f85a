//! Watches the quotation marks of a CSV or TSV file while a parser reads it.
//!
//! Two mistakes make a parser merge rows or cut values without an error. One is a quote that is never closed. The other
//! is a quotation mark inside a quoted value, escaped by a character that the parser does not expect. The watcher
//! reports both as errors, and also rows that are too long.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::chunk::MAX_ROW_BYTES;

/// The characters that separate and quote values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Separators {
    pub delimiter: u8,
    /// The quotation mark, or `None` if quotation marks are ordinary characters.
    pub quote: Option<u8>,
    pub escape: Option<u8>,
}

/// The state of the quotation marks in the bytes read so far. The parser may not have parsed the last of these bytes
/// yet, because the parser fills a buffer first.
#[derive(Debug, Default)]
pub struct QuoteState {
    /// The line of the quote that is still open after the last byte read, or 0 if no quote is open.
    open_line: AtomicU64,
    /// Is true if the file has been read to its end.
    at_end: AtomicBool,
    backslash_at_end: AtomicBool,
}

impl QuoteState {
    /// Returns the problem of a file that ended while a quote was open, or `None` if there is no such problem.
    pub fn problem_at_end(&self) -> Option<String> {
        match self.open_line.load(Ordering::Relaxed) {
            _ if !self.at_end.load(Ordering::Relaxed) => None,
            0 => None,
            line => Some(format!(
                "line {line}: the quote that opens here is not closed before the end of the file; {ADVICE}"
            )),
        }
    }

    /// Returns true if a quoted value ended with a backslash, which may have been meant to escape the quote.
    pub fn may_need_escape(&self) -> bool {
        self.backslash_at_end.load(Ordering::Relaxed)
    }
}

const ADVICE: &str =
    "close the quote, or read quotation marks as ordinary characters with --quote none";

/// Passes the bytes of a file to the parser, and fails at a mistake in the quotation marks.
pub struct QuoteWatcher<R> {
    inner: R,
    separators: Separators,
    state: Arc<QuoteState>,
    place: ValuePlace,
    /// The current line of the file, from 1.
    line: u64,
    open_line: u64,
    /// The line on which the current row starts, and the bytes of the row so far.
    row_line: u64,
    row_bytes: usize,
    /// Is true if the last quoted value ended with a backslash.
    ends_with_backslash: bool,
    last_byte: u8,
}

/// The place of the last byte within a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ValuePlace {
    Start,
    Unquoted,
    /// The byte is an escape character outside of quotes.
    UnquotedEscape,
    Quoted,
    /// The byte is an escape character inside quotes.
    QuotedEscape,
    /// The byte is the closing quote, or the first byte of a doubled quotation mark.
    Closed,
    /// The byte is a space after the closing quote.
    ClosedSpace,
}

impl<R> QuoteWatcher<R> {
    /// Returns a watcher for the bytes of `inner`. `line` is the number of the first line that will be read.
    pub fn new(inner: R, separators: Separators, line: u64) -> Self {
        QuoteWatcher {
            inner,
            separators,
            state: Arc::default(),
            place: ValuePlace::Start,
            line,
            open_line: 0,
            row_line: line,
            row_bytes: 0,
            ends_with_backslash: false,
            last_byte: 0,
        }
    }

    pub fn state(&self) -> Arc<QuoteState> {
        self.state.clone()
    }

    fn scan(&mut self, bytes: &[u8]) -> Result<(), String> {
        for byte in bytes {
            if self.separators.quote.is_some() {
                self.place = self.next_place(*byte)?;
            }
            self.line += u64::from(*byte == b'\n');
            self.last_byte = *byte;
            if matches!(byte, b'\n' | b'\r') && !self.is_quoted() {
                (self.row_line, self.row_bytes) = (self.line, 0);
                continue;
            }
            self.row_bytes += 1;
            if self.row_bytes > MAX_ROW_BYTES {
                return Err(self.row_is_too_long());
            }
        }
        let open_line = if self.is_quoted() { self.open_line } else { 0 };
        self.state.open_line.store(open_line, Ordering::Relaxed);
        Ok(())
    }

    /// Returns true if the last byte is inside quotes.
    fn is_quoted(&self) -> bool {
        matches!(self.place, ValuePlace::Quoted | ValuePlace::QuotedEscape)
    }

    fn row_is_too_long(&self) -> String {
        let mib = MAX_ROW_BYTES >> 20;
        if self.is_quoted() {
            let line = self.open_line;
            return format!(
                "line {line}: the quote that opens here is not closed within {mib} MiB; {ADVICE}"
            );
        }
        format!(
            "line {}: the row that starts here is longer than {mib} MiB; give a file with one text on each row",
            self.row_line
        )
    }

    fn next_place(&mut self, byte: u8) -> Result<ValuePlace, String> {
        use ValuePlace::*;
        let Separators { delimiter, quote, escape } = self.separators;
        let is_quote = Some(byte) == quote;
        let is_escape = Some(byte) == escape && !is_quote;
        let ends_value = byte == delimiter || byte == b'\n' || byte == b'\r';
        Ok(match self.place {
            Start if is_quote => {
                self.open_line = self.line;
                Quoted
            }
            UnquotedEscape if ends_value || is_quote || is_escape => {
                return Err(format!(
                    "line {}: a character outside of quotes is escaped, but --escape applies only \
                     inside quotes; write such values in quotes",
                    self.line
                ));
            }
            Quoted if is_escape => QuotedEscape,
            Quoted if is_quote => {
                self.ends_with_backslash = self.last_byte == b'\\' && escape.is_none();
                Closed
            }
            Quoted | QuotedEscape => Quoted,
            Closed if is_quote => Quoted,
            Closed | ClosedSpace if ends_value => {
                if self.ends_with_backslash {
                    self.state.backslash_at_end.store(true, Ordering::Relaxed);
                }
                Start
            }
            Closed | ClosedSpace if byte == b' ' => ClosedSpace,
            Closed | ClosedSpace => self.text_after_quote()?,
            Start | Unquoted | UnquotedEscape if ends_value => Start,
            Start | Unquoted | UnquotedEscape if is_escape => UnquotedEscape,
            Start | Unquoted | UnquotedEscape => Unquoted,
        })
    }

    /// Returns the place of a byte that follows a closing quote and is neither a separator nor a space. If the quoted
    /// part is on one line, the byte belongs to the value, as in other programs. If the quoted part spans several
    /// lines, a stray quote has merged these lines, which is an error.
    fn text_after_quote(&self) -> Result<ValuePlace, String> {
        let (open, line) = (self.open_line, self.line);
        if self.ends_with_backslash {
            return Err(format!(
                "line {line}: a quotation mark is escaped by a backslash; read the file with --escape '\\'"
            ));
        }
        if open < line {
            return Err(format!(
                "line {open}: the quote that opens here closes on line {line}, in the middle of a value; {ADVICE}"
            ));
        }
        Ok(ValuePlace::Unquoted)
    }
}

/// A mistake in the quotation marks, and its line. The watcher returns this type inside an [`io::Error`].
#[derive(Debug)]
struct QuoteProblem(String);

impl fmt::Display for QuoteProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for QuoteProblem {}

/// Returns true if an error comes from a [`QuoteWatcher`], and not from reading the file.
pub fn is_quote_problem(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<QuoteProblem>())
}

impl<R: Read> Read for QuoteWatcher<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if read == 0 && !buffer.is_empty() {
            self.state.at_end.store(true, Ordering::Relaxed);
        }
        self.scan(&buffer[..read]).map_err(|problem| io::Error::other(QuoteProblem(problem)))?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CSV: Separators = Separators { delimiter: b',', quote: Some(b'"'), escape: None };

    fn watch(text: &str, separators: Separators) -> Result<Arc<QuoteState>, String> {
        let mut watcher = QuoteWatcher::new(text.as_bytes(), separators, 1);
        let state = watcher.state();
        // The small buffer splits the text into pieces, and the result must not depend on the size of the pieces.
        let mut buffer = [0; 3];
        while watcher.read(&mut buffer).map_err(|error| error.to_string())? > 0 {}
        Ok(state)
    }

    #[test]
    fn an_open_quote_is_reported_with_its_line() {
        let state = watch("a,b\n1,\"x\"\"\"\n2,\"never closed\n3,y\n", CSV).unwrap();
        assert!(state.problem_at_end().unwrap().starts_with("line 3: "));
        let closed = watch("a,b\n1,\"x\n\"\"y\"\"\n\"\n2,y \" z\n", CSV).unwrap();
        assert_eq!(closed.problem_at_end(), None);
        let unquoted = Separators { quote: None, ..CSV };
        assert_eq!(watch("a\n\"open\n", unquoted).unwrap().problem_at_end(), None);
    }

    #[test]
    fn a_stray_quote_that_merges_lines_is_reported() {
        let problem = watch("a,b\n1,\"open\n2,\"quoted\",x\n", CSV).unwrap_err();
        assert!(problem.starts_with("line 2: ") && problem.contains("on line 3"), "{problem}");
        assert!(watch("a\n\"one\" line\n\"two\"  ,x\n", CSV).is_ok());
    }

    #[test]
    fn backslash_escapes_are_noticed() {
        for text in ["a\n\"say \\\"hi\\\" now\"\n", "a\n\"5\\\" disk\"\n", "a\n\"{\\\"b\\\":1}\"\n"]
        {
            let problem = watch(text, CSV).unwrap_err();
            assert!(problem.contains("line 2") && problem.contains("--escape '\\'"), "{problem}");
            let escaped = Separators { escape: Some(b'\\'), ..CSV };
            assert_eq!(watch(text, escaped).unwrap().problem_at_end(), None);
        }
        // A quoted path that ends with a backslash is correct CSV, so it is not an error.
        assert!(watch("a,b\n\"C:\\temp\\\",x\n", CSV).unwrap().may_need_escape());
        assert!(!watch("a,b\n\"C:\\temp\",x\n", CSV).unwrap().may_need_escape());
    }

    #[test]
    fn escapes_outside_of_quotes_are_refused() {
        let escaped = Separators { escape: Some(b'\\'), ..CSV };
        let problem = watch("a,b\none\\, two,x\n", escaped).unwrap_err();
        assert!(problem.contains("line 2") && problem.contains("inside quotes"), "{problem}");
        assert!(watch("a,b\nC:\\temp,x\n", escaped).is_ok());
    }
}
