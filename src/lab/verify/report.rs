//! Defines the report of `vectile verify`, as text and as JSON.

use std::fmt;

use serde::Serialize;

use super::against_cpu::AgainstCpu;
use super::agreement::Agreement;
use super::judge;
use super::reference::ReferenceSummary;
use crate::dtype::{F16Verdict, Precision, ShaderF16, Storage};
use crate::embedder::report::activation_ranges::{ActivationRange, KeptIn, WeightRange};
use crate::gpu::adapter::AdapterSummary;
use crate::selftest::KernelCheck;

/// The name and version of the JSON's schema. The version grows if a field changes its meaning or is removed. New
/// fields do not change the version.
pub(super) const SCHEMA: &str = "vectile-verify/1";

/// The results of [`verify`](super::verify) for a model on an adapter.
///
/// Texts are numbered from 0. The texts of the reference come after the texts to measure on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verification {
    /// The name and version of the JSON's schema: `vectile-verify/1`.
    pub schema: &'static str,
    /// The version of Vectile that made the report.
    pub vectile: &'static str,
    /// The model's directory or Hub name.
    pub model: String,
    /// The SHA-256 of the model's weight files.
    pub weights_sha256: String,
    /// The adapter that ran the model.
    pub adapter: AdapterSummary,
    /// The usability of f16 on the adapter, according to the known-answer tests in `kernels`.
    pub shader_f16: ShaderF16,
    /// The results of the known-answer tests of every kernel, in every variant and storage type that the adapter can
    /// run.
    pub kernels: Vec<KernelCheck>,
    /// The precision in which the model runs, according to the requested dtype and the measured verdict.
    pub precision: Precision,
    /// The source of the texts: a file's name, or `built-in`.
    pub texts_from: String,
    /// The number of texts that were run, including the texts of the reference.
    pub texts: usize,
    /// The number of tokens in all texts.
    pub tokens: usize,
    /// A summary of the reference vectors; `None` if there are none for this model.
    pub reference: Option<ReferenceSummary>,
    /// The comparisons of precisions with the reference: f32, then f16 if it is safe, then the requested precision.
    pub comparisons: Vec<Agreement>,
    /// The comparison with the CPU's vectors of the same texts, which needs no reference.
    pub against_cpu: AgainstCpu,
    /// The storage type of the weights in the f32 run. If f32 weights did not fit into memory, this is the checkpoint's
    /// own 16-bit type, which holds the same values.
    pub f32_weights: Storage,
    /// The comparison of the requested precision with f32 on the same texts.
    pub as_asked: Agreement,
    /// The indices of the texts that have no finite vector even in f32.
    pub not_finite_in_f32: Vec<usize>,
    /// The largest activation of each tensor, in the order in which kernels write them.
    pub activations: Vec<ActivationRange>,
    /// The indices of the texts with an activation beyond the largest f16 value.
    pub texts_beyond_f16: Vec<usize>,
    /// The range of the values in each tensor of the checkpoint.
    pub weights: Vec<WeightRange>,
    /// The comparisons of 16-bit weights with f32: first with 16-bit activations, and then with f32 activations if
    /// 16-bit activations are not safe.
    pub f16: Vec<Agreement>,
    /// The verdict on whether f16 is safe for the model, measured on these texts.
    pub verdict: F16Verdict,
    /// The verdict that later loads use: the stricter of `verdict` and the verdict that was stored before.
    pub kept_verdict: F16Verdict,
    /// The files for the verdict, each with the reason if it could not be written.
    pub kept: Vec<KeptIn>,
    /// The checks that failed, one sentence each.
    pub failures: Vec<String>,
    /// True if every check passed.
    pub passed: bool,
    /// The texts, for the printed report. The JSON does not contain the texts, because users may publish the JSON.
    #[serde(skip)]
    pub(super) shown: Vec<String>,
    #[serde(skip)]
    pub(super) first_of_reference: usize,
}

