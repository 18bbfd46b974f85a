//! The types with which the threads of a server wait for each other.
//!
//! `tests/schedules` compiles `queue` with the types of `shuttle` in place of these types. `shuttle` then chooses which
//! thread runs next, so that thousands of interleavings can be tested. `Instant` is that of tokio, because a test can
//! pause and advance tokio's clock.

pub(super) use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
pub(super) use std::sync::{Condvar, Mutex, MutexGuard};

pub(super) use tokio::time::Instant;
