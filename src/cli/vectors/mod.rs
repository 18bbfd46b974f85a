//! Reads vectors from NumPy arrays, from columns of tables, and from fields of JSON objects.

mod array;
mod block;
#[cfg(feature = "bulk")]
mod lists;
mod rows;

use std::path::Path;

use super::args::LineArgs;
use super::failure::Failure;
use super::input::{ReadOptions, TextSource, VectorColumn};
use array::NpyRows;
pub use block::VectorBlock;
use rows::TableRows;

/// The default name of the column or field that holds vectors. `vectile embed` writes vectors to this column.
const DEFAULT_COLUMN: &str = "embedding";

/// The input of a search: vectors to compare, or texts to embed first.
pub enum Corpus {
    Vectors(VectorSource),
    Texts(Box<TextSource>),
}

/// Reads vectors block by block.
pub enum VectorSource {
    Array(NpyRows),
    Table(Box<TableRows>),
}

impl Corpus {
    /// Opens an input. `column` is the value of `--embedding-column`.
    ///
    /// # Errors
    /// Fails if the input has neither vectors nor texts, or if `column` is given and holds no vectors.
    pub fn open(path: &Path, args: &LineArgs, column: Option<&str>) -> Result<Self, Failure> {
        let extension = path.extension().unwrap_or_default();
        if args.input_format.is_none() && extension.eq_ignore_ascii_case("npy") {
            if column.is_some() {
                return Err(Failure::user(format!(
                    "--embedding-column: {} is a NumPy array, which has no columns; leave the option out",
                    path.display()
                )));
            }
            return Ok(Corpus::Vectors(VectorSource::Array(NpyRows::open(path)?)));
        }
        let name = column.unwrap_or(DEFAULT_COLUMN).to_owned();
        let vectors = VectorColumn { name: name.clone(), required: column.is_some() };
        let options = ReadOptions::with_vectors(args, vectors);
        let source = TextSource::open_with(&[path.to_owned()], options)?;
        TableRows::find(source, name, column.is_some())
    }
}

impl VectorSource {
    /// Returns the next block of rows of `dim` values, or `None` at the end. Rows whose vector is null are left out. A
    /// block has at least one row.
    ///
    /// # Errors
    /// Fails if a row does not have `dim` values, if a value is not a number, or if the file is incomplete.
    pub fn next_block(&mut self, dim: usize) -> Result<Option<VectorBlock>, Failure> {
        match self {
            VectorSource::Array(rows) => rows.next_block(dim),
            VectorSource::Table(rows) => rows.next_block(dim),
        }
    }

    /// Returns the length of the input in bytes, if known.
    pub fn total_bytes(&self) -> Option<u64> {
        match self {
            VectorSource::Array(rows) => Some(rows.total_bytes()),
            VectorSource::Table(rows) => rows.total_bytes(),
        }
    }

    /// Returns true if the input may have texts beside its vectors.
    pub fn has_texts(&self) -> bool {
        matches!(self, VectorSource::Table(_))
    }

    /// Returns true if the row numbers count from 1 without gaps. The texts of another file can then be matched to the
    /// rows.
    pub fn counts_rows(&self) -> bool {
        match self {
            VectorSource::Array(_) => true,
            VectorSource::Table(rows) => rows.counts_rows,
        }
    }
}

/// Returns the message for rows whose width differs from that of the model's vectors.
fn width_problem(found: usize, dim: usize) -> String {
    format!(
        "has {found} values, but the model's vectors have {dim}; give the model that made the vectors, and the \
         --truncate-dim with which they were made"
    )
}
