//! `vectile tune`: which variant of the matmul is fastest on an adapter, measured at the shapes of a model, or of
//! common ones.
//!
//! A variant is timed only if it gives the bits of the others, or, of cooperative matrices, if they give their
//! known answers: what is chosen by rows never changes a vector.

mod timing;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::dtype::{
    CheckpointDtype, DtypeOptions, F16Facts, FloatDtype, Precision, Storage, resolve,
};
use crate::embedder::{Built, EmbedderBuilder, ModelBuilder, Opening, Ready};
use crate::error::Error;
use crate::gpu::adapter::{AdapterChoice, AdapterSummary, Feature};
use crate::gpu::executor::Executor;
use crate::kernels::KernelPlan;
use crate::kernels::matmul::tuned::{self, Choice, ROWS};
use crate::kernels::matmul::{OutputTile, Tuned, Variant, WeightShape, Work};
use crate::selftest::{self, differing_variants};
use timing::{Bench, Times};

/// A variant must be so much faster than the one that is taken without measuring.
const WORTH: f64 = 0.95;

/// What is tuned.
#[derive(Debug, Clone)]
pub struct TuneOptions {
    /// Rows at which variants are timed, at most.
    pub most_rows: usize,
    /// Runs of each variant, of which the first does not count; the median of the others does.
    pub runs: usize,
    /// Shapes of matrices, `[inner, columns]` in values, where no model has its own.
    pub shapes: Vec<[usize; 2]>,
}

impl Default for TuneOptions {
    fn default() -> Self {
        TuneOptions { most_rows: 4096, runs: 4, shapes: SHAPES.to_vec() }
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
    /// Variants that were not timed, and why.
    pub left_out: Vec<String>,
    /// The file that later loads find it in; `None` without a cache directory.
    pub kept: Option<PathBuf>,
}

/// The variants for one shape of weight at one number of rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TuneCase {
    /// Values of a row of x.
    pub inner: usize,
    /// Values of a row of y.
    pub columns: usize,
    /// Rows.
    pub rows: usize,
    /// The variants, the fastest first.
    pub variants: Vec<VariantTime>,
    /// The one that is taken without measuring.
    pub untuned: String,
    /// The one that is taken from here on.
    pub chosen: String,
}

/// What a variant takes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VariantTime {
    /// The variant.
    pub variant: String,
    /// Milliseconds of a dispatch, the median of the runs.
    pub ms: f64,
    /// The least and the most of them.
    pub spread_ms: [f64; 2],
    /// Floating point operations a second in 10⁹.
    pub gflops: f64,
}

/// An adapter as models would open it.
#[derive(Debug, Clone, Default)]
pub struct TuneAdapter {
    /// Which.
    pub adapter: AdapterChoice,
    /// What it is to do without.
    pub disabled: Vec<Feature>,
    /// Where what is found is kept.
    pub cache_dir: Option<PathBuf>,
    /// Times the kernels for GPUs on a software adapter too.
    #[doc(hidden)]
    pub gpu_kernels: bool,
}

/// Shapes of the matrices of common models, `[inner, columns]`: those of width 384 (MiniLM, bge-small), 768
/// (BERT-base), 1024 (BERT-large), ModernBERT-base and Qwen3-0.6B, without those that came before.
pub const SHAPES: &[[usize; 2]] = &[
    [384, 1152],
    [384, 384],
    [384, 1536],
    [1536, 384],
    [768, 2304],
    [768, 768],
    [768, 3072],
    [3072, 768],
    [1024, 3072],
    [1024, 1024],
    [1024, 4096],
    [4096, 1024],
    [1152, 768],
    [2048, 1024],
    [1024, 6144],
    [3072, 1024],
];

/// Times the variants of the matmul at the shapes of a model, in the precision it runs in here, and keeps what is
/// fastest in the builder's cache directory. No weights are loaded. `progress` hears what is done, and of how
/// many.
///
/// # Errors
/// Those of reading the model; [`Error::Adapter`] for a software adapter, whose matmul has no variants to choose
/// among.
pub async fn tune(
    builder: EmbedderBuilder,
    options: &TuneOptions,
    mut progress: impl FnMut(&str, usize, usize),
) -> Result<Tuning, Error> {
    progress("reading the model", 0, 1);
    let mut ready = builder.ready().await?;
    let (plan, shapes) = (ready.plan(), ready.shapes()?);
    refuse_software(&plan, &ready.executor)?;
    let tuner = Tuner { precision: &ready.precision, plan, cache: builder.cache(), options };
    tuner.tune(&mut ready.executor, &shapes, &mut progress).await
}

