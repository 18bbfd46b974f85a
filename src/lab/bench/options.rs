//! The options of a bench.

use std::path::PathBuf;

use crate::gpu::adapter::{AdapterChoice, Feature};
use crate::lab::combination::Combination;

/// Options of [`bench`](super::bench()). An empty list means that the bench uses its default.
#[derive(Debug, Clone, Default)]
pub struct BenchOptions {
    /// The adapters to run on. An empty list means the best adapter.
    pub adapters: Vec<AdapterChoice>,
    /// The precisions to compare. The bench always adds f32.
    pub precisions: Vec<Combination>,
    /// The token budgets of a batch. The throughput is measured for every combination of a budget and a length of text.
    pub batch_tokens: Vec<usize>,
    /// The lengths of texts in tokens. The throughput is measured for every combination of a length and a token budget.
    pub lengths: Vec<usize>,
    /// The name of the texts' source, for reports, and the texts to run. `None` means the built-in texts.
    pub texts: Option<(String, Vec<String>)>,
    /// The name of the pairs' source, for reports, and pairs of texts with scores. With pairs, the bench reports
    /// Spearman's rank correlation.
    pub pairs: Option<(String, Vec<Pair>)>,
    /// The number of rounds of each measurement; `None` for the default.
    pub rounds: Option<usize>,
    /// If true, the bench has fewer precisions, sizes and rounds.
    pub quick: bool,
    /// If true, the bench also times every kernel at the model's shapes, in each storage type and variant.
    pub kernels: bool,
    /// The name of this run in reports.
    pub label: Option<String>,
    /// The features that Vectile must not use, even if an adapter has them.
    pub disabled: Vec<Feature>,
    /// The maximum memory in bytes that the model may use in each precision.
    pub max_memory: Option<u64>,
    /// The cache directory, which holds test results of adapters and results of `vectile verify` on models.
    pub cache_dir: Option<PathBuf>,
}

/// Two texts with a human-assigned similarity score.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// The two texts to compare.
    pub texts: [String; 2],
    /// The score; higher means more similar.
    pub score: f64,
}

/// A function that is called before each step with the step's description, the number of finished steps and the number
/// of all steps.
pub type Progress<'a> = &'a mut dyn FnMut(&str, usize, usize);

impl BenchOptions {
    pub(super) fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 3 } else { 5 }).max(1)
    }

    /// Returns the maximum number of texts on which accuracy is measured. The cost is quadratic, because the search for
    /// nearest neighbours compares every text with every other text.
    pub(super) fn accuracy_texts(&self) -> usize {
        if self.quick { 48 } else { 500 }
    }
}
