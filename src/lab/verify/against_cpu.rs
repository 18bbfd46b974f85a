//! Compares an adapter's vectors with vectors that the CPU computes in f32, and finds the first tensor that differs. The
//! CPU runs no shaders, so the two implementations have no kernel code in common.

use serde::Serialize;

use super::agreement::{Agreement, Tolerance};
use super::runs::{self, PrecisionRun};
use crate::dtype::Storage;
use crate::embedder::report::activation_ranges::Probed;
use crate::embedder::report::activation_trace::TracedTensor;
use crate::embedder::tolerance::RowDistance;
use crate::embedder::{Embedder, EmbedderBuilder};
use crate::error::Error;
use crate::gpu::adapter::{AdapterChoice, AdapterSummary};

/// The number of texts that run on the CPU between two messages about the progress.
const TEXTS_AT_ONCE: usize = 8;

/// The comparison of an adapter's vectors with the CPU's vectors in f32 of the same texts.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct AgainstCpu {
    /// The reason why nothing was compared; `None` if vectors were compared.
    pub skipped: Option<String>,
    /// True if every comparison passed; `None` if nothing was compared.
    pub passed: Option<bool>,
    /// The indices of the texts that have no finite vector on the CPU.
    pub not_finite: Vec<usize>,
    /// The comparison of each precision with the CPU: f32, then f16 if it is safe, then the requested precision.
    pub comparisons: Vec<Agreement>,
    /// The index of the text whose tensors were compared: the shortest text whose f32 vectors on the adapter and on the
    /// CPU differ. `None` if all texts agree.
    pub traced_text: Option<usize>,
    /// The first tensor of this text that differs; `None` if no tensor differs.
    pub first_difference: Option<FirstDifference>,
}

/// The first tensor whose values in f32 differ between an adapter and the CPU.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FirstDifference {
    /// The transformer layer, counted from 0; `None` for a tensor outside of the layers.
    pub layer: Option<usize>,
    /// The tensor's name, as in [`ActivationRange`](super::ActivationRange).
    pub tensor: String,
    /// The adapter's kernel that writes the tensor.
    pub kernel: String,
    /// The index of the token whose values differ most, counted from the beginning of the text.
    pub token: usize,
    /// The largest difference between a value of this token and the CPU's value, divided by the Euclidean length of the
    /// CPU's values; `None` if a value is not finite.
    pub error: Option<f64>,
    /// The distance of the token's values from the CPU's values, as a share of the tolerance; above 1 means beyond the
    /// tolerance. `None` if a value is not finite.
    pub share: Option<f64>,
}

impl FirstDifference {
    /// Returns the layer and the name of the tensor, such as `layer 0 up`.
    pub fn place(&self) -> String {
        match self.layer {
            Some(layer) => format!("layer {layer} {}", self.tensor),
            None => self.tensor.clone(),
        }
    }
}

