//! Runs graphs on the CPU. Every kernel is native code that uses all threads.
//!
//! The shaders define the names of the kernels and the layouts of the tensors. A kernel here takes the same parameters
//! and tensors as its shader, for any variant of the shader. Activations are always f32. 16-bit weights keep their
//! storage type, and are widened where they are used.
//!
//! | file | kernels |
//! |---|---|
//! | `matmul`, `epilogue`, `packed` | all matmuls |
//! | `attention/` | all attentions |
//! | `rows` | `layer_norm`, `rms_norm`, `normalize_l2`, `rope` |
//! | `search` | `similarity`, `top_k` |
//! | `tables` | `lookup`, `pool`, `route`, `group_rows`, `combine` |
//!
//! A row's bits depend neither on its batch nor on the number of threads. Each sum adds its terms in a fixed order, and
//! no sum is split between threads.

mod activation;
mod attention;
mod call;
mod epilogue;
mod flags;
mod machine;
mod matmul;
mod packed;
mod rows;
mod search;
mod tables;
mod vector;
mod widen;
mod workers;

use std::time::Instant;

use crate::dtype::Storage;
use crate::error::Error;
use crate::gpu::adapter::AdapterSummary;
use crate::gpu::executor::Outcome;
use crate::gpu::graph::{Dispatch, Graph, TensorId, TensorSource};
use crate::gpu::kernel::Kernel;
use crate::gpu::trace::{Measure, Trace};
use crate::kernels::matmul::{MATMUL_COOP, MATMUL_FEW, MATMUL_LANE, MATMUL_TILE};
use crate::kernels::{attention as attentions, combine, group_rows, layer_norm, lookup};
use crate::kernels::{normalize_l2, pool, rms_norm, rope, route, similarity, top_k};

use call::{Call, Operand};
use flags::Flags;
pub use machine::summary;
use packed::Packed;
use workers::Workers;

/// A weight of the model.
enum Weight {
    /// The values in their storage type, as 32-bit words.
    Words(Vec<u32>),
    /// The weight, packed for the matmuls that use it.
    Packed(Packed),
}

/// An executor that runs graphs on the CPU.
pub struct Executor {
    /// The machine's processor, as an adapter.
    pub adapter: AdapterSummary,
    workers: Workers,
    weights: Vec<Weight>,
    /// The buffers that hold activations while a graph runs. Each buffer grows to the largest size that graphs need.
    scratch: Vec<Vec<f32>>,
    /// If set, a graph with more tokens than this fails with an out-of-memory error. Tests set it.
    pub(crate) tokens_that_fit: Option<usize>,
    /// The maximum size of a batch's buffers in bytes; `None` if there is no limit.
    pub(crate) batch_limit: Option<u64>,
    /// If set, every dispatch is measured, and this trace collects the measurements.
    pub trace: Option<Trace>,
}

impl std::fmt::Debug for Executor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Executor({})", self.adapter)
    }
}

