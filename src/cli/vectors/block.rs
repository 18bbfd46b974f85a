//! A block of vectors with their places and texts.

use std::sync::Arc;

use half::f16;
use vectile::{CorpusRows, Error};

use crate::cli::failure::Failure;

/// The maximum bytes of the vectors of a block.
pub const BLOCK_BYTES: usize = 16 << 20;

/// Values of consecutive rows.
pub enum Values {
    F32(Vec<f32>),
    F16(Vec<f16>),
}

/// Consecutive rows of an input. Rows without a vector are left out.
pub struct VectorBlock {
    pub values: Values,
    /// For each row its number in the input, from 1.
    pub lines: Vec<u64>,
    /// The text of each row; empty if the input has no texts.
    pub texts: Vec<Option<String>>,
    /// The number of rows whose vector is null.
    pub nulls: u64,
    /// The name of the file, for messages.
    pub name: Arc<str>,
    /// The word for a row in messages.
    pub unit: &'static str,
    /// Position of the input at the end of the block, in bytes.
    pub position: u64,
}

impl VectorBlock {
    /// The vectors as the library takes them.
    pub fn rows(&self) -> CorpusRows<'_> {
        match &self.values {
            Values::F32(values) => CorpusRows::F32(values),
            Values::F16(values) => CorpusRows::F16(values),
        }
    }

    /// The number of vectors.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Names the file and the line in an error about a row. `first` is the number of vectors before this block.
    pub fn failure(&self, error: Error, first: usize) -> Failure {
        let place = |problem: &str| {
            let (row, problem) = problem.strip_prefix("row ")?.split_once(' ')?;
            let line = self.lines.get(row.parse::<usize>().ok()?.checked_sub(first)?)?;
            Some(format!("{}: {} {line}: {problem}", self.name, self.unit))
        };
        match &error {
            Error::Option { problem, .. } => {
                place(problem).map_or(Failure::Library(error), Failure::User)
            }
            _ => Failure::Library(error),
        }
    }
}

/// The library compares rows in blocks of a multiple of this number. With the same multiple here, no few rows are left
/// over that need a submit of their own.
const WORKGROUP_ROWS: usize = 64;

/// The number of rows of a block.
pub fn block_rows(dim: usize) -> usize {
    match BLOCK_BYTES / (4 * dim.max(1)) {
        rows @ ..WORKGROUP_ROWS => rows.max(1),
        rows => rows / WORKGROUP_ROWS * WORKGROUP_ROWS,
    }
}
