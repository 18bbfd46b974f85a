//! Runs a model in several precisions side by side and reports speed, accuracy and memory of each.
//!
//! Within a round every precision has its turn, so that a slow moment of the machine meets all of them, and a
//! ratio is one of times of the same round. A precision is compared with f32 before it is timed, and one that would
//! run as another is refused.

mod facts;
mod timing;

use std::path::PathBuf;
use std::time::Instant;

use crate::embedder::{EmbedOptions, Embedder};
use crate::error::Error;
use crate::files::ModelFiles;
use crate::gpu::adapter::{AdapterChoice, Feature};
use crate::lab::combination::Combination;
use crate::lab::report::{
    Accuracy, AdapterReport, Cell, Cold, Latency, ModelFacts, PrecisionReport, Refused, Report,
    SCHEMA, Settings,
};
use crate::lab::sweep::sweep;
use crate::lab::{accuracy, profile, texts};
use facts::{facts, host};
use timing::seconds;

/// Below this cosine with f32 vectors are wrong, not rounded.
const RIGHT: f64 = 0.95;

/// What a bench runs.
#[derive(Debug, Clone, Default)]
pub struct BenchOptions {
    /// The adapters; the best where none is named.
    pub adapters: Vec<AdapterChoice>,
    /// The precisions; f32 is always among them. Without any, a usual choice.
    pub precisions: Vec<Combination>,
    /// Most tokens of a batch, a series of cells each. Without any, what suits the adapter.
    pub batch_tokens: Vec<usize>,
    /// Lengths of texts in tokens, a series of cells each. Without any, a usual choice.
    pub lengths: Vec<usize>,
    /// Where texts are from, and the texts; without, built-in ones.
    pub texts: Option<(String, Vec<String>)>,
    /// Where scored pairs are from, and the pairs.
    pub pairs: Option<(String, Vec<Pair>)>,
    /// Rounds of each measurement.
    pub rounds: Option<usize>,
    /// Fewer precisions, cells and rounds.
    pub quick: bool,
    /// Also times every kernel at the model's shapes, in each storage and form.
    pub kernels: bool,
    /// What this run is called.
    pub label: Option<String>,
    /// Runs as if the adapters lacked these.
    pub disabled: Vec<Feature>,
    /// Bytes of memory that the model may take in each precision.
    pub max_memory: Option<u64>,
    /// Where verdicts on adapters and models are kept.
    pub cache_dir: Option<PathBuf>,
}

/// Two texts and how alike people found them.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// The texts.
    pub texts: [String; 2],
    /// The score, higher for more alike.
    pub score: f64,
}

/// What is being done, and how far it is: done of all.
pub type Progress<'a> = &'a mut dyn FnMut(&str, usize, usize);

/// Runs the bench.
///
/// # Errors
/// Those of loading the model in f32 and of running it there. What goes wrong in another precision is in the
/// report.
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
        let mut bench = Bench::new(files, options, choice, progress);
        adapters.push(bench.run().await?);
        model = bench.model;
    }
    let model = model.ok_or_else(|| Error::Internal("a bench without an adapter".to_owned()))?;
    let (source, count) = match &options.texts {
        Some((name, texts)) => (name.clone(), texts.len()),
        None => ("built-in".to_owned(), texts::built_in().len()),
    };
    Ok(Report {
        schema: SCHEMA.to_owned(),
        vectile: env!("CARGO_PKG_VERSION").to_owned(),
        date,
        label: options.label.clone(),
        host: host(),
        model,
        settings: Settings {
            quick: options.quick,
            rounds: rounds(options),
            texts: source,
            accuracy_texts: count.min(accuracy_texts(options)),
            pairs: options.pairs.as_ref().map(|(name, pairs)| (name.clone(), pairs.len())),
        },
        adapters,
        wall_s: begun.elapsed().as_secs_f64(),
    })
}

fn rounds(options: &BenchOptions) -> usize {
    options.rounds.unwrap_or(if options.quick { 3 } else { 5 }).max(1)
}

/// Texts that accuracy is measured on, at most: neighbours of each among all are looked for.
fn accuracy_texts(options: &BenchOptions) -> usize {
    if options.quick { 48 } else { 500 }
}

/// A precision that is loaded, with what was found of it so far.
pub(super) struct Entrant {
    pub name: Combination,
    pub embedder: Embedder,
    cold: Cold,
    accuracy: Option<Accuracy>,
    cells: Vec<Cell>,
    latency: Option<Latency>,
    refused: Option<String>,
}

