//! Any number of texts through a model: reading, tokenizing, the GPU and what takes the rows work at the
//! same time, a window of texts each.
//!
//! ```text
//! source ──Window──▶ tokenizing ──▶ by length, the GPU, back in order ──Rows──▶ taker
//! a thread           a thread, and   the caller's thread                       a thread
//!                    all cores
//! ```
//! Between two of them waits one window at most, so that memory does not grow with the number of texts. Within
//! a window texts are run by their length, and rows are put back in the order of the texts: a text's bits do
//! not depend on its neighbours, so neither windows nor their order can be seen in the rows.

mod models;
mod pace;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Error;
use pace::Pace;

pub use models::{Dense, Pairs, Ready, Sparse, TokenVectors};

/// How often someone who waits looks up.
const LOOK_UP: Duration = Duration::from_millis(50);

/// A model with its options, as a stream runs it.
pub trait Encode: Sync {
    /// What a text becomes.
    type Row: Send;

    /// Tokenizes texts, on any thread.
    ///
    /// # Errors
    /// Of the options. What is wrong with one text is its own.
    fn prepare(&self, texts: &[&str]) -> Result<Vec<Result<Ready, Error>>, Error>;

    /// Runs texts on the GPU.
    ///
    /// # Errors
    /// Of the device. What is wrong with one text is its own.
    fn run(&self, texts: &[&Ready]) -> Result<Ran<Self::Row>, Error>;

    /// Most tokens of a batch.
    fn batch_tokens(&self) -> usize;

    /// Bytes of a row as it comes from the GPU.
    fn row_bytes(&self) -> usize;
}

/// What [`Encode::run`] gives.
#[derive(Debug)]
pub struct Ran<R> {
    /// For each text its row, or why it has none.
    pub rows: Vec<Result<R, Error>>,
    /// How many texts were run again with f32 activations.
    pub retried: usize,
}

/// Texts that are read together, and what their reader wants to find again with their rows.
#[derive(Debug)]
pub struct Window<X> {
    /// The texts; `None` where a row of the input has none, which gets no row.
    pub texts: Vec<Option<String>>,
    /// What the reader knows of them.
    pub about: X,
}

/// The rows of a window.
#[derive(Debug)]
pub struct Rows<X, R> {
    /// The window.
    pub window: Window<X>,
    /// For each text its row, or why it has none; `None` where there is no text.
    pub rows: Vec<Option<Result<R, Error>>>,
    /// For each text, whether it was cut to the model's length.
    pub truncated: Vec<bool>,
    /// For each text, its tokens.
    pub tokens: Vec<usize>,
    /// How many texts were run again with f32 activations.
    pub retried: usize,
}

/// What a stream tells the one who watches it.
#[derive(Debug)]
pub enum Event<'a, X> {
    /// Nothing happened for a moment.
    Waiting,
    /// Some more texts of a window were run.
    Ran {
        /// What the reader knows of the window.
        about: &'a X,
        /// Texts of the window that are done.
        done: usize,
        /// Texts of the window.
        of: usize,
        /// Texts since the last such event.
        texts: usize,
        /// Their tokens.
        tokens: usize,
    },
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Every text has been taken.
    Whole,
    /// The watcher asked for it. Windows that were run whole have been taken, no others.
    Stopped,
}

/// What comes from the reader's thread.
enum Read<X, E> {
    Window(Window<X>),
    End,
    Failed(E),
    Panicked(Box<dyn std::any::Any + Send>),
    /// From the caller's thread: nobody waits for more.
    Stop,
}

/// A window of tokenized texts; those without a text are `None`.
struct Tokenized<X> {
    window: Window<X>,
    ready: Vec<Option<Result<Ready, Error>>>,
}

