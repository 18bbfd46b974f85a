//! What a model takes of memory, known before any of it is taken.

use std::fmt;

use serde::Serialize;

use crate::batch::PackedBatch;
use crate::dtype::Precision;
use crate::embedder::assembly::Assembly;
use crate::embedder::most_texts;
use crate::embedder::run::Model;
use crate::error::{Error, size};
use crate::gpu::adapter::AdapterSummary;
use crate::gpu::executor::{PipelineKey, batch_bytes, pipelines_of};
use crate::gpu::graph::Graph;
use crate::gpu::host_memory;
use crate::kernels::KernelPlan;
#[cfg(feature = "lab")]
use crate::kernels::matmul::{self, WeightShape};
use crate::weights::{Destination, WeightBytes};

/// Batches are made smaller for memory down to so many tokens, where the caller does not say how many.
const FEWEST_TOKENS: usize = 128;

/// What a model takes of memory, by shapes and formats alone. On a software adapter, whose memory is the
/// host's, all of it is host memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MemoryEstimate {
    /// Weights on the device, in the format they are used in.
    pub weights: u64,
    /// Tables on the host, where a shader could not see them whole.
    pub host_tables: u64,
    /// Host memory for weights on their way to the device, while loading.
    pub loading: u64,
    /// Buffers of a full batch.
    pub batch: u64,
    /// Tokens of that batch.
    pub batch_tokens: usize,
}

impl MemoryEstimate {
    /// The most that is taken at once: nothing runs while weights are loaded.
    pub fn peak(&self) -> u64 {
        self.weights + self.host_tables + self.loading.max(self.batch)
    }
}

impl fmt::Display for MemoryEstimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "weights {}, ", size(self.weights))?;
        if self.host_tables > 0 {
            write!(f, "tables on the host {}, ", size(self.host_tables))?;
        }
        let (batch, tokens) = (size(self.batch), self.batch_tokens);
        write!(f, "loading them {}, a batch of {tokens} tokens {batch}", size(self.loading))
    }
}

/// How much there is, and who says so.
#[derive(Clone, Copy)]
enum Available {
    Allowed(u64),
    Free(u64),
}

impl Available {
    /// The smaller of what the caller allows and, on a software adapter, what the host has. No API tells
    /// how much memory a GPU has left.
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
                "max_memory allows {bytes}; allow more, or use a 16-bit dtype or a smaller model"
            ),
            Available::Free(_) => write!(
                f,
                "this machine, in whose memory a software adapter computes, has {bytes} free; use a \
                 16-bit dtype or a smaller model, or close other programs"
            ),
        }
    }
}

/// What was found out by counting.
pub(super) struct Fitted {
    pub memory: MemoryEstimate,
    /// The pipelines that batches of the model need, to be made while weights are loaded.
    pub pipelines: Vec<PipelineKey>,
}

/// An estimate that fits what there is: with batches of `tokens` tokens, or fewer unless those are
/// `fixed`.
///
/// # Errors
/// [`Error::TooLarge`] where it does not fit; any of a tensor that is missing or misshapen.
pub(super) fn fit(
    model: &Model,
    precision: &Precision,
    plan: &KernelPlan,
    adapter: &AdapterSummary,
    max_memory: Option<u64>,
    (mut tokens, fixed): (usize, bool),
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
        let Some(available) = available.filter(|most| most.bytes() < estimate.peak()) else {
            let single = singles(model, tokens).map(|b| assembly.graph(plan, precision, &b).graph);
            let pipelines = pipelines_of(graphs.iter().chain(&single));
            return Ok(Fitted { memory: estimate, pipelines });
        };
        if !fixed && tokens > FEWEST_TOKENS && estimate.batch > estimate.loading {
            tokens = (tokens / 2).max(FEWEST_TOKENS);
            continue;
        }
        let needed = estimate.peak();
        let (name, needs) = (model.files.label(), size(needed));
        return Err(Error::TooLarge {
            adapter: adapter.name.clone(),
            needed,
            available: available.bytes(),
            problem: format!("{name} needs {needs} of memory ({estimate}) and {available}"),
        });
    }
}

/// The kernels of a model in their variants, each once, for a text of one token.
///
/// # Errors
/// Any of a tensor that is missing or misshapen.
pub(super) fn kernels(
    model: &Model,
    precision: &Precision,
    plan: &KernelPlan,
    adapter: &AdapterSummary,
) -> Result<Vec<PipelineKey>, Error> {
    Ok(pipelines_of(std::iter::once(&of_a_token(model, precision, plan, adapter)?)))
}

/// The shapes of a model's matmuls, each once: cells of a row of x and of a row of the weight.
///
/// # Errors
/// Any of a tensor that is missing or misshapen.
#[cfg(feature = "lab")]
pub(super) fn shapes(
    model: &Model,
    precision: &Precision,
    plan: &KernelPlan,
    adapter: &AdapterSummary,
) -> Result<Vec<WeightShape>, Error> {
    let graph = of_a_token(model, precision, plan, adapter)?;
    let mut shapes: Vec<WeightShape> = Vec::new();
    for shape in graph.dispatches.iter().filter_map(matmul::shape) {
        if !shapes.contains(&shape) {
            shapes.push(shape);
        }
    }
    Ok(shapes)
}

/// The graph of a text of one token, with no weights behind it.
fn of_a_token(
    model: &Model,
    precision: &Precision,
    plan: &KernelPlan,
    adapter: &AdapterSummary,
) -> Result<Graph, Error> {
    let mut counting = Destination::counting(adapter);
    let assembly = Assembly::load(model, precision.weights, &mut counting)?;
    Ok(assembly.graph(plan, precision, &PackedBatch::uniform(1, 1)).graph)
}

/// A query, and a text of some length, each by itself: few rows take other forms of kernels than many.
fn singles(model: &Model, tokens: usize) -> [PackedBatch; 2] {
    let longest = model.tokenizer.limit().unwrap_or(512).clamp(1, tokens);
    [12, 128].map(|length| PackedBatch::uniform(length.min(longest), 1))
}

/// Full batches of so many tokens: of texts as long as they may be, and of as many short ones as may go
/// together, whose rows are what takes memory then.
fn batches(model: &Model, adapter: &AdapterSummary, tokens: usize) -> [PackedBatch; 2] {
    let longest = model.tokenizer.limit().unwrap_or(512).clamp(1, tokens);
    let shortest = longest.min(4);
    [longest, shortest].map(|length| {
        PackedBatch::uniform(
            length,
            (tokens / length).clamp(1, most_texts(model.dimension, adapter)),
        )
    })
}

impl MemoryEstimate {
    /// Adds what was expected to the error of memory that ran out while loading.
    pub(super) fn explain(&self, error: Error) -> Error {
        match error {
            Error::OutOfMemory { adapter, what, bytes, advice } => {
                let advice = format!(
                    "{advice}; loading and running the model takes about {} ({self})",
                    size(self.peak())
                );
                Error::OutOfMemory { adapter, what, bytes, advice }
            }
            other => other,
        }
    }
}
