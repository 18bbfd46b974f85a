//! Is this model right on this adapter, and how much of f16 does it bear?
//!
//! [`verify`] asks every kernel its known answer, compares vectors with reference vectors, measures how
//! near activations and weights come to the ends of f16, and keeps a verdict that the next load of the
//! model honours.

mod agreement;
mod judge;
mod reference;
mod report;
mod texts;

use crate::dtype::{
    ActivationsRequest, DtypeOptions, DtypeRequest, F16Safety, F16Verdict, HalfFallback, Precision,
    ShaderF16, Storage, resolve,
};
use crate::embedder::probe::Probed;
use crate::embedder::{EmbedOptions, Embedder, EmbedderBuilder};
use crate::error::Error;
use crate::files::F16Record;
use crate::gpu::selftest;

pub use crate::embedder::probe::{ActivationRange, KeptIn, WeightRange};
pub use crate::gpu::selftest::KernelCheck;
pub use agreement::{Agreement, Tolerance};
pub use judge::{HEADROOM, MIN_COSINE};
pub use reference::{Reference, ReferenceSummary};
pub use report::Verification;

/// Further from f32 than this, vectors count as wrong and not as rounded.
const WRONG: Tolerance = Tolerance { min_cosine: 0.998, max_error: 0.1 };

/// What is verified, beside the model.
#[derive(Debug, Clone, Default)]
pub struct VerifyOptions {
    /// The texts to measure on, and what reports call them; `None` for built-in ones, of which two are
    /// as long as the model takes.
    pub texts: Option<(String, Vec<String>)>,
    /// The vectors to compare with; `None` for those that Vectile carries, if it does.
    pub reference: Option<Reference>,
    /// Writes the verdict beside the model's files too, where it goes with them.
    pub write_beside: bool,
}

/// Rows that something ran to, with the precision it ran in.
struct Ran {
    precision: Precision,
    rows: Probed,
}

