//! `vectile tune`: measures which variant of the matmul is fastest on an adapter, at the shapes of a model or of common
//! models.
//!
//! The number of rows selects only among bit-identical variants, so it never changes a vector. Variants with
//! cooperative matrices are timed only after they have passed their known-answer test.

mod choose;
mod timing;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::dtype::{
    CheckpointDtype, DtypeOptions, F16Facts, FloatDtype, Precision, Storage, resolve,
};
use crate::embedder::{Attempts, DeviceSetup, EmbedderBuilder, LoadPlan, ModelBuilder, TextModel};
use crate::error::Error;
use crate::executor::Executor;
use crate::gpu::adapter::{AdapterChoice, AdapterSummary, Feature};
use crate::kernels::KernelPlan;
use crate::kernels::matmul::tuned::{self, ROWS};
use crate::kernels::matmul::{OutputTile, Tuned, Variant, WeightShape};
use crate::selftest::{self, differing_variants};
use choose::{RowTimes, choices};
use timing::Bench;

pub use choose::{TuneCase, VariantTime};

/// Options of [`tune`] and [`tune_adapter`].
#[derive(Debug, Clone)]
pub struct TuneOptions {
    /// The largest number of rows to time.
    pub most_rows: usize,
    /// The number of runs of each variant. The first run is not counted, and the result is the median of the other
    /// runs.
    pub runs: usize,
    /// The shapes to time if no model is given.
    pub shapes: Vec<MatrixShape>,
}

/// The shape of a weight matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MatrixShape {
    /// The number of values in a row of the input.
    pub inner: usize,
    /// The number of values in a row of the output.
    pub columns: usize,
}

impl Default for TuneOptions {
    fn default() -> Self {
        TuneOptions { most_rows: 4096, runs: 4, shapes: SHAPES.to_vec() }
    }
}

/// The results of tuning in one precision.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tuning {
    /// The adapter that was tuned.
    pub adapter: AdapterSummary,
    /// True if the adapter measured the times with timestamps. If false, the host's clock measured the times of whole
    /// runs.
    pub timestamps: bool,
    /// The storage type of the weights.
    pub weights: Storage,
    /// The storage type of the activations.
    pub activations: Storage,
    /// The times for each shape and number of rows.
    pub cases: Vec<TuneCase>,
    /// The variants that were not timed, with the reasons.
    pub left_out: Vec<String>,
    /// The cache file with the results, which later loads read; `None` if there is no cache directory.
    pub kept: Option<PathBuf>,
}

/// An adapter to tune without a model.
#[derive(Debug, Clone, Default)]
pub struct TuneAdapter {
    /// The choice of the adapter.
    pub adapter: AdapterChoice,
    /// The features that Vectile must not use, even if the adapter has them.
    pub disabled: Vec<Feature>,
    /// The directory in which the results are cached.
    pub cache_dir: Option<PathBuf>,
    /// If true, the kernels for GPUs are timed even on a software adapter.
    #[doc(hidden)]
    pub gpu_kernels: bool,
}

const fn shape(inner: usize, columns: usize) -> MatrixShape {
    MatrixShape { inner, columns }
}

/// The shapes of weight matrices in common models, without duplicates. The models are MiniLM and bge-small (width 384),
/// BERT-base (768), BERT-large (1024), ModernBERT-base and Qwen3-0.6B.
pub const SHAPES: &[MatrixShape] = &[
    shape(384, 1152),
    shape(384, 384),
    shape(384, 1536),
    shape(1536, 384),
    shape(768, 2304),
    shape(768, 768),
    shape(768, 3072),
    shape(3072, 768),
    shape(1024, 3072),
    shape(1024, 1024),
    shape(1024, 4096),
    shape(4096, 1024),
    shape(1152, 768),
    shape(2048, 1024),
    shape(1024, 6144),
    shape(3072, 1024),
];

/// Times the variants of the matmul at the shapes of a model, in the precision in which the model runs on this adapter.
/// Stores the chosen variants in the builder's cache directory. No weights are loaded. `progress` is called with a
/// description of each step, the number of finished steps and the number of all steps.
///
/// # Errors
/// Returns errors of reading the model, and [`Error::Adapter`] for a software adapter, whose matmul has no variants to
/// choose from.
pub async fn tune(
    builder: EmbedderBuilder,
    options: &TuneOptions,
    mut progress: impl FnMut(&str, usize, usize),
) -> Result<Tuning, Error> {
    progress("reading the model", 0, 1);
    let mut plan = builder.plan().await?;
    let (kernels, shapes) = (plan.kernel_plan(), plan.matmul_shapes()?);
    refuse_software(&kernels, &plan.executor)?;
    let tuner =
        Tuner { precision: &plan.precision, plan: kernels, cache: builder.cache(), options };
    tuner.tune(&mut plan.executor, &shapes, &mut progress).await
}

