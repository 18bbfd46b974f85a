//! Joins parts into one output.

use std::fs::File;
use std::io;

use vectile::Ranges;

use super::destination::OpenDestination;
use super::formats::row_writer;
use super::layout::Layout;
use super::npy;
use super::row_format::{Extent, WriteError};
use super::sink::Sink;
use super::spool::SpoolReader;
use crate::cli::args::OutputFormat;
use crate::cli::failure::Failure;
use crate::cli::interrupt::Interrupt;
use crate::cli::message::note;

/// If the ranges of int8 or uint8 come from fewer rows than this number, a note says that the ranges are coarse.
const ENOUGH_ROWS_FOR_RANGES: usize = 100;

/// Writes the rows of all parts in order. `rows` is the total number of rows.
pub fn join<I: Iterator<Item = Result<File, WriteError>>>(
    parts: impl Fn() -> I,
    rows: u64,
    out: &OpenDestination,
    layout: &Layout,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    // A part is joined quickly, so Ctrl-C is checked only between parts.
    let parts = || {
        parts().map(|part| match interrupt.is_requested() {
            true => Err(WriteError::Failure(interrupt.failure())),
            false => part,
        })
    };
    let joined = match layout.needs_all_rows() {
        true => replay(parts, rows, out, layout),
        false => copy(parts(), rows, out, layout),
    };
    joined.map_err(|e| e.into_failure(0, |e| out.failed(e)))
}

/// Concatenates parts that are already in the output's format.
fn copy(
    parts: impl Iterator<Item = Result<File, WriteError>>,
    rows: u64,
    out: &OpenDestination,
    layout: &Layout,
) -> Result<(), WriteError> {
    #[cfg(feature = "bulk")]
    match layout.format {
        OutputFormat::Parquet => {
            return super::columnar::join_parquet(parts, Sink::new(out.bytes()?, None)?, layout);
        }
        OutputFormat::Arrow => {
            return super::columnar::join_arrow(parts, Sink::new(out.bytes()?, None)?, layout);
        }
        _ => {}
    }
    let mut bytes = out.bytes()?;
    if layout.format == OutputFormat::Npy {
        let columns = layout.precision.columns(layout.dim);
        bytes.write_all(&npy::header(layout.precision, rows, columns))?;
    }
    // Lines of text, members of a .gz file and frames of a .zst file may simply be concatenated.
    for part in parts {
        io::copy(&mut part?, &mut bytes)?;
    }
    Ok(bytes.flush()?)
}

/// Writes the spooled rows in the output's format, after the ranges of all rows are known.
fn replay<I: Iterator<Item = Result<File, WriteError>>>(
    parts: impl Fn() -> I,
    rows: u64,
    out: &OpenDestination,
    layout: &Layout,
) -> Result<(), WriteError> {
    let mut ranges = Ranges::new(layout.dim);
    for part in parts() {
        SpoolReader::new(part?, layout.dim).measure(&mut ranges)?;
    }
    if !layout.quiet && (1..ENOUGH_ROWS_FOR_RANGES).contains(&ranges.rows()) {
        let (rows, precision) = (ranges.rows(), layout.precision);
        note(format_args!(
            "the value ranges for {precision} were measured over only {rows} texts; ranges over \
             more texts give more accurate vectors"
        ));
    }
    let mut bytes = out.bytes()?;
    if layout.format == OutputFormat::Npy {
        let columns = layout.precision.columns(layout.dim);
        bytes.write_all(&npy::header(layout.precision, rows, columns))?;
    }
    let mut writer = row_writer(layout, Sink::new(bytes, layout.compression)?, Extent::Whole)?;
    for part in parts() {
        SpoolReader::new(part?, layout.dim).replay(&mut *writer, layout.precision, &ranges)?;
    }
    writer.finish()
}