/// Runs the texts on the CPU in f32, and compares each of the runs with the CPU's rows. The first run is in f32. If its
/// rows differ from the CPU's rows, this function also finds the first tensor that differs.
///
/// The caller must drop its loaded model first, because two copies of the weights may not fit into memory. If the CPU
/// cannot hold the model, the comparison is skipped.
///
/// # Errors
/// Returns the errors of loading and running the model.
pub(super) async fn compare_with_cpu(
    builder: &EmbedderBuilder,
    adapter: &AdapterSummary,
    runs: &[&PrecisionRun],
    texts: &[String],
    progress: &mut impl FnMut(&str),
) -> Result<AgainstCpu, Error> {
    let skipped = |reason: String| AgainstCpu { skipped: Some(reason), ..AgainstCpu::default() };
    if adapter.is_cpu() {
        return Ok(skipped("the CPU itself ran the model".to_owned()));
    }
    if !cfg!(feature = "cpu") {
        let reason = "this program was built without the feature `cpu`";
        return Ok(skipped(reason.to_owned()));
    }
    progress("loading on the CPU");
    let on_cpu = builder.clone().adapter(AdapterChoice::Cpu);
    let (model, cpu) = match on_the_cpu(&on_cpu, texts, progress).await {
        Ok(run) => run,
        Err(error) if is_too_large(&error) => return Ok(skipped(error.to_string())),
        Err(error) => return Err(error),
    };
    let comparisons = super::compare("cpu", runs, 0, &expected_rows(&cpu, texts.len()), false);
    let mut found = AgainstCpu {
        passed: Some(comparisons.iter().all(Agreement::passed)),
        not_finite: cpu.unusable,
        comparisons,
        ..AgainstCpu::default()
    };
    let Some(text) = found.shortest_differing(texts) else { return Ok(found) };
    progress("looking for the first layer that differs from the CPU");
    let expected = model.trace(&texts[text]).await?;
    drop(model);
    let own = runs::load_f32(builder).await?.trace(&texts[text]).await?;
    found.traced_text = Some(text);
    found.first_difference = first_difference(&own, &expected, found.comparisons[0].tolerance);
    Ok(found)
}

/// Loads the model on the CPU, and runs the texts in f32.
async fn on_the_cpu(
    builder: &EmbedderBuilder,
    texts: &[String],
    progress: &mut impl FnMut(&str),
) -> Result<(Embedder, Probed), Error> {
    let model = runs::load_f32(builder).await?;
    let mut all = Probed::default();
    for (at, some) in texts.chunks(TEXTS_AT_ONCE).enumerate() {
        let first = at * TEXTS_AT_ONCE;
        progress(&format!("running text {} of {} on the CPU", first + 1, texts.len()));
        let own = model.probe(some, Storage::F32).await?;
        all.dim = own.dim;
        all.rows.extend(own.rows);
        all.unusable.extend(own.unusable.iter().map(|text| first + text));
    }
    Ok((model, all))
}

/// Is true if a model cannot run on the CPU because of its size.
fn is_too_large(error: &Error) -> bool {
    matches!(error, Error::TooLarge { .. } | Error::OutOfMemory { .. } | Error::Adapter { .. })
}

/// Returns the rows in f64. A text without a usable row has a row of NaN.
fn expected_rows(cpu: &Probed, texts: usize) -> Vec<Vec<f64>> {
    let expected = |text| match cpu.unusable.contains(&text) {
        true => vec![f64::NAN; cpu.dim],
        false => cpu.row(text).iter().map(|value| f64::from(*value)).collect(),
    };
    (0..texts).map(expected).collect()
}

impl AgainstCpu {
    /// Returns the shortest text whose rows in f32 differ, or that has a row in f32 on the CPU only.
    fn shortest_differing(&self, texts: &[String]) -> Option<usize> {
        let f32 = self.comparisons.first()?;
        let lost = f32.unusable.iter().filter(|text| !self.not_finite.contains(text));
        f32.failed.iter().chain(lost).copied().min_by_key(|text| texts[*text].len())
    }
}

/// Returns the first tensor that differs by more than `tolerance` from the same tensor on the CPU. Each token's values
/// are compared as a vector.
fn first_difference(
    own: &[TracedTensor],
    cpu: &[TracedTensor],
    tolerance: Option<Tolerance>,
) -> Option<FirstDifference> {
    let tolerance = tolerance?;
    // The adapters may pad the rows of experts differently. Such tensors cannot be compared.
    let alike = |own: &TracedTensor, cpu: &TracedTensor| {
        (own.layer, &own.tensor, own.width, own.values.len())
            == (cpu.layer, &cpu.tensor, cpu.width, cpu.values.len())
    };
    let pairs = own.iter().zip(cpu).filter(|(own, cpu)| alike(own, cpu));
    pairs.into_iter().find_map(|(own, cpu)| {
        let (token, distance) = farthest_token(own, cpu, tolerance)?;
        Some(FirstDifference {
            layer: own.layer,
            tensor: own.tensor.clone(),
            kernel: own.kernel.clone(),
            token,
            error: distance.map(|distance| distance.error),
            share: distance.map(|distance| tolerance.share(distance)),
        })
    })
}

