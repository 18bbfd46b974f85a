//! What an embedder is made of, for `vectile inspect`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::batch::PackedBatch;
use crate::config::Module;
use crate::dtype::Precision;
use crate::embedder::run::Model;
use crate::embedder::{
    EmbedTask, Embedder, MemoryEstimate, MultiVectorEncoder, Reranker, SparseEncoder,
};
use crate::error::{plain, size};
use crate::gpu::adapter::AdapterSummary;
use crate::kernels::matmul::Variant;
use crate::models::Step;

/// A module of the model, in the order they are applied.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModuleSummary {
    /// `Transformer`, `StaticEmbedding`, `model2vec`, `Pooling`, `Dense`, `LayerNorm` or `Normalize`; of
    /// a head's steps also `Vocabulary` and `LogitScore`, and `Activation`, `Weights`, `Queries` or `Documents`
    /// for what the host makes of its results.
    pub kind: String,
    /// What its files say.
    pub settings: String,
}

/// A tensor of the model's files.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TensorSummary {
    /// Its name.
    pub name: String,
    /// Its dtype in the file.
    pub dtype: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// False for poolers, heads and the like, which embeddings do not need.
    pub used: bool,
}

/// A dispatch of the forward pass.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DispatchSummary {
    /// The kernel.
    pub kernel: String,
    /// Of a matmul the variant that suits the rows.
    pub variant: Option<String>,
    /// The transformer layer it is part of, counted from 0; `None` before and after the layers.
    pub layer: Option<usize>,
    /// The tensor it writes.
    pub writes: String,
    /// Workgroups in x, y and z.
    pub workgroups: [u32; 3],
    /// Floating point operations, roughly.
    pub flops: u64,
}

/// The kernels that a model runs on its adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelChoice {
    /// `software` or `gpu`.
    pub family: String,
    /// How linear layers are computed.
    pub matmul: String,
    /// Why not otherwise: why f16 is not computed by cooperative matrices on a GPU, or tiles have one size.
    pub because: Option<String>,
}

impl fmt::Display for KernelChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, matmul by {}", self.family, self.matmul)?;
        match &self.because {
            Some(because) => write!(f, " ({because})"),
            None => Ok(()),
        }
    }
}

/// What an embedder, a reranker, a sparse or a multi-vector encoder is made of: prints as text, serialises
/// as JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    /// Where the model is from.
    pub model: String,
    /// Its `model_type`; empty where it has no transformer.
    pub model_type: String,
    /// Its modules.
    pub modules: Vec<ModuleSummary>,
    /// Values of a vector; scores of a pair.
    pub dimension: usize,
    /// Tokens of a text or a pair, at most.
    pub max_seq_length: Option<usize>,
    /// Tokens that the tokenizer knows, and rows of the embedding table.
    pub vocabulary: [usize; 2],
    /// Prompts by name.
    pub prompts: BTreeMap<String, String>,
    /// The prompt used where the caller names none.
    pub default_prompt_name: Option<String>,
    /// How it runs, and why.
    pub precision: Precision,
    /// Where it runs.
    pub adapter: AdapterSummary,
    /// By which kernels.
    pub kernels: KernelChoice,
    /// Tokens of a batch, at most.
    pub batch_tokens: usize,
    /// Bytes of activations for a full batch of texts of the longest length.
    pub activation_bytes: u64,
    /// What loading and running it takes of memory, as it was estimated beforehand.
    pub memory: MemoryEstimate,
    /// The forward pass of one text of 32 tokens, or as many as the model takes.
    pub graph: Vec<DispatchSummary>,
    /// The transformer's tensors and those of modules.
    pub tensors: Vec<TensorSummary>,
    /// What was assumed.
    pub notes: Vec<String>,
}

