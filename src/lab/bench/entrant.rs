//! Holds a precision that takes part in the bench: the model loaded in this precision, and the results so far.

use std::time::Instant;

use super::context::Context;
use crate::embedder::Embedder;
use crate::error::Error;
use crate::gpu::trace::{Measure, Phase};
use crate::lab::combination::Combination;
use crate::lab::report::{Accuracy, Cell, Cold, Latency, Refused};

/// A model that is loaded in one precision, with the results of this precision so far.
pub(super) struct Entrant {
    pub name: Combination,
    pub embedder: Embedder,
    pub cold: Cold,
    pub accuracy: Option<Accuracy>,
    pub cells: Vec<Cell>,
    pub latency: Option<Latency>,
    /// The reason why the precision must not be timed further; `None` if it may be timed.
    pub refused: Option<String>,
}

impl Entrant {
    /// Loads the model in a precision, and measures the time until the first vectors are computed.
    pub async fn load(context: &Context<'_>, name: Combination) -> Result<Entrant, Error> {
        let options = context.options;
        let since = Instant::now();
        let builder = Embedder::builder(context.files.clone()).adapter(context.choice.clone());
        let mut builder = name.request(builder, &options.disabled);
        if let Some(bytes) = options.max_memory {
            builder = builder.max_memory(bytes);
        }
        if let Some(directory) = &options.cache_dir {
            builder = builder.cache_dir(directory.clone());
        }
        let embedder = builder.build().await?;
        let precision = embedder.precision();
        if (precision.weights, precision.activations) != (name.weights, name.activations) {
            return Err(Error::option(
                "precisions",
                format!(
                    "{name} is not timed, because on this adapter the model would run with {precision}"
                ),
            ));
        }
        let load_s = since.elapsed().as_secs_f64();
        let few: Vec<&String> = context.corpus.iter().take(8).collect();
        embedder.measure(Some(Measure::Host)).await;
        let first_s = seconds(&embedder, &few).await?;
        let trace = embedder.measure(None).await;
        let pipelines_s = trace.map_or(0.0, |trace| trace.phase(Phase::Pipelines).as_secs_f64());
        let warm_batch_s = seconds(&embedder, &few).await?;
        let cold = Cold {
            load_s,
            pipelines_s,
            first_batch_s: (first_s - pipelines_s).max(0.0),
            warm_batch_s,
            first_vector_s: load_s + first_s,
        };
        Ok(Entrant {
            name,
            embedder,
            cold,
            accuracy: None,
            cells: Vec::new(),
            latency: None,
            refused: None,
        })
    }
}

/// Moves precisions that must not be timed further from `entrants` to `refused`.
pub(super) fn collect_refused(entrants: &mut Vec<Entrant>, refused: &mut Vec<Refused>) {
    for entrant in entrants.iter() {
        if let Some(reason) = &entrant.refused {
            refused.push(Refused { precision: entrant.name.to_string(), reason: reason.clone() });
        }
    }
    entrants.retain(|entrant| entrant.refused.is_none());
}

/// Embeds the texts, and returns the time that this takes in seconds.
pub(super) async fn seconds<T: AsRef<str>>(embedder: &Embedder, texts: &[T]) -> Result<f64, Error> {
    let since = Instant::now();
    embedder.embed(texts).await?;
    Ok(since.elapsed().as_secs_f64())
}
