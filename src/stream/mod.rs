//! Runs any number of texts through a model. The reader, the tokenizer, the GPU and the receiver of rows work
//! at the same time, each on its own window of texts.
//!
//! ```text
//! source ──Window──▶ tokenizing ──▶ by length, the GPU, back in order ──WindowRows──▶ receiver
//! a thread           a thread, and   the caller's thread                              a thread
//!                    all cores
//! ```
//! At most one window waits between two of these stages, so memory does not grow with the number of texts.
//! The texts of a window run in order of their length, and their rows are returned in the order of the texts.
//! A text's row is bit-identical whatever other texts run with it, so the windows and their order do not
//! affect the rows.

mod job;
mod pace;

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::embedder::{Prepared, TextModel};
use crate::error::Error;
use pace::Pace;

pub use job::Job;

/// The interval at which the caller's thread wakes up while it waits for texts.
const WAKE_UP: Duration = Duration::from_millis(50);

/// The number of texts that the model gets at a time. The number is small, so that events are reported between batches.
const PORTION: usize = 32;

/// A group of texts that are read together. The reader may store other data in a window too, and the receiver gets the
/// window with the rows.
pub trait Window: Send + 'static {
    /// Returns the texts of the window. An entry of the input that has no text is `None`, and gets no row.
    fn texts(&self) -> &[Option<String>];
}

impl Window for Vec<Option<String>> {
    fn texts(&self) -> &[Option<String>] {
        self
    }
}

/// The rows of a window.
#[derive(Debug)]
pub struct WindowRows<W, R> {
    /// The window that the source returned.
    pub window: W,
    /// The row or the error of each text, or `None` for an entry without a text.
    pub rows: Vec<Option<Result<R, Error>>>,
    /// For each text, true if it was truncated to the model's maximum length.
    pub truncated: Vec<bool>,
    /// The number of tokens of each text.
    pub tokens: Vec<usize>,
    /// The number of texts that were run again with f32 activations.
    pub retried: usize,
}

/// The progress that a stream reports.
#[derive(Debug)]
pub enum Event<'a, W> {
    /// The stream waits for more texts. This event is repeated at short intervals until a text can run.
    Waiting,
    /// Texts of a window were run.
    Ran {
        /// The window to which the texts belong.
        window: &'a W,
        /// The number of texts of the window that are finished.
        done: usize,
        /// The total number of texts of the window.
        of: usize,
        /// The number of texts that were run since the previous event of this kind.
        texts: usize,
        /// The number of tokens in the texts that were run since the previous event of this kind.
        tokens: usize,
    },
}

/// The reason why a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All rows were received.
    Whole,
    /// `watch` stopped the stream. The receiver has the rows of every completed window, and no other rows.
    Stopped,
}

/// A message to the tokenizer's thread. The reader's thread sends all variants except `Stop`.
enum Read<W, E> {
    Window(W),
    End,
    Failed(E),
    Panicked(Box<dyn std::any::Any + Send>),
    /// The stream has ended. The caller's thread sends this message.
    Stop,
}

/// A window and its tokenized texts. An entry is `None` if it has no text.
struct Tokenized<W> {
    window: W,
    texts: Vec<Option<Result<Prepared, Error>>>,
}

