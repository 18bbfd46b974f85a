//! The trait that output formats implement, and the error of writing rows.

use std::io;

use super::block::{Block, VectorValues};
use crate::cli::failure::Failure;

/// A writer of rows in an output format.
pub trait RowFormat: Send {
    /// Appends the rows of a block.
    fn write(&mut self, block: &Block, vectors: &VectorValues) -> Result<(), WriteError>;

    /// Sends buffered rows to a reader that may be waiting.
    fn flush(&mut self) -> Result<(), WriteError>;

    /// Writes the end of the output, after the last row.
    fn finish(self: Box<Self>) -> Result<(), WriteError>;
}

/// The rows that a writer gets: all rows of an output, or the rows of one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All rows of the output.
    Whole,
    /// The rows of one part, which is later joined with other parts. `first` is the index of the part's first row.
    Part { first: u64 },
}

/// The reason why rows could not be written.
#[derive(Debug)]
pub enum WriteError {
    Io(io::Error),
    /// The format cannot hold a row. The fields are the row's index in the block and a description of the problem.
    Row(usize, String),
    Failure(Failure),
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        WriteError::Io(error)
    }
}

impl From<Failure> for WriteError {
    fn from(failure: Failure) -> Self {
        WriteError::Failure(failure)
    }
}

impl WriteError {
    /// Returns the error with the row's number in the input, if the error is about one row. `first` is the index of the
    /// block's first row.
    pub fn in_block(self, first: u64) -> Self {
        match self {
            WriteError::Row(at, problem) => WriteError::Failure(Failure::User(format!(
                "row {} of the input {problem}",
                first + at as u64 + 1
            ))),
            other => other,
        }
    }

    /// Returns the error as the failure of the command. `describe` returns the failure for an I/O error.
    pub fn into_failure(self, first: u64, describe: impl Fn(&io::Error) -> Failure) -> Failure {
        match self.in_block(first) {
            WriteError::Io(error) => describe(&error),
            WriteError::Failure(failure) => failure,
            WriteError::Row(_, problem) => Failure::User(problem),
        }
    }
}

/// Returns the problem of a row whose field `name` holds half of a surrogate pair. Such a field is valid JSON but not
/// valid text.
pub fn half_surrogate(name: &str) -> String {
    format!(
        "has half of a surrogate pair (half an emoji) in `{name}`; replace it with --lossy, or leave the field out with \
         --carry all,-{name}"
    )
}
