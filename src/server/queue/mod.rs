//! Requests of all clients, waiting for the GPU.
//!
//! A request is a list of texts ready to run; the queue knows their tokens and nothing else of them.
//! [`Queue::take`] gives the texts of the next batch, a fair share of every request; a [`Ticket`] goes
//! with each and takes its row back. A request whose client has gone is dropped before its texts are
//! taken. What may wait is bounded by [`Budget`], which requests are charged before they come here.

mod admission;
mod plan;
mod worker;

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::error::Error;
pub(crate) use admission::{Budget, Charge, Full, retry_after};
pub(crate) use worker::{Progress, work};

/// Requests whose texts wait for the GPU. `T` is a text, `R` what becomes of it.
#[derive(Debug)]
pub(crate) struct Queue<T, R> {
    batch_tokens: usize,
    state: Mutex<State<T, R>>,
    arrived: Condvar,
}

#[derive(Debug)]
struct State<T, R> {
    /// In the order they take turns.
    waiting: VecDeque<Waiting<T, R>>,
    /// Texts of requests whose clients had gone.
    dropped: u64,
    closed: bool,
}

#[derive(Debug)]
struct Waiting<T, R> {
    /// Those left, in their order.
    texts: std::vec::IntoIter<T>,
    /// Tokens of those left are `lengths[taken..]`.
    lengths: Vec<usize>,
    taken: usize,
    request: Arc<Request<R>>,
}

/// A request of which some texts are taken.
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
    /// Both leave together with the answer.
    charge: Option<Charge>,
    answer: Option<oneshot::Sender<Answer<R>>>,
}

/// What became of a request.
#[derive(Debug)]
pub(crate) struct Answer<R> {
    /// For each text its row or why it has none, in the order of the texts.
    pub rows: Vec<Result<R, Error>>,
    /// From its arrival until its first text was taken.
    pub queued: Duration,
    /// From then until its last row.
    pub ran: Duration,
}

/// Takes the row of one text back to its request. Dropped without a row, it fails the request: the
/// answer never comes.
#[derive(Debug)]
pub(crate) struct Ticket<R> {
    request: Arc<Request<R>>,
    index: usize,
    /// The text's.
    pub tokens: usize,
}

/// What waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Depth {
    /// Requests with texts that are not taken yet.
    pub requests: usize,
    /// Those texts.
    pub texts: usize,
    /// Their tokens.
    pub tokens: usize,
}

impl<T, R> Queue<T, R> {
    /// An empty queue for batches of `batch_tokens` tokens.
    pub fn new(batch_tokens: usize) -> Self {
        let state = State { waiting: VecDeque::new(), dropped: 0, closed: false };
        Queue { batch_tokens, state: Mutex::new(state), arrived: Condvar::new() }
    }

    /// Puts a request into the queue: its texts with the tokens of each. The answer comes when all of
    /// them have rows; dropping the receiver takes the request out.
    pub fn submit(
        &self,
        texts: Vec<T>,
        lengths: Vec<usize>,
        charge: Option<Charge>,
    ) -> oneshot::Receiver<Answer<R>> {
        let (answer, receiver) = oneshot::channel();
        if texts.is_empty() {
            // Its receiver may have gone: nobody is told then.
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
        // Closed, it is dropped here, and its answer never comes.
        if !state.closed {
            state.waiting.push_back(waiting);
        }
        drop(state);
        self.arrived.notify_one();
        receiver
    }

    /// The texts of the next batch, at most about `batch_tokens` tokens, with their tickets. Empty
    /// where nothing waits.
    pub fn take(&self) -> Vec<(T, Ticket<R>)> {
        let mut state = lock(&self.state);
        state.drop_abandoned();
        let left: Vec<&[usize]> =
            state.waiting.iter().map(|waiting| &waiting.lengths[waiting.taken..]).collect();
        let shares = plan::share(&left, self.batch_tokens);
        let now = Instant::now();
        let mut batch = Vec::with_capacity(shares.iter().sum());
        // Who had nothing goes first next time.
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

    /// Waits until something can be taken. False once the queue is closed and empty.
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

    /// No more requests are taken in; those that wait are.
    pub fn close(&self) {
        lock(&self.state).closed = true;
        self.arrived.notify_all();
    }

    /// What waits.
    pub fn depth(&self) -> Depth {
        let state = lock(&self.state);
        let mut depth = Depth { requests: state.waiting.len(), ..Depth::default() };
        for waiting in &state.waiting {
            depth.texts += waiting.lengths.len() - waiting.taken;
            depth.tokens += waiting.lengths[waiting.taken..].iter().sum::<usize>();
        }
        depth
    }

    /// Texts that were dropped since the start, because their client had gone.
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
    /// Takes the row of the text, or why it has none, back to its request.
    pub fn answer(self, row: Result<R, Error>) {
        let mut collected = lock(&self.request.collected);
        if collected.rows[self.index].replace(row).is_none() {
            collected.left -= 1;
        }
        if collected.left > 0 {
            return;
        }
        let rows: Option<Vec<_>> = std::mem::take(&mut collected.rows).into_iter().collect();
        // Before the answer: a client that has it may ask again at once.
        collected.charge = None;
        let taken = collected.first_taken.unwrap_or(self.request.arrived);
        if let (Some(rows), Some(answer)) = (rows, collected.answer.take()) {
            let queued = taken.duration_since(self.request.arrived);
            // A client that has gone is told nothing.
            let _ = answer.send(Answer { rows, queued, ran: taken.elapsed() });
        }
    }
}

/// What is under the lock is whole after every statement: a panic elsewhere does not harm it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