/// Runs every text that `source` returns, and passes the rows to `take`, window by window, in order.
///
/// The argument of `source` is the maximum number of texts in the next window. `source` returns `None` after the last
/// window. `source` may block for ever, for example while it reads from a terminal. If the stream ends earlier, the
/// thread of `source` stays blocked. `watch` is called on the caller's thread, at least after each batch, and returns
/// whether to continue.
///
/// # Errors
/// Returns the first error of `source`, of the model or of `take`.
pub fn stream<M: TextModel, W: Window, E>(
    job: &Job<'_, M>,
    source: impl FnMut(usize) -> Result<Option<W>, E> + Send + 'static,
    take: impl FnMut(WindowRows<W, M::Row>) -> Result<(), E> + Send,
    mut watch: impl FnMut(Event<'_, W>) -> bool,
) -> Result<End, E>
where
    E: From<Error> + Send + 'static,
{
    let (to_tokenize, read) = sync_channel(1);
    let most = Arc::new(AtomicUsize::new(pace::FIRST_TEXTS));
    let (reader, wanted) = (to_tokenize.clone(), most.clone());
    thread::spawn(move || read_windows(source, &wanted, &reader));
    thread::scope(|scope| {
        let (to_run, tokenized) = sync_channel(1);
        let (to_take, rows) = sync_channel::<WindowRows<W, M::Row>>(1);
        scope.spawn(move || tokenize_windows(job, read, &to_run));
        let mut take = take;
        let receiver = scope.spawn(move || rows.into_iter().try_for_each(&mut take));
        let pace = Pace::new(job.row_bytes());
        let run = || -> Result<Option<End>, E> {
            let mut before = 0;
            loop {
                let Tokenized { window, texts } = match tokenized.recv_timeout(WAKE_UP) {
                    Ok(Some(tokenized)) => tokenized?,
                    // Receiving fails if the reader has ended, or if the tokenizing thread has panicked. In the second
                    // case, the scope reports the panic.
                    Ok(None) | Err(RecvTimeoutError::Disconnected) => return Ok(Some(End::Whole)),
                    Err(RecvTimeoutError::Timeout) if !watch(Event::Waiting) => {
                        return Ok(Some(End::Stopped));
                    }
                    Err(RecvTimeoutError::Timeout) if receiver.is_finished() => return Ok(None),
                    Err(RecvTimeoutError::Timeout) => continue,
                };
                let started = Instant::now();
                let count = window.texts().len();
                let Some(rows) = run_window(job, before, window, texts, &mut watch)? else {
                    return Ok(Some(End::Stopped));
                };
                before += count;
                if to_take.send(rows).is_err() {
                    return Ok(None);
                }
                most.store(pace.next_window(count, started.elapsed()), Ordering::Relaxed);
            }
        };
        let end = { run }();
        // Receivers are dropped before senders, so that every waiting thread wakes up.
        drop(tokenized);
        let _ = to_tokenize.try_send(Read::Stop);
        drop(to_tokenize);
        drop(to_take);
        let received = receiver.join().unwrap_or_else(|panic| resume_unwind(panic));
        match end {
            // If the receiving thread has failed, its error came first, so that error is returned.
            Ok(end) => received.map(|()| end.unwrap_or(End::Whole)),
            Err(error) => received.and(Err(error)),
        }
    })
}

fn read_windows<W, E>(
    mut source: impl FnMut(usize) -> Result<Option<W>, E>,
    most: &AtomicUsize,
    to_tokenize: &SyncSender<Read<W, E>>,
) {
    loop {
        // A panic of `source` is passed to the caller's thread. Otherwise the other threads would wait for ever.
        let next = catch_unwind(AssertUnwindSafe(|| source(most.load(Ordering::Relaxed))));
        let (message, last) = match next {
            Ok(Ok(Some(window))) => (Read::Window(window), false),
            Ok(Ok(None)) => (Read::End, true),
            Ok(Err(error)) => (Read::Failed(error), true),
            Err(panic) => (Read::Panicked(panic), true),
        };
        if to_tokenize.send(message).is_err() || last {
            return;
        }
    }
}

type Tokenizing<W, E> = Option<Result<Tokenized<W>, E>>;

fn tokenize_windows<M: TextModel, W: Window, E: From<Error>>(
    job: &Job<'_, M>,
    read: Receiver<Read<W, E>>,
    to_run: &SyncSender<Tokenizing<W, E>>,
) {
    for message in read {
        let tokenized = match message {
            Read::Window(window) => Some(tokenize(job, window).map_err(E::from)),
            Read::Failed(error) => Some(Err(error)),
            Read::End => None,
            Read::Panicked(panic) => resume_unwind(panic),
            Read::Stop => return,
        };
        let last = !matches!(tokenized, Some(Ok(_)));
        if to_run.send(tokenized).is_err() || last {
            return;
        }
    }
}

fn tokenize<M: TextModel, W: Window>(job: &Job<'_, M>, window: W) -> Result<Tokenized<W>, Error> {
    let mut prepared = job.prepare(window.texts().iter().flatten())?.into_iter();
    let texts =
        window.texts().iter().map(|text| text.as_ref().and_then(|_| prepared.next())).collect();
    Ok(Tokenized { window, texts })
}

/// The row or the error of a text, or `None` for an entry without a text.
type MaybeRow<R> = Option<Result<R, Error>>;

/// Runs a window and returns its rows, or `None` if `watch` stops the stream. `before` is the number of entries of all
/// earlier windows.
fn run_window<M: TextModel, W: Window>(
    job: &Job<'_, M>,
    before: usize,
    window: W,
    tokenized: Vec<Option<Result<Prepared, Error>>>,
    watch: &mut impl FnMut(Event<'_, W>) -> bool,
) -> Result<Option<WindowRows<W, M::Row>>, Error> {
    let of = tokenized.len();
    let rows: RefCell<Vec<MaybeRow<M::Row>>> = RefCell::new((0..of).map(|_| None).collect());
    let (mut truncated, mut tokens) = (vec![false; of], vec![0; of]);
    let mut texts = Vec::with_capacity(of);
    for (at, text) in tokenized.into_iter().enumerate() {
        match text {
            Some(Ok(text)) => {
                (truncated[at], tokens[at]) = (text.truncated(), text.tokens());
                texts.push((at, text));
            }
            Some(Err(error)) => rows.borrow_mut()[at] = Some(Err(error)),
            None => {}
        }
    }
    // The longest texts run first, so that a lack of memory ends the stream early and not near its end.
    texts.sort_by_key(|(at, text)| (std::cmp::Reverse(text.tokens()), *at));
    let finished = Cell::new(0);
    let mut reported = 0;
    let mut report = |done: usize| {
        let new = &texts[reported..done];
        reported = done;
        let tokens = new.iter().map(|(_, text)| text.tokens()).sum();
        let (window, done, texts) = (&window, of - texts.len() + done, new.len());
        texts == 0 || watch(Event::Ran { window, done, of, texts, tokens })
    };
    let mut portions = texts.chunks(PORTION);
    let mut stopped = false;
    let more = || {
        if !report(finished.get()) {
            stopped = true;
            return Err(Error::Internal(
                "the caller stopped the stream before all texts had vectors".to_owned(),
            ));
        }
        Ok(portions.next().map(|texts| texts.iter().map(|(_, text)| text).collect::<Vec<_>>()))
    };
    let take = |text: &Prepared, row: Result<&[f32], Error>| {
        let (at, _) = texts[finished.get()];
        let row = row.and_then(|row| job.finish(text, row));
        rows.borrow_mut()[at] = Some(row);
        finished.set(finished.get() + 1);
        Ok(())
    };
    let counts = match pollster::block_on(job.model.run(more, take)) {
        Err(_) if stopped => return Ok(None),
        Err(Error::WrongRow { adapter, text, distance, problem }) => {
            let mut entries = window.texts().iter().enumerate().filter(|(_, text)| text.is_some());
            let text = before + entries.nth(text).map_or(text, |(at, _)| at);
            return Err(Error::WrongRow { adapter, text, distance, problem });
        }
        counts => counts?,
    };
    if !report(finished.get()) {
        return Ok(None);
    }
    let (rows, retried) = (rows.into_inner(), counts.retried);
    Ok(Some(WindowRows { window, rows, truncated, tokens, retried }))
}

#[cfg(test)]
mod tests;
