//! Simulates days of load on the queue in seconds. tokio's clock is paused and jumps to the next event, and the worker
//! sleeps in place of running a batch.
//!
//! `VECTILE_SIMULATED_HOURS` is the simulated time (1 hour by default). 72 hours have a million requests.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use fastrand::Rng;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::super::*;

const BATCH_TOKENS: usize = 2048;
/// Tokens per second of the simulated GPU.
const RATE: f64 = 5000.0;
/// Requests per second, on average over a day.
const REQUESTS: f64 = 3.9;
/// Time in which every accepted request must be answered. The longest requests have 130,000 tokens, which take 26 s
/// alone, and share every batch with later requests.
const LONGEST: Duration = Duration::from_secs(900);
/// The same time for requests of one short text, which do not wait for long requests.
const LONGEST_SHORT: Duration = Duration::from_secs(5);

/// Number of requests by their end, and the longest waits.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    sent: u64,
    answered: u64,
    failed: u64,
    disconnected: u64,
    /// Refusals, after which the client waits and tries again.
    refused: u64,
    /// Requests whose client gave up after many refusals.
    given_up: u64,
    longest: Duration,
    longest_short: Duration,
}

struct World {
    queue: Queue<usize, usize>,
    budget: Arc<Budget>,
    arrived: Notify,
    counts: Cell<Counts>,
    random: RefCell<Rng>,
}

impl World {
    fn count(&self, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.get();
        change(&mut counts);
        self.counts.set(counts);
    }

    fn random<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        draw(&mut self.random.borrow_mut())
    }

    /// Takes batches until the queue is closed and empty. Some batches fail as a whole.
    async fn work(&self) {
        while !self.queue.lock_closed_and_empty() {
            let batch = self.queue.take();
            if batch.is_empty() {
                self.arrived.notified().await;
                continue;
            }
            let tokens: usize = batch.iter().map(|(_, ticket)| ticket.tokens).sum();
            assert!(tokens <= BATCH_TOKENS || batch.len() == 1, "a batch of {tokens} tokens");
            assert!(self.budget.used() <= self.budget.limit());
            sleep(Duration::from_secs_f64(0.002 + tokens as f64 / RATE)).await;
            let is_lost = self.random(|random| random.u32(..5000) == 0);
            for (text, ticket) in batch {
                let lost = Error::Internal("planned".into());
                ticket.answer(if is_lost { Err(lost) } else { Ok(text * 2) });
            }
        }
    }

    /// Sends one request, again after each refusal.
    async fn client(self: Rc<Self>) {
        let texts = self.random(|random| match random.u32(..1000) {
            0..700 => vec![random.usize(2..128)],
            700..970 => (0..random.usize(2..16)).map(|_| random.usize(2..256)).collect(),
            970..999 => (0..random.usize(16..64)).map(|_| random.usize(2..512)).collect(),
            _ => (0..512).map(|_| random.usize(2..512)).collect::<Vec<_>>(),
        });
        let tokens: usize = texts.iter().sum();
        // The estimate before tokenizing is too small for some requests, and too large for others.
        let estimate = self.random(|random| (tokens as f64 * (0.5 + random.f64())) as usize);
        let patience = self.random(|random| match random.u32(..50) {
            0 => Duration::from_secs_f64(3.0 * random.f64()),
            _ => LONGEST,
        });
        for _ in 0..200 {
            let admitted = self.budget.admit(estimate);
            // The time for tokenizing.
            sleep(Duration::from_micros(20 * tokens as u64)).await;
            let admitted = admitted.and_then(|mut charge| charge.adjust(tokens).map(|()| charge));
            let charge = match admitted {
                Ok(charge) => charge,
                Err(full) => {
                    self.count(|counts| counts.refused += 1);
                    assert!(full.used <= full.limit);
                    sleep(retry_after(full.used, Some(RATE))).await;
                    continue;
                }
            };
            let since = Instant::now();
            let pending = self.queue.submit(texts.clone(), texts.clone(), Some(charge));
            self.arrived.notify_one();
            let Ok(answer) = timeout(patience, pending).await else {
                assert!(patience < LONGEST, "a request of {tokens} tokens waits for {patience:?}");
                return self.count(|counts| counts.disconnected += 1);
            };
            let answer = answer.unwrap();
            let took = since.elapsed();
            assert!(answer.queued + answer.ran <= took, "{answer:?} took {took:?}");
            let is_whole = answer.rows.len() == texts.len();
            let is_right = answer.rows.iter().zip(&texts).all(|(row, text)| *row == Ok(text * 2));
            assert!(is_whole && (is_right || answer.rows.iter().any(Result::is_err)));
            return self.count(|counts| {
                *(if is_right { &mut counts.answered } else { &mut counts.failed }) += 1;
                counts.longest = counts.longest.max(took);
                if texts.len() == 1 {
                    counts.longest_short = counts.longest_short.max(took);
                }
            });
        }
        self.count(|counts| counts.given_up += 1);
    }
}