impl Embedder {
    /// What this embedder is made of.
    pub async fn inspect(&self) -> Inspection {
        let model = &self.model;
        let runtime = self.runtime.lock().await;
        let longest = self.max_seq_length().unwrap_or(512).min(self.batch_tokens).max(1);
        let graph = |texts: usize, tokens: usize| {
            let batch = PackedBatch::uniform(tokens, texts);
            runtime.graph(&self.precision, &batch).graph
        };
        let full = graph((self.batch_tokens / longest).max(1), longest);
        let short = graph(1, longest.min(32));
        let dispatches = short.dispatches.iter().map(|dispatch| {
            let written = short.written(dispatch).map(|id| &short.tensors[id.0]);
            DispatchSummary {
                kernel: dispatch.kernel.name.to_owned(),
                variant: Variant::of_dispatch(dispatch).map(|variant| variant.to_string()),
                layer: written.and_then(|tensor| tensor.layer),
                writes: written.map_or_else(String::new, |tensor| tensor.name.to_owned()),
                workgroups: dispatch.workgroups.to_array(),
                flops: dispatch.flops,
            }
        });
        Inspection {
            model: model.files.label(),
            model_type: model
                .config
                .transformer
                .str("model_type")
                .ok()
                .flatten()
                .unwrap_or("")
                .to_owned(),
            modules: model.summaries(),
            dimension: model.dimension,
            max_seq_length: self.max_seq_length(),
            vocabulary: [model.tokenizer.vocab_size(), model.transformer.facts().table_rows],
            prompts: model.config.prompts.clone(),
            default_prompt_name: model.config.default_prompt_name.clone(),
            precision: self.precision.clone(),
            adapter: self.adapter.clone(),
            kernels: runtime.kernels(&self.precision),
            batch_tokens: self.batch_tokens,
            activation_bytes: full.scratch_bytes(),
            memory: self.memory,
            graph: dispatches.collect(),
            tensors: self.tensor_summaries(),
            notes: model.config.notes.clone(),
        }
    }

    fn tensor_summaries(&self) -> Vec<TensorSummary> {
        let modules = self.model.module_weights.iter().flatten();
        std::iter::once(&self.model.weights)
            .chain(modules)
            .flat_map(crate::weights::WeightFiles::listing)
            .map(|(name, dtype, shape, used)| TensorSummary { name, dtype, shape, used })
            .collect()
    }
}

/// A name of the code as the model's files have it.
fn lower(name: &impl fmt::Debug) -> String {
    format!("{name:?}").to_lowercase()
}

impl Model {
    /// The steps of its head and its modules, in the order they are applied.
    pub fn summaries(&self) -> Vec<ModuleSummary> {
        let summary = |kind: &str, settings| ModuleSummary { kind: kind.to_owned(), settings };
        let first = self.config.input.module();
        let mut summaries = vec![summary(first, self.transformer.describe())];
        for step in self.head.iter().flat_map(|head| &head.steps) {
            summaries.push(match step {
                Step::Pool(mode) => summary("Pooling", lower(mode)),
                Step::Linear { bias, inner, columns, activation, .. } => {
                    let bias = if *bias { ", bias" } else { "" };
                    let activation = lower(activation);
                    summary("Dense", format!("{inner} → {columns}, {activation}{bias}"))
                }
                Step::Norm { width, .. } => summary("LayerNorm", format!("{width} values")),
                Step::Vocabulary { inner, labels, .. } => {
                    summary("Vocabulary", format!("{inner} → {labels}, the largest of all tokens"))
                }
                Step::Tokens { rows, inner, vocabulary, .. } => {
                    let rows: Vec<String> = rows.iter().map(usize::to_string).collect();
                    let settings =
                        format!("{inner} → tokens {} of {vocabulary}", rows.join(" and "));
                    summary("LogitScore", settings)
                }
            });
        }
        for module in &self.config.modules {
            summaries.push(match module {
                Module::Pooling(pooling) => {
                    let modes: Vec<String> = pooling.modes.iter().map(lower).collect();
                    let prompt = if pooling.include_prompt { "" } else { ", without the prompt" };
                    let width = pooling.output_dimension();
                    summary("Pooling", format!("{}{prompt}, {width} values", modes.join(" and ")))
                }
                Module::Dense { in_features, out_features, bias, activation, residual, .. } => {
                    let bias = if *bias { ", bias" } else { "" };
                    let residual = if *residual { ", residual" } else { "" };
                    let activation = lower(activation);
                    let settings =
                        format!("{in_features} → {out_features}, {activation}{bias}{residual}");
                    summary("Dense", settings)
                }
                Module::LayerNorm { dimension, .. } => {
                    summary("LayerNorm", format!("{dimension} values"))
                }
                Module::Normalize => summary("Normalize", "to length one".to_owned()),
            });
        }
        summaries
    }
}

