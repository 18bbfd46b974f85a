//! Runs the queue of the server, its budget and the loop of its worker under thousands of schedules of their threads.
//!
//! The source of the queue is compiled a second time here, with the locks of `shuttle` in place of those of the
//! standard library. `shuttle` runs one thread at a time, and chooses at every lock which thread goes on. A deadlock
//! fails the run, and a lost wake-up causes a deadlock. `shuttle` then prints the schedule, so that `shuttle::replay`
//! can run it again.
//!
//! `VECTILE_SCHEDULES` is the number of schedules of all scenarios together (2000 by default). An argument selects the
//! scenarios whose name contains it.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    dead_code,
    unused_imports,
    reason = "the server uses more of the queue than the scenarios"
)]

mod error {
    pub use vectile::Error;
}

#[path = "../../src/server/queue/mod.rs"]
mod queue;
mod scenarios;

/// Replaces `src/server/sync.rs`.
mod sync {
    pub use std::time::Instant;

    pub use shuttle::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
    pub use shuttle::sync::{Condvar, Mutex, MutexGuard};
}

use std::time::Instant;

/// Number of preemptions for the scheduler that runs threads by priority. It finds faults that occur only if a few
/// preemptions happen at certain places. Random schedules rarely have them there.
const PREEMPTIONS: usize = 3;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        return;
    }
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    let schedules = std::env::var("VECTILE_SCHEDULES").map_or(2000, |text| text.parse().unwrap());
    let selected: Vec<_> = scenarios::ALL
        .into_iter()
        .filter(|(name, _)| filter.is_none_or(|filter| name.contains(filter)))
        .collect();
    let each = usize::div_ceil(schedules, 2 * selected.len().max(1));
    for (name, scenario) in selected {
        let since = Instant::now();
        shuttle::check_random(scenario, each);
        shuttle::check_pct(scenario, each, PREEMPTIONS);
        eprintln!("{name}: {} schedules in {:.1} s", 2 * each, since.elapsed().as_secs_f64());
    }
}
