//! Estimates the memory that a model needs, before any of it is allocated, and finds the largest batch that fits.

use std::fmt;

use serde::Serialize;

use crate::batch::PackedBatch;
use crate::dtype::Precision;
use crate::embedder::assembly::Assembly;
use crate::embedder::model::Model;
use crate::error::{Error, size};
use crate::gpu::adapter::AdapterSummary;
use crate::gpu::executor::{PipelineKey, batch_bytes, pipelines_of};
use crate::gpu::graph::Graph;
use crate::gpu::host_memory;
use crate::kernels::{KernelPlan, MAX_BATCH_TOKENS};
use crate::weights::{Destination, WeightBytes};

/// The minimum token budget: if memory is short, the budget is not reduced below this number.
const MIN_BATCH_TOKENS: usize = 128;

/// The maximum bytes of all output rows of a batch. The limit matters for sparse encoders, because each of their rows
/// has a value for each token of the vocabulary.
const MAX_ROW_BYTES: u64 = 64 << 20;

/// The memory that a model needs, computed from shapes and storage types alone. On a software adapter, all of this
/// memory is host memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MemoryEstimate {
    /// The bytes of the weights on the device.
    pub weights: u64,
    /// The bytes of embedding tables that stay on the host because they exceed the maximum size of a binding.
    pub host_tables: u64,
    /// The bytes of host memory that a load temporarily needs to convert and upload weights.
    pub loading: u64,
    /// The bytes of the buffers of a full batch.
    pub batch: u64,
    /// The token budget of a batch.
    pub batch_tokens: usize,
}

impl MemoryEstimate {
    /// Returns the maximum number of bytes that are in use at the same time. No batch runs while weights load, so only
    /// the larger of `loading` and `batch` counts.
    pub fn peak(&self) -> u64 {
        self.weights + self.host_tables + self.loading.max(self.batch)
    }
}

impl fmt::Display for MemoryEstimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for the weights, ", size(self.weights))?;
        if self.host_tables > 0 {
            write!(f, "{} for tables on the host, ", size(self.host_tables))?;
        }
        let (batch, tokens) = (size(self.batch), self.batch_tokens);
        write!(
            f,
            "{} for loading the weights, {batch} for a batch of {tokens} tokens",
            size(self.loading)
        )
    }
}

/// The number of bytes that a model may use, and the source of this limit.
#[derive(Clone, Copy)]
enum Available {
    /// The number of bytes that the caller's setting `max_memory` allows.
    Allowed(u64),
    /// The number of bytes of free memory on the host.
    Free(u64),
}

impl Available {
    /// Returns the smaller of the caller's limit and, on a software adapter, the host's free memory. On a GPU, only the
    /// caller's limit applies, because no API reports a GPU's free memory.
    fn on(adapter: &AdapterSummary, max_memory: Option<u64>) -> Option<Self> {
        let host = host_memory::available().filter(|_| adapter.is_software());
        let both = [max_memory.map(Available::Allowed), host.map(Available::Free)];
        both.into_iter().flatten().min_by_key(|available| available.bytes())
    }

    fn bytes(self) -> u64 {
        match self {
            Available::Allowed(bytes) | Available::Free(bytes) => bytes,
        }
    }
}

impl fmt::Display for Available {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = size(self.bytes());
        match self {
            Available::Allowed(_) => write!(
                f,
                "max_memory allows {bytes}; raise max_memory, or use a 16-bit dtype or a smaller \
                 model"
            ),
            Available::Free(_) => write!(
                f,
                "this machine has {bytes} free, and a software adapter computes in that memory; use a \
                 16-bit dtype or a smaller model, or close other programs"
            ),
        }
    }
}

/// The result of [`fit`]: the estimated memory, and the pipelines that the model needs.
pub(super) struct Fitted {
    pub memory: MemoryEstimate,
    /// The pipelines that the model's batches need. These pipelines are compiled while weights load.
    pub pipelines: Vec<PipelineKey>,
}

/// The token budget of a batch, before it is reduced to fit memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct TokenBudget {
    pub tokens: usize,
    /// True if the caller set the budget. A budget that the caller set is not reduced to fit memory.
    pub fixed: bool,
}

impl TokenBudget {
    /// Returns the caller's budget, or else the default for this class of adapter. In both cases, the budget is lowered
    /// until an activation tensor of a full batch, with `widest` values per token, fits one binding.
    pub fn choose(asked: Option<usize>, adapter: &AdapterSummary, widest: usize) -> Self {
        let default = if adapter.is_software() { 2048 } else { 16384 };
        let bytes = adapter.max_binding_bytes.min(adapter.max_buffer_bytes).min(i32::MAX as u64);
        let fits = usize::try_from(bytes / (widest as u64 * 4)).unwrap_or(usize::MAX);
        let tokens = asked.unwrap_or(default).min(MAX_BATCH_TOKENS).min(fits).max(1);
        TokenBudget { tokens, fixed: asked.is_some() }
    }
}

