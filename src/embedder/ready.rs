//! What is known of a model before its weights are loaded: that its files fit together, the device and its
//! kernels, the precision, and what it takes of memory.

use crate::config::{Input, KindConfig, ModelConfig, ModelKind, Module, Weighting};
use crate::dtype::Precision;
use crate::embedder::MemoryEstimate;
#[cfg(feature = "lab")]
use crate::embedder::estimate;
use crate::embedder::opening::Opening;
use crate::embedder::run::Model;
use crate::embedder::sides;
use crate::error::Error;
use crate::files::ModelFiles;
use crate::gpu::adapter::AdapterSummary;
use crate::gpu::executor::{Executor, PipelineKey};
#[cfg(feature = "lab")]
use crate::kernels::KernelPlan;
use crate::kernels::MAX_BATCH_TOKENS;
#[cfg(feature = "lab")]
use crate::kernels::matmul::WeightShape;
use crate::models;
use crate::tokenize::Tokenizer;
use crate::weights::WeightFiles;

/// A model that may be loaded.
pub(crate) struct Ready {
    pub(super) model: Model,
    pub(super) opening: Opening,
    pub(crate) executor: Executor,
    pub(crate) precision: Precision,
    pub(crate) adapter: AdapterSummary,
    pub(super) memory: MemoryEstimate,
    /// The pipelines that batches need.
    pub(super) pipelines: Vec<PipelineKey>,
}

#[cfg(feature = "lab")]
impl Ready {
    /// Which kernels the model would run.
    pub(crate) fn plan(&self) -> KernelPlan {
        self.opening.plan(&self.executor.gpu)
    }

    /// The shapes of its matmuls, each once: cells of a row of x and of a row of the weight.
    pub(crate) fn shapes(&self) -> Result<Vec<WeightShape>, Error> {
        estimate::shapes(&self.model, &self.precision, &self.plan(), &self.adapter)
    }
}

/// Everything that can be checked without a device.
pub(super) fn read_model(
    files: ModelFiles,
    kind: ModelKind,
    lora_task: Option<&str>,
) -> Result<Model, Error> {
    let mut config = ModelConfig::load_as(&files, kind)?;
    let mut weights = WeightFiles::open(&files, &config.weights_prefix)?;
    if let Some(head) = config.kind.head_beside() {
        weights.add_linear(&files, head)?;
    }
    let mut transformer = match config.input {
        Input::Transformer => {
            models::read(&config.transformer, &weights, config.module_code.as_deref())?
        }
        input => models::static_embedding(&weights, input)?,
    };
    if let Some(task) = lora_task {
        transformer.set_task(task)?;
    }
    let facts = transformer.facts();
    if config.input != Input::Transformer {
        config.pool_static(facts.hidden)?;
    }
    if matches!(&config.kind, KindConfig::MultiVector(multi) if multi.projection.is_none()) {
        config.check_token_widths(facts.hidden)?;
    }
    let mut dimension = facts.hidden;
    let mut include_prompt = true;
    let mut module_weights = Vec::new();
    for module in &config.modules {
        let path = match module {
            Module::Pooling(pooling) => {
                if pooling.dimension != facts.hidden {
                    let problem = format!(
                        "is {}, and the transformer's hidden_size is {}",
                        pooling.dimension, facts.hidden
                    );
                    return Err(Error::config(
                        "the Pooling module's config.json",
                        "embedding_dimension",
                        problem,
                    ));
                }
                include_prompt = pooling.include_prompt;
                dimension = pooling.output_dimension();
                None
            }
            Module::Dense { path, out_features, .. } => {
                dimension = *out_features;
                Some(path)
            }
            Module::LayerNorm { path, .. } => Some(path),
            Module::Normalize => None,
        };
        module_weights.push(match path {
            Some(path) => {
                Some(WeightFiles::open(&files, &format!("{}/", path.trim_end_matches('/')))?)
            }
            None => None,
        });
    }
    let mut tokenizer = Tokenizer::load(&files, &config, facts.table_rows, facts.positions)?;
    let head = match &config.kind {
        KindConfig::Dense => None,
        KindConfig::Reranker(scoring) => Some(match scoring.answers {
            None => models::classifier(&config.transformer, facts.hidden)?,
            Some(answers) => {
                let tokens = tokenizer.answers(answers)?;
                models::causal_lm(&config.transformer, &weights, facts.hidden, &tokens)?
            }
        }),
        KindConfig::Sparse(sparse) => Some(match sparse.weighting {
            Weighting::Splade { .. } => {
                models::masked_lm(&config.transformer, &weights, facts.hidden)?
            }
            Weighting::Lexical => models::token_weight(facts.hidden),
        }),
        KindConfig::MultiVector(multi) => {
            let head = |head| models::projection(head, &weights, facts.hidden);
            multi.projection.map(head).transpose()?
        }
    };
    if let Some(head) = &head {
        dimension = head.labels;
        tokenizer.pass_over(head.skipped_at_end);
    }
    if let KindConfig::MultiVector(multi) = &config.kind {
        tokenizer.add_prefix_tokens(&multi.prefixes)?;
    }
    let model = Model {
        files,
        config,
        weights,
        module_weights,
        transformer,
        head,
        tokenizer,
        dimension,
        include_prompt,
    };
    model.check_types(&model.tokenizer.encode(None, "a")?)?;
    sides::check(&model)?;
    Ok(model)
}

/// Tokens of a batch: what the caller says, else what suits the class of adapter; never so many that
/// an activation exceeds one binding.
pub(super) fn batch_tokens(asked: Option<usize>, adapter: &AdapterSummary, widest: usize) -> usize {
    let suits = if adapter.is_software() { 2048 } else { 16384 };
    let bytes = adapter.max_binding_bytes.min(adapter.max_buffer_bytes).min(i32::MAX as u64);
    let fits = usize::try_from(bytes / (widest as u64 * 4)).unwrap_or(usize::MAX);
    asked.unwrap_or(suits).min(MAX_BATCH_TOKENS).min(fits).max(1)
}
