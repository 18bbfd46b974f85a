//! The scenarios. In each, the threads of clients, the worker and the server run together. A text is a number, and its
//! row is twice that number.

use std::sync::Arc;

use shuttle::future::block_on;
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread::{JoinHandle, spawn};

use crate::error::Error;
use crate::queue::{Budget, Charge, Progress, Queue, work};

type Numbers = Queue<Arc<usize>, usize>;

/// Each scenario with its name.
pub const ALL: [(&str, fn()); 6] = [
    ("every_request_is_answered", every_request_is_answered),
    ("a_closing_queue_answers_or_refuses", a_closing_queue_answers_or_refuses),
    ("clients_disconnect_at_any_time", clients_disconnect_at_any_time),
    ("a_failing_worker_loses_no_request", a_failing_worker_loses_no_request),
    ("a_budget_is_never_exceeded", a_budget_is_never_exceeded),
    ("metrics_are_read_at_any_time", metrics_are_read_at_any_time),
];

/// The maximum number of tokens in a batch. Requests of some scenarios need several batches.
const BATCH: usize = 6;
const BUDGET: usize = 12;

struct Server {
    queue: Arc<Numbers>,
    budget: Arc<Budget>,
    progress: Arc<Progress>,
    worker: JoinHandle<()>,
}

impl Server {
    /// Starts a worker. Its first runs fail, each with the next error of `failing`. Later runs succeed.
    fn start(failing: Vec<Error>) -> Self {
        let queue = Arc::new(Numbers::new(BATCH));
        let progress = Arc::new(Progress::new());
        let worker = {
            let (queue, progress) = (queue.clone(), progress.clone());
            let mut failing = failing.into_iter();
            spawn(move || {
                work(&queue, &progress, |more, take| {
                    loop {
                        let texts = more();
                        if texts.is_empty() {
                            return Ok(());
                        }
                        if let Some(error) = failing.next() {
                            return Err(error);
                        }
                        // The GPU takes time, in which other threads run.
                        shuttle::thread::yield_now();
                        texts.iter().for_each(|text| take(Ok(**text * 2)));
                    }
                })
            })
        };
        Server { queue, budget: Budget::new(BUDGET), progress, worker }
    }

    /// Sends a request as the server does: charges an estimate, charges the number of tokens, and queues the texts.
    /// Returns `None` if the budget is full.
    fn submit(&self, texts: &[usize]) -> Option<Pending> {
        let tokens: usize = texts.iter().sum();
        let mut charge = self.budget.admit(1).ok()?;
        charge.adjust(tokens).ok()?;
        let held = texts.iter().map(|text| Arc::new(*text)).collect();
        Some(self.queue.submit(held, texts.to_vec(), Some(charge)))
    }

    /// Closes the queue, waits for the worker, and checks that nothing is left.
    fn end(self) {
        self.queue.close();
        self.worker.join().unwrap();
        assert_eq!(self.budget.used(), 0, "the budget is not returned completely");
        assert_eq!(self.queue.depth(), Default::default());
        assert!(self.progress.without_row().is_none(), "the worker still counts as running");
    }
}

type Pending = tokio::sync::oneshot::Receiver<crate::queue::Answer<usize>>;

/// Checks the rows of an answer.
fn check(texts: &[usize], answer: crate::queue::Answer<usize>) {
    let expected: Vec<Result<usize, Error>> = texts.iter().map(|text| Ok(text * 2)).collect();
    assert_eq!(answer.rows, expected);
}

