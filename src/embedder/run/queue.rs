//! Forms batches of prepared texts, runs them, and returns their rows. The host prepares one batch while the device
//! runs others.

use std::borrow::Borrow;
use std::collections::VecDeque;

use crate::batch::{PackedBatch, next_batch};
use crate::dtype::{Precision, Storage};
use crate::embedder::run::Runner;
use crate::embedder::run::prepare::Prepared;
use crate::embedder::run::recheck::FirstRun;
use crate::embedder::run::rows::BatchRows;
use crate::embedder::run::runtime::{Runtime, Started};
use crate::error::Error;

/// The maximum number of batches of a call that are on the device at once. While a batch runs, the host reads back the
/// rows of the previous batch and prepares the next batch.
const IN_FLIGHT: usize = 2;

/// Counts of unusual events in a call.
#[derive(Debug, Clone, Copy, Default)]
pub struct RunCounts {
    /// The number of texts that were run again with f32 activations.
    pub retried: usize,
    /// The number of batches that ran out of memory, and were run again as smaller batches.
    pub halved: usize,
    /// The number of times that the device was lost and opened again.
    pub recovered: usize,
}

/// A batch on the device, and its texts. Texts that need no device form separate batches, which are not sent to the
/// device.
struct InFlight<P> {
    texts: Vec<P>,
    started: Option<(PackedBatch, Started)>,
}

/// The rows of a batch that the device has finished.
struct Finished {
    rows: BatchRows,
    /// The indices of the texts whose row is not finite.
    unusable: Vec<usize>,
    retried: usize,
}

/// The texts of a call whose rows are not yet computed.
struct Pending<P> {
    waiting: VecDeque<P>,
    /// The batches that were started, the oldest first.
    in_flight: VecDeque<InFlight<P>>,
    /// True if no further texts of the call will arrive.
    complete: bool,
    max_in_flight: usize,
    /// The number of times that the device was lost since the most recently finished batch.
    losses: usize,
}

/// The error of a batch that could not be started or finished. The texts of the batch are in the queue again.
struct Fault {
    error: Error,
    texts: usize,
    tokens: usize,
}

impl<P: Borrow<Prepared>> Pending<P> {
    fn put_back(&mut self, texts: Vec<P>) {
        for text in texts.into_iter().rev() {
            self.waiting.push_front(text);
        }
    }

    /// Puts the texts of a failed batch back into the queue. The texts of all batches that were started later are also
    /// put back, behind them, because rows are returned in order.
    fn fault(&mut self, error: Error, texts: Vec<P>, tokens: usize) -> Fault {
        let count = texts.len();
        while let Some(later) = self.in_flight.pop_back() {
            self.put_back(later.texts);
        }
        self.put_back(texts);
        Fault { error, texts: count, tokens }
    }

    fn has_room(&self) -> bool {
        self.in_flight.len() < self.max_in_flight
    }

    /// Returns true if the waiting texts suffice to fill a batch of `tokens` tokens.
    fn fills(&self, tokens: usize) -> bool {
        let mut sum = 0;
        self.waiting.iter().any(|text| {
            sum += text.borrow().tokens();
            sum >= tokens
        })
    }

    /// Removes the texts of the next batch from the queue, and returns them. Either all of these texts need the device,
    /// or none of them does.
    fn next_texts(&mut self, budget: usize, max_texts: usize) -> Vec<P> {
        let Some(first) = self.waiting.front() else { return Vec::new() };
        let needs_device = first.borrow().needs_device;
        let alike =
            self.waiting.iter().map(P::borrow).take_while(|text| text.needs_device == needs_device);
        let count = next_batch(alike.map(Prepared::tokens), budget, max_texts);
        self.waiting.drain(..count).collect()
    }
}

