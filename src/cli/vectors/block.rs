//! A block of vectors, with the line numbers and texts of their rows.

use std::sync::Arc;

use half::f16;
use vectile::{CorpusRows, Error};

use crate::cli::failure::Failure;

/// The maximum size of the vectors of a block, in bytes.
pub const BLOCK_BYTES: usize = 16 << 20;

/// The values of consecutive rows.
pub enum Values {
    F32(Vec<f32>),
    F16(Vec<f16>),
}

/// Consecutive rows of an input. Rows without a vector are left out.
pub struct VectorBlock {
    pub values: Values,
    /// For each row, its number in the input, from 1.
    pub lines: Vec<u64>,
    /// The text of each row. The list is empty if the input has no texts.
    pub texts: Vec<Option<String>>,
    /// The number of rows whose vector is null.
    pub nulls: u64,
    /// The name of the file, for messages.
    pub name: Arc<str>,
    /// The word that messages use for a row, such as "line".
    pub unit: &'static str,
    /// The number of input bytes up to the end of the block.
    pub position: u64,
}

impl VectorBlock {
    /// Returns the vectors in the type that the library's search expects.
    pub fn rows(&self) -> CorpusRows<'_> {
        match &self.values {
            Values::F32(values) => CorpusRows::F32(values),
            Values::F16(values) => CorpusRows::F16(values),
        }
    }

    /// Returns the number of vectors.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Returns the failure for an error of the library, with the file and the line of the row. `first` is the number of
    /// vectors before this block.
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

/// The library compares rows in blocks whose number of rows is a multiple of this number. The blocks of this module
/// have such a number of rows too. Otherwise each block would end with a few remaining rows, which need a separate
/// submission to the GPU.
const WORKGROUP_ROWS: usize = 64;

/// Returns the number of rows in a block of vectors with `dim` values.
pub fn block_rows(dim: usize) -> usize {
    match BLOCK_BYTES / (4 * dim.max(1)) {
        rows @ ..WORKGROUP_ROWS => rows.max(1),
        rows => rows / WORKGROUP_ROWS * WORKGROUP_ROWS,
    }
}
