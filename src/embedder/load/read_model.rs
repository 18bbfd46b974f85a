//! Reads a model's files, and checks that they are consistent. No device is needed.

use crate::config::{
    FirstModule, KindConfig, ModelConfig, ModelKind, Module, Pooling, RerankerConfig, Weighting,
};
use crate::embedder::model::Model;
use crate::embedder::query_document;
use crate::error::Error;
use crate::files::ModelFiles;
use crate::models::{self, Head, Transformer};
use crate::tokenize::{Tokenizer, TransformersVersion};
use crate::weights::WeightFiles;

/// Reads the files of a model of the given kind. `lora_task` names the task whose LoRA is merged into the weights.
/// `version` overrides the version of transformers whose tokenization rules apply.
///
/// # Errors
/// Returns an error that names the file, field, tensor or option at fault.
pub(in crate::embedder) fn read_model(
    files: ModelFiles,
    kind: ModelKind,
    lora_task: Option<&str>,
    version: Option<TransformersVersion>,
) -> Result<Model, Error> {
    let mut config = ModelConfig::load_as(&files, kind)?;
    let mut weights = WeightFiles::open(&files, &config.weights_prefix)?;
    if let Some(head) = config.kind.head_beside() {
        weights.add_linear(&files, head)?;
    }
    if config.input == FirstModule::StaticEmbedding && has_byte_table(&weights) {
        config.read_as_model2vec()?;
    }
    let transformer = read_transformer(&config, &weights, lora_task)?;
    let facts = transformer.facts();
    if config.input != FirstModule::Transformer {
        config.pool_static(facts.hidden)?;
    }
    if let Some(width) = facts.projected_from {
        config.pool_projected(width, facts.hidden);
    }
    if matches!(&config.kind, KindConfig::MultiVector(multi) if multi.projection.is_none()) {
        config.check_token_widths(facts.hidden)?;
    }
    let modules = read_modules(&files, &config.modules, facts.hidden)?;
    let mut tokenizer =
        Tokenizer::load(&files, &config, facts.table_rows, facts.positions, version)?;
    config.notes.extend_from_slice(tokenizer.notes());
    let head = read_head(&config, &weights, facts.hidden, &tokenizer)?;
    if let Some(head) = &head {
        tokenizer.pass_over(head.skipped_at_end);
    }
    if let KindConfig::MultiVector(multi) = &config.kind {
        tokenizer.add_prefix_tokens(&multi.prefixes)?;
    }
    let model = Model {
        files,
        config,
        weights,
        module_weights: modules.weights,
        transformer,
        dimension: head.as_ref().map_or(modules.dimension, |head| head.labels),
        head,
        tokenizer,
        include_prompt: modules.include_prompt,
    };
    model.check_types(&model.tokenizer.encode(None, "a")?)?;
    query_document::check(&model)?;
    Ok(model)
}

/// Returns true if the embedding table of a static model holds 8-bit integers.
fn has_byte_table(weights: &WeightFiles) -> bool {
    let names = ["embedding.weight", "embeddings"].into_iter().filter(|name| weights.has(name));
    names
        .filter_map(|name| weights.find(name).ok())
        .any(|(_, entry)| entry.dtype == safetensors::Dtype::I8)
}

fn read_transformer(
    config: &ModelConfig,
    weights: &WeightFiles,
    lora_task: Option<&str>,
) -> Result<Box<dyn Transformer>, Error> {
    let mut transformer = match config.input {
        FirstModule::Transformer => {
            models::read(&config.transformer, weights, config.module_code.as_deref())?
        }
        input => models::static_embedding(weights, input)?,
    };
    if let Some(task) = lora_task {
        transformer.set_task(task)?;
    }
    Ok(transformer)
}

/// The modules after the transformer, with their weights.
struct Modules {
    /// The number of values in an output row after the last module.
    dimension: usize,
    include_prompt: bool,
    /// The weights of each module; `None` for a module without weights.
    weights: Vec<Option<WeightFiles>>,
}

fn read_modules(files: &ModelFiles, modules: &[Module], hidden: usize) -> Result<Modules, Error> {
    let mut read = Modules { dimension: hidden, include_prompt: true, weights: Vec::new() };
    for module in modules {
        let path = match module {
            Module::Pooling(pooling) => {
                check_pooling(pooling, hidden)?;
                read.include_prompt = pooling.include_prompt;
                read.dimension = pooling.output_dimension();
                None
            }
            Module::Dense { path, out_features, .. } => {
                read.dimension = *out_features;
                Some(path)
            }
            Module::LayerNorm { path, .. } => Some(path),
            Module::Normalize => None,
        };
        let open =
            |path: &String| WeightFiles::open(files, &format!("{}/", path.trim_end_matches('/')));
        read.weights.push(path.map(open).transpose()?);
    }
    Ok(read)
}

fn check_pooling(pooling: &Pooling, hidden: usize) -> Result<(), Error> {
    if pooling.dimension == hidden {
        return Ok(());
    }
    let width = pooling.dimension;
    let problem =
        format!("is {width}, but the transformer's hidden_size is {hidden}; they must be equal");
    Err(Error::config("the Pooling module's config.json", "embedding_dimension", problem))
}

/// Returns the head that is stored with the transformer's checkpoint. Returns `None` if this kind of model does not use
/// such a head.
fn read_head(
    config: &ModelConfig,
    weights: &WeightFiles,
    hidden: usize,
    tokenizer: &Tokenizer,
) -> Result<Option<Head>, Error> {
    let head = match &config.kind {
        KindConfig::Dense => return Ok(None),
        KindConfig::Reranker(RerankerConfig { answers: None, .. }) => {
            models::classifier(&config.transformer, hidden)?
        }
        KindConfig::Reranker(RerankerConfig { answers: Some(answers), .. }) => {
            let tokens = tokenizer.answers(*answers)?;
            models::causal_lm(&config.transformer, weights, hidden, &tokens)?
        }
        KindConfig::Sparse(sparse) => match sparse.weighting {
            Weighting::Splade { .. } => models::masked_lm(&config.transformer, weights, hidden)?,
            Weighting::Lexical => models::token_weight(hidden),
        },
        KindConfig::MultiVector(multi) => {
            let head = |head| models::projection(head, weights, hidden);
            return multi.projection.map(head).transpose();
        }
    };
    Ok(Some(head))
}
