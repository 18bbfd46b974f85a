//! Runs the bench on one adapter: loads the model in every precision, checks its accuracy, and then times it.

use super::cells::{self, CellSize};
use super::context::Context;
use super::entrant::{Entrant, collect_refused};
use super::facts::model_facts;
use super::options::Pair;
use super::{latency, profile, sweep, texts};
use crate::embedder::tolerance::cosine;
use crate::embedder::{EmbedOptions, Embedder};
use crate::error::Error;
use crate::gpu::adapter::Feature;
use crate::lab::accuracy;
use crate::lab::combination::Combination;
use crate::lab::report::{AdapterReport, ModelFacts, PrecisionReport, Refused};

/// Runs all measurements of the bench on the context's adapter.
pub(super) async fn run(context: &mut Context<'_>) -> Result<(AdapterReport, ModelFacts), Error> {
    let options = context.options;
    let combinations = combinations(&options.precisions, options.quick);
    // The adapter is not open yet, so this number of progress steps is an estimate. Each precision has steps for
    // throughput, accuracy, latency and a profile.
    context.expect(combinations.len() * (options.rounds() * 5 + 4));
    let (mut entrants, mut refused) = (Vec::new(), Vec::new());
    for precision in combinations {
        context.step(&format!("loading {precision}"));
        match Entrant::load(context, precision).await {
            Ok(entrant) => {
                // All precisions run on the same adapter as the first precision.
                context.choice = context.choice.fixed(entrant.embedder.adapter());
                entrants.push(entrant);
            }
            Err(error) if precision == Combination::F32 => return Err(error),
            Err(error) => refused
                .push(Refused { precision: precision.to_string(), reason: error.to_string() }),
        }
    }
    let first = &entrants[0].embedder;
    let (timestamps, plan) = first.abilities().await;
    let adapter = first.adapter().clone();
    let model = model_facts(context.files, first).await?;

    check_accuracy(context, &mut entrants).await?;
    collect_refused(&mut entrants, &mut refused);
    let sizes = cells::sizes(options, &entrants[0].embedder);
    context.expect(entrants.len() * (sizes.len() * (options.rounds() + 1) + 2));
    for size in &sizes {
        cells::time(context, &mut entrants, *size).await?;
        collect_refused(&mut entrants, &mut refused);
    }
    latency::time(context, &mut entrants).await?;
    let kernel_sweep = match options.kernels && timestamps {
        true => {
            let most = sizes.iter().map(|size| size.batch_tokens).max().unwrap_or(1);
            sweep::sweep(context, &mut entrants, most).await?
        }
        false => Vec::new(),
    };
    let mut precisions = Vec::new();
    for entrant in entrants {
        context.step(&format!("profiling {}", entrant.name));
        precisions.push(report(context, entrant, sizes.last().copied()).await?);
    }
    context.finish();
    let report = AdapterReport {
        adapter,
        disabled: options.disabled.iter().map(Feature::to_string).collect(),
        timestamps,
        kernels: if plan.software { "software" } else { "gpu" }.to_owned(),
        precisions,
        refused,
        kernel_sweep,
    };
    Ok((report, model))
}

/// Returns f32 first, and then the requested precisions without duplicates. If none is requested, the default
/// precisions follow.
fn combinations(requested: &[Combination], quick: bool) -> Vec<Combination> {
    let mut all = vec![Combination::F32];
    let usual = Combination::usual(quick);
    for precision in if requested.is_empty() { &usual } else { requested } {
        if !all.contains(precision) {
            all.push(*precision);
        }
    }
    all
}

/// Compares the vectors of every precision with f32. A precision with wrong vectors is refused, so that it is not
/// timed.
async fn check_accuracy(context: &mut Context<'_>, entrants: &mut [Entrant]) -> Result<(), Error> {
    let most = context.options.accuracy_texts();
    let texts: Vec<String> = context.corpus.iter().take(most).cloned().collect();
    let mut base = None;
    for entrant in entrants {
        context.step(&format!("accuracy of {}", entrant.name));
        let own = match entrant.embedder.embed(&texts).await {
            Ok(own) => own,
            Err(error) if base.is_none() => return Err(error),
            Err(error) => {
                entrant.refused = Some(error.to_string());
                continue;
            }
        };
        let base = base.get_or_insert_with(|| own.values.clone());
        let mut accuracy = accuracy::compare(base, &own.values, own.dim);
        if accuracy.min_cosine < accuracy::RIGHT {
            entrant.refused = Some(format!(
                "the vectors are wrong, because their smallest cosine with the vectors of f32 is \
                 {:.4}, below the required {}",
                accuracy.min_cosine,
                accuracy::RIGHT
            ));
            continue;
        }
        if let Some((_, pairs)) = &context.options.pairs {
            match spearman(&entrant.embedder, pairs).await {
                Ok(rho) => accuracy.spearman = rho,
                Err(error) => entrant.refused = Some(error.to_string()),
            }
        }
        entrant.accuracy = Some(accuracy);
    }
    Ok(())
}

/// Measures where the time of a run with texts of the given size is spent, and returns all results of a precision.
async fn report(
    context: &Context<'_>,
    entrant: Entrant,
    size: Option<CellSize>,
) -> Result<PrecisionReport, Error> {
    let embedder = &entrant.embedder;
    let texts = match size.and_then(|size| size.text_tokens) {
        None => context.corpus.clone(),
        Some(length) => {
            let one_batch = embedder.batch_tokens().div_ceil(length);
            texts::of_length(embedder, &context.corpus, length, one_batch)?
        }
    };
    let profile = profile::profile(embedder, &texts).await?;
    let precision = embedder.precision();
    let json = serde_json::to_value(precision)
        .map_err(|e| Error::Internal(format!("a precision cannot be written as JSON: {e}")))?;
    let missing = || {
        Error::Internal(format!(
            "the precision {} was not measured, so its report is incomplete",
            entrant.name
        ))
    };
    Ok(PrecisionReport {
        name: entrant.name.to_string(),
        precision: json,
        weights: precision.weights.name().to_owned(),
        activations: precision.activations.name().to_owned(),
        kernels: embedder.kernels().await.to_string(),
        weight_bytes: precision.weight_bytes,
        peak_activation_bytes: profile.peak_activation_bytes,
        accuracy: entrant.accuracy.ok_or_else(missing)?,
        cold: entrant.cold,
        latency: entrant.latency.ok_or_else(missing)?,
        cells: entrant.cells,
        host: profile.host,
        gpu: profile.gpu,
    })
}

/// Returns 100 times Spearman's rank correlation between the cosines of pairs of texts and their given scores.
async fn spearman(embedder: &Embedder, pairs: &[Pair]) -> Result<Option<f64>, Error> {
    let texts: Vec<&str> = pairs.iter().flat_map(|p| p.texts.iter().map(String::as_str)).collect();
    let rows = embedder.embed_with(&texts, &EmbedOptions::default()).await?;
    let cosines: Vec<f64> =
        (0..pairs.len()).map(|i| cosine(rows.row(2 * i), rows.row(2 * i + 1))).collect();
    let scores: Vec<f64> = pairs.iter().map(|pair| pair.score).collect();
    Ok(accuracy::spearman(&cosines, &scores).map(|rho| rho * 100.0))
}