/// Verifies the model that `builder` describes, in the precision it asks for, in f32 and in f16.
///
/// The verdict on f16 is kept in the builder's cache directory, where it has one. `progress` hears in a
/// few words what is being done.
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
/// Those of loading the model and of running it. What does not hold is no error: see
/// [`Verification::failures`].
pub async fn verify(
    builder: EmbedderBuilder,
    options: &VerifyOptions,
    mut progress: impl FnMut(&str),
) -> Result<Verification, Error> {
    let asked = builder.dtype_options();

    progress("reading the model");
    let wide = in_f32(&builder).await?;
    if options.write_beside && !wide.has_directory() {
        return Err(Error::option("write-verdict", "the model has no directory to write into"));
    }
    let adapter = wide.adapter().clone();
    let weights_sha256 = wide.weights_sha256()?;
    let reference = match &options.reference {
        Some(reference) => Some(reference.clone()),
        None => Reference::shipped(&weights_sha256)?,
    };
    let (source, own) = match &options.texts {
        Some((source, texts)) => (source.clone(), texts.clone()),
        None => ("built-in".to_owned(), built_in(&wide)?),
    };
    if own.is_empty() {
        return Err(Error::option("texts", "there are none; give at least one"));
    }
    let first = own.len();
    let mut texts = own;
    texts.extend(reference.iter().flat_map(|reference| reference.texts.iter().cloned()));

    let (kernels, shader_f16) = check_kernels(&builder, &mut progress).await?;
    // What the user asks for may be impossible here: before the long part.
    let checkpoint = wide.precision().checkpoint.clone();
    let facts = wide.f16_facts();
    let resolved = |measured: Option<&F16Verdict>| {
        resolve(asked, checkpoint.clone(), shader_f16, facts, measured)
    };
    resolved(None)?;

    progress("running every layer in f32");
    let (rows, activations, beyond) = wide.ranges(&texts).await?;
    if let Some(reference) = reference.as_ref().filter(|r| r.dim() != rows.dim) {
        let problem = format!(
            "has vectors of {} values and the model gives {}; they are of different models",
            reference.dim(),
            rows.dim
        );
        return Err(Error::file(&reference.source, problem));
    }
    progress("reading the weights");
    let weights = wide.weight_ranges()?;
    let base = Ran { precision: wide.precision().clone(), rows };
    let expected: Vec<Vec<f64>> = (0..texts.len())
        .map(|text| base.rows.row(text).iter().map(|value| f64::from(*value)).collect())
        .collect();
    let against_f32 = |ran: &Ran| Agreement::of("f32", &ran.precision, &ran.rows, 0, &expected);

    // f16 weights, and 16-bit activations beside f32 ones: one load serves both.
    let mut model = wide;
    let (mut half, mut alone) = (None, None);
    if judge::unfit(&weights).is_none() {
        drop(model);
        progress("loading in f16");
        let narrow = DtypeOptions {
            dtype: DtypeRequest::Float16,
            half_fallback: HalfFallback::Packed,
            activations: Some(ActivationsRequest::F16),
        };
        model = builder.clone().with_dtype_options(narrow).measured(None).build().await?;
        progress("running in f16");
        half = Some(run(&model, model.precision().clone(), &texts, false).await?);
        let verdict =
            judge::judge(&weights, &activations, half.as_ref().map(&against_f32).as_ref(), None);
        if verdict.safety != F16Safety::Safe {
            progress("running with f16 weights and f32 activations");
            let precision = Precision { activations: Storage::F32, ..model.precision().clone() };
            alone = Some(run(&model, precision, &texts, false).await?);
        }
    }
    let f16: Vec<Agreement> = half.iter().chain(&alone).map(&against_f32).collect();
    let verdict = judge::judge(
        &weights,
        &activations,
        half.as_ref().map(&against_f32).as_ref(),
        alone.as_ref().map(&against_f32).as_ref(),
    );
    let record = F16Record {
        model: model.label(),
        name: String::new(),
        weights_sha256: weights_sha256.clone(),
        texts: texts.len(),
        tokens: base.rows.tokens,
        verdict: verdict.clone(),
    };
    let (record, kept) = model.keep(builder.cache(), options.write_beside, record)?;

    let precision = resolved(Some(&record.verdict))?;
    progress("running as asked");
    let as_asked = as_asked(&builder, model, precision, &record.verdict, &base, &texts).await?;
    let mut comparisons = Vec::new();
    if let Some(reference) = &reference {
        let mut seen: Vec<(Storage, Storage)> = Vec::new();
        let half = half.iter().filter(|_| record.verdict.safety == F16Safety::Safe);
        for ran in std::iter::once(&base).chain(half).chain(&alone).chain([&as_asked]) {
            let stored = (ran.precision.weights, ran.precision.activations);
            if !seen.contains(&stored) {
                seen.push(stored);
                let mut agreement =
                    Agreement::of("reference", &ran.precision, &ran.rows, first, &reference.rows);
                agreement.tolerance = Some(agreement::tolerance(&ran.precision, reference.carried));
                comparisons.push(agreement);
            }
        }
    }
    let mut asked_against_f32 = against_f32(&as_asked);
    asked_against_f32.tolerance = Some(WRONG);
    let mut verification = Verification {
        schema: report::SCHEMA,
        vectile: env!("CARGO_PKG_VERSION"),
        model: record.model.clone(),
        weights_sha256,
        adapter,
        shader_f16,
        kernels,
        precision: as_asked.precision.clone(),
        texts_from: source,
        texts: texts.len(),
        tokens: base.rows.tokens,
        reference: reference.as_ref().map(Reference::summary),
        comparisons,
        f32_weights: base.precision.weights,
        as_asked: asked_against_f32,
        not_finite_in_f32: base.rows.unusable.clone(),
        activations,
        texts_beyond_f16: beyond,
        weights,
        f16,
        verdict,
        kept_verdict: record.verdict,
        kept,
        shown: texts,
        first_of_reference: first,
        failures: Vec::new(),
        passed: false,
    };
    verification.settle();
    Ok(verification)
}