/// Returns the maximum number of texts in a batch. Their rows together must fit one binding and `MAX_ROW_BYTES`.
pub(super) fn max_batch_texts(dimension: usize, adapter: &AdapterSummary) -> usize {
    let row = (dimension.next_multiple_of(4) * 4) as u64;
    let bytes = adapter.max_binding_bytes.min(MAX_ROW_BYTES);
    usize::try_from(bytes / row).unwrap_or(usize::MAX).max(1)
}

/// Estimates the memory that the model needs. If the token budget is not fixed, it is reduced until the model fits.
///
/// # Errors
/// Returns [`Error::TooLarge`] if the model does not fit, and errors about missing or misshapen tensors.
pub(super) fn fit(
    model: &Model,
    precision: &Precision,
    plan: &KernelPlan,
    adapter: &AdapterSummary,
    max_memory: Option<u64>,
    TokenBudget { mut tokens, fixed }: TokenBudget,
) -> Result<Fitted, Error> {
    let mut counting = Destination::counting(adapter);
    let assembly = Assembly::load(model, precision.weights, &mut counting)?;
    let bytes = counting.finish()?;
    let available = Available::on(adapter, max_memory);
    loop {
        let graphs = batches(model, adapter, tokens)
            .map(|batch| assembly.graph(plan, precision, &batch).graph);
        let WeightBytes { device, host, .. } = bytes;
        let estimate = MemoryEstimate {
            weights: device,
            host_tables: host,
            loading: bytes.staging(),
            batch: graphs.iter().map(batch_bytes).max().unwrap_or(0),
            batch_tokens: tokens,
        };
        let too_small = |available: &Available| available.bytes() < estimate.peak();
        let Some(available) = available.filter(too_small) else {
            let single = singles(model, tokens).map(|b| assembly.graph(plan, precision, &b).graph);
            let pipelines = pipelines_of(graphs.iter().chain(&single));
            return Ok(Fitted { memory: estimate, pipelines });
        };
        if !fixed && tokens > MIN_BATCH_TOKENS && estimate.batch > estimate.loading {
            tokens = (tokens / 2).max(MIN_BATCH_TOKENS);
            continue;
        }
        let needed = estimate.peak();
        let (name, needs) = (model.files.label(), size(needed));
        return Err(Error::TooLarge {
            adapter: adapter.name.clone(),
            needed,
            available: available.bytes(),
            problem: format!("{name} needs {needs} of memory ({estimate}), but {available}"),
        });
    }
}

/// Returns the pipelines that the model needs for a text of one token, without duplicates.
///
/// # Errors
/// Returns errors about missing or misshapen tensors.
pub(super) fn kernels(
    model: &Model,
    precision: &Precision,
    plan: &KernelPlan,
    adapter: &AdapterSummary,
) -> Result<Vec<PipelineKey>, Error> {
    Ok(pipelines_of(std::iter::once(&one_token_graph(model, precision, plan, adapter)?)))
}

/// Returns the graph of the forward pass over a text of one token. No weights are loaded.
///
/// # Errors
/// Returns errors about missing or misshapen tensors.
pub(super) fn one_token_graph(
    model: &Model,
    precision: &Precision,
    plan: &KernelPlan,
    adapter: &AdapterSummary,
) -> Result<Graph, Error> {
    let mut counting = Destination::counting(adapter);
    let assembly = Assembly::load(model, precision.weights, &mut counting)?;
    Ok(assembly.graph(plan, precision, &PackedBatch::uniform(1, 1)).graph)
}

/// Returns two batches of one text each: first a short query, then a longer text. Batches with few rows and batches
/// with many rows can need different kernel variants.
fn singles(model: &Model, tokens: usize) -> [PackedBatch; 2] {
    let longest = model.tokenizer.limit().unwrap_or(512).clamp(1, tokens);
    [12, 128].map(|length| PackedBatch::uniform(length.min(longest), 1))
}

/// Returns two full batches of `tokens` tokens. One holds texts of the maximum length, and the other holds as many
/// short texts as fit. In the batch of short texts, the output rows take most of the memory.
fn batches(model: &Model, adapter: &AdapterSummary, tokens: usize) -> [PackedBatch; 2] {
    let longest = model.tokenizer.limit().unwrap_or(512).clamp(1, tokens);
    let shortest = longest.min(4);
    [longest, shortest].map(|length| {
        PackedBatch::uniform(
            length,
            (tokens / length).clamp(1, max_batch_texts(model.dimension, adapter)),
        )
    })
}

impl MemoryEstimate {
    /// Adds this estimate to the error of a load that ran out of memory, and returns other errors unchanged.
    pub(super) fn explain(&self, error: Error) -> Error {
        match error {
            Error::OutOfMemory { adapter, what, bytes, advice } => {
                let advice = format!(
                    "{advice}; loading and running the model needs about {} of memory ({self})",
                    size(self.peak())
                );
                Error::OutOfMemory { adapter, what, bytes, advice }
            }
            other => other,
        }
    }
}
