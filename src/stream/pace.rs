//! Chooses the number of texts in a window. The number is large enough to keep a fast adapter busy, and small enough
//! that a slow adapter returns rows soon.

use std::time::Duration;

/// The number of texts in the first window, before the adapter's speed is known.
pub(super) const FIRST_TEXTS: usize = 32;
/// The maximum number of texts in a window.
const MAX_TEXTS: usize = 8192;
/// The maximum size of the rows of a window, in bytes.
const MAX_ROW_BYTES: usize = 64 << 20;

/// Chooses the number of texts in each window.
pub(super) struct Pace {
    max_texts: usize,
}

impl Pace {
    /// Returns a `Pace` for a model whose rows take at most `row_bytes` bytes each.
    pub fn new(row_bytes: usize) -> Self {
        Pace { max_texts: (MAX_ROW_BYTES / row_bytes.max(1)).clamp(1, MAX_TEXTS) }
    }

    /// Returns the number of texts in the next window, after a window of `count` texts took the time `took`. The
    /// windows grow until each takes a few seconds. A window of this size has texts of many lengths, which can be
    /// sorted, and its rows still arrive soon.
    pub fn next_window(&self, count: usize, took: Duration) -> usize {
        let next = match took.as_millis() {
            // This window took less than 50 ms, so a window with eight times as many texts takes less than half a
            // second. Small windows would leave a fast adapter idle.
            0..50 => count.saturating_mul(8),
            50..1500 => count.saturating_mul(2),
            1500..6000 => count,
            _ => count / 2,
        };
        next.clamp(FIRST_TEXTS.min(self.max_texts), self.max_texts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_window_depends_on_how_long_the_last_one_took() {
        let pace = Pace { max_texts: 1000 };
        let next = |count, ms| pace.next_window(count, Duration::from_millis(ms));
        assert_eq!(next(32, 4), 256);
        assert_eq!(next(256, 4), 1000);
        assert_eq!(next(32, 50), 64);
        assert_eq!(next(64, 1499), 128);
        assert_eq!(next(64, 1500), 64);
        assert_eq!(next(64, 6000), 32);
        assert_eq!(next(32, 6000), 32);
        let few = Pace { max_texts: 8 };
        assert_eq!(few.next_window(8, Duration::ZERO), 8);
    }
}
