//! The types with which the threads of a server wait for each other.
//!
//! `tests/schedules` compiles `queue` with the types of `shuttle` in place of these types. `shuttle` then chooses which
//! thread runs next, so that thousands of interleavings can be tested. `Instant` is tokio's, because the clock of tokio
//! can be paused and advanced by a test.

pub(super) use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
pub(super) use std::sync::{Condvar, Mutex, MutexGuard};

pub(super) use tokio::time::Instant;
