//! Checks a model on an adapter, and measures whether the model's weights and activations stay within the range of f16.
//!
//! [`verify`] runs the known-answer tests of every kernel and compares vectors with reference vectors. The function
//! also compares the vectors with the CPU's vectors of the same texts, which needs no reference. It measures how close
//! activations and weights come to the limits of f16. Then it stores a verdict on whether f16 is safe for the model,
//! and later loads of the model use this verdict.

mod against_cpu;
mod agreement;
mod inputs;
mod judge;
mod reference;
mod report;
mod runs;
mod texts;

use crate::dtype::{DtypeOptions, F16Facts, F16Verdict, Precision, ShaderF16, Storage, resolve};
use crate::embedder::F16Record;
use crate::embedder::tolerance::tolerance;
use crate::embedder::{Embedder, EmbedderBuilder};
use crate::error::Error;
use crate::selftest;
use inputs::Inputs;
use runs::{F32Run, HalfRuns, PrecisionRun};

pub use crate::embedder::report::activation_ranges::{ActivationRange, KeptIn, WeightRange};
pub use crate::selftest::KernelCheck;
pub use against_cpu::{AgainstCpu, FirstDifference};
pub use agreement::{Agreement, Tolerance};
pub use inputs::VerifyOptions;
pub use judge::{HEADROOM, MIN_COSINE};
pub use reference::{Reference, ReferenceSummary};
pub use report::Verification;

/// The maximum difference between vectors and the f32 vectors of the same texts. A larger difference means wrong
/// vectors, not rounded vectors.
const WRONG: Tolerance = Tolerance { min_cosine: 0.998, max_error: 0.1 };

/// Verifies the model that `builder` describes: in f32, in f16, and in the precision that `builder` requests.
///
/// The verdict on whether f16 is safe for the model is stored in the builder's cache directory, if there is one.
/// `progress` is called with a short description of each step.
///
/// ```
/// use vectile::lab::verify::{VerifyOptions, verify};
/// use vectile::{Embedder, ModelFiles, block_on};
///
/// # if block_on(vectile::adapters()).is_empty() { return Ok(()); }
/// # let directory = "tests/fixtures/bert_concat";
/// let builder = Embedder::builder(ModelFiles::from_directory(directory)?);
/// let verification = block_on(verify(builder, &VerifyOptions::default(), |_| {}))?;
/// assert!(verification.passed, "{verification}");
/// println!("{}", verification.verdict.safety);
/// # Ok::<(), vectile::Error>(())
/// ```
///
/// # Errors
/// Returns errors of loading and running the model. A failed check is not returned as an error; see
/// [`Verification::failures`].
pub async fn verify(
    builder: EmbedderBuilder,
    options: &VerifyOptions,
    mut progress: impl FnMut(&str),
) -> Result<Verification, Error> {
    progress("reading the model");
    let model = runs::load_f32(&builder).await?;
    if options.write_beside && !model.has_directory() {
        return Err(Error::option(
            "write-verdict",
            "the model is not in a local directory, so the verdict cannot be written beside it; \
             give a local directory, or leave the option out",
        ));
    }
    if options.write_beside && model.adapter().is_cpu() {
        let problem = "the CPU has no f16 activations, so a run on the CPU gives no verdict on \
                       f16; use a GPU";
        return Err(Error::option("write-verdict", problem));
    }
    let adapter = model.adapter().clone();
    let builder = builder.stay_on(&adapter);
    let weights_sha256 = model.weights_sha256()?;
    let inputs = Inputs::new(&model, options, &weights_sha256)?;
    let (kernels, shader_f16) = check_kernels(&builder, &mut progress).await?;
    let policy = DtypePolicy::new(&builder, &model, shader_f16);
    // If the device cannot run the requested precision, the call fails here, before the slow runs.
    policy.resolve(None)?;

    let f32 = F32Run::new(&model, &inputs, &mut progress).await?;
    let (model, half) = HalfRuns::new(&builder, model, &f32, &inputs.texts, &mut progress).await?;
    let verdict = half.verdict.clone();
    let record = F16Record {
        model: model.label(),
        name: String::new(),
        weights_sha256: weights_sha256.clone(),
        texts: inputs.texts.len(),
        tokens: f32.run.rows.tokens,
        verdict: verdict.clone(),
    };
    // A verdict that was measured on the CPU does not cover f16 activations, so later loads on a GPU must not use this
    // verdict.
    let (record, kept) = match adapter.is_cpu() {
        true => (record, Vec::new()),
        false => model.keep(builder.cache(), options.write_beside, record)?,
    };

    progress("running in the requested precision");
    let precision = policy.resolve(Some(&record.verdict))?;
    let requested =
        runs::requested(&builder, model, precision, &record.verdict, &f32.run, &inputs.texts)
            .await?;
    let usable = half.usable(record.verdict.safety);
    let runs = distinct(std::iter::once(&f32.run).chain(usable).chain([&requested]));
    let comparisons = inputs.reference.as_ref().map_or_else(Vec::new, |reference| {
        let first = inputs.first_of_reference;
        compare("reference", &runs, first, &reference.rows, reference.shipped)
    });
    let against_cpu =
        against_cpu::compare_with_cpu(&builder, &adapter, &runs, &inputs.texts, &mut progress)
            .await?;
    let as_asked = f32.agreement(&requested, Some(WRONG));
    let mut verification = Verification {
        schema: report::SCHEMA,
        vectile: env!("CARGO_PKG_VERSION"),
        model: record.model,
        weights_sha256,
        adapter,
        shader_f16,
        kernels,
        precision: requested.precision,
        texts_from: inputs.source,
        texts: inputs.texts.len(),
        tokens: f32.run.rows.tokens,
        reference: inputs.reference.as_ref().map(Reference::summary),
        comparisons,
        against_cpu,
        f32_weights: f32.run.precision.weights,
        as_asked,
        f16: half.agreements(&f32),
        not_finite_in_f32: f32.run.rows.unusable,
        activations: f32.activations,
        texts_beyond_f16: f32.texts_beyond_f16,
        weights: f32.weights,
        verdict,
        kept_verdict: record.verdict,
        kept,
        shown: inputs.texts,
        first_of_reference: inputs.first_of_reference,
        failures: Vec::new(),
        passed: false,
    };
    verification.settle();
    Ok(verification)
}

