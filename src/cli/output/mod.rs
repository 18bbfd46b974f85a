//! Rows into an output: its formats, and how it comes to be whole.
//!
//! Rows that go from files into a file are kept in parts as they come, and the parts are joined at the end: see
//! [`parts`]. Rows from or to anything else go straight on, or wait in a temporary file where the start of the
//! output depends on all of them.

mod block;
#[cfg(feature = "bulk")]
mod columns;
mod destination;
mod join;
mod npy;
mod parts;
mod sink;
mod spool;
mod text;
#[cfg(feature = "bulk")]
mod values;

use std::fs::File;
use std::io::{self, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vectile::{OutputPrecision, Ranges};

use super::args::OutputFormat;
use super::carried::{Kind, Shape};
use super::failure::Failure;
use super::input::Compression;
use super::interrupt::Interrupt;
use destination::{Out, temporary};
use sink::Sink;
use spool::Spool;

pub use block::{Block, Cells, Vectors};
pub use destination::Destination;
pub use parts::{Counts, Parts, Place, Settings};

/// A part ends after the row that brings it to so many bytes of input.
const PART_BYTES: usize = 64 << 20;
/// Vectors of a part take about so many bytes.
const PART_VECTORS: usize = 16 << 20;

/// Why rows could not be written.
#[derive(Debug)]
pub enum WriteError {
    /// The bytes did not go where they should.
    Io(io::Error),
    /// A row of the block cannot be held by the format.
    Row(usize, String),
    /// Something else.
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
    /// With the row of the input, where it is about one; `first` is the number of the block's first.
    fn of_row(self, first: u64) -> Self {
        match self {
            WriteError::Row(at, problem) => WriteError::Failure(Failure::User(format!(
                "row {} of the input {problem}",
                first + at as u64 + 1
            ))),
            other => other,
        }
    }

    /// As a failure; `first` is the number of the block's first row in the output.
    fn at(self, first: u64, failed: impl Fn(&io::Error) -> Failure) -> Failure {
        match self.of_row(first) {
            WriteError::Io(error) => failed(&error),
            WriteError::Failure(failure) => failure,
            WriteError::Row(_, problem) => Failure::User(problem),
        }
    }
}

/// Writes rows in a format.
pub trait RowFormat: Send {
    /// Writes rows after those written before.
    fn write(&mut self, block: &Block, cells: &Cells) -> Result<(), WriteError>;

    /// Sends what is buffered on its way, where a reader may be waiting for it.
    fn flush(&mut self) -> Result<(), WriteError>;

    /// Ends the rows.
    fn finish(self: Box<Self>) -> Result<(), WriteError>;
}

/// What is written, and how.
#[derive(Debug, Clone)]
pub struct Layout {
    pub format: OutputFormat,
    pub compression: Option<Compression>,
    pub precision: OutputPrecision,
    /// Values of a vector, before they are stored in `precision`.
    pub dim: usize,
    /// The column of the vectors.
    pub field: Arc<str>,
    /// What is known of the carried columns.
    pub shape: Shape,
    /// Where they are fields of objects and the format wants columns: what they are.
    pub fields: Vec<(Arc<str>, Kind)>,
    /// The ranges of int8 and uint8, where they are given.
    pub ranges: Option<Ranges>,
    /// Rows of a part, at most.
    pub part_rows: u64,
    /// Nothing is said of ranges that come from few rows.
    pub quiet: bool,
}

impl Layout {
    /// Rows of a part, where the user does not say: some megabytes of vectors.
    pub fn part_rows(dim: usize) -> u64 {
        let rows = PART_VECTORS / (dim * 4).max(1);
        // A power of two is easier to recognise.
        (1 << rows.max(256).ilog2()).min(1 << 16)
    }

    /// True where the ranges are those of the rows, and these have to wait for the last of them.
    fn waits(&self) -> bool {
        self.precision.needs_ranges() && self.ranges.is_none()
    }

    /// A writer of rows of which `first` is the number of the first: of a part, which is a piece of the
    /// output that can be joined with others, or of all of them.
    fn writer(
        &self,
        out: Sink,
        first: u64,
        within_part: bool,
    ) -> Result<Box<dyn RowFormat>, WriteError> {
        let delimited = |out, delimiter| {
            let columns = self.columns();
            text::Delimited::new(out, delimiter, columns, &self.field, first == 0)
        };
        Ok(match self.format {
            OutputFormat::Jsonl => Box::new(text::Jsonl { out, field: self.field.clone() }),
            OutputFormat::Csv => Box::new(delimited(out, b',')?),
            OutputFormat::Tsv => Box::new(delimited(out, b'\t')?),
            OutputFormat::Npy => Box::new(npy::Npy { out }),
            #[cfg(feature = "bulk")]
            OutputFormat::Parquet => Box::new(columns::Parquet::new(out, self, within_part)?),
            #[cfg(feature = "bulk")]
            OutputFormat::Arrow => Box::new(columns::Arrow::new(out, self, within_part)?),
            #[cfg(not(feature = "bulk"))]
            OutputFormat::Parquet | OutputFormat::Arrow => {
                let _ = within_part;
                return Err(io::Error::other("columns need the feature `bulk`").into());
            }
        })
    }

    /// The names of the carried columns.
    pub fn columns(&self) -> Vec<Arc<str>> {
        match &self.shape {
            Shape::None => Vec::new(),
            Shape::Texts(names) => names.clone(),
            Shape::Objects => self.fields.iter().map(|(name, _)| name.clone()).collect(),
            #[cfg(feature = "bulk")]
            Shape::Typed(schema) => {
                schema.fields().iter().map(|field| Arc::from(field.name().as_str())).collect()
            }
        }
    }

    /// The first column whose values text cannot say, and of what type it is.
    pub fn unwritable(&self) -> Option<(String, String)> {
        match (&self.shape, self.format) {
            #[cfg(feature = "bulk")]
            (Shape::Typed(schema), OutputFormat::Jsonl | OutputFormat::Csv | OutputFormat::Tsv) => {
                let field = values::unwritable(schema)?;
                Some((field.name().clone(), field.data_type().to_string()))
            }
            _ => None,
        }
    }
}

/// Writes a part: in the format, or as it is where rows have to wait.
pub enum PartWriter {
    Format(Box<dyn RowFormat>),
    Spool(Box<Spool>),
}

impl PartWriter {
    fn new(file: &File, layout: &Layout, first: u64) -> Result<Self, WriteError> {
        let bytes = Box::new(file.try_clone()?);
        match layout.waits() {
            true => Ok(PartWriter::Spool(Box::new(Spool { out: Sink::new(bytes, None)? }))),
            false => {
                let out = Sink::new(bytes, layout.compression)?;
                Ok(PartWriter::Format(layout.writer(out, first, true)?))
            }
        }
    }

    fn write(&mut self, block: &Block, layout: &Layout) -> Result<(), WriteError> {
        match self {
            PartWriter::Spool(spool) => spool.write(block),
            PartWriter::Format(format) => {
                let cells = Cells::of(block, layout.precision, layout.ranges.as_ref())?;
                format.write(block, &cells)
            }
        }
    }

    fn finish(self) -> Result<(), WriteError> {
        match self {
            PartWriter::Spool(spool) => spool.finish(),
            PartWriter::Format(format) => format.finish(),
        }
    }
}

/// Takes rows.
pub enum Output<'a> {
    /// Each goes on as it comes.
    Stream { out: Out, writer: Box<dyn RowFormat>, layout: Layout },
    /// They wait in a temporary file, which takes space in a directory.
    Held { out: Out, writer: PartWriter, file: File, directory: PathBuf, layout: Layout, rows: u64 },
    /// They are kept in parts.
    Parts(Box<Parts<'a>>),
}

impl<'a> Output<'a> {
    /// An output that cannot be gone on with: it is whole, or it is not there.
    pub fn at_once(
        destination: Destination,
        output: &Path,
        layout: Layout,
        interrupt: &Interrupt,
    ) -> Result<Self, Failure> {
        let out = Out::open(destination, interrupt)?;
        // The header of an array says how many rows there are.
        if layout.waits() || layout.format == OutputFormat::Npy {
            let (file, directory) = temporary(output)?;
            let failed = |e: &io::Error| Failure::file(&directory, "written", e);
            let writer = PartWriter::new(&file, &layout, 0).map_err(|e| e.at(0, failed))?;
            return Ok(Output::Held { out, writer, file, directory, layout, rows: 0 });
        }
        let sink = Sink::new(out.bytes()?, layout.compression).map_err(|e| out.failed(&e))?;
        let writer = layout.writer(sink, 0, false).map_err(|e| e.at(0, |e| out.failed(e)))?;
        Ok(Output::Stream { out, writer, layout })
    }

    /// Takes rows after those taken before.
    pub fn write(&mut self, block: &Block) -> Result<(), Failure> {
        match self {
            Output::Stream { out, writer, layout } => {
                let cells = Cells::of(block, layout.precision, layout.ranges.as_ref())?;
                let written = writer.write(block, &cells).and_then(|()| writer.flush());
                written.map_err(|e| e.at(block.first, |e| out.failed(e)))
            }
            Output::Held { writer, directory, layout, rows, .. } => {
                *rows += block.len() as u64;
                let failed = |e: &io::Error| Failure::file(directory, "written", e);
                writer.write(block, layout).map_err(|e| e.at(block.first, failed))
            }
            Output::Parts(parts) => parts.write(block),
        }
    }

    /// Ends the output, and gives the file its name.
    pub fn finish(self, interrupt: &Interrupt) -> Result<(), Failure> {
        match self {
            Output::Stream { out, writer, .. } => {
                writer.finish().map_err(|e| e.at(0, |e| out.failed(e)))?;
                out.keep()
            }
            Output::Held { out, writer, mut file, directory, layout, rows } => {
                let failed = |e: &io::Error| Failure::file(&directory, "written", e);
                writer.finish().map_err(|e| e.at(0, failed))?;
                let rewound = file.rewind();
                rewound.map_err(|e| failed(&e))?;
                let part = || file.try_clone().and_then(|mut f| f.rewind().map(|()| f));
                let parts = || std::iter::once_with(|| part().map_err(WriteError::from));
                join::join(parts, rows, &out, &layout, interrupt)?;
                out.keep()
            }
            Output::Parts(parts) => parts.finish(interrupt),
        }
    }

    /// How many rows an interrupted run can be gone on with, and the directory they are kept in.
    pub fn kept(&self) -> Option<(u64, &Path)> {
        match self {
            Output::Parts(parts) => parts.kept(),
            _ => None,
        }
    }
}