impl Verification {
    /// Sets `failures` and `passed` from the other fields.
    pub(super) fn settle(&mut self) {
        let mut failures = Vec::new();
        for check in self.kernels.iter().filter(|check| check.used && !check.passed) {
            failures.push(format!(
                "kernel {} ({}) gives wrong results: {}",
                check.kernel,
                stored(check),
                error(check)
            ));
        }
        if let Some(text) = self.not_finite_in_f32.first() {
            failures.push(format!("{} has no vector even in f32", self.text(*text)));
        }
        for comparison in self.comparisons.iter().filter(|comparison| !comparison.passed()) {
            let what = storages(comparison.weights, comparison.activations);
            failures.push(match comparison.unusable.first() {
                Some(text) => {
                    format!("{} of the reference has no vector with {what}", self.text(*text))
                }
                None => {
                    format!("with {what}, vectors differ from the reference: {}", far(comparison))
                }
            });
        }
        failures.extend(self.differences_from_cpu());
        if !self.as_asked.passed() && self.not_finite_in_f32.is_empty() {
            let what = storages(self.as_asked.weights, self.as_asked.activations);
            failures.push(match self.as_asked.unusable.first() {
                Some(text) => format!(
                    "{} has no vector with {what}, the requested precision: {}",
                    self.text(*text),
                    self.verdict.decided_by
                ),
                None => {
                    format!(
                        "with {what}, the requested precision, vectors are wrong: {}",
                        far(&self.as_asked)
                    )
                }
            });
        }
        for place in self.kept.iter().filter(|place| place.asked_for) {
            if let Some(problem) = &place.problem {
                let path = place.path.display();
                failures.push(format!("{path}: the verdict cannot be written: {problem}"));
            }
        }
        self.passed = failures.is_empty();
        self.failures = failures;
    }

    /// Returns the failures of the comparison with the CPU. Texts without a vector are left out if another check reports
    /// them.
    fn differences_from_cpu(&self) -> Vec<String> {
        let found = &self.against_cpu;
        let mut failures = Vec::new();
        let mut reported = [&self.not_finite_in_f32[..], &self.as_asked.unusable].concat();
        if let Some(text) = found.not_finite.iter().find(|text| !reported.contains(text)) {
            failures.push(format!("{} has no vector on the CPU even in f32", self.text(*text)));
        }
        reported.extend(&found.not_finite);
        for comparison in found.comparisons.iter().filter(|comparison| !comparison.passed()) {
            let what = storages(comparison.weights, comparison.activations);
            match comparison.failed.len() {
                0 => {
                    let lost = comparison.unusable.iter().find(|text| !reported.contains(text));
                    failures.extend(
                        lost.map(|text| format!("{} has no vector with {what}", self.text(*text))),
                    );
                }
                texts => failures.push(format!(
                    "with {what}, vectors differ from the CPU's in {texts} of {} texts: {}; the \
                     largest error is in {}",
                    comparison.texts,
                    far(comparison),
                    self.text(comparison.max_error_text)
                )),
            }
        }
        failures.extend(found.traced_text.map(|text| self.first_difference(text)));
        failures
    }

    /// Returns the place where the tensors of a text begin to differ from the CPU's tensors, as a sentence.
    fn first_difference(&self, text: usize) -> String {
        let traced = self.text(text);
        let Some(first) = &self.against_cpu.first_difference else {
            return format!(
                "in f32, no tensor of {traced} differs when this text runs alone and not in a batch"
            );
        };
        let by = match (first.error, first.share) {
            (Some(error), Some(share)) => {
                format!("differs first: an error of {error:.1e}, {share:.1} times the tolerance")
            }
            _ => "is the first tensor with a value that is not finite".to_owned(),
        };
        format!(
            "in f32, {} of {traced}, which the kernel {} writes, {by} at token {}",
            first.place(),
            first.kernel,
            first.token
        )
    }

    /// Returns the number of a text and its first 40 characters.
    fn text(&self, text: usize) -> String {
        let Some(content) = self.shown.get(text) else { return format!("text {text}") };
        let mut begin: String = content.chars().take(40).collect();
        if begin.len() < content.len() {
            begin.push('…');
        }
        let part = if text >= self.first_of_reference { " (of the reference)" } else { "" };
        format!("text {text}{part} {begin:?}")
    }
}

fn storages(weights: Storage, activations: Storage) -> String {
    format!("{weights} weights and {activations} activations")
}

/// Returns the kernel variant and the storage types of a check, in words.
fn stored(check: &KernelCheck) -> String {
    let mut parts = vec![check.variant.clone()];
    parts.extend(check.weights.map(|storage| format!("{storage} weights")));
    parts.extend(check.activations.map(|storage| format!("{storage} activations")));
    parts.join(", ")
}

