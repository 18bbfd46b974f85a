//! The loop of a model's thread, which takes batches from the queue and returns their rows.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::sync::{AtomicU64, Instant, Mutex, Ordering};
use super::{Queue, Ticket, lock};
use crate::error::Error;

/// The thread's progress, which health checks and metrics read.
#[derive(Debug)]
pub(crate) struct Progress {
    state: Mutex<State>,
    /// Number of tokens whose rows were returned.
    pub tokens: AtomicU64,
    /// Number of batches taken from the queue.
    pub batches: AtomicU64,
    /// Total time for which the thread ran batches, in nanoseconds.
    pub busy: AtomicU64,
}

#[derive(Debug)]
struct State {
    /// The later of two times: the start of the run, and the arrival of the latest row of the run. `None` while the
    /// thread waits for work.
    running: Option<Instant>,
    /// The time at which the latest row was returned.
    last_row: Option<Instant>,
    /// Moving average of tokens per second.
    rate: Option<f64>,
    /// The tokens counted towards the next update of `rate`.
    window: RateWindow,
}

#[derive(Debug)]
struct RateWindow {
    tokens: u64,
    since: Instant,
}

/// Maximum number of batches in a run. The model reports retries and halved batches only at the end of a run. A run
/// must therefore end even if the queue is never empty.
const MAX_BATCHES: usize = 32;

/// Minimum time between updates of the rate.
const RATE_WINDOW: Duration = Duration::from_millis(200);

impl Progress {
    pub fn new() -> Self {
        let window = RateWindow { tokens: 0, since: Instant::now() };
        let state = State { running: None, last_row: None, rate: None, window };
        Progress {
            state: Mutex::new(state),
            tokens: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            busy: AtomicU64::new(0),
        }
    }

    /// Returns the time for which the running thread has returned no row, or `None` while the thread waits for work.
    pub fn without_row(&self) -> Option<Duration> {
        lock(&self.state).running.map(|since| since.elapsed())
    }

    /// Returns the time at which the latest row was returned.
    pub fn last_row(&self) -> Option<Instant> {
        lock(&self.state).last_row
    }

    /// Returns the moving average of tokens per second, or `None` before the first run.
    pub fn rate(&self) -> Option<f64> {
        lock(&self.state).rate
    }

    fn start(&self) {
        let now = Instant::now();
        let mut state = lock(&self.state);
        state.running = Some(now);
        state.window = RateWindow { tokens: 0, since: now };
    }

    fn row(&self, tokens: usize) {
        self.tokens.fetch_add(tokens as u64, Ordering::Relaxed);
        let now = Instant::now();
        let mut state = lock(&self.state);
        state.running = Some(now);
        state.last_row = Some(now);
        state.window.tokens += tokens as u64;
        if now.duration_since(state.window.since) >= RATE_WINDOW {
            state.update_rate(now);
        }
    }

    fn stop(&self, ran: Duration) {
        self.busy.fetch_add(u64::try_from(ran.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        let now = Instant::now();
        let mut state = lock(&self.state);
        state.running = None;
        // A short run gives a poor estimate of the token rate, so this estimate is used only if there is no other
        // estimate.
        if state.rate.is_none() && state.window.tokens > 0 {
            state.update_rate(now);
        }
    }
}

impl State {
    fn update_rate(&mut self, now: Instant) {
        let seconds = now.duration_since(self.window.since).as_secs_f64().max(1e-6);
        let latest = self.window.tokens as f64 / seconds;
        self.rate = Some(self.rate.map_or(latest, |rate| 0.7 * rate + 0.3 * latest));
        self.window = RateWindow { tokens: 0, since: now };
    }
}

/// Runs queued texts until the queue is closed and empty.
///
/// `drive` calls its first argument to get batches, until it gets an empty batch. `drive` calls its second argument for
/// each row, in order. If `drive` fails with [`Error::OutOfMemory`], the text whose row was due next fails, and the
/// other texts run again. After any other error, every text that was taken and not answered fails.
pub(crate) fn work<T, R>(
    queue: &Queue<Arc<T>, R>,
    progress: &Progress,
    mut drive: impl FnMut(
        &mut dyn FnMut() -> Vec<Arc<T>>,
        &mut dyn FnMut(Result<R, Error>),
    ) -> Result<(), Error>,
) {
    let taken: Mutex<VecDeque<(Arc<T>, Ticket<R>)>> = Mutex::default();
    while !lock(&taken).is_empty() || queue.wait() {
        let started = Instant::now();
        progress.start();
        // The first batch repeats the texts that an earlier run left unanswered.
        let mut left = Some(lock(&taken).iter().map(|(text, _)| text.clone()).collect::<Vec<_>>());
        let mut batches = 0;
        let mut more = || {
            if let Some(left) = left.take().filter(|left| !left.is_empty()) {
                return left;
            }
            if batches == MAX_BATCHES {
                return Vec::new();
            }
            let batch = queue.take();
            if !batch.is_empty() {
                batches += 1;
                progress.batches.fetch_add(1, Ordering::Relaxed);
            }
            let texts = batch.iter().map(|(text, _)| text.clone()).collect();
            lock(&taken).extend(batch);
            texts
        };
        let mut take = |row: Result<R, Error>| {
            let next = lock(&taken).pop_front();
            if let Some((_, ticket)) = next {
                progress.row(ticket.tokens);
                ticket.answer(row);
            }
        };
        // Catching a panic is safe: every statement leaves `taken` consistent, and `drive` checks the rows
        // from the GPU.
        let result = catch_unwind(AssertUnwindSafe(|| drive(&mut more, &mut take)));
        let result = result.unwrap_or_else(|panic| Err(Error::Internal(panic_message(&*panic))));
        progress.stop(started.elapsed());
        match result {
            Ok(()) => {}
            Err(error @ Error::OutOfMemory { .. }) => {
                let next = lock(&taken).pop_front();
                if let Some((_, ticket)) = next {
                    ticket.answer(Err(error));
                }
                continue;
            }
            Err(error) => {
                tracing::error!(%error, "running a batch failed");
                let failed = std::mem::take(&mut *lock(&taken));
                failed.into_iter().for_each(|(_, ticket)| ticket.answer(Err(error.clone())));
            }
        }
        // A successful run has answered all texts. After a failed run, the code above has answered the remaining texts
        // with an error. `taken` should therefore be empty here.
        lock(&taken).clear();
    }
}

/// Returns an error message that quotes the message of a panic.
fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    format!("running a batch panicked: {}", message.unwrap_or("no message"))
}