struct Bench<'a> {
    files: &'a ModelFiles,
    options: &'a BenchOptions,
    choice: &'a AdapterChoice,
    progress: &'a mut dyn FnMut(&str, usize, usize),
    done: usize,
    all: usize,
    corpus: Vec<String>,
    model: Option<ModelFacts>,
}

impl<'a> Bench<'a> {
    fn new(
        files: &'a ModelFiles,
        options: &'a BenchOptions,
        choice: &'a AdapterChoice,
        progress: Progress<'a>,
    ) -> Self {
        let corpus = options.texts.as_ref().map_or_else(texts::built_in, |(_, t)| t.clone());
        Bench { files, options, choice, progress, done: 0, all: 1, corpus, model: None }
    }

    fn step(&mut self, what: &str) {
        (self.progress)(what, self.done, self.all);
        self.done += 1;
    }

    async fn run(&mut self) -> Result<AdapterReport, Error> {
        let mut wanted = self.options.precisions.clone();
        if wanted.is_empty() {
            wanted = Combination::usual(self.options.quick);
        }
        wanted.retain(|precision| *precision != Combination::F32);
        wanted.insert(0, Combination::F32);
        let mut unique = Vec::new();
        wanted.retain(|precision| {
            let new = !unique.contains(precision);
            unique.push(*precision);
            new
        });
        // A guess until the adapter is known: cells, accuracy, latency and profile of each.
        self.all = wanted.len() * (rounds(self.options) * 5 + 4);

        let mut refused = Vec::new();
        let mut entrants: Vec<Entrant> = Vec::new();
        for precision in wanted {
            self.step(&format!("loading {precision}"));
            match self.enter(precision).await {
                Ok(entrant) => entrants.push(entrant),
                Err(error) if precision == Combination::F32 => return Err(error),
                Err(error) => refused
                    .push(Refused { precision: precision.to_string(), reason: error.to_string() }),
            }
        }
        let (timestamps, plan) = entrants[0].embedder.abilities().await;
        let adapter = entrants[0].embedder.adapter().clone();
        self.model = Some(facts(self.files, &entrants[0].embedder).await?);

        self.judge(&mut entrants, &mut refused).await?;
        let cells = self.cells(&entrants[0].embedder);
        self.all = self.done + entrants.len() * (cells.len() * (rounds(self.options) + 1) + 2);
        for (batch_tokens, length) in &cells {
            self.cell(&mut entrants, *batch_tokens, *length).await?;
            collect_refused(&mut entrants, &mut refused);
        }
        self.latency(&mut entrants).await?;
        let kernel_sweep = match self.options.kernels && timestamps {
            true => {
                let rounds = rounds(self.options);
                let most = cells.iter().map(|(batch_tokens, _)| *batch_tokens).max().unwrap_or(1);
                let mut step = |what: &str| (self.progress)(what, self.done, self.all);
                sweep(&mut entrants, &self.corpus, rounds, most, &mut step).await?
            }
            false => Vec::new(),
        };
        let mut precisions = Vec::new();
        for mut entrant in entrants {
            self.step(&format!("where the time goes in {}", entrant.name));
            precisions.push(self.finish(&mut entrant, cells.last().copied()).await?);
        }
        (self.progress)("done", self.all, self.all);
        Ok(AdapterReport {
            adapter,
            disabled: self.options.disabled.iter().map(Feature::to_string).collect(),
            timestamps,
            kernels: if plan.software { "software" } else { "gpu" }.to_owned(),
            precisions,
            refused,
            kernel_sweep,
        })
    }

