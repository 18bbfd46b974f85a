//! The queue of a model, which holds the requests that wait for the GPU.
//!
//! A request is a list of tokenized texts, of which the queue knows only the token counts. [`Queue::take`]
//! returns the texts of the next batch, in which every request gets a fair share. Each text comes with a
//! [`Ticket`], which returns the text's row to its request. Requests of disconnected clients are skipped. A
//! [`Budget`] limits the queue, because requests are charged to it before they are queued.

mod admission;
mod plan;
mod worker;

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::sync::{self, Condvar, Instant, Mutex, MutexGuard};
use crate::error::Error;
pub(crate) use admission::{Budget, Charge, Full, retry_after};
pub(crate) use worker::{Progress, work};

/// Requests whose texts wait for the GPU. `T` is the type of a text, and `R` the type of its row.
#[derive(Debug)]
pub(crate) struct Queue<T, R> {
    batch_tokens: usize,
    state: Mutex<State<T, R>>,
    arrived: Condvar,
}

#[derive(Debug)]
struct State<T, R> {
    /// The waiting requests, in the order in which they are served.
    waiting: VecDeque<Waiting<T, R>>,
    /// Number of texts dropped because their client disconnected.
    dropped: u64,
    closed: bool,
}

#[derive(Debug)]
struct Waiting<T, R> {
    /// The texts that are not in a batch yet, in order.
    texts: std::vec::IntoIter<T>,
    /// Token counts of all texts of the request. The slice `lengths[taken..]` belongs to the remaining
    /// texts.
    lengths: Vec<usize>,
    taken: usize,
    request: Arc<Request<R>>,
}

/// The part of a request that its tickets share.
#[derive(Debug)]
struct Request<R> {
    arrived: Instant,
    collected: Mutex<Collected<R>>,
}

#[derive(Debug)]
struct Collected<R> {
    rows: Vec<Option<Result<R, Error>>>,
    left: usize,
    first_taken: Option<Instant>,
    /// The charge, which is returned to the budget when the answer is sent.
    charge: Option<Charge>,
    answer: Option<oneshot::Sender<Answer<R>>>,
}

/// The result of a request.
#[derive(Debug)]
pub(crate) struct Answer<R> {
    /// The row or the error of each text, in the order of the texts.
    pub rows: Vec<Result<R, Error>>,
    /// Time from the request's arrival until the batch with its first text was taken from the queue.
    pub queued: Duration,
    /// Time from taking the batch with the first text until the last row arrived.
    pub ran: Duration,
}

/// Returns the row of one text to its request. If a ticket is dropped without a row, its request fails,
/// because the channel of the request's answer closes.
#[derive(Debug)]
pub(crate) struct Ticket<R> {
    request: Arc<Request<R>>,
    index: usize,
    /// Token count of the text.
    pub tokens: usize,
}

/// The number of requests, texts and tokens in a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Depth {
    /// Number of requests with texts that are not in a batch yet.
    pub requests: usize,
    /// Number of texts that are not in a batch yet.
    pub texts: usize,
    /// Token count of the texts that are not in a batch yet.
    pub tokens: usize,
}

impl<T, R> Queue<T, R> {
    /// Creates an empty queue for batches of `batch_tokens` tokens.
    pub fn new(batch_tokens: usize) -> Self {
        let state = State { waiting: VecDeque::new(), dropped: 0, closed: false };
        Queue { batch_tokens, state: Mutex::new(state), arrived: Condvar::new() }
    }

    /// Queues a request, which is given by its texts and their token counts. The answer arrives when every
    /// text has its row. If the receiver is dropped, the request is removed from the queue.
    pub fn submit(
        &self,
        texts: Vec<T>,
        lengths: Vec<usize>,
        charge: Option<Charge>,
    ) -> oneshot::Receiver<Answer<R>> {
        let (answer, receiver) = oneshot::channel();
        if texts.is_empty() {
            // `send` fails only if the receiver was dropped. Then nobody waits for the answer, so the error is ignored.
            let _ = answer.send(Answer {
                rows: Vec::new(),
                queued: Duration::ZERO,
                ran: Duration::ZERO,
            });
            return receiver;
        }
        let rows: Vec<Option<Result<R, Error>>> = texts.iter().map(|_| None).collect();
        let left = rows.len();
        let collected = Collected { rows, left, first_taken: None, charge, answer: Some(answer) };
        let request =
            Arc::new(Request { arrived: Instant::now(), collected: Mutex::new(collected) });
        let waiting = Waiting { texts: texts.into_iter(), lengths, taken: 0, request };
        let mut state = lock(&self.state);
        // If the queue is closed, the request is dropped here. The drop closes the answer's channel, so the caller gets
        // an error.
        if !state.closed {
            state.waiting.push_back(waiting);
        }
        drop(state);
        self.arrived.notify_one();
        receiver
    }