/// Loads a model like [`ModelBuilder::build`], after tuning the shapes for which the builder's cache directory has no
/// results. The returned tuning is `None` if nothing was timed: all shapes have results, the adapter is a software
/// adapter, or there is no cache directory.
///
/// # Errors
/// Returns the errors of [`ModelBuilder::build`] and of [`tune`].
pub async fn build_tuned<M: TextModel>(
    builder: ModelBuilder<M>,
    options: &TuneOptions,
    mut progress: impl FnMut(&str, usize, usize),
) -> Result<(M, Option<Tuning>), Error> {
    let mut plan = builder.plan().await?;
    let found = tune_unknown(&mut plan, builder.cache(), options, &mut progress).await?;
    // The tuning is done, so its progress ends here. Loading the model reports its own progress.
    drop(progress);
    if found.is_some() {
        // The measurements left weights on the old device, and opening a new device frees them. The new plan uses the
        // results of the tuning.
        drop(plan);
        plan = builder.plan().await?;
    }
    Ok((builder.load(plan)?, found))
}

async fn tune_unknown(
    load: &mut LoadPlan,
    cache: Option<&Path>,
    options: &TuneOptions,
    progress: &mut impl FnMut(&str, usize, usize),
) -> Result<Option<Tuning>, Error> {
    let plan = load.kernel_plan();
    if plan.software || cache.is_none() {
        return Ok(None);
    }
    let storages = (load.precision.weights, load.precision.activations);
    let tuned = plan.tuned.clone().unwrap_or_default();
    let mut shapes = load.matmul_shapes()?;
    shapes.retain(|shape| !tuned.knows(storages, *shape));
    if shapes.is_empty() {
        return Ok(None);
    }
    let tuner = Tuner { precision: &load.precision, plan, cache, options };
    tuner.tune(&mut load.executor, &shapes, progress).await.map(Some)
}

/// Tunes an adapter like [`tune`], but without a model. Times the shapes that the options name, in each precision in
/// which float32, float16 and bfloat16 checkpoints would run.
///
/// If an adapter computes wrong results, the next adapter is tried, unless the caller named an adapter.
///
/// # Errors
/// Returns errors of opening the adapter, and the errors of [`tune`].
pub async fn tune_adapter(
    target: &TuneAdapter,
    dtype: DtypeOptions,
    options: &TuneOptions,
    mut progress: impl FnMut(&str, usize, usize),
) -> Result<Vec<Tuning>, Error> {
    let mut setup = DeviceSetup::new(target.adapter.clone());
    setup.disabled.clone_from(&target.disabled);
    setup.gpu_kernels = target.gpu_kernels;
    setup.cache_dir.clone_from(&target.cache_dir);
    let mut attempts = Attempts::new(setup);
    loop {
        match tune_setup(attempts.setup(), dtype, options, &mut progress).await {
            Err(error) => attempts.give_way(error).await?,
            tuned => return tuned,
        }
    }
}

/// Tunes the adapter of `setup`, and tries no other adapter.
async fn tune_setup(
    mut setup: DeviceSetup,
    dtype: DtypeOptions,
    options: &TuneOptions,
    progress: &mut impl FnMut(&str, usize, usize),
) -> Result<Vec<Tuning>, Error> {
    let cache = setup.cache_dir.clone();
    let cache = cache.as_deref();
    let mut executor = setup.open().await?;
    refuse_software(&setup.plan(&executor), &executor)?;
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
    let in_cells = |shape: &MatrixShape| WeightShape {
        inner4: shape.inner.div_ceil(4),
        columns4: shape.columns.div_ceil(4),
    };
    let shapes: Vec<WeightShape> = options.shapes.iter().map(in_cells).collect();
    let mut all = Vec::new();
    for precision in &precisions {
        // Opening a new device for each precision frees the weights of the previous precision.
        let mut executor = setup.open().await?;
        setup.test_variants(&mut executor, precision, cache).await?;
        let plan = setup.plan(&executor);
        let tuner = Tuner { precision, plan, cache, options };
        all.push(tuner.tune(&mut executor, &shapes, progress).await?);
    }
    Ok(all)
}

fn refuse_software(plan: &KernelPlan, executor: &Executor) -> Result<(), Error> {
    let problem = "a software adapter has only one matmul variant for each number of rows, so \
                   there is nothing to tune; choose a GPU with --adapter";
    match plan.software {
        true => Err(Error::adapter(&executor.adapter().name, problem)),
        false => Ok(()),
    }
}