impl<T, R> Queue<T, R> {
    fn lock_closed_and_empty(&self) -> bool {
        let state = lock(&self.state);
        state.closed && state.waiting.is_empty()
    }
}

/// Returns the requests per second at this time of the day, relative to the average. Every hour has a minute of
/// overload.
fn load(seconds: f64) -> f64 {
    let hour = seconds / 3600.0 % 24.0;
    let day = 1.0 + 0.5 * (hour / 24.0 * std::f64::consts::TAU).sin();
    if seconds % 3600.0 < 60.0 { 6.0 * day } else { 0.92 * day }
}

#[test]
fn days_of_load_lose_no_request_and_no_token() {
    let hours =
        std::env::var("VECTILE_SIMULATED_HOURS").map_or(1.0, |hours| hours.parse().unwrap());
    let real = std::time::Instant::now();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let world = Rc::new(World {
        queue: Queue::new(BATCH_TOKENS),
        budget: Budget::new(12 * BATCH_TOKENS),
        arrived: Notify::new(),
        counts: Cell::default(),
        random: RefCell::new(Rng::with_seed(72)),
    });
    let (counts, simulated) = tokio::task::LocalSet::new().block_on(&runtime.unwrap(), async {
        let since = Instant::now();
        let worker = {
            let world = world.clone();
            tokio::task::spawn_local(async move { world.work().await })
        };
        let end = since + Duration::from_secs_f64(3600.0 * hours);
        while Instant::now() < end {
            let rate = REQUESTS * load(since.elapsed().as_secs_f64());
            let pause = -world.random(|random| 1.0 - random.f64()).ln() / rate;
            sleep(Duration::from_secs_f64(pause)).await;
            world.count(|counts| counts.sent += 1);
            tokio::task::spawn_local(world.clone().client());
        }
        // After the last request, everything that was accepted ends.
        while Rc::strong_count(&world) > 2 {
            sleep(Duration::from_secs(1)).await;
        }
        assert_eq!((world.budget.used(), world.queue.depth()), (0, Depth::default()));
        world.queue.close();
        world.arrived.notify_one();
        worker.await.unwrap();
        (world.counts.get(), since.elapsed())
    });
    eprintln!(
        "{:.1} simulated hours in {:?}: {counts:?}",
        simulated.as_secs_f64() / 3600.0,
        real.elapsed()
    );
    let Counts { sent, answered, failed, disconnected, refused, given_up, .. } = counts;
    assert_eq!(answered + failed + disconnected + given_up, sent);
    assert!(simulated.as_secs_f64() >= 3600.0 * hours && sent as f64 > 12_000.0 * hours);
    // The load contains each of these cases.
    assert!(refused > 0 && disconnected > 0, "{counts:?}");
    assert!(given_up < sent / 1000 && failed < sent / 100, "{counts:?}");
    assert!(counts.longest_short < LONGEST_SHORT, "{counts:?}");
}
