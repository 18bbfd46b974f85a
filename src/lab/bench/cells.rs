//! Measures the throughput for texts of several lengths and batches of several sizes.

use super::context::Context;
use super::entrant::{Entrant, seconds};
use super::options::BenchOptions;
use super::texts;
use crate::embedder::Embedder;
use crate::embedder::tolerance::cosine;
use crate::error::Error;
use crate::lab::accuracy;
use crate::lab::report::{Cell, Ratio};
use crate::lab::roofline::{KnownGpu, shortest_seconds};

/// The minimum duration of a run in seconds. A run may be shorter on a fast adapter, because it has at most
/// [`RUN_TOKENS`] tokens.
const RUN_SECONDS: f64 = 0.3;

/// The maximum number of tokens in a run. On a fast adapter, this maximum limits the number of texts of a run.
const RUN_TOKENS: usize = 1 << 18;

/// The size of one measurement: the length of its texts and the token budget of its batches.
#[derive(Debug, Clone, Copy)]
pub(super) struct CellSize {
    /// The maximum number of tokens in a batch.
    pub batch_tokens: usize,
    /// The length of each text in tokens; `None` if the user's texts are run unchanged.
    pub text_tokens: Option<usize>,
}

/// Returns the sizes to time: the sizes that the options name, or else default sizes for the adapter and the model.
pub(super) fn sizes(options: &BenchOptions, embedder: &Embedder) -> Vec<CellSize> {
    let suitable = embedder.batch_tokens();
    let batches = match options.batch_tokens.as_slice() {
        [] if options.quick => vec![suitable],
        [] => vec![suitable / 4, suitable],
        given => given.to_vec(),
    };
    let most = embedder.max_seq_length().unwrap_or(512);
    let lengths: &[usize] = match options.lengths.as_slice() {
        [] if options.quick => &[16, 128],
        [] => &[16, 64, 256],
        given => given,
    };
    let mut lengths: Vec<Option<usize>> = lengths.iter().map(|n| Some((*n).min(most))).collect();
    lengths.dedup();
    if options.texts.is_some() {
        lengths.insert(0, None);
    }
    let size = |batch_tokens, text_tokens| CellSize { batch_tokens, text_tokens };
    batches.iter().flat_map(|b| lengths.iter().map(|l| size(*b, *l))).collect()
}

/// Times the model at one size in every precision.
pub(super) async fn time(
    context: &mut Context<'_>,
    entrants: &mut [Entrant],
    size: CellSize,
) -> Result<(), Error> {
    let CellSize { batch_tokens, text_tokens } = size;
    for entrant in entrants.iter_mut() {
        entrant.embedder.set_batch_tokens(batch_tokens);
    }
    let what = match text_tokens {
        None => format!("the given texts, in batches of at most {batch_tokens} tokens"),
        Some(n) => format!("texts of {n} tokens, in batches of at most {batch_tokens} tokens"),
    };
    let texts = match text_tokens {
        None => context.corpus.clone(),
        Some(length) => texts_of_run(&entrants[0].embedder, &context.corpus, length).await?,
    };
    let tokens = check(context, entrants, &texts, &what).await?;
    let rounds = context.options.rounds();
    let mut times = vec![Vec::new(); entrants.len()];
    for round in 0..rounds {
        for (times, entrant) in times.iter_mut().zip(entrants.iter()) {
            context.step(&format!("{what}: round {}, {}", round + 1, entrant.name));
            if entrant.refused.is_none() {
                times.push(seconds(&entrant.embedder, &texts).await?);
            }
        }
    }
    for (own, entrant) in times.iter().zip(entrants) {
        let median = Ratio::over(own.clone()).median;
        let predicted_tokens_per_s = predict(&entrant.embedder, size).await;
        entrant.cells.push(Cell {
            batch_tokens: entrant.embedder.batch_tokens(),
            text_tokens: text_tokens.unwrap_or(0),
            texts: texts.len(),
            tokens,
            rounds_s: own.clone(),
            texts_per_s: texts.len() as f64 / median,
            tokens_per_s: tokens as f64 / median,
            speedup: Ratio::of(&times[0], own),
            predicted_tokens_per_s,
        });
    }
    Ok(())
}

/// Returns the predicted maximum of tokens per second at a size; `None` if the adapter is unknown or if the texts are
/// the user's.
async fn predict(embedder: &Embedder, size: CellSize) -> Option<f64> {
    let length = size.text_tokens?.max(1);
    let gpu = KnownGpu::of(embedder.adapter())?;
    let texts = (embedder.batch_tokens() / length).max(1);
    let graph = embedder.graph(length, texts).await;
    Some((length * texts) as f64 / shortest_seconds(&gpu, &graph))
}

/// Compares the vectors of every precision with the vectors of the first precision, on the texts of a run. Refuses
/// precisions whose vectors are wrong. Returns the number of tokens in the texts.
async fn check(
    context: &mut Context<'_>,
    entrants: &mut [Entrant],
    texts: &[String],
    what: &str,
) -> Result<usize, Error> {
    let mut base = None;
    let mut tokens = 0;
    for entrant in entrants {
        context.step(&format!("{what}: checking {}", entrant.name));
        match entrant.embedder.embed(texts).await {
            Ok(own) => {
                tokens = own.tokens;
                let dim = own.dim;
                let base = base.get_or_insert_with(|| own.values.clone());
                let rows = base.chunks_exact(dim).zip(own.values.chunks_exact(dim));
                let worst = rows.map(|(a, b)| cosine(a, b)).fold(1.0, f64::min);
                if worst < accuracy::RIGHT {
                    entrant.refused = Some(format!(
                        "{what}: the vectors are wrong, because their smallest cosine with the \
                         vectors of f32 is {worst:.4}"
                    ));
                }
            }
            Err(error) if base.is_none() => return Err(error),
            Err(error) => entrant.refused = Some(format!("{what}: {error}")),
        }
    }
    Ok(tokens)
}

/// Returns texts of one length: enough texts to fill a batch, and to run for [`RUN_SECONDS`].
async fn texts_of_run(
    f32: &Embedder,
    corpus: &[String],
    length: usize,
) -> Result<Vec<String>, Error> {
    let one_batch = f32.batch_tokens().div_ceil(length);
    let batch = texts::of_length(f32, corpus, length, one_batch)?;
    // The first run allocates buffers, so only the second run is timed.
    seconds(f32, &batch).await?;
    let batch_s = seconds(f32, &batch).await?;
    let batches = (RUN_SECONDS / batch_s.max(1e-6)).ceil() as usize;
    let most = (RUN_TOKENS / (one_batch * length)).max(1);
    let count = one_batch * batches.clamp(1, most);
    Ok((0..count).map(|text| batch[text % one_batch].clone()).collect())
}