/// The settings and state of a tuning in one precision, without the executor.
struct Tuner<'a> {
    precision: &'a Precision,
    plan: KernelPlan,
    cache: Option<&'a Path>,
    options: &'a TuneOptions,
}

/// The variants to time, and the reasons why other variants are left out.
struct Candidates {
    bit_identical: Vec<Variant>,
    matrices: Vec<Variant>,
    left_out: Vec<String>,
}

impl Tuner<'_> {
    async fn tune(
        &self,
        executor: &mut Executor,
        shapes: &[WeightShape],
        progress: &mut impl FnMut(&str, usize, usize),
    ) -> Result<Tuning, Error> {
        let Tuner { precision, cache, options, .. } = *self;
        let adapter = executor.adapter().clone();
        let timestamps = executor.has_timestamps();
        let plan = KernelPlan { tuned: None, ..self.plan.clone() };
        progress("comparing the bits of all variants", 0, 1);
        let candidates = self.candidates(executor, &plan).await?;

        let rows: Vec<usize> = ROWS.into_iter().filter(|rows| *rows <= options.most_rows).collect();
        let all = shapes.len() * rows.len();
        let (mut cases, mut chosen) = (Vec::new(), Vec::new());
        for shape in shapes {
            let mut bench = Bench::new(executor, precision, &plan, *shape)?;
            let mut timed = Vec::new();
            for rows in &rows {
                let (inner, columns) = (shape.inner4 * 4, shape.columns4 * 4);
                let doing = format!(
                    "matmul with {} weights of {inner} × {columns}, on {rows} rows",
                    precision.weights
                );
                progress(&doing, cases.len() + timed.len(), all);
                timed.push(self.time(&mut bench, &plan, &candidates, *rows).await?);
            }
            chosen.extend(choices(&mut cases, timed));
        }
        let found = Tuned { choices: chosen };
        let kept = match cache {
            Some(cache) => Some(tuned::write(cache, &tuned::key(&adapter), found)?),
            None => None,
        };
        progress("done", all, all);
        let Precision { weights, activations, .. } = *precision;
        let left_out = candidates.left_out;
        Ok(Tuning { adapter, timestamps, weights, activations, cases, left_out, kept })
    }

    /// Returns the variants that are bit-identical on the device, and the variants with cooperative matrices that the
    /// device supports.
    async fn candidates(
        &self,
        executor: &mut Executor,
        plan: &KernelPlan,
    ) -> Result<Candidates, Error> {
        let storages = (self.precision.weights, self.precision.activations);
        let plain = Variant::Tile(OutputTile::PLAIN);
        let mut bit_identical = plan.bit_identical_variants(false);
        let differing = differing_variants(executor, storages, plain, &bit_identical).await?;
        bit_identical.retain(|variant| !differing.contains(variant));
        let mut left_out: Vec<String> = differing
            .iter()
            .map(|variant| format!("{variant}: not bit-identical to the other variants"))
            .collect();
        if !plan.by_rows {
            bit_identical = vec![plain];
            left_out.push(
                "all variants except one, because the variants are not bit-identical on this \
                 adapter"
                    .to_owned(),
            );
        }
        let mut matrices = plan.matrices(false);
        if storages != (Storage::F16, Storage::F16) {
            matrices.clear();
        }
        if !plan.matrices_by_rows {
            matrices.truncate(1);
        }
        Ok(Candidates { bit_identical, matrices, left_out })
    }

    /// Returns the times of every candidate for one number of rows.
    async fn time(
        &self,
        bench: &mut Bench<'_>,
        plan: &KernelPlan,
        candidates: &Candidates,
        rows: usize,
    ) -> Result<RowTimes, Error> {
        let work = bench.work(rows);
        let without_matrices = KernelPlan { cooperative: None, ..plan.clone() };
        let untuned_tiles = without_matrices.matmul(&work);
        let untuned = plan.matmul(&work);
        // A variant for few rows reads all weights again for each small group of rows, so it is not the fastest variant
        // for many rows.
        let worth_timing = |variant: &&Variant| match variant {
            Variant::Few(few) => rows <= *few as usize * 4,
            _ => true,
        };
        let variants = candidates.bit_identical.iter().filter(worth_timing);
        let mut times = Vec::new();
        for variant in variants.chain(&candidates.matrices).copied() {
            times.push((variant, bench.time(variant, rows, self.options.runs).await?));
        }
        Ok(RowTimes { work, untuned_tiles, untuned, times })
    }
}
