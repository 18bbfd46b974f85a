//! Runs a model in several precisions side by side, and reports the speed, accuracy and memory of each precision.
//!
//! In each round, every precision runs once, so that a slow moment of the machine affects all precisions. A ratio
//! compares times of the same round. Before a precision is timed, its vectors are compared with f32. If the adapter
//! would replace a requested precision by another precision, the requested precision is reported as refused.

mod adapter_bench;
mod cells;
mod context;
mod entrant;
mod facts;
mod latency;
mod options;
mod profile;
mod sweep;
mod texts;

use std::time::Instant;

use crate::error::Error;
use crate::files::ModelFiles;
use crate::gpu::adapter::AdapterChoice;
use crate::lab::report::{Report, SCHEMA, Settings};
use context::Context;

pub use options::{BenchOptions, Pair, Progress};

/// Runs the bench on every adapter that the options name.
///
/// # Errors
/// Returns errors of loading and running the model in f32. A failure of another precision is part of the report.
pub async fn bench(
    files: &ModelFiles,
    options: &BenchOptions,
    progress: Progress<'_>,
) -> Result<Report, Error> {
    let begun = Instant::now();
    let date = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let best = [AdapterChoice::Best];
    let choices = if options.adapters.is_empty() { &best[..] } else { options.adapters.as_slice() };
    let mut adapters = Vec::new();
    let mut model = None;
    for choice in choices {
        let mut context = Context::new(files, options, choice, progress);
        let (report, facts) = adapter_bench::run(&mut context).await?;
        adapters.push(report);
        model = Some(facts);
    }
    let model = model.ok_or_else(|| Error::Internal("the bench measured no adapter".to_owned()))?;
    let (source, count) = match &options.texts {
        Some((name, texts)) => (name.clone(), texts.len()),
        None => ("built-in".to_owned(), texts::built_in().len()),
    };
    Ok(Report {
        schema: SCHEMA.to_owned(),
        vectile: env!("CARGO_PKG_VERSION").to_owned(),
        date,
        label: options.label.clone(),
        host: facts::host(),
        model,
        settings: Settings {
            quick: options.quick,
            rounds: options.rounds(),
            texts: source,
            accuracy_texts: count.min(options.accuracy_texts()),
            pairs: options.pairs.as_ref().map(|(name, pairs)| (name.clone(), pairs.len())),
        },
        adapters,
        wall_s: begun.elapsed().as_secs_f64(),
    })
}