/// Runs `client` on several threads, and waits for all of them.
fn clients(server: &Arc<Server>, count: usize, client: fn(usize, &Server)) {
    let threads: Vec<_> = (0..count)
        .map(|number| {
            let server = server.clone();
            spawn(move || client(number, &server))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

fn end(server: Arc<Server>) {
    let Ok(server) = Arc::try_unwrap(server) else { panic!("a client still runs") };
    server.end();
}

fn every_request_is_answered() {
    let server = Arc::new(Server::start(Vec::new()));
    clients(&server, 3, |number, server| {
        for round in 0..2 {
            let texts = [1 + number, 2, 3 - round];
            if let Some(pending) = server.submit(&texts) {
                check(&texts, block_on(pending).unwrap());
            }
        }
    });
    end(server);
}

fn a_closing_queue_answers_or_refuses() {
    let server = Arc::new(Server::start(Vec::new()));
    let closing = {
        let server = server.clone();
        spawn(move || server.queue.close())
    };
    clients(&server, 2, |number, server| {
        for texts in [vec![1 + number, 5], vec![4]] {
            // A request that comes after the queue was closed is refused. The channel for its answer is then closed.
            if let Some(Ok(answer)) = server.submit(&texts).map(block_on) {
                check(&texts, answer);
            }
        }
    });
    closing.join().unwrap();
    end(server);
}

fn clients_disconnect_at_any_time() {
    let server = Arc::new(Server::start(Vec::new()));
    clients(&server, 3, |number, server| {
        let texts = [2, 3, 4];
        let Some(pending) = server.submit(&texts) else { return };
        match number {
            0 => check(&texts, block_on(pending).unwrap()),
            1 => drop(pending),
            _ => {
                (0..thread_rng().gen_range(0..6)).for_each(|_| shuttle::thread::yield_now());
                drop(pending);
            }
        }
    });
    end(server);
}

fn a_failing_worker_loses_no_request() {
    let internal = Error::Internal("planned".into());
    let (adapter, what, advice) = (String::new(), String::new(), String::new());
    let memory = Error::OutOfMemory { adapter, what, bytes: 0, advice };
    let failing = match thread_rng().gen_range(0..3) {
        0 => vec![internal, memory],
        1 => vec![memory.clone(), memory],
        _ => vec![internal],
    };
    let server = Arc::new(Server::start(failing));
    clients(&server, 2, |number, server| {
        let texts = [1 + number, 2];
        let Some(pending) = server.submit(&texts) else { return };
        let answer = block_on(pending).unwrap();
        assert_eq!(answer.rows.len(), texts.len());
        for (row, text) in answer.rows.iter().zip(texts) {
            assert!(row.as_ref().is_ok_and(|row| *row == 2 * text) || row.is_err());
        }
        // The worker goes on after its failures, so later requests succeed.
        let mut tries = 0;
        while let Some(pending) = server.submit(&texts) {
            if block_on(pending).unwrap().rows.iter().all(Result::is_ok) {
                break;
            }
            tries += 1;
            assert!(tries < 5, "requests still fail");
        }
    });
    end(server);
}

fn a_budget_is_never_exceeded() {
    let budget = Budget::new(8);
    let threads: Vec<_> = (0..3)
        .map(|number| {
            let budget = budget.clone();
            spawn(move || {
                let mut held: Vec<Charge> = Vec::new();
                for size in [1, 2 + number, usize::MAX] {
                    held.extend(budget.admit(1));
                    if let Some(charge) = held.last_mut() {
                        // If the budget refuses to change a charge, the charge stays as it was.
                        let _ = charge.adjust(size);
                    }
                    assert!(budget.used() <= 8, "{} of 8 tokens are used", budget.used());
                    if size == 1 {
                        held.clear();
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(budget.used(), 0, "the budget is not returned completely");
}

fn metrics_are_read_at_any_time() {
    let server = Arc::new(Server::start(Vec::new()));
    let reader = {
        let server = server.clone();
        spawn(move || {
            for _ in 0..3 {
                let depth = server.queue.depth();
                assert!(depth.texts <= 4 && depth.requests <= 2 && depth.tokens <= 9, "{depth:?}");
                assert!(server.budget.used() <= BUDGET);
                let _ = (server.queue.dropped(), server.progress.without_row());
            }
        })
    };
    clients(&server, 2, |number, server| {
        let texts = [1 + number, 3];
        if let Some(pending) = server.submit(&texts) {
            // A client may send its next request as soon as it has an answer. So the tokens of its request must be
            // returned to the budget before.
            check(&texts, block_on(pending).unwrap());
            // A request counts as at most a quarter of the budget, and there is one other client.
            assert!(server.budget.used() <= BUDGET / 4, "an answered request is still charged");
        }
    });
    reader.join().unwrap();
    end(server);
}