impl Reranker {
    /// What this reranker is made of.
    pub async fn inspect(&self) -> Inspection {
        let mut inspection = self.runs().inspect().await;
        inspection.dimension = self.labels();
        let settings = lower(&self.activation());
        inspection.modules.push(ModuleSummary { kind: "Activation".to_owned(), settings });
        inspection
    }
}

impl SparseEncoder {
    /// What this sparse encoder is made of.
    pub async fn inspect(&self) -> Inspection {
        let mut inspection = self.runs().inspect().await;
        inspection.dimension = self.dimension();
        let settings = self.describe();
        inspection.modules.push(ModuleSummary { kind: "Weights".to_owned(), settings });
        inspection
    }
}

impl MultiVectorEncoder {
    /// What this multi-vector encoder is made of.
    pub async fn inspect(&self) -> Inspection {
        let mut inspection = self.runs().inspect().await;
        for (kind, side) in [("Queries", EmbedTask::Query), ("Documents", EmbedTask::Document)] {
            let settings = self.describe(side);
            inspection.modules.push(ModuleSummary { kind: kind.to_owned(), settings });
        }
        inspection
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "model        {}", self.model)?;
        match self.model_type.as_str() {
            "" => writeln!(f)?,
            model_type => writeln!(f, " ({model_type})")?,
        }
        for module in &self.modules {
            writeln!(f, "module       {}: {}", module.kind, module.settings)?;
        }
        writeln!(f, "dimension    {}", self.dimension)?;
        let limit = self.max_seq_length.map_or("none".to_owned(), |n| n.to_string());
        writeln!(f, "max length   {limit} tokens")?;
        let [known, rows] = self.vocabulary;
        writeln!(f, "vocabulary   {known} tokens, {rows} table rows")?;
        for (name, prompt) in &self.prompts {
            let default = self.default_prompt_name.as_ref() == Some(name);
            writeln!(
                f,
                "prompt       {name}: {prompt:?}{}",
                if default { " (default)" } else { "" }
            )?;
        }
        writeln!(f, "precision    {}", self.precision)?;
        writeln!(f, "adapter      {}", self.adapter)?;
        writeln!(f, "kernels      {}", self.kernels)?;
        writeln!(f, "weights      {}", size(self.precision.weight_bytes))?;
        writeln!(
            f,
            "activations  {} for a batch of {} tokens",
            size(self.activation_bytes),
            self.batch_tokens
        )?;
        writeln!(f, "memory       {} at most: {}", size(self.memory.peak()), self.memory)?;
        let used = self.tensors.iter().filter(|t| t.used).count();
        let ignored: Vec<String> =
            self.tensors.iter().filter(|t| !t.used).map(|t| plain(&t.name)).collect();
        writeln!(f, "tensors      {used} used, {} ignored {}", ignored.len(), ignored.join(", "))?;
        writeln!(
            f,
            "graph        {} dispatches for one short text, each with its number and layer:",
            self.graph.len()
        )?;
        for (at, dispatch) in self.graph.iter().enumerate() {
            let [x, y, z] = dispatch.workgroups;
            let layer = dispatch.layer.map_or(String::new(), |layer| layer.to_string());
            writeln!(
                f,
                "  {at:3}  {layer:3} {:15} → {:12} {x} × {y} × {z} workgroups, {:.1} MFLOP{}",
                dispatch.kernel,
                dispatch.writes,
                dispatch.flops as f64 / 1e6,
                dispatch.variant.as_ref().map_or(String::new(), |variant| format!(", {variant}"))
            )?;
        }
        for note in &self.notes {
            writeln!(f, "note         {note}")?;
        }
        Ok(())
    }
}
