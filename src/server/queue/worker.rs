//! The thread that owns a model's GPU: takes batches from the queue and their rows back.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{Queue, Ticket, lock};
use crate::error::Error;

/// How far the thread has come, for those who look at it from outside.
#[derive(Debug)]
pub(crate) struct Progress {
    state: Mutex<State>,
    /// Tokens whose rows came back.
    pub tokens: AtomicU64,
    /// Batches taken from the queue.
    pub batches: AtomicU64,
    /// Nanoseconds in which something was running.
    pub busy: AtomicU64,
}

#[derive(Debug)]
struct State {
    /// Since when it is running without a row coming back; `None` while it waits for work.
    running: Option<Instant>,
    /// When the last row came back.
    last_row: Option<Instant>,
    /// Tokens a second, lately.
    rate: Option<f64>,
    /// Tokens since the rate was last looked at, and when that was.
    counted: (u64, Instant),
}

/// Batches of a run, at most: what a run met is known at its end.
const BATCHES: usize = 32;

/// Rates are looked at over so long.
const RATE_OVER: Duration = Duration::from_millis(200);

impl Progress {
    pub fn new() -> Self {
        let state =
            State { running: None, last_row: None, rate: None, counted: (0, Instant::now()) };
        Progress {
            state: Mutex::new(state),
            tokens: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            busy: AtomicU64::new(0),
        }
    }

    /// For how long it has been running without a row coming back; `None` while it waits for work.
    pub fn without_row(&self) -> Option<Duration> {
        lock(&self.state).running.map(|since| since.elapsed())
    }

    /// When the last row came back.
    pub fn last_row(&self) -> Option<Instant> {
        lock(&self.state).last_row
    }

    /// Tokens a second, lately; `None` before there was any work.
    pub fn rate(&self) -> Option<f64> {
        lock(&self.state).rate
    }

    fn start(&self) {
        let now = Instant::now();
        let mut state = lock(&self.state);
        state.running = Some(now);
        state.counted = (0, now);
    }

    fn row(&self, tokens: usize) {
        self.tokens.fetch_add(tokens as u64, Ordering::Relaxed);
        let now = Instant::now();
        let mut state = lock(&self.state);
        state.running = Some(now);
        state.last_row = Some(now);
        state.counted.0 += tokens as u64;
        let over = now.duration_since(state.counted.1);
        if over >= RATE_OVER {
            state.count(now, over);
        }
    }

    fn stop(&self, ran: Duration) {
        self.busy.fetch_add(u64::try_from(ran.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        let now = Instant::now();
        let mut state = lock(&self.state);
        state.running = None;
        // Short runs say something only where there is no better.
        let over = now.duration_since(state.counted.1);
        if state.rate.is_none() && state.counted.0 > 0 {
            state.count(now, over);
        }
    }
}

impl State {
    fn count(&mut self, now: Instant, over: Duration) {
        let seen = self.counted.0 as f64 / over.as_secs_f64().max(1e-6);
        self.rate = Some(self.rate.map_or(seen, |rate| 0.7 * rate + 0.3 * seen));
        self.counted = (0, now);
    }
}

/// Runs what comes into the queue until it is closed and empty.
///
/// `drive` runs what its first argument gives until that is empty, and hands the rows to its second,
/// in order; it fails where the device does. The text that was next then fails with memory that ran
/// out, and the others go on; every text in hand fails with any other error.
pub(crate) fn work<T, R>(
    queue: &Queue<Arc<T>, R>,
    progress: &Progress,
    mut drive: impl FnMut(
        &mut dyn FnMut() -> Vec<Arc<T>>,
        &mut dyn FnMut(Result<R, Error>),
    ) -> Result<(), Error>,
) {
    let hand: Mutex<VecDeque<(Arc<T>, Ticket<R>)>> = Mutex::default();
    while !lock(&hand).is_empty() || queue.wait() {
        let started = Instant::now();
        progress.start();
        // What an earlier run left comes first.
        let mut left = Some(lock(&hand).iter().map(|(text, _)| text.clone()).collect::<Vec<_>>());
        let mut batches = 0;
        let mut more = || {
            if let Some(left) = left.take().filter(|left| !left.is_empty()) {
                return left;
            }
            if batches == BATCHES {
                return Vec::new();
            }
            let batch = queue.take();
            if !batch.is_empty() {
                batches += 1;
                progress.batches.fetch_add(1, Ordering::Relaxed);
            }
            let texts = batch.iter().map(|(text, _)| text.clone()).collect();
            lock(&hand).extend(batch);
            texts
        };
        let mut take = |row: Result<R, Error>| {
            let next = lock(&hand).pop_front();
            if let Some((_, ticket)) = next {
                progress.row(ticket.tokens);
                ticket.answer(row);
            }
        };
        // The hand is whole between any two statements, and what the GPU holds is the driver's to check.
        let result = catch_unwind(AssertUnwindSafe(|| drive(&mut more, &mut take)));
        let result = result.unwrap_or_else(|panic| Err(Error::Internal(said(&*panic))));
        progress.stop(started.elapsed());
        match result {
            Ok(()) => {}
            Err(error @ Error::OutOfMemory { .. }) => {
                let next = lock(&hand).pop_front();
                if let Some((_, ticket)) = next {
                    ticket.answer(Err(error));
                }
                continue;
            }
            Err(error) => {
                tracing::error!(%error, "a run failed");
                let failed = std::mem::take(&mut *lock(&hand));
                failed.into_iter().for_each(|(_, ticket)| ticket.answer(Err(error.clone())));
            }
        }
        // A run that ended well has answered all.
        lock(&hand).clear();
    }
}

/// What a panic said.
fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    format!("a run panicked: {}", message.unwrap_or("no message"))
}