fn error(check: &KernelCheck) -> String {
    match (&check.problem, check.error, check.share) {
        (Some(problem), ..) => problem.clone(),
        (None, Some(error), Some(share)) => {
            format!("an error of {error:.1e}, {share:.1} times the tolerance")
        }
        _ => "no answer".to_owned(),
    }
}

/// Returns the figures of a comparison and their tolerance, in words.
fn far(agreement: &Agreement) -> String {
    let mut text = format!(
        "smallest cosine {}, largest error {:.1e}",
        cosine(agreement.min_cosine),
        agreement.max_error
    );
    if let Some(tolerance) = agreement.tolerance {
        text += &format!(
            " (required: a cosine of at least {} and an error of at most {:.0e})",
            tolerance.min_cosine, tolerance.max_error
        );
    }
    text
}

/// Returns a cosine as text. A cosine close to one is written as its difference from one, such as `1 − 2.1e-12`.
fn cosine(value: f64) -> String {
    let below = 1.0 - value;
    if below.abs() < 1e-6 { format!("1 − {:.1e}", below.max(0.0)) } else { format!("{value:.7}") }
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "model        {}", self.model)?;
        writeln!(f, "weights      SHA-256 {}", self.weights_sha256)?;
        writeln!(f, "adapter      {}", self.adapter)?;
        writeln!(f, "precision    {}", self.precision)?;
        self.kernels(f)?;
        self.vectors(f)?;
        self.ranges(f)?;
        writeln!(f, "\nf16          {}: {}", self.verdict.safety, self.verdict.decided_by)?;
        if self.kept_verdict != self.verdict {
            writeln!(
                f,
                "             the stored verdict is stricter, so it stays in use: {}: {}",
                self.kept_verdict.safety, self.kept_verdict.decided_by
            )?;
        }
        if self.adapter.is_cpu() {
            writeln!(
                f,
                "             the verdict is not stored, because the CPU has no f16 activations"
            )?;
        } else if self.kept.is_empty() {
            writeln!(
                f,
                "             the verdict is not stored, because there is no cache directory"
            )?;
        }
        for place in &self.kept {
            let path = place.path.display();
            match &place.problem {
                None => writeln!(f, "             the verdict is stored in {path}")?,
                Some(problem) => {
                    writeln!(f, "             the verdict is NOT stored in {path}: {problem}")?
                }
            }
        }
        writeln!(f)?;
        for failure in &self.failures {
            writeln!(f, "FAILED: {failure}")?;
        }
        writeln!(f, "{}", if self.passed { "PASSED" } else { "NOT PASSED" })
    }
}