impl Runner {
    /// Calls `more` for further texts until it returns `None`, runs these texts, and passes each row to `take`, in
    /// order. If the row of a text is not finite, `take` gets an error for this text, and other texts are not affected.
    /// Concurrent calls take turns on the device. In each turn, one batch is started or finished.
    ///
    /// # Errors
    /// Returns the first error of `more` or `take`. Returns [`Error::OutOfMemory`] if the memory does not suffice for a
    /// single text. Returns [`Error::DeviceLost`] if the device is lost and cannot be opened again.
    pub(crate) async fn run<P: Borrow<Prepared>>(
        &self,
        mut more: impl FnMut() -> Result<Option<Vec<P>>, Error>,
        mut take: impl FnMut(&Prepared, Result<&[f32], Error>) -> Result<(), Error>,
    ) -> Result<RunCounts, Error> {
        let mut counts = RunCounts::default();
        let mut pending = Pending {
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
            complete: false,
            max_in_flight: IN_FLIGHT,
            losses: 0,
        };
        loop {
            while !pending.complete && pending.has_room() && !pending.fills(self.batch_tokens) {
                match more()? {
                    Some(texts) => pending.waiting.extend(texts),
                    None => pending.complete = true,
                }
            }
            if pending.has_room() && !pending.waiting.is_empty() {
                if let Err(fault) = self.start_batch(&mut pending).await {
                    self.recover(&mut pending, fault, &mut counts).await?;
                }
                continue;
            }
            let Some(InFlight { texts, started }) = pending.in_flight.pop_front() else {
                return Ok(counts);
            };
            let Some((batch, started)) = started else {
                for text in &texts {
                    take(text.borrow(), Ok(&[]))?;
                }
                continue;
            };
            match self.finish_batch(&texts, &batch, started).await {
                Ok(finished) => {
                    pending.losses = 0;
                    counts.retried += finished.retried;
                    for (at, text) in texts.iter().enumerate() {
                        let text = text.borrow();
                        match finished.unusable.contains(&at) {
                            true => take(text, Err(self.non_finite(text.text)))?,
                            false => take(text, Ok(finished.rows.row(at)))?,
                        }
                    }
                }
                Err(error) => {
                    let fault = pending.fault(error, texts, batch.ids.len());
                    self.recover(&mut pending, fault, &mut counts).await?;
                }
            }
        }
    }

    /// Starts the next batch. No other function decides which texts a batch holds.
    async fn start_batch<P: Borrow<Prepared>>(
        &self,
        pending: &mut Pending<P>,
    ) -> Result<(), Fault> {
        let mut runtime = self.runtime.lock().await;
        let budget = runtime.tokens_that_fit.unwrap_or(usize::MAX).min(self.batch_tokens);
        let texts = pending.next_texts(budget, self.max_batch_texts());
        if texts.iter().any(|text| !text.borrow().needs_device) {
            pending.in_flight.push_back(InFlight { texts, started: None });
            return Ok(());
        }
        let batch = self.pack(texts.iter().map(|text| &text.borrow().tokens));
        match runtime.start(&self.precision, &batch).await {
            Ok(started) => {
                pending.in_flight.push_back(InFlight { texts, started: Some((batch, started)) });
                Ok(())
            }
            Err(error) => {
                let tokens = batch.ids.len();
                let earlier = std::mem::take(&mut pending.in_flight);
                let fault = pending.fault(error, texts, tokens);
                for batch in earlier.into_iter().rev() {
                    pending.put_back(batch.texts);
                }
                Err(fault)
            }
        }
    }

    /// Waits until a batch is finished. Texts whose 16-bit activations overflowed are run again with f32 activations.
    async fn finish_batch<P: Borrow<Prepared>>(
        &self,
        texts: &[P],
        batch: &PackedBatch,
        started: Started,
    ) -> Result<Finished, Error> {
        let mut runtime = self.runtime.lock().await;
        let mut rows = runtime.finish(&self.model, batch, started).await?;
        let suspects = std::mem::take(&mut rows.suspects);
        let mut finished = Finished { rows, unusable: suspects, retried: 0 };
        let mut in_f32 = Vec::new();
        if !finished.unusable.is_empty() && self.precision.retries_in_f32() {
            let suspects = std::mem::take(&mut finished.unusable);
            let again: Vec<&Prepared> = suspects.iter().map(|at| texts[*at].borrow()).collect();
            let wide = self.run_in_f32(&mut runtime, &again).await?;
            for (at, row) in suspects.iter().zip(&wide) {
                match row {
                    Some(row) => finished.rows.replace(*at, row),
                    None => finished.unusable.push(*at),
                }
            }
            finished.retried = wide.len();
            in_f32 = suspects;
        }
        if let Some(recheck) = &self.recheck {
            let texts: Vec<&Prepared> = texts.iter().map(P::borrow).collect();
            let first = FirstRun {
                texts: &texts,
                rows: &finished.rows,
                unusable: &finished.unusable,
                in_f32: &in_f32,
            };
            self.recheck(recheck, &mut runtime, first).await?;
        }
        Ok(finished)
    }

