//! Writes rows to an output in any format.
//!
//! If texts come from files and rows go to a file, rows are stored in parts, which are joined at the end: see
//! [`parts`]. In other cases each row is written as soon as it arrives. If the start of the output depends on all rows,
//! rows wait in a temporary file.

mod block;
#[cfg(feature = "bulk")]
mod column_values;
#[cfg(feature = "bulk")]
mod columnar;
mod destination;
mod formats;
mod join;
mod layout;
mod npy;
mod parts;
mod row_format;
mod sink;
mod spool;
mod text;

use std::fs::File;
use std::io::{self, Seek};
use std::path::{Path, PathBuf};

use super::args::OutputFormat;
use super::failure::Failure;
use super::interrupt::Interrupt;
use block::VectorValues;
use destination::{OpenDestination, temporary_file};
use formats::{PartWriter, row_writer};
use row_format::{Extent, RowFormat, WriteError};
use sink::Sink;

pub use block::{Block, Vectors};
pub use destination::Destination;
pub use layout::Layout;
pub use parts::directory::PartsDirectory;
pub use parts::{Parts, RowCounts, RunSettings};

/// An output to which rows can be written.
pub enum Output<'a> {
    /// Each block is written when it arrives.
    Stream { out: OpenDestination, writer: Box<dyn RowFormat>, layout: Layout },
    /// Rows wait in a temporary file until the output is complete. The temporary file takes space in `directory`.
    Held {
        out: OpenDestination,
        writer: PartWriter,
        file: File,
        directory: PathBuf,
        layout: Layout,
        rows: u64,
    },
    /// Rows are stored in parts, and an interrupted run can be resumed.
    Parts(Box<Parts<'a>>),
}

impl<'a> Output<'a> {
    /// Opens an output that cannot be resumed. The output file exists only once it is complete.
    pub fn without_parts(
        destination: Destination,
        output: &Path,
        layout: Layout,
        interrupt: &Interrupt,
    ) -> Result<Self, Failure> {
        let out = OpenDestination::open(destination, interrupt)?;
        // The header of a NumPy array holds the number of rows, which is known only at the end.
        if layout.needs_all_rows() || layout.format == OutputFormat::Npy {
            let (file, directory) = temporary_file(output)?;
            let failed = |e: &io::Error| Failure::file(&directory, "written", e);
            let writer =
                PartWriter::new(&file, &layout, 0).map_err(|e| e.into_failure(0, failed))?;
            return Ok(Output::Held { out, writer, file, directory, layout, rows: 0 });
        }
        let sink = Sink::new(out.bytes()?, layout.compression).map_err(|e| out.failed(&e))?;
        let writer = row_writer(&layout, sink, Extent::Whole)
            .map_err(|e| e.into_failure(0, |e| out.failed(e)))?;
        Ok(Output::Stream { out, writer, layout })
    }

    /// Appends the rows of a block.
    pub fn write(&mut self, block: &Block) -> Result<(), Failure> {
        match self {
            Output::Stream { out, writer, layout } => {
                let vectors = VectorValues::of(block, layout.precision, layout.ranges.as_ref())?;
                let written = writer.write(block, &vectors).and_then(|()| writer.flush());
                written.map_err(|e| e.into_failure(block.first, |e| out.failed(e)))
            }
            Output::Held { writer, directory, layout, rows, .. } => {
                *rows += block.len() as u64;
                let failed = |e: &io::Error| Failure::file(directory, "written", e);
                writer.write(block, layout).map_err(|e| e.into_failure(block.first, failed))
            }
            Output::Parts(parts) => parts.write(block),
        }
    }

    /// Completes the output and renames the file to its final name.
    pub fn finish(self, interrupt: &Interrupt) -> Result<(), Failure> {
        match self {
            Output::Stream { out, writer, .. } => {
                writer.finish().map_err(|e| e.into_failure(0, |e| out.failed(e)))?;
                out.commit()
            }
            Output::Held { out, writer, mut file, directory, layout, rows } => {
                let failed = |e: &io::Error| Failure::file(&directory, "written", e);
                writer.finish().map_err(|e| e.into_failure(0, failed))?;
                file.rewind().map_err(|e| failed(&e))?;
                let part = || file.try_clone().and_then(|mut f| f.rewind().map(|()| f));
                let parts = || std::iter::once_with(|| part().map_err(WriteError::from));
                join::join(parts, rows, &out, &layout, interrupt)?;
                out.commit()
            }
            Output::Parts(parts) => parts.finish(interrupt),
        }
    }

    /// Returns the number of rows that a run with `--resume` will not embed again, and the directory of these rows.
    pub fn resumable(&self) -> Option<(u64, &Path)> {
        match self {
            Output::Parts(parts) => parts.resumable(),
            _ => None,
        }
    }
}
