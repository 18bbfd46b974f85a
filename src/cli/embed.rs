//! `vectile embed`: texts in, rows out, in their order.

use std::fs::File;
use std::io::{BufReader, BufWriter, IsTerminal, Read, Seek, Write};
use std::path::Path;

use vectile::{EmbedOptions, Embedder, Embeddings, Ranges, block_on, quantize};

use super::args::{EmbedArgs, OutputFormat};
use super::calibration;
use super::failure::Failure;
use super::input::Source;
use super::interrupt::Interrupt;
use super::model;
use super::objects;
use super::progress::Progress;
use super::say;
use super::stream::{self, Totals};
use super::writer::{Destination, RowWriter, temporary};

/// Rows that are read back from the spool at once.
const SPOOLED_ROWS: usize = 1024;

/// Ranges of fewer rows are too coarse to say nothing about.
const ROWS_FOR_RANGES: usize = 100;

pub fn run(args: &EmbedArgs) -> Result<(), Failure> {
    // Whatever can be refused is refused before the model is loaded.
    let mut source = match &args.input {
        Some(path) => Source::open(path, &args.lines)?,
        None => Source::arguments(args.texts.clone()),
    };
    let interrupt = Interrupt::watch();
    let destination = Destination::new(&args.output, args.input.as_deref(), &interrupt)?;
    if args.sparse || args.multi_vector {
        let (source, interrupt) = (&mut source, &interrupt);
        return objects::run(objects::Job { args, source, interrupt, destination });
    }
    let embedder = model::open(&args.model)?;
    let options = EmbedOptions { task: args.side, ..args.text.options() };
    // No text: only the options are checked, and the width of a row is known.
    let dim = block_on(embedder.embed_with::<&str>(&[], &options))?.dim;
    let ranges = match &args.calibration {
        Some(_) if !args.precision.needs_ranges() => {
            let sentence = "--calibration: only int8 and uint8 have ranges; leave it out";
            return Err(Failure::user(sentence));
        }
        Some(path) => Some(calibration::ranges(path, dim)?),
        None => None,
    };
    let writer = RowWriter::new(destination, format(args), args.precision, dim)?;
    let job = Job { args, embedder: &embedder, options, interrupt: &interrupt, dim };
    let totals = match args.precision.needs_ranges() && ranges.is_none() {
        true => job.in_two_passes(&mut source, writer)?,
        false => job.in_one_pass(&mut source, writer, ranges.as_ref())?,
    };
    totals.report(embedder.max_seq_length(), args.model.quiet);
    Ok(())
}

fn format(args: &EmbedArgs) -> OutputFormat {
    let npy =
        args.output.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npy"));
    args.format.unwrap_or(if npy { OutputFormat::Npy } else { OutputFormat::Jsonl })
}

struct Job<'a> {
    args: &'a EmbedArgs,
    embedder: &'a Embedder,
    options: EmbedOptions,
    interrupt: &'a Interrupt,
    dim: usize,
}

impl Job<'_> {
    fn in_one_pass(
        &self,
        source: &mut Source,
        mut writer: RowWriter,
        ranges: Option<&Ranges>,
    ) -> Result<Totals, Failure> {
        let totals = self.embed(source, |rows| {
            writer.write(&quantize(&rows.values, rows.dim, self.args.precision, ranges)?)?;
            writer.flush()
        })?;
        writer.finish()?;
        Ok(totals)
    }

    /// The ranges of int8 and uint8 are those of all rows: rows wait in a temporary file until
    /// the last one is known.
    fn in_two_passes(&self, source: &mut Source, mut writer: RowWriter) -> Result<Totals, Failure> {
        let (file, place) = temporary(&self.args.output)?;
        let failed = |e: std::io::Error| Failure::file(&place, "written", &e);
        let mut spool = BufWriter::new(file);
        let mut ranges = Ranges::new(self.dim);
        let totals = self.embed(source, |rows| {
            ranges.update(&rows.values);
            // Written and read back by the same process: the machine's own byte order will do.
            rows.values.iter().try_for_each(|v| spool.write_all(&v.to_ne_bytes())).map_err(failed)
        })?;
        if (1..ROWS_FOR_RANGES).contains(&ranges.rows()) && !self.args.model.quiet {
            let (rows, precision) = (ranges.rows(), self.args.precision);
            say(format_args!(
                "note: the {precision} ranges come from {rows} texts only; more make better ones"
            ));
        }
        let file = spool.into_inner().map_err(|e| failed(e.into_error()))?;
        self.write_spooled(file, &place, &ranges, &mut writer)?;
        writer.finish()?;
        Ok(totals)
    }

    fn write_spooled(
        &self,
        mut file: File,
        place: &Path,
        ranges: &Ranges,
        writer: &mut RowWriter,
    ) -> Result<(), Failure> {
        let failed = |e: std::io::Error| Failure::file(place, "read", &e);
        file.rewind().map_err(failed)?;
        let mut spool = BufReader::new(file);
        let mut bytes = vec![0; self.dim * 4 * SPOOLED_ROWS.min(ranges.rows())];
        let mut left = ranges.rows();
        while left > 0 {
            let rows = left.min(SPOOLED_ROWS);
            let piece = &mut bytes[..rows * self.dim * 4];
            spool.read_exact(piece).map_err(failed)?;
            let values: Vec<f32> = piece
                .chunks_exact(4)
                .map(|four| f32::from_ne_bytes([four[0], four[1], four[2], four[3]]))
                .collect();
            self.interrupt.during(|| {
                writer.write(&quantize(&values, self.dim, self.args.precision, Some(ranges))?)
            })?;
            left -= rows;
        }
        Ok(())
    }

    fn embed(
        &self,
        source: &mut Source,
        mut take: impl FnMut(&Embeddings) -> Result<(), Failure>,
    ) -> Result<Totals, Failure> {
        // Rows on the terminal would break the bar apart.
        let rows_on_terminal =
            self.args.output == Path::new("-") && std::io::stdout().is_terminal();
        let shown = !self.args.model.quiet && !rows_on_terminal;
        let progress = Progress::new(source.total_bytes(), shown);
        stream::each_chunk(
            self.embedder,
            &self.options,
            source,
            self.interrupt,
            progress,
            |_, rows| match rows.dim == self.dim {
                true => take(rows),
                false => Err(Failure::Ours(format!(
                    "internal error (please report it): rows of {} values where {} were announced",
                    rows.dim, self.dim
                ))),
            },
        )
    }
}