    /// Recovers from a failed batch where possible. If the device was lost, it is opened again once. If memory ran out,
    /// the device holds only one batch at a time from then on. If memory runs out again, batches are halved.
    async fn recover<P>(
        &self,
        pending: &mut Pending<P>,
        Fault { error, texts, tokens }: Fault,
        counts: &mut RunCounts,
    ) -> Result<(), Error> {
        match error {
            Error::DeviceLost { .. } if pending.losses == 0 => {
                pending.losses += 1;
                counts.recovered += 1;
                self.runtime.lock().await.recover(&self.model, &self.precision, error).await
            }
            Error::OutOfMemory { .. } if pending.max_in_flight > 1 => {
                pending.max_in_flight = 1;
                Ok(())
            }
            Error::OutOfMemory { .. } if texts > 1 => {
                let fit = (tokens / 2).max(1);
                tracing::warn!(
                    tokens,
                    fit,
                    "the adapter ran out of memory, so later batches are smaller"
                );
                counts.halved += 1;
                self.runtime.lock().await.tokens_that_fit = Some(fit);
                Ok(())
            }
            error => Err(error),
        }
    }

    /// Returns the row of each text, computed with f32 activations. The row is `None` if a value overflows even in f32.
    async fn run_in_f32(
        &self,
        runtime: &mut Runtime,
        texts: &[&Prepared],
    ) -> Result<Vec<Option<Vec<f32>>>, Error> {
        let precision = Precision { activations: Storage::F32, ..self.precision.clone() };
        tracing::info!(
            texts = texts.len(),
            "activations of some texts exceeded the range of f16; these texts run again with f32 \
             activations"
        );
        let mut wide = Vec::with_capacity(texts.len());
        let mut at_once = texts.len();
        while let Some(rest) = texts.get(wide.len()..).filter(|rest| !rest.is_empty()) {
            let now = &rest[..at_once.min(rest.len())];
            let batch = self.pack(now.iter().map(|text| &text.tokens));
            let rows = match runtime.run(&self.model, &precision, &batch).await {
                // Few texts run again in f32, so if memory runs out, running one text at a time is fast enough.
                Err(Error::OutOfMemory { .. }) if now.len() > 1 => {
                    at_once = 1;
                    continue;
                }
                rows => rows?,
            };
            let each = rows.iter().enumerate();
            wide.extend(each.map(|(at, row)| (!rows.suspects.contains(&at)).then(|| row.to_vec())));
        }
        Ok(wide)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(texts: &[(usize, bool)]) -> Pending<Prepared> {
        let text = |(tokens, needs_device): &(usize, bool)| Prepared {
            needs_device: *needs_device,
            ..Prepared::of_tokens(*tokens)
        };
        Pending {
            waiting: texts.iter().map(text).collect(),
            in_flight: VecDeque::new(),
            complete: true,
            max_in_flight: IN_FLIGHT,
            losses: 0,
        }
    }

    #[test]
    fn a_batch_keeps_to_the_budget_and_has_texts_of_one_sort() {
        let mut texts = pending(&[(4, true), (5, true), (3, false), (2, false), (1, true)]);
        assert!(texts.fills(15) && !texts.fills(16));
        let mut next = || texts.next_texts(8, 10).iter().map(Prepared::tokens).collect::<Vec<_>>();
        assert_eq!(next(), [4]);
        assert_eq!(next(), [5]);
        assert_eq!(next(), [3, 2]);
        assert_eq!(next(), [1]);
        assert!(next().is_empty());
    }

    #[test]
    fn texts_of_failed_batches_wait_again_in_their_order() {
        let mut texts = pending(&[(3, true)]);
        let later = InFlight { texts: vec![Prepared::of_tokens(2)], started: None };
        texts.in_flight.push_back(later);
        let fault = texts.fault(Error::Internal(String::new()), vec![Prepared::of_tokens(1)], 1);
        assert_eq!((fault.texts, fault.tokens), (1, 1));
        let waiting: Vec<usize> = texts.waiting.iter().map(Prepared::tokens).collect();
        assert_eq!(waiting, [1, 2, 3]);
    }
}
