//! Creates the writer for an output or for one of its parts.

use std::fs::File;

use super::block::{Block, VectorValues};
#[cfg(feature = "bulk")]
use super::columnar;
use super::layout::Layout;
use super::row_format::{Extent, RowFormat, WriteError};
use super::sink::Sink;
use super::spool::SpoolWriter;
use super::{npy, text};
use crate::cli::args::OutputFormat;

/// Returns a writer that writes rows in the format of `layout`.
pub fn row_writer(
    layout: &Layout,
    out: Sink,
    extent: Extent,
) -> Result<Box<dyn RowFormat>, WriteError> {
    let has_header = !matches!(extent, Extent::Part { first: 1.. });
    let delimited = |out, delimiter| {
        let names = layout.carried_names();
        text::DelimitedWriter::new(out, delimiter, names, &layout.vector_column, has_header)
    };
    Ok(match layout.format {
        OutputFormat::Jsonl => {
            Box::new(text::JsonlWriter { out, vector_field: layout.vector_column.clone() })
        }
        OutputFormat::Csv => Box::new(delimited(out, b',')?),
        OutputFormat::Tsv => Box::new(delimited(out, b'\t')?),
        OutputFormat::Npy => Box::new(npy::NpyWriter { out }),
        #[cfg(feature = "bulk")]
        OutputFormat::Parquet => Box::new(columnar::ParquetWriter::new(out, layout, extent)?),
        #[cfg(feature = "bulk")]
        OutputFormat::Arrow => Box::new(columnar::ArrowWriter::new(out, layout, extent)?),
        #[cfg(not(feature = "bulk"))]
        OutputFormat::Parquet | OutputFormat::Arrow => {
            return Err(std::io::Error::other(
                "Parquet and Arrow need a build with the feature `bulk`",
            )
            .into());
        }
    })
}

/// Writes a part in the output's format. If int8 or uint8 needs the minimum and maximum of each column over all rows,
/// the part is stored in f32 instead.
pub enum PartWriter {
    Format(Box<dyn RowFormat>),
    Spool(Box<SpoolWriter>),
}

impl PartWriter {
    /// Returns a writer that writes a part to `file`. `first` is the index of the part's first row.
    pub fn new(file: &File, layout: &Layout, first: u64) -> Result<Self, WriteError> {
        let bytes = Box::new(file.try_clone()?);
        match layout.needs_all_rows() {
            true => Ok(PartWriter::Spool(Box::new(SpoolWriter { out: Sink::new(bytes, None)? }))),
            false => {
                let out = Sink::new(bytes, layout.compression)?;
                Ok(PartWriter::Format(row_writer(layout, out, Extent::Part { first })?))
            }
        }
    }

    pub fn write(&mut self, block: &Block, layout: &Layout) -> Result<(), WriteError> {
        match self {
            PartWriter::Spool(spool) => spool.write(block),
            PartWriter::Format(format) => {
                let vectors = VectorValues::of(block, layout.precision, layout.ranges.as_ref())?;
                format.write(block, &vectors)
            }
        }
    }

    pub fn finish(self) -> Result<(), WriteError> {
        match self {
            PartWriter::Spool(spool) => spool.finish(),
            PartWriter::Format(format) => format.finish(),
        }
    }
}
