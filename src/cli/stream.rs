//! Runs the texts of a source through a model, chunk by chunk. All commands that read rows use this module.

use vectile::stream::{End, Event, Job, WindowRows, stream};
use vectile::{Error, TextModel};

use super::args::OnError;
use super::failure::Failure;
use super::input::{Chunk, TextSource};
use super::interrupt::Interrupt;
use super::message::{note, summary};
use super::progress::{Advance, Progress};

/// The maximum number of failed rows that are reported one by one.
const REPORTED_FAILURES: u64 = 10;

/// Counts of the texts and rows of a run.
#[derive(Debug, Default)]
pub struct Totals {
    pub texts: u64,
    /// Number of texts that were truncated to the model's maximum length.
    pub truncated: u64,
    /// Number of texts that were run again with f32 activations.
    pub retried: u64,
    /// Number of rows without a vector.
    pub failed: u64,
}

impl Totals {
    /// Reports the counts on stderr in one line. `written` is the number of rows in the output, and `max_seq_length` is
    /// the length to which texts were truncated.
    pub fn report(&self, written: u64, max_seq_length: Option<usize>, quiet: bool) {
        if quiet {
            return;
        }
        if self.retried > 0 {
            let retried = self.retried;
            note(format_args!(
                "the 16-bit activations of {retried} texts overflowed, so these texts were run \
                 again with f32 activations"
            ));
        }
        let limit = match max_seq_length {
            Some(limit) if self.truncated > 0 => {
                format!(" (to the model's max_seq_length of {limit} tokens)")
            }
            _ => String::new(),
        };
        let Totals { texts, failed, truncated, .. } = self;
        let line = format!(
            "rows: {texts} read, {written} written, {failed} null, {truncated} truncated{limit}"
        );
        let fields =
            [("read", *texts), ("written", written), ("null", *failed), ("truncated", *truncated)];
        let fields = fields.map(|(name, count)| (format!("rows_{name}"), count.into()));
        summary(&line, fields.into_iter().collect());
    }
}

/// A chunk and the model's result for each of its rows.
pub struct EmbeddedChunk<R> {
    pub chunk: Chunk,
    /// The row of each text, or `None` for a text that failed. Failed texts occur only with [`OnError::Null`]. Without
    /// it, a failed text ends the run.
    pub rows: Vec<Option<R>>,
    /// For each row, true if its text was truncated to the model's maximum length.
    pub truncated: Vec<bool>,
    /// The number of texts that were run again with f32 activations.
    pub retried: usize,
}

/// The settings of a run over a source, and its progress bar.
pub struct StreamContext<'a> {
    pub interrupt: &'a Interrupt,
    pub progress: Progress,
    /// The treatment of a row without a vector. `None` means that the command has no option `--on-error`, and that such
    /// a row ends the command.
    pub on_error: Option<OnError>,
    pub quiet: bool,
}

/// Runs every text of `source`, and passes each chunk with its rows to `take`, in order.
pub fn for_each_chunk<M: TextModel>(
    job: &Job<'_, M>,
    source: TextSource,
    context: StreamContext<'_>,
    take: impl FnMut(EmbeddedChunk<M::Row>) -> Result<(), Failure> + Send,
) -> Result<Totals, Failure> {
    for_each_checked_chunk(job, source, context, |_| Ok(()), take)
}

/// Does the same as [`for_each_chunk`], but a row for which `check` returns an error counts as failed.
pub fn for_each_checked_chunk<M: TextModel>(
    job: &Job<'_, M>,
    mut source: TextSource,
    context: StreamContext<'_>,
    check: impl Fn(&M::Row) -> Result<(), Error> + Sync,
    mut take: impl FnMut(EmbeddedChunk<M::Row>) -> Result<(), Failure> + Send,
) -> Result<Totals, Failure> {
    let StreamContext { interrupt, mut progress, on_error, quiet } = context;
    let mut totals = Totals::default();
    let read = move |max_rows| source.next_chunk(max_rows);
    let mut failed = 0;
    let totals_so_far = &mut totals;
    let take_window = |window: WindowRows<Chunk, M::Row>| {
        let WindowRows { window: chunk, rows, truncated, retried, .. } = window;
        let mut checked_rows = Vec::with_capacity(rows.len());
        for (at, row) in rows.into_iter().enumerate() {
            let checked = row.map(|row| row.and_then(|row| check(&row).map(|()| row)));
            let problem = match checked {
                Some(Ok(row)) => {
                    checked_rows.push(Some(row));
                    continue;
                }
                Some(Err(error)) => problem_of_row(error, &chunk, at)?,
                None => {
                    let problem = chunk.problem(at).unwrap_or("has no text");
                    format!("{}: {problem}", chunk.location(at))
                }
            };
            match on_error {
                None => return Err(Failure::User(problem)),
                Some(OnError::Fail) => {
                    let advice = "or write null in place of such vectors with --on-error null";
                    return Err(Failure::User(format!("{problem}; {advice}")));
                }
                Some(OnError::Null) => {}
            }
            if failed < REPORTED_FAILURES && !quiet {
                note(format_args!("{problem}; the row has no vector"));
            }
            failed += 1;
            checked_rows.push(None);
        }
        let count = checked_rows.len();
        totals_so_far.texts += count as u64;
        totals_so_far.truncated += truncated.iter().filter(|cut| **cut).count() as u64;
        totals_so_far.retried += retried as u64;
        totals_so_far.failed = failed;
        take(EmbeddedChunk { chunk, rows: checked_rows, truncated, retried })?;
        interrupt.count(count);
        Ok(())
    };
    let watch = |event: Event<'_, Chunk>| {
        if let Event::Ran { window, done, of, texts, tokens } = event {
            let advance = Advance { rows: texts, tokens, done, total: of, end: window.position };
            progress.advance(advance);
        }
        !interrupt.is_requested()
    };
    interrupt.during(|| match stream(job, read, take_window, watch)? {
        End::Whole => Ok(()),
        End::Stopped => Err(interrupt.failure()),
    })?;
    Ok(totals)
}

/// Returns the message for an error of one text, with the file and line of the text. The library's error has only the
/// index of the text in a batch.
///
/// # Errors
/// Returns `error` if it is not about this text alone, such as a lost device.
fn problem_of_row(error: Error, chunk: &Chunk, row: usize) -> Result<String, Failure> {
    let location = chunk.location(row);
    Ok(match error {
        Error::TooLong { tokens, limit, .. } => format!(
            "{location}: has {tokens} tokens, but the model's maximum is {limit}; shorten the text, or allow \
             truncation with --on-too-long truncate"
        ),
        // Here, `Error::Option` is always about the text, so the name of the option is left out.
        Error::NonFinite { problem, .. } | Error::Option { problem, .. } => {
            format!("{location}: {problem}")
        }
        Error::Tokenizer { .. } => format!("{location}: {error}"),
        other => return Err(Failure::Library(other)),
    })
}