/// Makes a model as [`ModelBuilder::build`] does, after a [`tune`] of what is not known yet in the builder's cache
/// directory. What was found is `None`, and nothing was timed, where all is known, for a software adapter, and
/// without a cache directory.
///
/// # Errors
/// As [`ModelBuilder::build`], and as [`tune`].
pub async fn build_tuned<M: Built>(
    builder: ModelBuilder<M>,
    options: &TuneOptions,
    mut progress: impl FnMut(&str, usize, usize),
) -> Result<(M, Option<Tuning>), Error> {
    let mut ready = builder.ready().await?;
    let found = tune_unknown(&mut ready, builder.cache(), options, &mut progress).await?;
    // Loading has a progress of its own.
    drop(progress);
    if found.is_some() {
        // The weights that variants were timed with go with the device; other pipelines are needed now.
        drop(ready);
        ready = builder.ready().await?;
    }
    Ok((builder.load(ready)?, found))
}

async fn tune_unknown(
    ready: &mut Ready,
    cache: Option<&Path>,
    options: &TuneOptions,
    progress: &mut impl FnMut(&str, usize, usize),
) -> Result<Option<Tuning>, Error> {
    let plan = ready.plan();
    if plan.software || cache.is_none() {
        return Ok(None);
    }
    let storages = (ready.precision.weights, ready.precision.activations);
    let tuned = plan.tuned.clone().unwrap_or_default();
    let mut shapes = ready.shapes()?;
    shapes.retain(|shape| !tuned.knows(storages, *shape));
    if shapes.is_empty() {
        return Ok(None);
    }
    let tuner = Tuner { precision: &ready.precision, plan, cache, options };
    tuner.tune(&mut ready.executor, &shapes, progress).await.map(Some)
}

/// As [`tune`], without a model: at the shapes of the options, in each precision that checkpoints of float32, float16 and
/// bfloat16 would run in.
///
/// # Errors
/// Those of opening the adapter, and as [`tune`].
pub async fn tune_adapter(
    of: &TuneAdapter,
    dtype: DtypeOptions,
    options: &TuneOptions,
    mut progress: impl FnMut(&str, usize, usize),
) -> Result<Vec<Tuning>, Error> {
    let cache = of.cache_dir.as_deref();
    let mut opening = Opening::new(of.adapter.clone());
    opening.disabled.clone_from(&of.disabled);
    opening.gpu_kernels = of.gpu_kernels;
    opening.cache_dir.clone_from(&of.cache_dir);
    let mut executor = opening.open().await?;
    refuse_software(&opening.plan(&executor.gpu), &executor)?;
    let shader_f16 = selftest::shader_f16(&mut executor, None, cache).await?;
    let mut precisions: Vec<Precision> = Vec::new();
    for checkpoint in [FloatDtype::Float32, FloatDtype::Float16, FloatDtype::Bfloat16] {
        let source = "no model".to_owned();
        let checkpoint = CheckpointDtype { dtype: checkpoint, source, reasons: Vec::new() };
        let precision = resolve(dtype, checkpoint, shader_f16, F16Facts::default(), None)?;
        let same = |other: &Precision| {
            (other.weights, other.activations) == (precision.weights, precision.activations)
        };
        if !precisions.iter().any(same) {
            precisions.push(precision);
        }
    }
    let in_cells = |[inner, columns]: &[usize; 2]| WeightShape {
        inner4: inner.div_ceil(4),
        columns4: columns.div_ceil(4),
    };
    let shapes: Vec<WeightShape> = options.shapes.iter().map(in_cells).collect();
    let mut all = Vec::new();
    for precision in &precisions {
        // Weights of the precision before go with its device.
        let mut executor = opening.open().await?;
        opening.test_variants(&mut executor, precision, cache).await?;
        let plan = opening.plan(&executor.gpu);
        let tuner = Tuner { precision, plan, cache, options };
        all.push(tuner.tune(&mut executor, &shapes, &mut progress).await?);
    }
    Ok(all)
}

fn refuse_software(plan: &KernelPlan, executor: &Executor) -> Result<(), Error> {
    let problem = "a software adapter's matmul takes one variant for few rows and one for many, and there is \
                   nothing to choose among";
    match plan.software {
        true => Err(Error::adapter(&executor.gpu.adapter.name, problem)),
        false => Ok(()),
    }
}

/// What is timed, and where it is kept.
struct Tuner<'a> {
    precision: &'a Precision,
    plan: KernelPlan,
    cache: Option<&'a Path>,
    options: &'a TuneOptions,
}

