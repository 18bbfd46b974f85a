//! A source through a model, a window at a time: what the commands that read rows share.

use vectile::Error;
use vectile::stream::{Encode, End, Event, Rows, Window, stream};

use super::args::OnError;
use super::failure::Failure;
use super::input::{About, Chunk, Source};
use super::interrupt::Interrupt;
use super::progress::Progress;
use super::say;

/// So many rows that failed are said one by one.
const SAID: u64 = 10;

/// What happened to the texts.
#[derive(Debug, Default)]
pub struct Totals {
    pub texts: u64,
    pub truncated: u64,
    pub retried: u64,
    pub failed: u64,
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
        if self.failed > 0 {
            let (failed, of) = (self.failed, self.texts);
            say(format_args!("note: {failed} of {of} rows have no vector"));
        }
    }
}

/// Some rows of a source and what the model gives for them.
pub struct Taken<R> {
    pub chunk: Chunk,
    /// `None` where a row failed, under [`OnError::Null`] only.
    pub rows: Vec<Option<R>>,
    pub truncated: Vec<bool>,
    pub retried: usize,
}

/// How a source is run.
pub struct Run<'a> {
    pub interrupt: &'a Interrupt,
    pub progress: Progress,
    pub on_error: OnError,
    pub quiet: bool,
}

/// Runs every text of `source` and hands each window with its rows to `take`, in order.
pub fn each_window<M: Encode>(
    model: &M,
    source: Source,
    run: Run<'_>,
    take: impl FnMut(Taken<M::Row>) -> Result<(), Failure> + Send,
) -> Result<Totals, Failure> {
    each_checked(model, source, run, |_| Ok(()), take)
}

/// As [`each_window`]; a row that `check` refuses has failed.
pub fn each_checked<M: Encode>(
    model: &M,
    mut source: Source,
    run: Run<'_>,
    check: impl Fn(&M::Row) -> Result<(), Error> + Sync,
    mut take: impl FnMut(Taken<M::Row>) -> Result<(), Failure> + Send,
) -> Result<Totals, Failure> {
    let Run { interrupt, mut progress, on_error, quiet } = run;
    let mut totals = Totals::default();
    let read = move |most| {
        let chunk: Option<Chunk> = source.next_chunk(most)?;
        Ok(chunk.map(|Chunk { texts, about }| Window { texts, about }))
    };
    let mut failed = 0;
    let totals_of = &mut totals;
    let taken = |rows: Rows<About, M::Row>| {
        let Rows { window: Window { texts, about }, rows, truncated, retried, .. } = rows;
        let chunk = Chunk { texts, about };
        let mut good = Vec::with_capacity(rows.len());
        for (at, row) in rows.into_iter().enumerate() {
            let checked = row.map(|row| row.and_then(|row| check(&row).map(|()| row)));
            let problem = match checked {
                Some(Ok(row)) => {
                    good.push(Some(row));
                    continue;
                }
                Some(Err(error)) => placed(error, &chunk.about, at)?,
                None => {
                    let problem = chunk.about.problem(at).unwrap_or("has no text");
                    format!("{}: {problem}", chunk.about.place(at))
                }
            };
            if on_error == OnError::Fail {
                return Err(Failure::User(problem));
            }
            if failed < SAID && !quiet {
                say(format_args!("note: {problem}; the row has no vector"));
            }
            failed += 1;
            good.push(None);
        }
        let count = good.len();
        totals_of.texts += count as u64;
        totals_of.truncated += truncated.iter().filter(|cut| **cut).count() as u64;
        totals_of.retried += retried as u64;
        totals_of.failed = failed;
        take(Taken { chunk, rows: good, truncated, retried })?;
        interrupt.count(count);
        Ok(())
    };
    let watch = |event: Event<'_, About>| {
        if let Event::Ran { about, done, of, texts, tokens } = event {
            progress.advance(texts, tokens, [done, of], about.position);
        }
        !interrupt.is_asked()
    };
    interrupt.during(|| match stream(model, read, taken, watch)? {
        End::Whole => Ok(()),
        End::Stopped => Err(interrupt.failure()),
    })?;
    Ok(totals)
}

/// What is wrong with one text, with its place: the library counts texts within a call, and a user knows them
/// by file and line.
///
/// # Errors
/// What is wrong with more than that text.
fn placed(error: Error, about: &About, row: usize) -> Result<String, Failure> {
    let place = about.place(row);
    Ok(match error {
        Error::TooLong { tokens, limit, .. } => format!(
            "{place}: has {tokens} tokens and the model takes {limit}; shorten it, or allow truncation \
             with --on-too-long truncate"
        ),
        Error::NonFinite { problem, .. } => format!("{place}: {problem}"),
        // Its option is the text.
        Error::Option { problem, .. } => format!("{place}: {problem}"),
        Error::Tokenizer { .. } => format!("{place}: {error}"),
        other => return Err(Failure::Library(other)),
    })
}
