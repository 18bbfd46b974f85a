//! Parts → one output.

use std::fs::File;
use std::io;

use vectile::Ranges;

use super::destination::Out;
use super::sink::Sink;
use super::spool::Spooled;
use super::{Layout, WriteError, npy};
use crate::cli::args::OutputFormat;
use crate::cli::failure::Failure;
use crate::cli::interrupt::Interrupt;
use crate::cli::say;

/// Ranges of fewer rows are too coarse to say nothing about.
const ROWS_FOR_RANGES: usize = 100;

/// Writes what `parts` hold, in their order, `rows` rows in all.
pub fn join<I: Iterator<Item = Result<File, WriteError>>>(
    parts: impl Fn() -> I,
    rows: u64,
    out: &Out,
    layout: &Layout,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    // A part is joined in no time.
    let parts = || {
        parts().map(|part| match interrupt.is_asked() {
            true => Err(WriteError::Failure(interrupt.failure())),
            false => part,
        })
    };
    let joined = match layout.waits() {
        true => replay(parts, rows, out, layout),
        false => copy(parts(), rows, out, layout),
    };
    joined.map_err(|e| e.at(0, |e| out.failed(e)))
}

fn copy(
    parts: impl Iterator<Item = Result<File, WriteError>>,
    rows: u64,
    out: &Out,
    layout: &Layout,
) -> Result<(), WriteError> {
    #[cfg(feature = "bulk")]
    match layout.format {
        OutputFormat::Parquet => {
            return super::columns::join_parquet(parts, Sink::new(out.bytes()?, None)?, layout);
        }
        OutputFormat::Arrow => {
            return super::columns::join_arrow(parts, Sink::new(out.bytes()?, None)?, layout);
        }
        _ => {}
    }
    let mut bytes = out.bytes()?;
    if layout.format == OutputFormat::Npy {
        let columns = layout.precision.columns(layout.dim);
        bytes.write_all(&npy::header(layout.precision, rows, columns))?;
    }
    // Members of .gz and frames of .zst follow each other as lines do.
    for part in parts {
        io::copy(&mut part?, &mut bytes)?;
    }
    Ok(bytes.flush()?)
}

/// Of rows that waited for the ranges of all.
fn replay<I: Iterator<Item = Result<File, WriteError>>>(
    parts: impl Fn() -> I,
    rows: u64,
    out: &Out,
    layout: &Layout,
) -> Result<(), WriteError> {
    let mut ranges = Ranges::new(layout.dim);
    for part in parts() {
        Spooled::new(part?, layout.dim).measure(&mut ranges)?;
    }
    if !layout.quiet && (1..ROWS_FOR_RANGES).contains(&ranges.rows()) {
        let (rows, precision) = (ranges.rows(), layout.precision);
        say(format_args!(
            "note: the {precision} ranges come from {rows} texts only; more make better ones"
        ));
    }
    let mut bytes = out.bytes()?;
    if layout.format == OutputFormat::Npy {
        let columns = layout.precision.columns(layout.dim);
        bytes.write_all(&npy::header(layout.precision, rows, columns))?;
    }
    let mut writer = layout.writer(Sink::new(bytes, layout.compression)?, 0, false)?;
    for part in parts() {
        Spooled::new(part?, layout.dim).replay(&mut *writer, layout.precision, &ranges)?;
    }
    writer.finish()
}
