//! Runs the same texts in several precisions: f32, f16, and the requested precision.

use super::agreement::{Agreement, Tolerance};
use super::inputs::Inputs;
use super::judge::{self, judge};
use crate::dtype::{
    ActivationsRequest, DtypeOptions, DtypeRequest, F16Safety, F16Verdict, HalfFallback, Precision,
    Storage,
};
use crate::embedder::report::activation_ranges::{ActivationRange, Probed, WeightRange};
use crate::embedder::{Embedder, EmbedderBuilder};
use crate::error::Error;

/// The result of running all texts in one precision.
pub(super) struct PrecisionRun {
    pub precision: Precision,
    pub rows: Probed,
}

/// The result of the run in f32, with the ranges of activations and weights.
pub(super) struct F32Run {
    pub run: PrecisionRun,
    pub activations: Vec<ActivationRange>,
    pub texts_beyond_f16: Vec<usize>,
    pub weights: Vec<WeightRange>,
    /// The rows of the f32 run, converted to f64. The rows of other runs are compared with these rows.
    expected: Vec<Vec<f64>>,
}

impl F32Run {
    pub async fn new(
        model: &Embedder,
        inputs: &Inputs,
        progress: &mut impl FnMut(&str),
    ) -> Result<Self, Error> {
        progress("running every layer in f32");
        let (rows, activations, texts_beyond_f16) = model.ranges(&inputs.texts).await?;
        if let Some(reference) = inputs.reference.as_ref().filter(|r| r.dim() != rows.dim) {
            let problem = format!(
                "has vectors of {} values, but the model's have {}: the reference belongs to \
                 another model",
                reference.dim(),
                rows.dim
            );
            return Err(Error::file(&reference.source, problem));
        }
        progress("reading the weights");
        let weights = model.weight_ranges()?;
        let expected = (0..inputs.texts.len())
            .map(|text| rows.row(text).iter().map(|value| f64::from(*value)).collect())
            .collect();
        let run = PrecisionRun { precision: model.precision().clone(), rows };
        Ok(F32Run { run, activations, texts_beyond_f16, weights, expected })
    }

    /// Compares the rows of another run with the rows of this run.
    pub fn agreement(&self, other: &PrecisionRun, tolerance: Option<Tolerance>) -> Agreement {
        Agreement::of("f32", &other.precision, &other.rows, 0, &self.expected, tolerance)
    }
}

/// The results of runs with f16 weights, and the verdict that follows from them: whether f16 is safe for the model.
pub(super) struct HalfRuns {
    /// The run with 16-bit activations; `None` if a weight overflows f16, or if the CPU ran the model.
    both: Option<PrecisionRun>,
    /// The run with f32 activations; `None` if a weight overflows f16, or if 16-bit activations are safe.
    weights_alone: Option<PrecisionRun>,
    pub verdict: F16Verdict,
}

impl HalfRuns {
    /// Runs the texts with f16 weights. Also returns the model that is loaded after these runs: `model` itself, or the
    /// model with f16 weights.
    pub async fn new(
        builder: &EmbedderBuilder,
        mut model: Embedder,
        f32: &F32Run,
        texts: &[String],
        progress: &mut impl FnMut(&str),
    ) -> Result<(Embedder, Self), Error> {
        let verdict = |both: Option<&PrecisionRun>, alone: Option<&PrecisionRun>| {
            let [both, alone] = [both, alone].map(|run| run.map(|run| f32.agreement(run, None)));
            judge(&f32.weights, &f32.activations, both.as_ref(), alone.as_ref())
        };
        if judge::overflowing_weight(&f32.weights).is_some() {
            let verdict = verdict(None, None);
            return Ok((model, HalfRuns { both: None, weights_alone: None, verdict }));
        }
        drop(model);
        progress("loading in f16");
        let half = DtypeOptions {
            dtype: DtypeRequest::Float16,
            half_fallback: HalfFallback::Packed,
            activations: Some(ActivationsRequest::F16),
        };
        model = builder.clone().with_dtype_options(half).measured(None).build().await?;
        progress("running in f16");
        let both = run(&model, model.precision().clone(), texts, false).await?;
        if both.precision.activations == Storage::F32 {
            // The CPU stores activations in f32, so this run had no f16 activations.
            let verdict = verdict(None, Some(&both));
            return Ok((model, HalfRuns { both: None, weights_alone: Some(both), verdict }));
        }
        let mut weights_alone = None;
        if verdict(Some(&both), None).safety != F16Safety::Safe {
            progress("running with f16 weights and f32 activations");
            // This run can use the loaded model, because the storage type of activations does not affect the loaded
            // weights.
            let precision = Precision { activations: Storage::F32, ..model.precision().clone() };
            weights_alone = Some(run(&model, precision, texts, false).await?);
        }
        let verdict = verdict(Some(&both), weights_alone.as_ref());
        Ok((model, HalfRuns { both: Some(both), weights_alone, verdict }))
    }

    /// Returns the runs whose precision is safe according to `safety`.
    pub fn usable(&self, safety: F16Safety) -> impl Iterator<Item = &PrecisionRun> {
        self.both.iter().filter(move |_| safety == F16Safety::Safe).chain(&self.weights_alone)
    }

    /// Compares the rows of each run with the rows of the run in f32.
    pub fn agreements(&self, f32: &F32Run) -> Vec<Agreement> {
        self.both.iter().chain(&self.weights_alone).map(|run| f32.agreement(run, None)).collect()
    }
}

/// Loads the model in f32. If f32 weights do not fit into memory and the checkpoint has 16-bit weights, the 16-bit
/// weights are loaded unchanged. The 16-bit weights hold the same values as f32 weights, and with f32 activations the
/// arithmetic is the same.
pub(super) async fn load_f32(builder: &EmbedderBuilder) -> Result<Embedder, Error> {
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

/// Runs the texts in `precision`, which the dtype policy derived from the request and the verdict. If an earlier run
/// had the same storage types, its result is returned instead.
pub(super) async fn requested(
    builder: &EmbedderBuilder,
    model: Embedder,
    mut precision: Precision,
    verdict: &F16Verdict,
    f32: &PrecisionRun,
    texts: &[String],
) -> Result<PrecisionRun, Error> {
    let storages = |precision: &Precision| (precision.weights, precision.activations);
    if storages(&precision) == storages(&f32.precision) {
        precision.weight_bytes = f32.precision.weight_bytes;
        return Ok(PrecisionRun { precision, rows: f32.rows.clone() });
    }
    if precision.weights == model.precision().weights {
        precision.weight_bytes = model.precision().weight_bytes;
        return run(&model, precision, texts, true).await;
    }
    drop(model);
    let model = builder.clone().measured(Some(verdict.clone())).build().await?;
    run(&model, model.precision().clone(), texts, true).await
}

/// Runs the texts in `precision`, whose weights the embedder has loaded. If `retries` is true and the precision allows
/// it, texts whose activations overflow are run again with f32 activations.
async fn run(
    embedder: &Embedder,
    precision: Precision,
    texts: &[String],
    retries: bool,
) -> Result<PrecisionRun, Error> {
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
    Ok(PrecisionRun { precision, rows })
}