    /// Takes the texts of the next batch from the queue, and returns them with their tickets. A batch has at most
    /// `batch_tokens` tokens, unless it is a single longer text. The result is empty if no text is waiting.
    pub fn take(&self) -> Vec<(T, Ticket<R>)> {
        let mut state = lock(&self.state);
        state.drop_abandoned();
        let left: Vec<&[usize]> =
            state.waiting.iter().map(|waiting| &waiting.lengths[waiting.taken..]).collect();
        let shares = plan::share(&left, self.batch_tokens);
        let now = Instant::now();
        let mut batch = Vec::with_capacity(shares.iter().sum());
        // Requests that have no text in this batch are served first in the next batch.
        let (mut first, mut then) = (VecDeque::new(), VecDeque::new());
        for (mut waiting, share) in std::mem::take(&mut state.waiting).into_iter().zip(shares) {
            if share > 0 {
                lock(&waiting.request.collected).first_taken.get_or_insert(now);
            }
            for _ in 0..share {
                let (index, tokens) = (waiting.taken, waiting.lengths[waiting.taken]);
                let Some(text) = waiting.texts.next() else { break };
                waiting.taken += 1;
                let ticket = Ticket { request: waiting.request.clone(), index, tokens };
                batch.push((text, ticket));
            }
            match (waiting.texts.len(), share) {
                (0, _) => {}
                (_, 0) => first.push_back(waiting),
                _ => then.push_back(waiting),
            }
        }
        first.append(&mut then);
        state.waiting = first;
        batch
    }

    /// Waits until a text can be taken. Returns false once the queue is closed and empty.
    pub fn wait(&self) -> bool {
        let mut state = lock(&self.state);
        loop {
            state.drop_abandoned();
            if !state.waiting.is_empty() {
                return true;
            }
            if state.closed {
                return false;
            }
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Closes the queue. A closed queue accepts no more requests, but still serves the waiting requests.
    pub fn close(&self) {
        lock(&self.state).closed = true;
        self.arrived.notify_all();
    }

    /// Returns the current size of the queue.
    pub fn depth(&self) -> Depth {
        let state = lock(&self.state);
        let mut depth = Depth { requests: state.waiting.len(), ..Depth::default() };
        for waiting in &state.waiting {
            depth.texts += waiting.lengths.len() - waiting.taken;
            depth.tokens += waiting.lengths[waiting.taken..].iter().sum::<usize>();
        }
        depth
    }

    /// Returns the number of texts that were dropped because their client disconnected, since the server started.
    pub fn dropped(&self) -> u64 {
        lock(&self.state).dropped
    }
}

impl<T, R> State<T, R> {
    fn drop_abandoned(&mut self) {
        let mut texts = 0;
        self.waiting.retain(|waiting| {
            let collected = lock(&waiting.request.collected);
            let wanted = collected.answer.as_ref().is_some_and(|answer| !answer.is_closed());
            if !wanted {
                texts += waiting.texts.len() as u64;
            }
            wanted
        });
        self.dropped += texts;
    }
}

impl<R> Ticket<R> {
    /// Gives the text's row, or its error, to the request.
    pub fn answer(self, row: Result<R, Error>) {
        let mut collected = lock(&self.request.collected);
        if collected.rows[self.index].replace(row).is_none() {
            collected.left -= 1;
        }
        if collected.left > 0 {
            return;
        }
        let rows: Option<Vec<_>> = std::mem::take(&mut collected.rows).into_iter().collect();
        // The request's tokens are released before the answer is sent, because the client may send its next request as
        // soon as it has the answer.
        collected.charge = None;
        let taken = collected.first_taken.unwrap_or(self.request.arrived);
        if let (Some(rows), Some(answer)) = (rows, collected.answer.take()) {
            let queued = taken.duration_since(self.request.arrived);
            // `send` fails only if the client has disconnected.
            let _ = answer.send(Answer { rows, queued, ran: taken.elapsed() });
        }
    }
}

/// Locks the mutex even if it is poisoned. Every statement leaves the state valid, so a panic in another
/// thread does no harm.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
