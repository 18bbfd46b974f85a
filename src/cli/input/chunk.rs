//! [`Chunk`], which holds rows of an input with their line numbers and carried columns, and the trait
//! [`RowReader`].

use std::sync::Arc;

use crate::cli::args::{Dialect, InputFormat, LineArgs};
use crate::cli::carried::{Carried, CarriedRow, CarriedSchema, Carry};
use crate::cli::failure::Failure;

/// A chunk is full after the row that brings its size to this many bytes or more.
pub const CHUNK_BYTES: usize = 4 << 20;

/// Consecutive rows of an input.
#[derive(Debug, Default)]
pub struct Chunk {
    /// The text of each row. A row without a text is `None`, and has an entry in `problems`.
    pub texts: Vec<Option<String>>,
    /// For each row, its number in the input, from 1. The unit is a line, a row of a table, or an argument.
    pub lines: Vec<u64>,
    /// For each row without a usable text, its index in this chunk and the reason.
    pub problems: Vec<(usize, String)>,
    pub carried: Carried,
    /// For each row, its approximate size in bytes.
    pub weights: Vec<usize>,
    /// The number of input bytes that were read up to the end of this chunk.
    pub position: u64,
    /// The name of the file, for messages; `None` for the texts of the command line.
    pub name: Option<Arc<str>>,
    /// The word that messages use for a row, such as "line".
    pub unit: &'static str,
}

impl Chunk {
    /// Describes where a row was read, for messages: "notes.txt: line 5".
    pub fn location(&self, row: usize) -> String {
        let number = self.lines.get(row).copied().unwrap_or_default();
        match &self.name {
            Some(name) => format!("{name}: {} {number}", self.unit),
            None => format!("{} {number}", self.unit),
        }
    }

    /// The reason why a row has no text; `None` if it has one.
    pub fn problem(&self, row: usize) -> Option<&str> {
        self.problems.iter().find(|(at, _)| *at == row).map(|(_, problem)| problem.as_str())
    }

    /// The text of a row, or an empty string if the row has none.
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

    /// Adds a row: its number, its text or the reason why it has none, and its size in bytes.
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

    /// Sets the carried columns of the last row.
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

/// Options for turning rows into texts and carried columns.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// The format of the files, or `None` if each file's name decides.
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
    /// Whether an input without this column is an error.
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

    /// Options for an input that may have vectors. They are carried, and such an input need not have texts.
    pub fn with_vectors(args: &LineArgs, vectors: VectorColumn) -> Self {
        let carry = Carry::IfPresent(vectors.name.clone());
        ReadOptions { vectors: Some(vectors), ..ReadOptions::new(args, carry) }
    }
}

/// Reads the rows of one file.
pub trait RowReader: Send {
    /// Adds up to `max_rows` rows to an empty chunk. It adds none at the end of the file.
    fn fill(&mut self, chunk: &mut Chunk, max_rows: usize) -> Result<(), Failure>;

    /// Skips rows and returns how many were skipped. The number is less than `rows` only if the file ends first.
    fn skip(&mut self, rows: u64) -> Result<u64, Failure>;

    /// The carried columns of the file.
    fn schema(&self) -> CarriedSchema;

    /// The word that messages use for a row of this format.
    fn unit(&self) -> &'static str {
        "line"
    }

    /// The number of bytes of the file that were read.
    fn position(&self) -> u64;
}