/// Returns the token whose values differ most, and their distance; `None` if no token exceeds the tolerance. If a token
/// has a value that is finite only on the CPU, the result is the first such token, with `None` as its distance.
fn farthest_token(
    own: &TracedTensor,
    cpu: &TracedTensor,
    tolerance: Tolerance,
) -> Option<(usize, Option<RowDistance>)> {
    let width = own.width.max(1);
    let mut farthest = None;
    let mut largest = 1.0;
    let rows = own.values.chunks_exact(width).zip(cpu.values.chunks_exact(width));
    for (token, (own, cpu)) in rows.enumerate() {
        if !cpu.iter().all(|value| value.is_finite()) {
            continue;
        }
        if !own.iter().all(|value| value.is_finite()) {
            return Some((token, None));
        }
        let expected: Vec<f64> = cpu.iter().map(|value| f64::from(*value)).collect();
        let distance = RowDistance::of(own, &expected);
        let share = tolerance.share(distance);
        if share > largest {
            largest = share;
            farthest = Some((token, Some(distance)));
        }
    }
    farthest
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERANCE: Option<Tolerance> = Some(Tolerance { min_cosine: 0.99, max_error: 0.1 });

    fn traced(layer: Option<usize>, tensor: &str, values: &[f32], width: usize) -> TracedTensor {
        let (tensor, kernel, values) = (tensor.to_owned(), "k".to_owned(), values.to_vec());
        TracedTensor { layer, tensor, kernel, values, width }
    }

    #[test]
    fn the_first_tensor_beyond_the_tolerance_is_found() {
        let cpu = [
            traced(None, "embeddings", &[1.0, 0.0, 0.0, 2.0], 2),
            traced(Some(0), "rows", &[1.0; 4], 2),
            traced(Some(0), "up", &[1.0, 0.0, 0.0, 2.0], 2),
            traced(Some(1), "up", &[1.0, 0.0, 0.0, 2.0], 2),
        ];
        let mut own = cpu.clone();
        assert_eq!(first_difference(&own, &cpu, TOLERANCE), None);
        own[0].values[0] = 1.05;
        own[1].values.extend([9.0; 4]);
        own[3].values[1] = 5.0;
        let found = first_difference(&own, &cpu, TOLERANCE).unwrap();
        assert_eq!(
            (found.place().as_str(), found.token, found.error),
            ("layer 1 up", 0, Some(5.0))
        );
        own[2].values[3] = 3.0;
        let found = first_difference(&own, &cpu, TOLERANCE).unwrap();
        assert_eq!((found.place().as_str(), found.token), ("layer 0 up", 1));
        assert_eq!((found.error, found.share), (Some(0.5), Some(5.0)));
        own[0].values[2] = f32::NAN;
        let found = first_difference(&own, &cpu, TOLERANCE).unwrap();
        assert_eq!((found.place().as_str(), found.token, found.error), ("embeddings", 1, None));
        // If the CPU's value is not finite either, this does not count as a difference.
        let mut lost = cpu.clone();
        lost[0].values[2] = f32::INFINITY;
        assert_eq!(first_difference(&own, &lost, TOLERANCE).unwrap().place(), "layer 0 up");
    }

    #[test]
    fn a_text_that_has_no_row_on_the_cpu_is_not_compared() {
        let cpu = Probed { rows: vec![1.0, 0.0, 3.0, 4.0], dim: 2, unusable: vec![1], tokens: 4 };
        let rows = expected_rows(&cpu, 2);
        assert_eq!(rows[0], [1.0, 0.0]);
        assert!(rows[1].iter().all(|value| value.is_nan()));
    }
}
