//! A source through a model, a chunk at a time: what the commands that read lines share.

use std::time::{Duration, Instant};

use vectile::{
    EmbedOptions, Embedder, Embeddings, Error, MultiVectorEmbeddings, Scores, SparseEmbeddings,
    block_on,
};

use super::failure::Failure;
use super::input::{Chunk, Source};
use super::interrupt::Interrupt;
use super::progress::Progress;
use super::say;

/// A chunk has at most so many texts.
const MOST_TEXTS: usize = 2048;
/// The first chunk, on an adapter that nothing is known about.
const FIRST_TEXTS: usize = 32;

/// What a model gives for the texts of a chunk.
pub trait Rows {
    /// Texts, those that were cut, and those that were run again.
    fn counts(&self) -> [usize; 3];
}

impl Rows for Embeddings {
    fn counts(&self) -> [usize; 3] {
        [self.len(), self.truncated.len(), self.retried]
    }
}

impl Rows for Scores {
    fn counts(&self) -> [usize; 3] {
        [self.len(), self.truncated.len(), self.retried]
    }
}

impl Rows for SparseEmbeddings {
    fn counts(&self) -> [usize; 3] {
        [self.vectors.len(), self.truncated.len(), self.retried]
    }
}

impl Rows for MultiVectorEmbeddings {
    fn counts(&self) -> [usize; 3] {
        [self.vectors.len(), self.truncated.len(), self.retried]
    }
}

/// What happened to the texts.
#[derive(Debug, Default)]
pub struct Totals {
    pub texts: usize,
    truncated: usize,
    retried: usize,
}

impl Totals {
    /// Says on stderr what a reader of the vectors should know.
    pub fn report(&self, max_seq_length: Option<usize>, quiet: bool) {
        if quiet {
            return;
        }
        if self.truncated > 0 {
            let limit = match max_seq_length {
                Some(limit) => format!("the model's max_seq_length of {limit} tokens"),
                None => "the model's length".to_owned(),
            };
            let (cut, of) = (self.truncated, self.texts);
            say(format_args!("note: {cut} of {of} texts were cut to {limit}"));
        }
        if self.retried > 0 {
            let again = self.retried;
            say(format_args!(
                "note: {again} texts passed the range of 16-bit activations and were run again \
                 with f32 activations"
            ));
        }
    }
}

/// Embeds every text of `source` and hands each chunk with its rows to `take`, in order.
pub fn each_chunk(
    embedder: &Embedder,
    options: &EmbedOptions,
    source: &mut Source,
    interrupt: &Interrupt,
    progress: Progress,
    take: impl FnMut(&Chunk, &Embeddings) -> Result<(), Failure>,
) -> Result<Totals, Failure> {
    let run = |texts: &[String]| block_on(embedder.embed_with(texts, options));
    each_run(run, source, interrupt, progress, take)
}

/// As [`each_chunk`], for whatever `run` makes of texts.
pub fn each_run<R: Rows>(
    run: impl Fn(&[String]) -> Result<R, Error>,
    source: &mut Source,
    interrupt: &Interrupt,
    mut progress: Progress,
    mut take: impl FnMut(&Chunk, &R) -> Result<(), Failure>,
) -> Result<Totals, Failure> {
    let mut totals = Totals::default();
    let mut most = FIRST_TEXTS;
    while let Some(chunk) = source.next_chunk(most)? {
        let started = Instant::now();
        interrupt.during(|| {
            let rows = run(&chunk.texts).map_err(|error| placed(error, source, &chunk))?;
            take(&chunk, &rows)?;
            let [texts, truncated, retried] = rows.counts();
            totals.texts += texts;
            totals.truncated += truncated;
            totals.retried += retried;
            interrupt.count(texts);
            Ok(())
        })?;
        most = next_size(most, started.elapsed());
        progress.advance(chunk.texts.len(), source.bytes_read());
    }
    Ok(totals)
}

/// Chunks of a quarter of a second to a second: large enough for a fast adapter, and on a slow one
/// Ctrl-C and the progress bar do not wait for long.
fn next_size(size: usize, took: Duration) -> usize {
    match took.as_millis() {
        0..250 => (size * 2).min(MOST_TEXTS),
        250..1000 => size,
        _ => (size / 2).max(1),
    }
}

/// The library counts texts within the call; a user knows them by file and line.
fn placed(error: Error, source: &Source, chunk: &Chunk) -> Failure {
    let place = |text: usize| source.place(chunk.lines.get(text).copied().unwrap_or_default());
    match error {
        Error::TooLong { text, tokens, limit } => Failure::user(format!(
            "{}: has {tokens} tokens and the model takes {limit}; shorten it, or allow truncation \
             with --on-too-long truncate",
            place(text)
        )),
        Error::NonFinite { text, problem } => Failure::user(format!("{}: {problem}", place(text))),
        other => Failure::Library(other),
    }
}