/// Runs every text that `source` gives and hands the rows to `take`, window by window, in their order.
///
/// `source` is asked for windows of at most so many texts and ends with `None`. It may wait for ever, for
/// a terminal say: a stream that ends before it does leaves its thread waiting. `watch` is called on the caller's
/// thread about every second and says whether to go on.
///
/// # Errors
/// The first of `source`, of the model and of `take`.
pub fn stream<M: Encode, X, E>(
    model: &M,
    source: impl FnMut(usize) -> Result<Option<Window<X>>, E> + Send + 'static,
    take: impl FnMut(Rows<X, M::Row>) -> Result<(), E> + Send,
    mut watch: impl FnMut(Event<'_, X>) -> bool,
) -> Result<End, E>
where
    X: Send + 'static,
    E: From<Error> + Send + 'static,
{
    let (to_tokenize, read) = sync_channel(1);
    let most = Arc::new(AtomicUsize::new(pace::FIRST_TEXTS));
    let (reader, wanted) = (to_tokenize.clone(), most.clone());
    thread::spawn(move || read_windows(source, &wanted, &reader));
    thread::scope(|scope| {
        let (to_run, tokenized) = sync_channel(1);
        let (to_take, rows) = sync_channel::<Rows<X, M::Row>>(1);
        scope.spawn(move || tokenize_windows(model, read, &to_run));
        let mut take = take;
        let taker = scope.spawn(move || rows.into_iter().try_for_each(&mut take));
        let mut pace = Pace::new(model);
        let run = || -> Result<Option<End>, E> {
            loop {
                let Tokenized { window, ready } = match tokenized.recv_timeout(LOOK_UP) {
                    Ok(Some(tokenized)) => tokenized?,
                    // The reader has ended, or the tokenizing thread is about to say why it did.
                    Ok(None) | Err(RecvTimeoutError::Disconnected) => return Ok(Some(End::Whole)),
                    Err(RecvTimeoutError::Timeout) if !watch(Event::Waiting) => {
                        return Ok(Some(End::Stopped));
                    }
                    Err(RecvTimeoutError::Timeout) if taker.is_finished() => return Ok(None),
                    Err(RecvTimeoutError::Timeout) => continue,
                };
                let started = Instant::now();
                let count = window.texts.len();
                let Some(rows) = run_window(model, window, ready, &mut pace, &mut watch)? else {
                    return Ok(Some(End::Stopped));
                };
                if to_take.send(rows).is_err() {
                    return Ok(None);
                }
                most.store(pace.next_window(count, started.elapsed()), Ordering::Relaxed);
            }
        };
        let end = { run }();
        // Whoever waits for one of these is woken: first those who give, then who takes.
        drop(tokenized);
        let _ = to_tokenize.try_send(Read::Stop);
        drop(to_tokenize);
        drop(to_take);
        let taken = taker.join().unwrap_or_else(|panic| resume_unwind(panic));
        match end {
            // The taker failed first where it did.
            Ok(end) => taken.map(|()| end.unwrap_or(End::Whole)),
            Err(error) => taken.and(Err(error)),
        }
    })
}

fn read_windows<X, E>(
    mut source: impl FnMut(usize) -> Result<Option<Window<X>>, E>,
    most: &AtomicUsize,
    to_tokenize: &SyncSender<Read<X, E>>,
) {
    loop {
        // A panic here is everyone's: alone it would leave them waiting.
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

type Tokenizing<X, E> = Option<Result<Tokenized<X>, E>>;

fn tokenize_windows<M: Encode, X, E: From<Error>>(
    model: &M,
    read: Receiver<Read<X, E>>,
    to_run: &SyncSender<Tokenizing<X, E>>,
) {
    for message in read {
        let tokenized = match message {
            Read::Window(window) => Some(tokenize(model, window).map_err(E::from)),
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

fn tokenize<M: Encode, X>(model: &M, window: Window<X>) -> Result<Tokenized<X>, Error> {
    let texts: Vec<&str> = window.texts.iter().flatten().map(String::as_str).collect();
    let mut tokens = model.prepare(&texts)?.into_iter();
    // As many as there are texts.
    let ready = window.texts.iter().map(|text| text.as_ref().and_then(|_| tokens.next())).collect();
    Ok(Tokenized { window, ready })
}

/// `None` where the watcher does not want to go on.
fn run_window<M: Encode, X>(
    model: &M,
    window: Window<X>,
    ready: Vec<Option<Result<Ready, Error>>>,
    pace: &mut Pace,
    watch: &mut impl FnMut(Event<'_, X>) -> bool,
) -> Result<Option<Rows<X, M::Row>>, Error> {
    let of = ready.len();
    let mut rows: Vec<Option<Result<M::Row, Error>>> = (0..of).map(|_| None).collect();
    let (mut truncated, mut tokens) = (vec![false; of], vec![0; of]);
    let mut texts = Vec::with_capacity(of);
    for (at, ready) in ready.into_iter().enumerate() {
        match ready {
            Some(Ok(ready)) => {
                (truncated[at], tokens[at]) = (ready.truncated(), ready.tokens());
                texts.push((at, ready));
            }
            Some(Err(error)) => rows[at] = Some(Err(error)),
            None => {}
        }
    }
    // The longest first: where memory runs out, it does so at once.
    texts.sort_by_key(|(at, ready)| (std::cmp::Reverse(ready.tokens()), *at));
    let (mut done, mut retried) = (of - texts.len(), 0);
    let mut rest = texts.as_slice();
    while !rest.is_empty() {
        let (now, later) = rest.split_at(pace.next_run(rest.iter().map(|(_, text)| text.tokens())));
        let started = Instant::now();
        let ran = model.run(&now.iter().map(|(_, text)| text).collect::<Vec<_>>())?;
        let count: usize = now.iter().map(|(_, text)| text.tokens()).sum();
        pace.took(count, started.elapsed());
        retried += ran.retried;
        for ((at, _), row) in now.iter().zip(ran.rows) {
            rows[*at] = Some(row);
        }
        done += now.len();
        rest = later;
        let (about, texts) = (&window.about, now.len());
        if !watch(Event::Ran { about, done, of, texts, tokens: count }) {
            return Ok(None);
        }
    }
    Ok(Some(Rows { window, rows, truncated, tokens, retried }))
}

#[cfg(test)]
mod tests;
