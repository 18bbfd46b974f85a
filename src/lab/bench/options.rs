//! The options of a bench.

use std::path::PathBuf;

use crate::gpu::adapter::{AdapterChoice, Feature};
use crate::lab::combination::Combination;

/// Options of [`bench`](super::bench()). An empty list stands for a default choice.
#[derive(Debug, Clone, Default)]
pub struct BenchOptions {
    /// The adapters to run on. An empty list means the best adapter.
    pub adapters: Vec<AdapterChoice>,
    /// The precisions to compare. f32 is always added.
    pub precisions: Vec<Combination>,
    /// The maximum number of tokens in a batch. Each value adds a series of cells.
    pub batch_tokens: Vec<usize>,
    /// The lengths of texts in tokens. Each value adds a series of cells.
    pub lengths: Vec<usize>,
    /// The name of a source of texts, and its texts. `None` means the built-in texts.
    pub texts: Option<(String, Vec<String>)>,
    /// The name of a source of scored pairs, and its pairs.
    pub pairs: Option<(String, Vec<Pair>)>,
    /// The number of rounds of each measurement.
    pub rounds: Option<usize>,
    /// Runs fewer precisions, cells and rounds.
    pub quick: bool,
    /// Also times every kernel at the model's shapes, in each storage and variant.
    pub kernels: bool,
    /// A name for this run in reports.
    pub label: Option<String>,
    /// Features to ignore even if the adapters have them.
    pub disabled: Vec<Feature>,
    /// The maximum memory in bytes that the model may take in each precision.
    pub max_memory: Option<u64>,
    /// The directory with verdicts on adapters and models.
    pub cache_dir: Option<PathBuf>,
}

/// Two texts with a similarity score that people gave them.
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

    /// Returns the maximum number of texts on which accuracy is measured. The cost is quadratic, because every text is
    /// compared with every other to find its neighbours.
    pub(super) fn accuracy_texts(&self) -> usize {
        if self.quick { 48 } else { 500 }
    }
}
