//! [`Chunk`], which holds rows of an input with their line numbers and the columns to copy, and the trait
//! [`RowReader`].

use std::sync::Arc;

use crate::cli::args::{Dialect, InputFormat, LineArgs};
use crate::cli::carried::{Carried, CarriedRow, CarriedSchema, Carry};
use crate::cli::failure::Failure;

/// A chunk is full once its rows have at least this many bytes.
pub const CHUNK_BYTES: usize = 4 << 20;

/// The maximum size of a row in bytes. A longer row is an error, because a compressed file of a few megabytes may have a
/// single row that fills the memory.
pub const MAX_ROW_BYTES: usize = 64 << 20;

/// Consecutive rows of an input.
#[derive(Debug, Default)]
pub struct Chunk {
    /// The text of each row. A row without a text is `None`, and has an entry in `problems`.
    pub texts: Vec<Option<String>>,
    /// For each row, its number in the input, from 1. The number counts lines, rows of a table, or arguments.
    pub lines: Vec<u64>,
    /// For each row without a usable text, the index of the row in this chunk and the reason.
    pub problems: Vec<(usize, String)>,
    pub carried: Carried,
    /// For each row, its approximate size in bytes.
    pub weights: Vec<usize>,
    /// The number of input bytes that were read up to the end of this chunk.
    pub position: u64,
    /// The name of the file, for messages, or `None` for the texts of the command line.
    pub name: Option<Arc<str>>,
    /// The word that messages use for a row, such as "line".
    pub unit: &'static str,
}

impl Chunk {
    /// Returns the place where a row was read, for messages, such as "notes.txt: line 5".
    pub fn location(&self, row: usize) -> String {
        let number = self.lines.get(row).copied().unwrap_or_default();
        match &self.name {
            Some(name) => format!("{name}: {} {number}", self.unit),
            None => format!("{} {number}", self.unit),
        }
    }

    /// Returns the reason why a row has no text, or `None` if the row has a text.
    pub fn problem(&self, row: usize) -> Option<&str> {
        self.problems.iter().find(|(at, _)| *at == row).map(|(_, problem)| problem.as_str())
    }

    /// Returns the text of a row, or an empty string if the row has no text.
    pub fn text(&self, row: usize) -> &str {
        self.texts[row].as_deref().unwrap_or_default()
    }

    /// Returns the texts of all rows.
    ///
    /// # Errors
    /// Fails if a row has no text.
    pub fn into_texts(self) -> Result<Vec<String>, Failure> {
        match self.problems.first() {
            Some((row, problem)) => {
                Err(Failure::user(format!("{}: {problem}", self.location(*row))))
            }
            None => Ok(self.texts.into_iter().flatten().collect()),
        }
    }

    /// Adds a row. `text` is the row's text, or the reason why the row has no text. `bytes` is the approximate size of
    /// the row in bytes.
    pub fn push(&mut self, line: u64, text: Result<String, String>, bytes: usize) {
        match text {
            Ok(text) => self.texts.push(Some(text)),
            Err(problem) => {
                self.problems.push((self.texts.len(), problem));
                self.texts.push(None);
            }
        }
        self.lines.push(line);
        self.weights.push(bytes);
    }

    /// Sets the copied columns of the last row.
    pub fn carry(&mut self, row: CarriedRow) {
        match &mut self.carried {
            Carried::Rows(rows) => rows.push(row),
            carried => *carried = Carried::Rows(vec![row]),
        }
    }
}

impl vectile::stream::Window for Chunk {
    fn texts(&self) -> &[Option<String>] {
        &self.texts
    }
}

/// Options that say which text and which columns are read from a row.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// The format of the files, or `None` if the extension of each file sets its format.
    pub format: Option<InputFormat>,
    /// The name of the field or column that holds the texts.
    pub field: String,
    pub lossy: bool,
    pub dialect: Dialect,
    pub carry: Carry,
    /// The column or field that holds vectors, if the input may have one.
    pub vectors: Option<VectorColumn>,
}

/// A column or field that holds vectors.
#[derive(Debug, Clone)]
pub struct VectorColumn {
    pub name: String,
    /// Is true if an input without this column is an error.
    pub required: bool,
}

impl ReadOptions {
    pub fn new(args: &LineArgs, carry: Carry) -> Self {
        ReadOptions {
            format: args.input_format,
            field: args.field.clone(),
            lossy: args.lossy,
            dialect: args.dialect,
            carry,
            vectors: None,
        }
    }

    /// Returns options for an input that may have vectors. The column of vectors is read in the same way as a copied
    /// column. An input with vectors need not have texts.
    pub fn with_vectors(args: &LineArgs, vectors: VectorColumn) -> Self {
        let carry = Carry::IfPresent(vectors.name.clone());
        ReadOptions { vectors: Some(vectors), ..ReadOptions::new(args, carry) }
    }
}

/// Reads the rows of one file.
pub trait RowReader: Send {
    /// Adds up to `max_rows` rows to an empty chunk. At the end of the file, no row is added.
    fn fill(&mut self, chunk: &mut Chunk, max_rows: usize) -> Result<(), Failure>;

    /// Skips up to `rows` rows and returns the number of skipped rows. Fewer than `rows` are skipped only if the file
    /// ends.
    fn skip(&mut self, rows: u64) -> Result<u64, Failure>;

    /// Returns the columns of the file that are copied to the output.
    fn schema(&self) -> CarriedSchema;

    /// Returns the word that messages use for a row of this format.
    fn unit(&self) -> &'static str {
        "line"
    }

    /// Returns the number of bytes that were read from the file.
    fn position(&self) -> u64;
}
