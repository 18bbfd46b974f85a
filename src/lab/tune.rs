//! `vectile tune`: which form of the matmul is fastest on an adapter, measured at the shapes of a model.
//!
//! A form is timed only if it gives the bits of the others, or, of cooperative matrices, if they give their
//! known answers: what is chosen by rows never changes a vector.

use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;

use crate::convert;
use crate::dtype::{Precision, Storage};
use crate::embedder::EmbedderBuilder;
use crate::error::Error;
use crate::files::write_tuned;
use crate::gpu::adapter::AdapterSummary;
use crate::gpu::executor::Executor;
use crate::gpu::graph::Source;
use crate::gpu::selftest::forms_that_differ;
use crate::gpu::trace::{Measure, Trace};
use crate::kernels::forms::{Form, Tile, Work};
use crate::kernels::matmul::{matmul_of, stride4};
use crate::kernels::tuned::{self, Choice, ROWS, Tuned};
use crate::kernels::{Activation, Activations, Builder, KernelPlan};

/// A form must be so much faster than the one that is taken without measuring.
const WORTH: f64 = 0.95;

/// A run takes at least so long: clocks are coarse, and a short dispatch is mostly its start.
const RUN_NS: f64 = 1e6;

/// Dispatches of a run, at most.
const DISPATCHES: usize = 32;

/// What is tuned.
#[derive(Debug, Clone)]
pub struct TuneOptions {
    /// Rows at which forms are timed, at most.
    pub most_rows: usize,
    /// Runs of each form, of which the first does not count; the median of the others does.
    pub runs: usize,
}

impl Default for TuneOptions {
    fn default() -> Self {
        TuneOptions { most_rows: 4096, runs: 4 }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tuning {
    /// The adapter.
    pub adapter: AdapterSummary,
    /// True where the adapter measures time itself; else it is the host's, over whole runs.
    pub timestamps: bool,
    /// How weights are stored.
    pub weights: Storage,
    /// How activations are stored.
    pub activations: Storage,
    /// Every shape of the model, with each number of rows.
    pub cases: Vec<TuneCase>,
    /// Forms that were not timed, and why.
    pub left_out: Vec<String>,
    /// The file that later loads find it in; `None` without a cache directory.
    pub kept: Option<PathBuf>,
}

/// The forms for one shape of weight at one number of rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TuneCase {
    /// Values of a row of x.
    pub inner: usize,
    /// Values of a row of y.
    pub columns: usize,
    /// Rows.
    pub rows: usize,
    /// The forms, the fastest first.
    pub forms: Vec<FormTime>,
    /// The one that is taken without measuring.
    pub untuned: String,
    /// The one that is taken from here on.
    pub chosen: String,
}

/// What a form takes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FormTime {
    /// The form.
    pub form: String,
    /// Milliseconds of a dispatch, the median of the runs.
    pub ms: f64,
    /// The least and the most of them.
    pub spread_ms: [f64; 2],
    /// Floating point operations a second in 10⁹.
    pub gflops: f64,
}

