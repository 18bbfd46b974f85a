//! `vectile embed --sparse`: sparse vectors as JSON lines.

use std::io::IsTerminal;
use std::path::Path;

use serde::Serialize;
use vectile::{EmbedOptions, OutputPrecision, block_on};

use super::args::{EmbedArgs, OutputFormat};
use super::failure::Failure;
use super::input::Source;
use super::interrupt::Interrupt;
use super::progress::Progress;
use super::writer::{Destination, RowWriter};
use super::{model, stream};

/// A line of the output.
#[derive(Serialize)]
struct Line<'a> {
    index: u64,
    indices: &'a [u32],
    values: &'a [f32],
}

pub fn run(
    args: &EmbedArgs,
    source: &mut Source,
    interrupt: &Interrupt,
    destination: Destination,
) -> Result<(), Failure> {
    if args.precision != OutputPrecision::Float32 {
        let sentence = "--precision: sparse vectors are written as float32; leave it out";
        return Err(Failure::user(sentence));
    }
    let encoder = model::open_sparse(&args.model)?;
    let options = EmbedOptions { task: args.side, ..args.text.options() };
    // No text: only the options are checked.
    block_on(encoder.encode_with::<&str>(&[], &options))?;
    let (format, precision) = (OutputFormat::Jsonl, OutputPrecision::Float32);
    let mut writer = RowWriter::new(destination, format, precision, encoder.dimension())?;
    let rows_on_terminal = args.output == Path::new("-") && std::io::stdout().is_terminal();
    let progress = Progress::new(source.total_bytes(), !args.model.quiet && !rows_on_terminal);
    let run = |texts: &[String]| block_on(encoder.encode_with(texts, &options));
    let totals = stream::each_run(run, source, interrupt, progress, |_, embeddings| {
        for vector in &embeddings.vectors {
            let line = |index| Line { index, indices: &vector.indices, values: &vector.values };
            writer.object(line)?;
        }
        writer.flush()
    })?;
    writer.finish()?;
    totals.report(encoder.max_seq_length(), args.model.quiet);
    Ok(())
}
