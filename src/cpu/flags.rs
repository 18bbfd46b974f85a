//! The overflow flags of a batch.

use std::sync::atomic::{AtomicBool, Ordering};

/// An overflow flag for each token. A kernel sets the flag of a token whose activation is infinite or not a number.
#[derive(Debug)]
pub(super) struct Flags(Vec<AtomicBool>);

impl Flags {
    /// Returns flags for this many tokens. None of the flags is set.
    pub fn new(tokens: usize) -> Self {
        Flags((0..tokens).map(|_| AtomicBool::new(false)).collect())
    }

    /// Sets the flag of a token. Rows that are not tokens have no flag.
    pub fn set(&self, token: usize) {
        if let Some(flag) = self.0.get(token) {
            flag.store(true, Ordering::Relaxed);
        }
    }

    /// Returns the flags. Call this function after the last kernel has run.
    pub fn into_vec(self) -> Vec<bool> {
        self.0.into_iter().map(AtomicBool::into_inner).collect()
    }
}
