//! Facts about a served model, for routes and metrics.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::ServedModel;
use crate::config::ModelKind;
use crate::dtype::Precision;
use crate::gpu::adapter::AdapterSummary;
use crate::server::metrics::{ModelGauges, Stage};
use crate::server::served::LoadedModel;
use crate::similarity::SimilarityFunction;

/// Fixed facts about a served model, and whether the model is ready.
#[derive(Debug, Clone)]
pub(crate) struct ModelDescription {
    pub kind: ModelKind,
    /// The number of values in a vector. For a reranker, this is the number of labels. For a sparse encoder, this is
    /// the number of tokens in the vocabulary.
    pub dimension: usize,
    /// Maximum number of tokens of a text, or of a pair, or `None` if the model names no limit.
    pub max_tokens: Option<usize>,
    /// The model's prompts by name.
    pub prompts: BTreeMap<String, String>,
    pub default_prompt: Option<String>,
    /// Names of a reranker's labels. The list is empty for other kinds of model.
    pub labels: Vec<String>,
    /// sentence-transformers' name for the pooling of a dense model. The name is empty for other kinds of model.
    pub pooling: String,
    /// Is true if texts that are too long are truncated at their start.
    pub truncates_left: bool,
    /// Token budget of a batch.
    pub batch_tokens: usize,
    /// Token budget of the queue.
    pub max_queue_tokens: usize,
    /// Assumptions made where the model's files are silent.
    pub notes: Vec<String>,
    pub adapter: AdapterSummary,
    pub precision: Precision,
    pub ready: bool,
}

impl ServedModel {
    /// Returns the model's name in requests.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn kind(&self) -> ModelKind {
        self.model.kind()
    }

    pub fn describe(&self) -> ModelDescription {
        let runs = self.model.runner();
        let (labels, pooling) = match &self.model {
            LoadedModel::Reranker(reranker) => (reranker.label_names(), String::new()),
            LoadedModel::Dense(_) => (Vec::new(), runs.pooling()),
            LoadedModel::Sparse(_) | LoadedModel::MultiVector(_) => (Vec::new(), String::new()),
        };
        ModelDescription {
            kind: self.kind(),
            dimension: runs.dimension(),
            max_tokens: runs.max_seq_length(),
            prompts: runs.prompts().clone(),
            default_prompt: runs.default_prompt_name().map(str::to_owned),
            labels,
            pooling,
            truncates_left: runs.truncates_left(),
            batch_tokens: runs.batch_tokens(),
            max_queue_tokens: self.budget.limit(),
            notes: runs.notes().to_vec(),
            adapter: runs.adapter().clone(),
            precision: runs.precision().clone(),
            ready: self.health.is_ready(),
        }
    }

    /// Returns the function that compares the vectors of a dense model. For other kinds of model, returns the default
    /// function.
    pub fn similarity_function(&self) -> SimilarityFunction {
        match &self.model {
            LoadedModel::Dense(embedder) => embedder.similarity_function(),
            _ => SimilarityFunction::default(),
        }
    }

    /// Returns the current values of the model's gauges and counters.
    pub fn gauges(&self) -> ModelGauges {
        let depth = self.queue.depth();
        let count = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        ModelGauges {
            name: self.name.clone(),
            queue_requests: depth.requests,
            queue_texts: depth.texts,
            queue_tokens: depth.tokens,
            budget_used_tokens: self.budget.used(),
            budget_limit_tokens: self.budget.limit(),
            batch_token_budget: self.model.runner().batch_tokens(),
            ready: self.health.is_ready(),
            batches: count(&self.progress.batches),
            tokens: count(&self.progress.tokens),
            gpu_busy: Duration::from_nanos(count(&self.progress.busy)),
            dropped_texts: self.queue.dropped(),
        }
    }

    /// Records the time that a request spent in a stage.
    pub fn record(&self, stage: Stage, time: Duration) {
        self.metrics.stage(stage, time);
    }
}
