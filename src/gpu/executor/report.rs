//! The report that a batch writes on the device: an overflow flag for each token, and a receipt, which counts
//! dispatches.
//!
//! The report buffer holds the flags, then the batch's nonce (a number that differs from batch to batch), then the
//! receipt. Every dispatch adds the nonce to the receipt once (`shaders/shared/report.wgsl`), and the report is read
//! back with the output rows. If a driver stops computing, the receipt is too small or comes from another batch. The
//! fault is therefore noticed in the same batch.

use crate::error::Error;
use crate::gpu::graph::{Dispatch, Graph};

/// The number of 32-bit words after the flags: the nonce and the receipt.
const TAIL_WORDS: usize = 2;

/// The values that the host expects in the report of a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Report {
    tokens: usize,
    dispatches: u32,
    nonce: u32,
}

impl Report {
    /// Returns the expected report of a graph. `batch` is the executor's number for the batch.
    pub fn new(graph: &Graph, batch: u32) -> Self {
        // The batch's number is multiplied by a constant from the golden ratio, so that different batches get different
        // nonces. The nonce is odd, because an odd number has an inverse modulo 2³². From this inverse and the receipt,
        // `check` computes how many dispatches ran.
        let nonce = batch.wrapping_mul(0x9e37_79b9).rotate_left(7) | 1;
        // If a batch's texts have no tokens, some dispatches have no workgroups. Such a dispatch cannot add to the
        // receipt, so it is not counted.
        let runs = |dispatch: &&Dispatch| dispatch.workgroups.to_array().iter().all(|&n| n > 0);
        let dispatches = graph.dispatches.iter().filter(runs).count() as u32;
        Report { tokens: flags(graph), dispatches, nonce }
    }

    /// Returns the size of a graph's report in bytes.
    pub fn bytes_of(graph: &Graph) -> u64 {
        ((flags(graph) + TAIL_WORDS) * 4) as u64
    }

    /// Returns the size of this report in bytes.
    pub fn bytes(&self) -> u64 {
        ((self.tokens + TAIL_WORDS) * 4) as u64
    }

    /// Returns the size of the flags in bytes.
    pub fn flag_bytes(&self) -> u64 {
        (self.tokens * 4) as u64
    }

    /// Returns the initial values of the 32-bit words after the flags, before the batch runs.
    pub fn initial_tail(&self) -> [u32; TAIL_WORDS] {
        [self.nonce, 0]
    }

    /// Returns the overflow flags of a report that was read back.
    pub fn flags(&self, bytes: &[u8], tokens: usize) -> Vec<bool> {
        bytes.chunks_exact(4).take(tokens.min(self.tokens)).map(|flag| flag != [0; 4]).collect()
    }

    /// Checks the receipt in a report that was read back.
    ///
    /// # Errors
    /// Returns [`Error::DeviceFault`] if a dispatch of the batch did not run.
    pub fn check(&self, adapter: &str, bytes: &[u8]) -> Result<(), Error> {
        let word = |at: usize| {
            let word = bytes.get((self.tokens + at) * 4..)?.first_chunk()?;
            Some(u32::from_le_bytes(*word))
        };
        let (nonce, receipt) = (word(0), word(1));
        let expected = self.nonce.wrapping_mul(self.dispatches);
        if nonce == Some(self.nonce) && receipt == Some(expected) {
            return Ok(());
        }
        let ran = receipt.unwrap_or(0).wrapping_mul(inverse(self.nonce));
        let what = match nonce {
            Some(nonce) if nonce == self.nonce && ran < self.dispatches => {
                format!("only {ran} of the {} dispatches of a batch ran", self.dispatches)
            }
            _ => "a batch returned no valid report of the dispatches that ran".to_owned(),
        };
        let problem = format!(
            "{what}, so the rows of the batch are discarded; update the driver or use another \
             adapter"
        );
        Err(Error::device_fault(adapter, problem))
    }
}

fn flags(graph: &Graph) -> usize {
    graph.tokens.max(1)
}

/// Returns the inverse of an odd number modulo 2³², computed by Newton's iteration: each step doubles the number of
/// correct bits.
fn inverse(odd: u32) -> u32 {
    let mut inverse = odd;
    for _ in 0..5 {
        inverse = inverse.wrapping_mul(2u32.wrapping_sub(odd.wrapping_mul(inverse)));
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn a_receipt_counts_the_dispatches_that_ran() {
        let report = Report { tokens: 3, dispatches: 40, nonce: 0x9e37_79b9 };
        let nonce = report.nonce;
        let of = |ran: u32| bytes(&[0, 1, 0, nonce, nonce.wrapping_mul(ran)]);
        assert_eq!(report.check("a", &of(40)), Ok(()));
        assert_eq!(report.flags(&of(40), 3), [false, true, false]);
        for (read, words) in [
            (of(39), "only 39 of the 40"),
            (of(0), "only 0 of the 40"),
            (of(41), "no valid report"),
            (bytes(&[0; 5]), "no valid report"),
            (bytes(&[0; 4]), "no valid report"),
            (bytes(&[0, 0, 0, 7, 280]), "no valid report"),
        ] {
            let error = report.check("a", &read).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn nonces_of_batches_differ_and_have_inverses() {
        let graph = Graph { tokens: 1, ..Graph::default() };
        let nonces: Vec<u32> = (0..1000).map(|batch| Report::new(&graph, batch).nonce).collect();
        for (at, nonce) in nonces.iter().enumerate() {
            assert_eq!(nonce.wrapping_mul(inverse(*nonce)), 1);
            assert!(!nonces[..at].contains(nonce), "{at}");
        }
    }
}
