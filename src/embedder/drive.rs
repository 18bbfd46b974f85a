//! Prepared texts → batches → rows: the host makes a batch ready while the GPU runs others.

use std::borrow::Borrow;
use std::collections::VecDeque;

use crate::batch::{PackedBatch, next_batch};
use crate::dtype::{Precision, Storage};
use crate::embedder::Embedder;
use crate::embedder::prepared::Prepared;
use crate::embedder::rows::Rows;
use crate::embedder::run::{Runtime, Started};
use crate::error::Error;

/// Batches of a call that are on the GPU at once: one runs while the rows of the one before are read
/// and the one after is made.
const IN_FLIGHT: usize = 2;

/// What a run met beside its rows.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Met {
    /// Texts that were run again with f32 activations.
    pub retried: usize,
    /// Batches that were run again in smaller ones, because memory ran out.
    pub halved: usize,
    /// Times that the device was lost and opened again.
    pub recovered: usize,
}

/// Rows of texts, and what their run met.
#[derive(Debug, Default)]
pub(crate) struct Ran {
    /// For each text its row, as wide as the model makes it, or why it has none.
    pub rows: Vec<Result<Vec<f32>, Error>>,
    /// What was met.
    pub met: Met,
}

/// The rows of a batch.
struct Landed {
    rows: Rows,
    /// Texts whose row is not finite.
    unusable: Vec<usize>,
    retried: usize,
}

/// A batch on the GPU.
struct Flying<P> {
    texts: Vec<P>,
    batch: PackedBatch,
    started: Started,
}

/// The texts of a call that have no rows yet.
struct Line<P> {
    waiting: VecDeque<P>,
    /// The oldest first.
    flying: VecDeque<Flying<P>>,
    /// No more texts come.
    complete: bool,
    at_once: usize,
    /// Losses of the device since a batch last came back.
    losses: usize,
}

/// Why a batch was not started or did not come back; its texts wait again.
struct Fault {
    error: Error,
    texts: usize,
    tokens: usize,
}

impl<P: Borrow<Prepared>> Line<P> {
    fn put_back(&mut self, texts: Vec<P>) {
        for text in texts.into_iter().rev() {
            self.waiting.push_front(text);
        }
    }

    /// The fault of a batch. Batches behind it are given up too: rows come in order.
    fn fault(&mut self, error: Error, texts: Vec<P>, tokens: usize) -> Fault {
        let count = texts.len();
        while let Some(later) = self.flying.pop_back() {
            self.put_back(later.texts);
        }
        self.put_back(texts);
        Fault { error, texts: count, tokens }
    }

    fn lengths(&self) -> impl Iterator<Item = usize> {
        self.waiting.iter().map(|text| text.borrow().tokens())
    }

    /// True where texts of so many tokens wait.
    fn holds(&self, tokens: usize) -> bool {
        let mut sum = 0;
        self.lengths().any(|length| {
            sum += length;
            sum >= tokens
        })
    }
}

impl Embedder {
    /// The rows of prepared texts, in their order. Texts that come out infinite or not a number have an
    /// error instead of a row, and harm no others.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] where not even one text fits, [`Error::DeviceLost`] where the device could
    /// not be won back.
    pub(crate) async fn run(&self, texts: &[&Prepared]) -> Result<Ran, Error> {
        let mut all = Some(texts.to_vec());
        let mut rows = Vec::with_capacity(texts.len());
        let take = |_: &Prepared, row: Result<&[f32], Error>| {
            rows.push(row.map(<[f32]>::to_vec));
            Ok(())
        };
        let met = self.drive(|| Ok(all.take()), take).await?;
        Ok(Ran { rows, met })
    }

    /// Runs what `more` gives until it gives nothing, and hands each row to `take`, in order. Other
    /// calls take turns with this one, batch by batch.
    pub(crate) async fn drive<P: Borrow<Prepared>>(
        &self,
        mut more: impl FnMut() -> Result<Option<Vec<P>>, Error>,
        mut take: impl FnMut(&Prepared, Result<&[f32], Error>) -> Result<(), Error>,
    ) -> Result<Met, Error> {
        let mut met = Met::default();
        let mut line = Line {
            waiting: VecDeque::new(),
            flying: VecDeque::new(),
            complete: false,
            at_once: IN_FLIGHT,
            losses: 0,
        };
        loop {
            while !line.complete
                && line.flying.len() < line.at_once
                && !line.holds(self.batch_tokens)
            {
                match more()? {
                    Some(texts) => line.waiting.extend(texts),
                    None => line.complete = true,
                }
            }
            if line.flying.len() < line.at_once && !line.waiting.is_empty() {
                if let Err(fault) = self.launch(&mut line).await {
                    self.mend(&mut line, fault, &mut met).await?;
                }
                continue;
            }
            let Some(oldest) = line.flying.pop_front() else { return Ok(met) };
            let Flying { texts, batch, started } = oldest;
            match self.land(&texts, &batch, started).await {
                Ok(rows) => {
                    line.losses = 0;
                    met.retried += rows.retried;
                    for (at, text) in texts.iter().enumerate() {
                        let text = text.borrow();
                        match rows.unusable.contains(&at) {
                            true => take(text, Err(self.non_finite(text.text)))?,
                            false => take(text, Ok(rows.rows.row(at)))?,
                        }
                    }
                }
                Err(error) => {
                    let fault = line.fault(error, texts, batch.ids.len());
                    self.mend(&mut line, fault, &mut met).await?;
                }
            }
        }
    }