type Run = fn(&Call<'_>, &mut [f32]) -> Result<(), Error>;

/// The kernels and the native functions that compute them.
const KERNELS: &[(&Kernel, Run)] = &[
    (&lookup::LOOKUP, tables::lookup),
    (&layer_norm::LAYER_NORM, rows::layer_norm),
    (&rms_norm::RMS_NORM, rows::rms_norm),
    (&rope::ROPE, rows::rope),
    (&route::ROUTE, tables::route),
    (&group_rows::GROUP_ROWS, tables::group_rows),
    (&combine::COMBINE, tables::combine),
    (&MATMUL_TILE, matmul::matmul),
    (&MATMUL_FEW, matmul::matmul),
    (&MATMUL_COOP, matmul::matmul),
    (&MATMUL_LANE, matmul::matmul),
    (&attentions::ATTENTION_TILE, attention::attention),
    (&attentions::ATTENTION_COOP, attention::attention),
    (&attentions::ATTENTION_LANE, attention::attention),
    (&pool::POOL, tables::pool),
    (&normalize_l2::NORMALIZE_L2, rows::normalize_l2),
    (&similarity::SIMILARITY, search::similarity),
    (&top_k::TOP_K, search::top_k),
];

fn is_matmul(kernel: &Kernel) -> bool {
    [&MATMUL_TILE, &MATMUL_FEW, &MATMUL_COOP, &MATMUL_LANE].contains(&kernel)
}

impl Executor {
    /// Returns an executor with this many threads; `None` means one thread on each physical core.
    ///
    /// # Errors
    /// Returns [`Error::Internal`] if the threads cannot be started.
    pub fn new(threads: Option<usize>) -> Result<Self, Error> {
        let threads = threads.unwrap_or_else(workers::default_count).max(1);
        Ok(Executor {
            adapter: machine::summary_of(threads),
            workers: Workers::new(threads)?,
            weights: Vec::new(),
            scratch: Vec::new(),
            tokens_that_fit: None,
            batch_limit: None,
            trace: None,
        })
    }

    /// Returns the name of the matrix kernels that run on this machine.
    pub fn matrix_kernels(&self) -> String {
        packed::kernel_name()
    }

    /// Adds a weight, which [`Executor::write_weight`] then fills. Returns the weight's index.
    pub fn add_weight(&mut self, bytes: u64) -> usize {
        self.weights.push(Weight::Words(vec![0; bytes.max(16).div_ceil(4) as usize]));
        self.weights.len() - 1
    }

    /// Writes a part of a weight.
    ///
    /// # Errors
    /// Returns [`Error::Internal`] if a matmul has already used the weight.
    pub fn write_weight(&mut self, weight: usize, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let Weight::Words(words) = &mut self.weights[weight] else {
            return Err(Error::Internal(
                "a weight cannot be written after a matmul has used it".into(),
            ));
        };
        let all = bytemuck::cast_slice_mut::<u32, u8>(words);
        all[offset as usize..offset as usize + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    /// Frees the weights and the memory of activations.
    pub fn release(&mut self) {
        self.weights.clear();
        self.scratch.clear();
    }

    /// Runs a graph and returns its output.
    ///
    /// # Errors
    /// Returns [`Error::OutOfMemory`] if the batch exceeds the memory limit; [`Error::Internal`] for a graph that no
    /// model makes.
    pub fn run(&mut self, graph: &Graph) -> Result<Outcome, Error> {
        // The whole graph runs on one of the executor's threads, so that the host waits only once for a thread to wake
        // up.
        self.workers.clone().run(|| self.run_tapped(graph, &[], |_, _| ()))
    }

    /// Runs a graph, and calls `visit` with the bytes of each tensor for which `wanted` is true, as soon as the tensor's
    /// last dispatch is done.
    ///
    /// # Errors
    /// Returns the errors of [`Executor::run`].
    pub fn run_tapped(
        &mut self,
        graph: &Graph,
        wanted: &[bool],
        mut visit: impl FnMut(TensorId, &[u8]),
    ) -> Result<Outcome, Error> {
        self.check(graph)?;
        let output =
            graph.output.ok_or_else(|| Error::Internal("the graph has no output".into()))?;
        let slots = graph.slots();
        for (slot, bytes) in slots.bytes.iter().enumerate() {
            if slot == self.scratch.len() {
                self.scratch.push(Vec::new());
            }
            let length = bytes.div_ceil(4) as usize;
            if self.scratch[slot].len() < length {
                self.scratch[slot].resize(length, 0.0);
            }
        }
        let mut last_write = vec![None; graph.tensors.len()];
        for (at, dispatch) in graph.dispatches.iter().enumerate() {
            if let Some(id) = graph.written(dispatch) {
                last_write[id.0] = Some(at);
            }
        }
        let mut batch = Batch {
            inputs: graph.tensors.iter().map(input).collect(),
            of_tensor: &slots.of_tensor,
            flags: Flags::new(graph.tokens.max(1)),
        };
        for (at, tensor) in graph.tensors.iter().enumerate() {
            if let (TensorSource::Zeroed, Some(slot)) = (&tensor.source, slots.of_tensor[at]) {
                self.scratch[slot][..tensor.bytes.div_ceil(4) as usize].fill(0.0);
            }
        }
        for (at, dispatch) in graph.dispatches.iter().enumerate() {
            let since = self.trace.as_ref().filter(|t| t.measure == Measure::Gpu);
            let since = since.map(|_| Instant::now());
            self.dispatch(graph, &mut batch, dispatch)?;
            if let Some(since) = since {
                self.record(graph, dispatch, since);
            }
            let whole = graph.written(dispatch).filter(|id| {
                last_write[id.0] == Some(at) && wanted.get(id.0).copied().unwrap_or(false)
            });
            if let (Some(id), Some(values)) =
                (whole, whole.and_then(|id| self.values(graph, &batch, id)))
            {
                visit(id, bytemuck::cast_slice(values));
            }
        }
        if let Some(trace) = &mut self.trace {
            trace.batches += 1;
            let bytes = slots.bytes.iter().sum();
            trace.peak_activation_bytes = trace.peak_activation_bytes.max(bytes);
        }
        let values = self.values(graph, &batch, output);
        let values = values
            .ok_or_else(|| Error::Internal("no kernel computed the output of the graph".into()))?;
        Ok(Outcome {
            output: bytemuck::cast_slice(values).to_vec(),
            overflowed: batch.flags.into_vec(),
        })
    }

    /// Returns the values of a tensor that a dispatch has written.
    fn values(&self, graph: &Graph, batch: &Batch<'_>, id: TensorId) -> Option<&[f32]> {
        let slot = batch.of_tensor[id.0]?;
        Some(&self.scratch[slot][..graph.tensors[id.0].bytes.div_ceil(4) as usize])
    }

    /// Returns an error if a graph exceeds the memory limit.
    fn check(&self, graph: &Graph) -> Result<(), Error> {
        let out_of_memory = |bytes, advice: String| Error::OutOfMemory {
            adapter: self.adapter.name.clone(),
            what: "a batch".to_owned(),
            bytes,
            advice,
        };
        if self.tokens_that_fit.is_some_and(|most| graph.tokens > most) {
            return Err(out_of_memory(0, "use a smaller batch".to_owned()));
        }
        let bytes = crate::gpu::executor::batch_bytes(graph);
        match self.batch_limit.filter(|limit| bytes > *limit) {
            None => Ok(()),
            Some(limit) => Err(out_of_memory(
                bytes,
                format!(
                    "the weights leave only {limit} bytes of max_memory for batches; raise \
                     max_memory, lower batch_tokens, or truncate texts to fewer tokens"
                ),
            )),
        }
    }

    /// Runs one dispatch.
    fn dispatch(
        &mut self,
        graph: &Graph,
        batch: &mut Batch<'_>,
        dispatch: &Dispatch,
    ) -> Result<(), Error> {
        let fault =
            |problem: &str| Error::Internal(format!("kernel {}: {problem}", dispatch.kernel.name));
        let (_, run) = KERNELS
            .iter()
            .find(|(kernel, _)| *kernel == dispatch.kernel)
            .ok_or_else(|| fault("the CPU has no implementation of this kernel"))?;
        if dispatch.kernel.reads_activations && dispatch.variant.activations != Storage::F32 {
            return Err(fault("the CPU stores activations in f32 only"));
        }
        if dispatch.workgroups.to_array().contains(&0) {
            return Ok(());
        }
        if is_matmul(dispatch.kernel) {
            self.pack(graph, dispatch)?;
        }
        let written =
            graph.written(dispatch).ok_or_else(|| fault("the kernel writes no tensor"))?;
        let slot = batch.of_tensor[written.0]
            .ok_or_else(|| fault("there is no buffer for the tensor that the kernel writes"))?;
        let mut y = std::mem::take(&mut self.scratch[slot]);
        let operand = |id: &TensorId| match &graph.tensors[id.0].source {
            TensorSource::Weight(weight) => match self.weights.get(*weight) {
                Some(Weight::Words(words)) => Operand::Words(words),
                Some(Weight::Packed(packed)) => Operand::Packed(packed),
                None => Operand::Written,
            },
            TensorSource::Input(_) => match &batch.inputs[id.0] {
                Some(words) => Operand::Words(words),
                None => Operand::Written,
            },
            TensorSource::Scratch | TensorSource::Zeroed => match batch.of_tensor[id.0] {
                Some(own) if own != slot => {
                    let length = graph.tensors[id.0].bytes.div_ceil(4) as usize;
                    Operand::Words(bytemuck::cast_slice(&self.scratch[own][..length]))
                }
                _ => Operand::Written,
            },
        };
        let call = Call {
            dispatch,
            operands: dispatch.bindings.iter().map(operand).collect(),
            flags: &batch.flags,
        };
        let length = graph.tensors[written.0].bytes.div_ceil(4) as usize;
        let result = self.workers.run(|| run(&call, &mut y[..length]));
        drop(call);
        self.scratch[slot] = y;
        result
    }

    /// Packs the weight of a matmul before its first use. A 16-bit weight is not packed, but widened at each use.
    fn pack(&mut self, graph: &Graph, dispatch: &Dispatch) -> Result<(), Error> {
        let source = dispatch.bindings.get(1).map(|id| &graph.tensors[id.0].source);
        let Some(TensorSource::Weight(at)) = source else { return Ok(()) };
        let Some(Weight::Words(words)) = self.weights.get(*at) else { return Ok(()) };
        if dispatch.variant.weights != Storage::F32 {
            return Ok(());
        }
        let params = bytemuck::try_pod_read_unaligned(&dispatch.params).map_err(|e| {
            Error::Internal(format!("the parameters of a matmul cannot be read: {e}"))
        })?;
        let shape = matmul::shape(&params);
        let packed = self.workers.run(|| Packed::new(dispatch.variant.weights, words, shape));
        self.weights[*at] = Weight::Packed(packed);
        Ok(())
    }

    /// Adds the time of a dispatch to the trace.
    fn record(&mut self, graph: &Graph, dispatch: &Dispatch, since: Instant) {
        let ns = since.elapsed().as_nanos() as u64;
        let weights = &self.weights;
        let bytes = |weight: usize| match weights.get(weight) {
            Some(Weight::Words(words)) => words.len() as u64 * 4,
            Some(Weight::Packed(packed)) => packed.bytes(),
            None => 0,
        };
        if let Some(trace) = &mut self.trace {
            trace.gpu_ns += ns;
            trace.record(graph, dispatch, ns, bytes);
        }
    }
}

/// The tensors of a batch.
struct Batch<'g> {
    /// For each tensor that is an input, its content as 32-bit words.
    inputs: Vec<Option<Vec<u32>>>,
    /// For each tensor, the number of its scratch buffer; `None` if it has none.
    of_tensor: &'g [Option<usize>],
    flags: Flags,
}

/// Returns the bytes of an input as 32-bit words. A small input is padded to a minimum size, as on a GPU.
fn input(tensor: &crate::gpu::graph::TensorInfo) -> Option<Vec<u32>> {
    let TensorSource::Input(bytes) = &tensor.source else { return None };
    let mut words = vec![0u32; tensor.bytes.div_ceil(4) as usize];
    bytemuck::cast_slice_mut::<u32, u8>(&mut words)[..bytes.len()].copy_from_slice(bytes);
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::ALL;

    #[test]
    fn every_kernel_has_a_native_form() {
        for kernel in ALL {
            assert!(KERNELS.iter().any(|(known, _)| known == kernel), "{}", kernel.name);
        }
        assert_eq!(KERNELS.len(), ALL.len());
    }
}
