//! What is timed, by turns: texts of some lengths in batches of some sizes, and one short text.

use std::time::Instant;

use super::{Bench, Entrant, RIGHT, rounds};
use crate::embedder::Embedder;
use crate::error::Error;
use crate::lab::report::{Cell, Latency, Ratio};
use crate::lab::{accuracy, texts};

/// A run takes at least so long, where the adapter is fast enough to choose.
const RUN_SECONDS: f64 = 0.3;

/// Tokens of a run, at most, however fast the adapter.
const RUN_TOKENS: usize = 1 << 18;

impl Bench<'_> {
    /// Batch tokens and lengths of texts to time; a length of 0 stands for the user's texts as they are.
    pub(super) fn cells(&self, embedder: &Embedder) -> Vec<(usize, usize)> {
        let suits = embedder.batch_tokens();
        let quick = self.options.quick;
        let batches = match self.options.batch_tokens.as_slice() {
            [] if quick => vec![suits],
            [] => vec![suits / 4, suits],
            given => given.to_vec(),
        };
        let most = embedder.max_seq_length().unwrap_or(512);
        let mut lengths = match self.options.lengths.as_slice() {
            [] if quick => vec![16, 128],
            [] => vec![16, 64, 256],
            given => given.to_vec(),
        };
        lengths.iter_mut().for_each(|length| *length = (*length).min(most));
        lengths.dedup();
        if self.options.texts.is_some() {
            lengths.insert(0, 0);
        }
        batches.iter().flat_map(|b| lengths.iter().map(|l| (*b, *l))).collect()
    }

    /// Times one cell in every precision.
    pub(super) async fn cell(
        &mut self,
        entrants: &mut [Entrant],
        batch_tokens: usize,
        length: usize,
    ) -> Result<(), Error> {
        for entrant in entrants.iter_mut() {
            entrant.embedder.set_batch_tokens(batch_tokens);
        }
        let what = match length {
            0 => format!("the texts as they are, {batch_tokens} tokens a batch"),
            n => format!("texts of {n} tokens, {batch_tokens} a batch"),
        };
        let texts = self.texts_of_run(&entrants[0].embedder, length).await?;
        let mut base = None;
        let mut tokens = 0;
        for entrant in entrants.iter_mut() {
            self.step(&format!("{what}: checking {}", entrant.name));
            match entrant.embedder.embed(&texts).await {
                Ok(own) => {
                    tokens = own.tokens;
                    let dim = own.dim;
                    let base = base.get_or_insert_with(|| own.values.clone());
                    let rows = base.chunks_exact(dim).zip(own.values.chunks_exact(dim));
                    let worst = rows.map(|(a, b)| accuracy::cosine(a, b)).fold(1.0, f64::min);
                    if worst < RIGHT {
                        entrant.refused = Some(format!("{what}: a cosine with f32 is {worst:.4}"));
                    }
                }
                Err(error) if base.is_none() => return Err(error),
                Err(error) => entrant.refused = Some(format!("{what}: {error}")),
            }
        }
        let mut times = vec![Vec::new(); entrants.len()];
        for round in 0..rounds(self.options) {
            for (times, entrant) in times.iter_mut().zip(entrants.iter_mut()) {
                self.step(&format!("{what}: round {}, {}", round + 1, entrant.name));
                if entrant.refused.is_none() {
                    times.push(seconds(&entrant.embedder, &texts).await?);
                }
            }
        }
        for (own, entrant) in times.iter().zip(entrants.iter_mut()) {
            let middle = Ratio::over(own.clone()).median;
            entrant.cells.push(Cell {
                batch_tokens: entrant.embedder.batch_tokens(),
                text_tokens: length,
                texts: texts.len(),
                tokens,
                rounds_s: own.clone(),
                texts_per_s: texts.len() as f64 / middle,
                tokens_per_s: tokens as f64 / middle,
                speedup: Ratio::of(&times[0], own),
            });
        }
        Ok(())
    }

    /// As many texts as fill a batch, and as take the adapter a while.
    async fn texts_of_run(&self, f32: &Embedder, length: usize) -> Result<Vec<String>, Error> {
        if length == 0 {
            return Ok(self.corpus.clone());
        }
        let a_batch = f32.batch_tokens().div_ceil(length);
        let batch = texts::of_length(f32, &self.corpus, length, a_batch)?;
        // The first run makes buffers; the second is worth timing.
        seconds(f32, &batch).await?;
        let batch_s = seconds(f32, &batch).await?;
        let batches = (RUN_SECONDS / batch_s.max(1e-6)).ceil() as usize;
        let most = (RUN_TOKENS / (a_batch * length)).max(1);
        let count = a_batch * batches.clamp(1, most);
        Ok((0..count).map(|text| batch[text % a_batch].clone()).collect())
    }

    /// Times one short text in every precision, by turns.
    pub(super) async fn latency(&mut self, entrants: &mut [Entrant]) -> Result<(), Error> {
        let samples = if self.options.quick { 7 } else { 10 } * rounds(self.options);
        let query = texts::of_length(&entrants[0].embedder, &self.corpus, 8, 1)?;
        let tokens = entrants[0].embedder.embed(&query).await?.tokens;
        let mut times = vec![Vec::with_capacity(samples); entrants.len()];
        for sample in 0..samples {
            for (times, entrant) in times.iter_mut().zip(entrants.iter_mut()) {
                if sample == 0 {
                    self.step(&format!("latency of {}", entrant.name));
                    entrant.embedder.embed(&query).await?;
                }
                times.push(seconds(&entrant.embedder, &query).await? * 1e3);
            }
        }
        // Medians of a tenth of the samples each: a single short run says little.
        let middles = |own: &[f64]| -> Vec<f64> {
            own.chunks(10).map(|some| Ratio::over(some.to_vec()).median).collect()
        };
        for (own, entrant) in times.iter().zip(entrants.iter_mut()) {
            let mut sorted = own.clone();
            sorted.sort_by(f64::total_cmp);
            entrant.latency = Some(Latency {
                tokens,
                samples,
                p50_ms: Ratio::over(own.clone()).median,
                p95_ms: sorted[(samples * 95).div_ceil(100) - 1],
                speedup: Ratio::of(&middles(&times[0]), &middles(own)),
            });
        }
        Ok(())
    }
}

/// Seconds that embedding takes.
pub(super) async fn seconds<T: AsRef<str>>(embedder: &Embedder, texts: &[T]) -> Result<f64, Error> {
    let since = Instant::now();
    embedder.embed(texts).await?;
    Ok(since.elapsed().as_secs_f64())
}
