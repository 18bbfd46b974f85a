//! Measures the latency of one short text.

use super::context::Context;
use super::entrant::{Entrant, seconds};
use super::texts;
use crate::error::Error;
use crate::lab::report::{Latency, Ratio};

/// The number of tokens in the short text.
const QUERY_TOKENS: usize = 8;

/// Times one short text repeatedly in every precision. Each repetition runs all precisions once.
pub(super) async fn time(context: &mut Context<'_>, entrants: &mut [Entrant]) -> Result<(), Error> {
    let samples = if context.options.quick { 7 } else { 10 } * context.options.rounds();
    let first = &entrants[0].embedder;
    let query = texts::of_length(first, &context.corpus, QUERY_TOKENS, 1)?;
    let tokens = first.embed(&query).await?.tokens;
    let mut times_ms = vec![Vec::with_capacity(samples); entrants.len()];
    for sample in 0..samples {
        for (times_ms, entrant) in times_ms.iter_mut().zip(entrants.iter()) {
            if sample == 0 {
                context.step(&format!("latency of {}", entrant.name));
                entrant.embedder.embed(&query).await?;
            }
            times_ms.push(seconds(&entrant.embedder, &query).await? * 1e3);
        }
    }
    // The time of a single short run varies a lot, so a ratio compares medians of ten runs.
    let medians = |own: &[f64]| -> Vec<f64> {
        own.chunks(10).map(|some| Ratio::over(some.to_vec()).median).collect()
    };
    for (own, entrant) in times_ms.iter().zip(entrants) {
        let mut sorted = own.clone();
        sorted.sort_by(f64::total_cmp);
        entrant.latency = Some(Latency {
            tokens,
            samples,
            p50_ms: Ratio::over(own.clone()).median,
            p95_ms: sorted[(samples * 95).div_ceil(100) - 1],
            speedup: Ratio::of(&medians(&times_ms[0]), &medians(own)),
        });
    }
    Ok(())
}