impl Tuner<'_> {
    async fn tune(
        &self,
        executor: &mut Executor,
        shapes: &[WeightShape],
        progress: &mut impl FnMut(&str, usize, usize),
    ) -> Result<Tuning, Error> {
        let Tuner { precision, cache, options, .. } = *self;
        let adapter = executor.gpu.adapter.clone();
        let timestamps = executor.gpu.has_timestamps();
        let storages = (precision.weights, precision.activations);
        let plan = KernelPlan { tuned: None, ..self.plan.clone() };

        let mut variants = plan.bit_identical_variants(false);
        progress("comparing the bits of all variants", 0, 1);
        let plain = Variant::Tile(OutputTile::PLAIN);
        let other = differing_variants(executor, storages, plain, &variants).await?;
        variants.retain(|variant| !other.contains(variant));
        let mut left_out: Vec<String> = other
            .iter()
            .map(|variant| format!("{variant}: other bits than those of the others"))
            .collect();
        if !plan.by_rows {
            variants = vec![Variant::Tile(OutputTile::PLAIN)];
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
        for shape in shapes {
            let mut bench = Bench::new(executor, precision, &plan, *shape)?;
            let mut of_shape = Vec::new();
            for rows in &rows {
                let (inner, columns) = (shape.inner4 * 4, shape.columns4 * 4);
                let doing =
                    format!("{} weights, {inner} → {columns}, {rows} rows", precision.weights);
                progress(&doing, cases.len() + of_shape.len(), all);
                let work = bench.work(*rows);
                let without = KernelPlan { cooperative: None, ..plan.clone() };
                let untuned = [without.matmul(&work), plan.matmul(&work)];
                let mut times = Vec::new();
                // A variant for few rows would only read its weights again and again.
                let worth_timing = |variant: &&Variant| match variant {
                    Variant::Few(few) => *rows <= *few as usize * 4,
                    _ => true,
                };
                let candidates: Vec<Variant> =
                    variants.iter().filter(worth_timing).copied().collect();
                for variant in candidates.iter().chain(&matrices).copied() {
                    times.push((variant, bench.time(variant, *rows, options.runs).await?));
                }
                of_shape.push((work, untuned, times));
            }
            choices.extend(choose(&mut cases, of_shape));
        }
        let found = Tuned { choices };
        let kept = match cache {
            Some(cache) => Some(tuned::write(cache, &tuned::key(&adapter), found)?),
            None => None,
        };
        progress("done", all, all);
        let (weights, activations) = storages;
        Ok(Tuning { adapter, timestamps, weights, activations, cases, left_out, kept })
    }
}

/// One number of rows: the work, the variants that are taken without measuring, without matrices and with them
/// where there are any, and the times of each.
type Timed = (Work, [Variant; 2], Vec<(Variant, Times)>);

/// The choices for a shape. Rows pick among the variants that give the same bits; whether matrices are used is
/// decided by the most rows, once for all, since they round in another way.
fn choose(cases: &mut Vec<TuneCase>, timed: Vec<Timed>) -> Vec<Choice> {
    let mut choices = Vec::new();
    let choice = |work: &Work, rows, variant: Variant| Choice {
        weights: work.storages.0.name().to_owned(),
        activations: work.storages.1.name().to_owned(),
        inner4: work.weight.inner4,
        columns4: work.weight.columns4,
        rows,
        variant: variant.name(),
    };
    let is_matrices = |variant: Variant| matches!(variant, Variant::Cooperative(_));
    // The fastest variant of a kind, if it is worth leaving the one that is taken without measuring.
    let best = |untuned: Variant, times: &[(Variant, Times)]| {
        let of = |variant: Variant| {
            times.iter().find(|(other, _)| *other == variant).map(|(_, t)| t.median)
        };
        let kind =
            times.iter().filter(|(variant, _)| is_matrices(*variant) == is_matrices(untuned));
        let fastest = kind.min_by(|(_, a), (_, b)| a.median.total_cmp(&b.median));
        let (own, fastest) = (of(untuned), fastest.map(|(variant, time)| (*variant, time.median)));
        match (own, fastest) {
            (Some(own), Some((variant, ns))) if ns < own * WORTH => (variant, ns),
            (Some(own), _) => (untuned, own),
            (None, Some((variant, ns))) => (variant, ns),
            (None, None) => (untuned, f64::INFINITY),
        }
    };
    let mut kind = 0;
    if let Some((work, untuned, times)) =
        timed.last().filter(|(_, [_, with], _)| is_matrices(*with))
    {
        let [(tile, without), (matrices, with)] = untuned.map(|variant| best(variant, times));
        // They are what is taken without measuring.
        kind = usize::from(with * WORTH <= without);
        choices.push(choice(work, None, [tile, matrices][kind]));
    }
    for (work, untuned, mut times) in timed {
        let (chosen, _) = best(untuned[kind], &times);
        choices.push(choice(&work, Some(work.rows), chosen));
        times.sort_by(|(_, a), (_, b)| a.median.total_cmp(&b.median));
        let flops = (2 * work.rows * work.weight.inner4 * 4 * work.weight.columns4 * 4) as f64;
        let time = |(variant, time): &(Variant, Times)| VariantTime {
            variant: variant.to_string(),
            ms: time.median / 1e6,
            spread_ms: [time.least / 1e6, time.most / 1e6],
            gflops: flops / time.median,
        };
        cases.push(TuneCase {
            inner: work.weight.inner4 * 4,
            columns: work.weight.columns4 * 4,
            rows: work.rows,
            variants: times.iter().map(time).collect(),
            untuned: untuned[1].to_string(),
            chosen: chosen.to_string(),
        });
    }
    choices
}
