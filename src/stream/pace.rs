//! How much at a time: large enough for a fast adapter, and on a slow one nobody waits for long.

use std::time::Duration;

use super::Encode;

/// The first window, on an adapter that nothing is known about.
pub(super) const FIRST_TEXTS: usize = 32;
/// A window has at most so many texts.
const MOST_TEXTS: usize = 8192;
/// The rows of a window, and those of a run, take at most so many bytes.
const MOST_ROW_BYTES: usize = 64 << 20;

/// The sizes of windows and of runs.
pub(super) struct Pace {
    /// Texts of a window and of a run, at most.
    most: usize,
    /// Tokens of a run.
    tokens: usize,
    /// A run is about so many tokens at least.
    batch: usize,
}

impl Pace {
    pub fn new(model: &impl Encode) -> Self {
        let most = (MOST_ROW_BYTES / model.row_bytes().max(1)).clamp(1, MOST_TEXTS);
        let batch = model.batch_tokens().max(1);
        Pace { most, tokens: batch, batch }
    }

    /// Texts for the next window, after one of `count` that took so long. Windows of seconds have texts of
    /// all lengths, and rows still come soon.
    pub fn next_window(&self, count: usize, took: Duration) -> usize {
        let next = match took.as_millis() {
            // Eight times that is short too, and small windows leave a fast adapter waiting.
            0..50 => count.saturating_mul(8),
            50..1500 => count.saturating_mul(2),
            1500..6000 => count,
            _ => count / 2,
        };
        next.clamp(FIRST_TEXTS.min(self.most), self.most)
    }

    /// How many of the next texts make a run: Ctrl-C and the progress bar wait for its end.
    pub fn next_run(&self, lengths: impl Iterator<Item = usize>) -> usize {
        let mut tokens = 0;
        let fits = |length: &usize| {
            tokens += length;
            tokens <= self.tokens
        };
        lengths.take(self.most).take_while(fits).count().max(1)
    }

    /// So many tokens took so long.
    pub fn took(&mut self, tokens: usize, took: Duration) {
        // A run that the window's end cut short says little.
        if tokens * 2 < self.tokens {
            return;
        }
        match took.as_millis() {
            0..500 => self.tokens = self.tokens.saturating_mul(2),
            500..2000 => {}
            _ => self.tokens = (self.tokens / 2).max(self.batch),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_grow_by_how_long_they_took() {
        let pace = Pace { most: 1000, tokens: 2048, batch: 2048 };
        let next = |count, ms| pace.next_window(count, Duration::from_millis(ms));
        assert_eq!(next(32, 4), 256);
        assert_eq!(next(256, 4), 1000);
        assert_eq!(next(32, 50), 64);
        assert_eq!(next(64, 1499), 128);
        assert_eq!(next(64, 1500), 64);
        assert_eq!(next(64, 6000), 32);
        assert_eq!(next(32, 6000), 32);
        let few = Pace { most: 8, ..pace };
        assert_eq!(few.next_window(8, Duration::ZERO), 8);
    }
}