    /// Loads the model in a precision, and times the way to the first vectors.
    async fn enter(&self, name: Combination) -> Result<Entrant, Error> {
        let since = Instant::now();
        let builder = Embedder::builder(self.files.clone()).adapter(self.choice.clone());
        let mut builder = name.ask(builder, &self.options.disabled);
        if let Some(bytes) = self.options.max_memory {
            builder = builder.max_memory(bytes);
        }
        if let Some(directory) = &self.options.cache_dir {
            builder = builder.cache_dir(directory.clone());
        }
        let embedder = builder.build().await?;
        let precision = embedder.precision();
        if (precision.weights, precision.activations) != (name.weights, name.activations) {
            return Err(Error::option(
                "precisions",
                format!("{name} would run with {precision}; nothing is timed under another name"),
            ));
        }
        let load_s = since.elapsed().as_secs_f64();
        let few: Vec<&String> = self.corpus.iter().take(8).collect();
        embedder.measure(Some(crate::gpu::trace::Measure::Host)).await;
        let first = seconds(&embedder, &few).await?;
        let trace = embedder.measure(None).await;
        let pipelines_s = trace
            .map_or(0.0, |trace| trace.phase(crate::gpu::trace::Phase::Pipelines).as_secs_f64());
        let warm_batch_s = seconds(&embedder, &few).await?;
        let cold = Cold {
            load_s,
            pipelines_s,
            first_batch_s: (first - pipelines_s).max(0.0),
            warm_batch_s,
            first_vector_s: load_s + first,
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

    /// Compares every precision with f32. One that is wrong is refused here, before anything is timed.
    async fn judge(
        &mut self,
        entrants: &mut Vec<Entrant>,
        refused: &mut Vec<Refused>,
    ) -> Result<(), Error> {
        let most = accuracy_texts(self.options);
        let texts: Vec<String> = self.corpus.iter().take(most).cloned().collect();
        let mut base = None;
        for entrant in entrants.iter_mut() {
            self.step(&format!("accuracy of {}", entrant.name));
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
            if accuracy.min_cosine < RIGHT {
                entrant.refused = Some(format!(
                    "a vector's cosine with f32 is {:.4}, below {RIGHT}: it is wrong, and what is \
                     wrong is not timed",
                    accuracy.min_cosine
                ));
                continue;
            }
            if let Some((_, pairs)) = &self.options.pairs {
                match spearman(&entrant.embedder, pairs).await {
                    Ok(rho) => accuracy.spearman = rho,
                    Err(error) => entrant.refused = Some(error.to_string()),
                }
            }
            entrant.accuracy = Some(accuracy);
        }
        collect_refused(entrants, refused);
        Ok(())
    }

    async fn finish(
        &self,
        entrant: &mut Entrant,
        cell: Option<(usize, usize)>,
    ) -> Result<PrecisionReport, Error> {
        let texts = match cell {
            Some((_, 0)) | None => self.corpus.clone(),
            Some((_, length)) => {
                let a_batch = entrant.embedder.batch_tokens().div_ceil(length);
                texts::of_length(&entrant.embedder, &self.corpus, length, a_batch)?
            }
        };
        let profile = profile::profile(&entrant.embedder, &texts).await?;
        let precision = entrant.embedder.precision();
        let json = serde_json::to_value(precision)
            .map_err(|e| Error::Internal(format!("a precision as JSON: {e}")))?;
        let missing = || Error::Internal(format!("{} was not measured", entrant.name));
        Ok(PrecisionReport {
            name: entrant.name.to_string(),
            precision: json,
            weights: precision.weights.name().to_owned(),
            activations: precision.activations.name().to_owned(),
            kernels: entrant.embedder.kernels().await.to_string(),
            weight_bytes: precision.weight_bytes,
            peak_activation_bytes: profile.peak_activation_bytes,
            accuracy: entrant.accuracy.take().ok_or_else(missing)?,
            cold: entrant.cold.clone(),
            latency: entrant.latency.take().ok_or_else(missing)?,
            cells: std::mem::take(&mut entrant.cells),
            host: profile.host,
            gpu: profile.gpu,
        })
    }
}

/// Moves what must not be timed further out of the way.
fn collect_refused(entrants: &mut Vec<Entrant>, refused: &mut Vec<Refused>) {
    for entrant in entrants.iter() {
        if let Some(reason) = &entrant.refused {
            refused.push(Refused { precision: entrant.name.to_string(), reason: reason.clone() });
        }
    }
    entrants.retain(|entrant| entrant.refused.is_none());
}

async fn spearman(embedder: &Embedder, pairs: &[Pair]) -> Result<Option<f64>, Error> {
    let texts: Vec<&str> = pairs.iter().flat_map(|p| p.texts.iter().map(String::as_str)).collect();
    let rows = embedder.embed_with(&texts, &EmbedOptions::default()).await?;
    let cosines: Vec<f64> =
        (0..pairs.len()).map(|i| accuracy::cosine(rows.row(2 * i), rows.row(2 * i + 1))).collect();
    let scores: Vec<f64> = pairs.iter().map(|pair| pair.score).collect();
    Ok(accuracy::spearman(&cosines, &scores).map(|rho| rho * 100.0))
}