/// The model in f32. Where that does not fit and the checkpoint is of 16 bits, its own 16 bits are held
/// as they are: with f32 activations the arithmetic is the same.
async fn in_f32(builder: &EmbedderBuilder) -> Result<Embedder, Error> {
    let activations = Some(ActivationsRequest::F32);
    let half_fallback = HalfFallback::Packed;
    let options = |dtype| DtypeOptions { dtype, half_fallback, activations };
    let load = |dtype| builder.clone().with_dtype_options(options(dtype)).measured(None).build();
    match load(DtypeRequest::Float32).await {
        Err(
            error @ (Error::TooLarge { .. } | Error::OutOfMemory { .. } | Error::Adapter { .. }),
        ) => match load(DtypeRequest::Auto).await {
            Ok(exact) if exact.precision().weights != Storage::F32 => Ok(exact),
            _ => Err(error),
        },
        result => result,
    }
}

/// The built-in texts that the tokenizer makes tokens of; the longest have as many words as the model
/// takes tokens, within what a software adapter does in seconds.
fn built_in(embedder: &Embedder) -> Result<Vec<String>, Error> {
    let most = if embedder.adapter().is_software() { 512 } else { 8192 };
    let texts = texts::built_in(embedder.max_seq_length().unwrap_or(512).min(most));
    let tokens = embedder.tokenize(&texts, &EmbedOptions::default())?;
    let known = texts.into_iter().zip(tokens).filter(|(_, tokens)| !tokens.is_empty());
    Ok(known.map(|(text, _)| text).collect())
}

async fn check_kernels(
    builder: &EmbedderBuilder,
    progress: &mut impl FnMut(&str),
) -> Result<(Vec<KernelCheck>, ShaderF16), Error> {
    progress("opening the adapter");
    let mut executor = builder.executor().await?;
    let mut done = 0;
    let checks = selftest::check_all(&mut executor, |check, total| {
        done += 1;
        progress(&format!("kernels: {done} of {total}, {}", check.kernel));
    });
    let checks = checks.await?;
    let shader_f16 = selftest::judge_f16(&executor, &checks, builder.cache());
    Ok((checks, shader_f16))
}

/// The rows of texts in a precision whose weights the embedder holds. With `retries`, texts whose
/// activations are out of range are run again with f32 activations where the precision says so.
async fn run(
    embedder: &Embedder,
    precision: Precision,
    texts: &[String],
    retries: bool,
) -> Result<Ran, Error> {
    let mut rows = embedder.probe(texts, precision.activations).await?;
    if retries && precision.retries_in_f32() && !rows.unusable.is_empty() {
        let unusable = std::mem::take(&mut rows.unusable);
        let again: Vec<String> = unusable.iter().map(|text| texts[*text].clone()).collect();
        let wide = embedder.probe(&again, Storage::F32).await?;
        for (at, text) in unusable.iter().enumerate() {
            rows.rows[text * rows.dim..][..rows.dim].copy_from_slice(wide.row(at));
        }
        rows.unusable = wide.unusable.iter().map(|at| unusable[*at]).collect();
    }
    Ok(Ran { precision, rows })
}

/// What the user gets: the precision that the policy makes of what was asked for and measured. What was
/// run in it already is not run again.
async fn as_asked(
    builder: &EmbedderBuilder,
    model: Embedder,
    mut precision: Precision,
    verdict: &F16Verdict,
    base: &Ran,
    texts: &[String],
) -> Result<Ran, Error> {
    let of = |precision: &Precision| (precision.weights, precision.activations);
    if of(&precision) == of(&base.precision) {
        precision.weight_bytes = base.precision.weight_bytes;
        return Ok(Ran { precision, rows: base.rows.clone() });
    }
    if precision.weights == model.precision().weights {
        precision.weight_bytes = model.precision().weight_bytes;
        return run(&model, precision, texts, true).await;
    }
    drop(model);
    let model = builder.clone().measured(Some(verdict.clone())).build().await?;
    run(&model, model.precision().clone(), texts, true).await
}
