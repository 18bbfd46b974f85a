//! [`Inspection`], which holds all facts that `vectile inspect` prints.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::batch::PackedBatch;
use crate::dtype::Precision;
use crate::embedder::device::KernelChoice;
use crate::embedder::memory::MemoryEstimate;
use crate::embedder::model::ModuleSummary;
use crate::embedder::run::Runner;
use crate::embedder::text_model::TextModel;
use crate::embedder::{Embedder, MultiVectorEncoder, Reranker, SparseEncoder};
use crate::error::{plain, size};
use crate::gpu::adapter::AdapterSummary;
use crate::kernels::matmul::Variant;
use crate::weights::WeightFiles;

/// A tensor of the model's files.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TensorSummary {
    /// The name of the tensor.
    pub name: String,
    /// The tensor's dtype in the file.
    pub dtype: String,
    /// The shape of the tensor.
    pub shape: Vec<usize>,
    /// False if this kind of model does not use the tensor, which is common for poolers and heads.
    pub used: bool,
}

/// A dispatch of the forward pass.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DispatchSummary {
    /// The name of the kernel.
    pub kernel: String,
    /// The variant that the row count selects, if the kernel is a matmul.
    pub variant: Option<String>,
    /// The transformer layer to which the dispatch belongs, counted from 0; `None` before and after the layers.
    pub layer: Option<usize>,
    /// The name of the tensor that the dispatch writes.
    pub writes: String,
    /// The numbers of workgroups in x, y and z.
    pub workgroups: [u32; 3],
    /// The approximate number of floating-point operations.
    pub flops: u64,
}

/// A description of a model of any kind, and of how it runs on this machine. This type implements `Display` for text
/// and `Serialize` for JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    /// The directory or repository that the model was read from.
    pub model: String,
    /// The model's `model_type`; empty for a model without a transformer.
    pub model_type: String,
    /// The model's modules, in the order of application.
    pub modules: Vec<ModuleSummary>,
    /// The number of values in a vector, or the number of scores for a pair.
    pub dimension: usize,
    /// The function that compares results: `cosine`, `dot`, `euclidean`, `manhattan`, `maxsim` or `meanmaxsim`.
    /// `None` for a reranker, whose results are scores already.
    pub similarity: Option<String>,
    /// The maximum number of tokens of a text or a pair.
    pub max_seq_length: Option<usize>,
    /// The number of tokens in the tokenizer, and the number of rows in the embedding table.
    pub vocabulary: [usize; 2],
    /// The model's prompts by name.
    pub prompts: BTreeMap<String, String>,
    /// The name of the prompt that is used if the caller names none.
    pub default_prompt_name: Option<String>,
    /// The precision in which the model runs, and the reasons for this choice.
    pub precision: Precision,
    /// The adapter on which the model runs.
    pub adapter: AdapterSummary,
    /// The kernels that the model runs.
    pub kernels: KernelChoice,
    /// The token budget of a batch.
    pub batch_tokens: usize,
    /// The bytes of activations for a full batch of texts of the maximum length.
    pub activation_bytes: u64,
    /// The estimate, made before loading, of the memory that the model needs.
    pub memory: MemoryEstimate,
    /// The dispatches of the forward pass over one text of 32 tokens, or of the model's maximum number of tokens if
    /// that is smaller.
    pub graph: Vec<DispatchSummary>,
    /// The tensors of the transformer and of the modules.
    pub tensors: Vec<TensorSummary>,
    /// The assumptions that Vectile made where the model's files give no value.
    pub notes: Vec<String>,
}

impl Runner {
    /// Returns a description of how the model runs on the device. The steps on the host are not included.
    async fn inspect(&self) -> Inspection {
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
        let model_type = model.config.transformer.str("model_type").ok().flatten();
        let tensors = model.weight_files().flat_map(WeightFiles::listing);
        Inspection {
            model: model.files.label(),
            model_type: model_type.unwrap_or("").to_owned(),
            modules: model.summaries(),
            dimension: model.dimension,
            similarity: None,
            max_seq_length: self.max_seq_length(),
            vocabulary: [model.tokenizer.vocab_size(), model.transformer.facts().table_rows],
            prompts: model.config.prompts.clone(),
            default_prompt_name: model.config.default_prompt_name.clone(),
            precision: self.precision.clone(),
            adapter: self.adapter.clone(),
            kernels: runtime.kernel_choice(&self.precision),
            batch_tokens: self.batch_tokens,
            activation_bytes: full.scratch_bytes(),
            memory: self.memory,
            graph: dispatches.collect(),
            tensors: tensors
                .map(|(name, dtype, shape, used)| TensorSummary { name, dtype, shape, used })
                .collect(),
            notes: model.config.notes.clone(),
        }
    }
}

async fn inspect<M: TextModel>(model: &M) -> Inspection {
    let mut inspection = model.runner().inspect().await;
    inspection.dimension = model.dimension();
    inspection.similarity = model.similarity_name().map(str::to_owned);
    inspection.modules.extend(model.describe());
    inspection
}

impl Embedder {
    /// Returns a description of the embedder and of how it runs on this machine.
    pub async fn inspect(&self) -> Inspection {
        inspect(self).await
    }
}

impl Reranker {
    /// Returns a description of the reranker and of how it runs on this machine.
    pub async fn inspect(&self) -> Inspection {
        inspect(self).await
    }
}

impl SparseEncoder {
    /// Returns a description of the sparse encoder and of how it runs on this machine.
    pub async fn inspect(&self) -> Inspection {
        inspect(self).await
    }
}

impl MultiVectorEncoder {
    /// Returns a description of the multi-vector encoder and of how it runs on this machine.
    pub async fn inspect(&self) -> Inspection {
        inspect(self).await
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
        if let Some(similarity) = &self.similarity {
            writeln!(f, "similarity   {similarity}")?;
        }
        let limit = self.max_seq_length.map_or("none".to_owned(), |n| n.to_string());
        writeln!(f, "max length   {limit} tokens")?;
        let [known, rows] = self.vocabulary;
        writeln!(f, "vocabulary   {known} tokens, {rows} rows in the embedding table")?;
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
        writeln!(f, "memory       at most {}: {}", size(self.memory.peak()), self.memory)?;
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
