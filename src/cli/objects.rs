//! `vectile embed --sparse` and `--multi-vector`: what has no fixed width, an object of JSON a line.

use std::io::IsTerminal;
use std::path::Path;

use serde::Serialize;
use vectile::{
    EmbedOptions, Error, MultiVectorEmbeddings, OutputPrecision, SparseEmbeddings, block_on,
};

use super::args::{EmbedArgs, OutputFormat};
use super::failure::Failure;
use super::input::Source;
use super::interrupt::Interrupt;
use super::model;
use super::progress::Progress;
use super::stream::{self, Rows};
use super::writer::{Destination, RowWriter};

/// Where texts come from and what becomes of them.
pub struct Job<'a> {
    pub args: &'a EmbedArgs,
    pub source: &'a mut Source,
    pub interrupt: &'a Interrupt,
    pub destination: Destination,
}

/// A line of a sparse vector.
#[derive(Serialize)]
struct Weights<'a> {
    index: u64,
    indices: &'a [u32],
    values: &'a [f32],
}

/// A line of token vectors.
#[derive(Serialize)]
struct Vectors<'a> {
    index: u64,
    embeddings: Vec<&'a [f32]>,
}

/// Writes sparse vectors or token vectors, as the options say.
pub fn run(job: Job) -> Result<(), Failure> {
    if job.args.precision != OutputPrecision::Float32 {
        let sentence = "--precision: these vectors are written as float32; leave it out";
        return Err(Failure::user(sentence));
    }
    if job.args.sparse { sparse(job) } else { multi_vector(job) }
}

fn sparse(job: Job) -> Result<(), Failure> {
    let args = job.args;
    let encoder = model::open_sparse(&args.model)?;
    let options = EmbedOptions { task: args.side, ..args.text.options() };
    let (dim, limit) = (encoder.dimension(), encoder.max_seq_length_of(&options));
    let run = |texts: &[String]| block_on(encoder.encode_with(texts, &options));
    job.write(dim, limit, run, |embeddings: &SparseEmbeddings, writer| {
        embeddings.vectors.iter().try_for_each(|vector| {
            let (indices, values) = (&vector.indices[..], &vector.values[..]);
            writer.object(|index| Weights { index, indices, values })
        })
    })
}

fn multi_vector(job: Job) -> Result<(), Failure> {
    let args = job.args;
    let encoder = model::open_multi_vector(&args.model)?;
    let options = EmbedOptions { task: args.side, ..args.text.options() };
    let limit = args.side.and_then(|side| encoder.max_seq_length(side));
    let run = |texts: &[String]| block_on(encoder.encode_with(texts, &options));
    job.write(encoder.dimension(), limit, run, |embeddings: &MultiVectorEmbeddings, writer| {
        embeddings.vectors.iter().try_for_each(|vectors| {
            writer.object(|index| Vectors { index, embeddings: vectors.rows().collect() })
        })
    })
}

impl Job<'_> {
    /// Writes what `run` makes of the texts, as `write` does it.
    fn write<R: Rows>(
        self,
        dim: usize,
        limit: Option<usize>,
        run: impl Fn(&[String]) -> Result<R, Error>,
        write: impl Fn(&R, &mut RowWriter) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let Job { args, source, interrupt, destination } = self;
        // No text: only the options are checked.
        run(&[])?;
        let (format, precision) = (OutputFormat::Jsonl, OutputPrecision::Float32);
        let mut writer = RowWriter::new(destination, format, precision, dim)?;
        let rows_on_terminal = args.output == Path::new("-") && std::io::stdout().is_terminal();
        let progress = Progress::new(source.total_bytes(), !args.model.quiet && !rows_on_terminal);
        let totals = stream::each_run(run, source, interrupt, progress, |_, embeddings| {
            write(embeddings, &mut writer)?;
            writer.flush()
        })?;
        writer.finish()?;
        totals.report(limit, args.model.quiet);
        Ok(())
    }
}