/// Times the forms of the matmul at the shapes of a model, in the precision it runs in here, and keeps what is
/// fastest in the builder's cache directory. `progress` hears what is done, and of how many.
///
/// # Errors
/// Those of loading the model; [`Error::Adapter`] for a software adapter, whose matmul has one form.
pub async fn tune(
    builder: EmbedderBuilder,
    options: &TuneOptions,
    mut progress: impl FnMut(&str, usize, usize),
) -> Result<Tuning, Error> {
    progress("loading the model", 0, 1);
    let embedder = builder.clone().build().await?;
    let (timestamps, plan) = embedder.abilities().await;
    let precision = embedder.precision().clone();
    let shapes = embedder.matmul_shapes().await?;
    drop(embedder);
    let mut executor = builder.executor().await?;
    let adapter = executor.gpu.adapter.clone();
    if plan.software {
        return Err(Error::adapter(
            &adapter.name,
            "a software adapter's matmul has one form, and there is nothing to choose among",
        ));
    }
    let storages = (precision.weights, precision.activations);
    let plan = KernelPlan { tuned: None, ..plan };

    let mut forms = plan.alike(false);
    progress("comparing the bits of all forms", 0, 1);
    let plain = Form::Tile(Tile::PLAIN);
    let other = forms_that_differ(&mut executor, storages, plain, &forms).await?;
    forms.retain(|form| !other.contains(form));
    let mut left_out: Vec<String> =
        other.iter().map(|form| format!("{form}: other bits than those of the others")).collect();
    if !plan.by_rows {
        forms = vec![Form::Tile(Tile::PLAIN)];
        left_out.push("all but one: they give other bits on this adapter".to_owned());
    }
    let mut matrices = plan.matrices(false);
    if storages != (Storage::F16, Storage::F16) {
        matrices.clear();
    }
    if !plan.matrices_by_rows {
        matrices.truncate(1);
    }

    let rows: Vec<usize> = ROWS.into_iter().filter(|rows| *rows <= options.most_rows).collect();
    let all = shapes.len() * rows.len();
    let (mut cases, mut choices) = (Vec::new(), Vec::new());
    for [inner4, columns4] in &shapes {
        let mut bench = Bench::new(&mut executor, &precision, &plan, [*inner4, *columns4])?;
        let mut of_shape = Vec::new();
        for rows in &rows {
            let (inner, columns) = (inner4 * 4, columns4 * 4);
            let doing = format!("{inner} → {columns}, {rows} rows");
            progress(&doing, cases.len() + of_shape.len(), all);
            let work = bench.work(*rows);
            let without = KernelPlan { cooperative: None, ..plan.clone() };
            let untuned = [without.matmul(&work), plan.matmul(&work)];
            let mut times = Vec::new();
            // A form for few rows would only read its weights again and again.
            let worth_timing = |form: &&Form| match form {
                Form::Few(few) => *rows <= *few as usize * 4,
                _ => true,
            };
            let candidates: Vec<Form> = forms.iter().filter(worth_timing).copied().collect();
            for form in candidates.iter().chain(&matrices).copied() {
                times.push((form, bench.time(form, *rows, options.runs).await?));
            }
            of_shape.push((work, untuned, times));
        }
        choices.extend(choose(&mut cases, of_shape));
    }
    let found = Tuned { choices };
    let kept = match builder.cache() {
        Some(cache) => Some(write_tuned(cache, &tuned::key(&adapter), found)?),
        None => None,
    };
    progress("done", all, all);
    let (weights, activations) = storages;
    Ok(Tuning { adapter, timestamps, weights, activations, cases, left_out, kept })
}

/// One number of rows: the work, the forms that are taken without measuring, without matrices and with them
/// where there are any, and the times of each.
type Timed = (Work, [Form; 2], Vec<(Form, Times)>);

/// The choices for a shape. Rows pick among the forms that give the same bits; whether matrices are used is
/// decided by the most rows, once for all, since they round in another way.
fn choose(cases: &mut Vec<TuneCase>, timed: Vec<Timed>) -> Vec<Choice> {
    let mut choices = Vec::new();
    let choice = |work: &Work, rows, form: Form| Choice {
        weights: work.storages.0.name().to_owned(),
        activations: work.storages.1.name().to_owned(),
        inner4: work.inner4,
        columns4: work.columns4,
        rows,
        form: form.name(),
    };
    let is_matrices = |form: Form| matches!(form, Form::Cooperative(_));
    // The fastest form of a kind, if it is worth leaving the one that is taken without measuring.
    let best = |untuned: Form, times: &[(Form, Times)]| {
        let of = |form: Form| times.iter().find(|(other, _)| *other == form).map(|(_, t)| t.median);
        let kind = times.iter().filter(|(form, _)| is_matrices(*form) == is_matrices(untuned));
        let fastest = kind.min_by(|(_, a), (_, b)| a.median.total_cmp(&b.median));
        let (own, fastest) = (of(untuned), fastest.map(|(form, time)| (*form, time.median)));
        match (own, fastest) {
            (Some(own), Some((form, ns))) if ns < own * WORTH => (form, ns),
            (Some(own), _) => (untuned, own),
            (None, Some((form, ns))) => (form, ns),
            (None, None) => (untuned, f64::INFINITY),
        }
    };
    let mut kind = 0;
    if let Some((work, untuned, times)) =
        timed.last().filter(|(_, [_, with], _)| is_matrices(*with))
    {
        let [(tile, without), (matrices, with)] = untuned.map(|form| best(form, times));
        // They are what is taken without measuring.
        kind = usize::from(with * WORTH <= without);
        choices.push(choice(work, None, [tile, matrices][kind]));
    }
    for (work, untuned, mut times) in timed {
        let (chosen, _) = best(untuned[kind], &times);
        choices.push(choice(&work, Some(work.rows), chosen));
        times.sort_by(|(_, a), (_, b)| a.median.total_cmp(&b.median));
        let flops = (2 * work.rows * work.inner4 * 4 * work.columns4 * 4) as f64;
        let time = |(form, time): &(Form, Times)| FormTime {
            form: form.to_string(),
            ms: time.median / 1e6,
            spread_ms: [time.least / 1e6, time.most / 1e6],
            gflops: flops / time.median,
        };
        cases.push(TuneCase {
            inner: work.inner4 * 4,
            columns: work.columns4 * 4,
            rows: work.rows,
            forms: times.iter().map(time).collect(),
            untuned: untuned[1].to_string(),
            chosen: chosen.to_string(),
        });
    }
    choices
}