    /// Starts the next batch.
    async fn launch<P: Borrow<Prepared>>(&self, line: &mut Line<P>) -> Result<(), Fault> {
        let mut runtime = self.runtime.lock().await;
        let budget = runtime.tokens_that_fit.unwrap_or(usize::MAX).min(self.batch_tokens);
        let count = next_batch(line.lengths(), budget, self.most_texts());
        let texts: Vec<P> = line.waiting.drain(..count).collect();
        let batch = self.pack(texts.iter().map(|text| &text.borrow().tokens));
        match runtime.start(&self.precision, &batch) {
            Ok(started) => {
                line.flying.push_back(Flying { texts, batch, started });
                Ok(())
            }
            Err(error) => {
                let tokens = batch.ids.len();
                let earlier = std::mem::take(&mut line.flying);
                let fault = line.fault(error, texts, tokens);
                for flying in earlier.into_iter().rev() {
                    line.put_back(flying.texts);
                }
                Err(fault)
            }
        }
    }

    /// Waits for a batch; runs texts again whose activations 16 bits did not hold.
    async fn land<P: Borrow<Prepared>>(
        &self,
        texts: &[P],
        batch: &PackedBatch,
        started: Started,
    ) -> Result<Landed, Error> {
        let mut runtime = self.runtime.lock().await;
        let mut rows = runtime.finish(&self.model, batch, started).await?;
        let suspects = std::mem::take(&mut rows.suspects);
        if suspects.is_empty() || !self.precision.retries_in_f32() {
            return Ok(Landed { rows, unusable: suspects, retried: 0 });
        }
        let again: Vec<&Prepared> = suspects.iter().map(|at| texts[*at].borrow()).collect();
        let wide = self.run_wide(&mut runtime, &again).await?;
        let mut unusable = Vec::new();
        for (at, row) in suspects.iter().zip(&wide) {
            match row {
                Some(row) => rows.replace(*at, row),
                None => unusable.push(*at),
            }
        }
        Ok(Landed { rows, unusable, retried: wide.len() })
    }

    /// Makes what can be made of a fault: after a loss the device is opened again, once; where memory ran
    /// out, one batch is on the GPU at a time, and then batches are halved.
    async fn mend<P>(
        &self,
        line: &mut Line<P>,
        Fault { error, texts, tokens }: Fault,
        met: &mut Met,
    ) -> Result<(), Error> {
        match error {
            Error::DeviceLost { .. } if line.losses == 0 => {
                line.losses += 1;
                met.recovered += 1;
                self.runtime.lock().await.recover(&self.model, &self.precision, error).await
            }
            Error::OutOfMemory { .. } if line.at_once > 1 => {
                line.at_once = 1;
                Ok(())
            }
            Error::OutOfMemory { .. } if texts > 1 => {
                let fit = (tokens / 2).max(1);
                tracing::warn!(tokens, fit, "memory ran out; batches are smaller from here on");
                met.halved += 1;
                self.runtime.lock().await.tokens_that_fit = Some(fit);
                Ok(())
            }
            error => Err(error),
        }
    }

    /// The rows of texts with f32 activations, or `None` where even f32 overflows.
    async fn run_wide(
        &self,
        runtime: &mut Runtime,
        texts: &[&Prepared],
    ) -> Result<Vec<Option<Vec<f32>>>, Error> {
        let precision = Precision { activations: Storage::F32, ..self.precision.clone() };
        tracing::info!(texts = texts.len(), "running again with f32 activations");
        let mut wide = Vec::with_capacity(texts.len());
        let mut at_once = texts.len();
        while let Some(rest) = texts.get(wide.len()..).filter(|rest| !rest.is_empty()) {
            let now = &rest[..at_once.min(rest.len())];
            let batch = self.pack(now.iter().map(|text| &text.tokens));
            let rows = match runtime.run(&self.model, &precision, &batch).await {
                // They are few.
                Err(Error::OutOfMemory { .. }) if now.len() > 1 => {
                    at_once = 1;
                    continue;
                }
                rows => rows?,
            };
            let each = rows.each().enumerate();
            wide.extend(each.map(|(at, row)| (!rows.suspects.contains(&at)).then(|| row.to_vec())));
        }
        Ok(wide)
    }
}