/// The inputs that decide the precision of the model, except the verdict on whether f16 is safe.
struct DtypePolicy {
    options: DtypeOptions,
    checkpoint: crate::dtype::CheckpointDtype,
    shader_f16: ShaderF16,
    facts: F16Facts,
}

impl DtypePolicy {
    fn new(builder: &EmbedderBuilder, model: &Embedder, shader_f16: ShaderF16) -> Self {
        DtypePolicy {
            options: builder.dtype_options(),
            checkpoint: model.precision().checkpoint.clone(),
            shader_f16,
            facts: model.f16_facts(),
        }
    }

    fn resolve(&self, measured: Option<&F16Verdict>) -> Result<Precision, Error> {
        resolve(self.options, self.checkpoint.clone(), self.shader_f16, self.facts, measured)
    }
}

/// Runs the known-answer tests of every kernel on the builder's adapter. The results also decide whether the adapter's
/// f16 is usable.
async fn check_kernels(
    builder: &EmbedderBuilder,
    progress: &mut impl FnMut(&str),
) -> Result<(Vec<KernelCheck>, ShaderF16), Error> {
    progress("opening the adapter");
    let mut executor = builder.executor().await?;
    let mut done = 0;
    let checks = selftest::check_all(&mut executor, |check, total| {
        done += 1;
        progress(&format!(
            "{done} of {total} known-answer tests are done; the last one tested the kernel {}",
            check.kernel
        ));
    });
    let checks = checks.await?;
    let shader_f16 = selftest::judge_f16(&executor, &checks, builder.cache());
    Ok((checks, shader_f16))
}

/// Returns the runs without those that have the same storage types as an earlier run.
fn distinct<'a>(runs: impl Iterator<Item = &'a PrecisionRun>) -> Vec<&'a PrecisionRun> {
    let mut seen: Vec<(Storage, Storage)> = Vec::new();
    let mut distinct = Vec::new();
    for run in runs {
        let storages = (run.precision.weights, run.precision.activations);
        if !seen.contains(&storages) {
            seen.push(storages);
            distinct.push(run);
        }
    }
    distinct
}

/// Compares each run with the expected rows, the first of which belongs to the text with index `first`. `shipped` means
/// that the rows are a reference that Vectile ships.
fn compare(
    with: &'static str,
    runs: &[&PrecisionRun],
    first: usize,
    expected: &[Vec<f64>],
    shipped: bool,
) -> Vec<Agreement> {
    let compared = runs.iter().map(|run| {
        let tolerance = tolerance(&run.precision, shipped);
        Agreement::of(with, &run.precision, &run.rows, first, expected, Some(tolerance))
    });
    compared.collect()
}