/// Nanoseconds of a dispatch.
struct Times {
    median: f64,
    least: f64,
    most: f64,
}

/// A weight on the device, and what multiplies it.
struct Bench<'a> {
    executor: &'a mut Executor,
    precision: &'a Precision,
    plan: &'a KernelPlan,
    inner4: usize,
    columns4: usize,
    /// The numbers of the matrix and of the bias.
    weights: [usize; 2],
}

impl<'a> Bench<'a> {
    fn new(
        executor: &'a mut Executor,
        precision: &'a Precision,
        plan: &'a KernelPlan,
        [inner4, columns4]: [usize; 2],
    ) -> Result<Self, Error> {
        let matrix = values(precision.weights, inner4 * 4 * stride4(columns4) * 4);
        let bias = values(Storage::F32, columns4 * 4);
        let mut weights = [0; 2];
        for (number, (name, bytes)) in weights.iter_mut().zip([("matrix", matrix), ("bias", bias)])
        {
            *number = executor.add_weight(name, bytes.len() as u64)?;
            executor.write_weight(*number, 0, &bytes)?;
        }
        executor.finish_uploads()?;
        Ok(Bench { executor, precision, plan, inner4, columns4, weights })
    }

    fn work(&self, rows: usize) -> Work {
        Work {
            storages: (self.precision.weights, self.precision.activations),
            rows,
            inner4: self.inner4,
            columns4: self.columns4,
            experts: false,
        }
    }

    /// The time of a form at so many rows.
    async fn time(&mut self, form: Form, rows: usize, runs: usize) -> Result<Times, Error> {
        let plan = KernelPlan { forced: Some(form), max_flops: u64::MAX, ..self.plan.clone() };
        let mut dispatches = 1;
        // Makes the pipeline, and tells how often a run repeats it.
        self.run(&plan, rows, dispatches).await?;
        let once = self.run(&plan, rows, dispatches).await?;
        dispatches = ((RUN_NS / once.max(1.0)).ceil() as usize).clamp(1, DISPATCHES);
        let mut times = Vec::new();
        for run in 0..runs.max(2) {
            let ns = self.run(&plan, rows, dispatches).await?;
            if run > 0 {
                times.push(ns.max(1.0));
            }
        }
        times.sort_by(f64::total_cmp);
        let median = times[times.len() / 2];
        Ok(Times { median, least: times[0], most: times[times.len() - 1] })
    }

    /// Nanoseconds of a dispatch among so many in one run.
    async fn run(
        &mut self,
        plan: &KernelPlan,
        rows: usize,
        dispatches: usize,
    ) -> Result<f64, Error> {
        let mut builder = Builder::new(plan, self.precision);
        let storage = self.precision.activations;
        let bytes = values(storage, rows * self.inner4 * 4);
        let id = builder.graph.add("x", bytes.len() as u64, Source::Input(bytes));
        let width = self.inner4 * 4;
        let x = Activations { id, rows, width, width4: self.inner4, storage };
        let [matrix, bias] = self.weights;
        let linear = [builder.weight("w", matrix), builder.weight("bias", bias)];
        let size = [self.columns4 * 4, self.columns4];
        let y = matmul_of(&mut builder, "y", x, linear, size, Activation::None, None);
        let dispatch = builder.graph.dispatches.clone();
        for _ in 1..dispatches {
            builder.graph.dispatches.extend(dispatch.iter().cloned());
        }
        builder.graph.output = Some(y.id);
        builder.graph.tokens = rows;
        self.executor.trace = Some(Trace::new(Measure::Gpu));
        let since = Instant::now();
        let outcome = self.executor.run(&builder.graph).await;
        let wall = since.elapsed().as_nanos() as f64;
        let trace = self.executor.trace.take();
        outcome?;
        let of_gpu: u64 = trace.map_or(0, |trace| trace.dispatches.iter().map(|d| d.ns).sum());
        let all = if self.executor.gpu.has_timestamps() { of_gpu as f64 } else { wall };
        Ok(all / dispatches as f64)
    }
}

/// Values that no kernel finds easier than others, as a storage holds them.
fn values(storage: Storage, count: usize) -> Vec<u8> {
    let values: Vec<f32> =
        (0..count).map(|at| ((at * 2503) % 4093) as f32 / 2046.5 - 1.0).collect();
    let mut bytes = Vec::new();
    convert::encode(storage, &values, &mut bytes);
    bytes
}