impl Verification {
    fn kernels(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let passed = self.kernels.iter().filter(|check| check.passed).count();
        writeln!(f, "\nkernels      {passed} of {} known-answer tests passed", self.kernels.len())?;
        writeln!(
            f,
            "  {:15} {:16} {:11} {:11} {:>8}  share of tolerance",
            "kernel", "variant", "weights", "activations", "error"
        )?;
        for check in &self.kernels {
            let storage =
                |storage: Option<Storage>| storage.map_or(String::new(), |s| s.to_string());
            let number = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.1e}"));
            let share = check.share.map_or("-".to_owned(), |share| format!("{share:.2}"));
            write!(
                f,
                "  {:15} {:16} {:11} {:11} {:>8}  {share:>5}  {}",
                check.kernel,
                check.variant,
                storage(check.weights),
                storage(check.activations),
                number(check.error),
                if check.passed { "pass" } else { "FAIL" }
            )?;
            if !check.used {
                f.write_str(" (not used on this adapter)")?;
            }
            match &check.problem {
                Some(problem) => writeln!(f, ": {problem}")?,
                None => writeln!(f)?,
            }
        }
        if self.shader_f16 == ShaderF16::FailedSelfTest {
            writeln!(
                f,
                "  SHADER_F16 failed its self-test on this adapter, so f32 or packed f16 replaces \
                 f16"
            )?;
        }
        Ok(())
    }

    fn vectors(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reference {
            Some(reference) => writeln!(
                f,
                "\nreference    {} texts, {}{}",
                reference.texts,
                reference.source,
                if reference.exact { ", computed in float64" } else { "" }
            )?,
            None => writeln!(
                f,
                "\nreference    none: Vectile ships no reference vectors for these weights, so {}; to \
                 compare vectors with another library's, give --reference",
                match self.against_cpu.skipped {
                    None => "the CPU's vectors verify f32",
                    Some(_) => "f32 itself is not verified",
                }
            )?,
        }
        for agreement in &self.comparisons {
            self.agreement(f, agreement)?;
        }
        match &self.against_cpu.skipped {
            None => writeln!(
                f,
                "\nagainst CPU  {} texts, run on the CPU in f32 without shaders",
                self.texts
            )?,
            Some(reason) => writeln!(f, "\nagainst CPU  not compared: {reason}")?,
        }
        for agreement in &self.against_cpu.comparisons {
            self.agreement(f, agreement)?;
        }
        if let Some(text) = self.against_cpu.traced_text {
            writeln!(f, "  {}", self.first_difference(text))?;
        }
        writeln!(
            f,
            "\nagainst f32  {} texts, {} tokens ({})",
            self.texts, self.tokens, self.texts_from
        )?;
        if self.f32_weights != Storage::F32 {
            writeln!(
                f,
                "  f32 weights do not fit on this adapter; the checkpoint's own {} weights, which hold the \
                 same values, replace them",
                self.f32_weights
            )?;
        }
        for agreement in self.f16.iter().chain([&self.as_asked]) {
            self.agreement(f, agreement)?;
        }
        Ok(())
    }

    fn agreement(&self, f: &mut fmt::Formatter<'_>, agreement: &Agreement) -> fmt::Result {
        write!(
            f,
            "  {:11} {:11} cosine {} smallest, {} mean; largest error {:.1e} in text {}",
            agreement.weights.to_string(),
            agreement.activations.to_string(),
            cosine(agreement.min_cosine),
            cosine(agreement.mean_cosine),
            agreement.max_error,
            agreement.max_error_text
        )?;
        if !agreement.unusable.is_empty() {
            write!(
                f,
                "; {} texts have no vector, because values are out of range",
                agreement.unusable.len()
            )?;
        }
        let Some(share) = agreement.share else { return writeln!(f) };
        let passed = if agreement.passed() { "pass" } else { "FAIL" };
        writeln!(f, "; {share:.2} of the tolerance  {passed}")
    }

    fn ranges(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = Storage::F16.max();
        writeln!(
            f,
            "\nactivations  the largest value of each tensor in f32, and how many times larger {most} is"
        )?;
        for range in &self.activations {
            let (largest, fits) = match range.largest {
                Some(0.0) => ("0".to_owned(), "-".to_owned()),
                Some(largest) => (format!("{largest:.4}"), format!("{:.1}", most / largest)),
                None => ("not finite".to_owned(), "-".to_owned()),
            };
            let layer = range.layer.map_or("-".to_owned(), |layer| layer.to_string());
            write!(
                f,
                "  layer {layer:>3}  {:24} {largest:>14}  {fits:>9} times  text {}",
                range.tensor, range.text
            )?;
            match range.texts_beyond_f16 {
                0 => writeln!(f)?,
                texts => writeln!(f, ", beyond the range of f16 in {texts} texts")?,
            }
        }
        if let Some(peak) = judge::largest(&self.activations) {
            writeln!(f, "  largest of all: {} in {}", peak.place(), self.text(peak.text))?;
        }
        if let Some(text) = self.texts_beyond_f16.first() {
            let count = self.texts_beyond_f16.len();
            writeln!(
                f,
                "  activations beyond the range of f16 in {count} texts; the first is {}",
                self.text(*text)
            )?;
        }
        let sixteen = || self.weights.iter().filter(|range| range.takes_16_bits);
        writeln!(
            f,
            "\nin f16       {} matrices and tables with {} values: {} values beyond {most}, {} become zero \
             or subnormal",
            sixteen().count(),
            sixteen().map(|range| range.values).sum::<usize>(),
            sixteen().map(|range| range.overflowed).sum::<usize>(),
            sixteen().map(|range| range.flushed).sum::<usize>(),
        )?;
        let mut ranked: Vec<&WeightRange> = self.weights.iter().collect();
        ranked.sort_by(|a, b| b.largest.total_cmp(&a.largest));
        for range in ranked.iter().take(5) {
            let tensor = crate::error::plain(&range.tensor);
            writeln!(
                f,
                "  {tensor:60} {:>12.4}  {} in the file, {} values become zero or subnormal{}",
                range.largest,
                range.dtype,
                range.flushed,
                if range.takes_16_bits { "" } else { ", always f32" }
            )?;
        }
        Ok(())
    }
}
