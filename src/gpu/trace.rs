//! Measures how a batch's time is divided: phases on the host by the host's clock, and dispatches by GPU timestamps.

use std::time::{Duration, Instant};

use crate::error::Error;
use crate::gpu::device::Gpu;
use crate::gpu::graph::{Dispatch, Graph, TensorId, TensorSource};
use crate::gpu::kernel::Kernel;
use crate::gpu::shader::ShaderVariant;

/// A phase of a batch on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Packing tokens into a batch and building its graph.
    Pack,
    /// Compiling the pipelines that the batch needs and that do not exist yet.
    Pipelines,
    /// Passing inputs and parameters to the driver.
    Upload,
    /// Recording commands for the GPU.
    Encode,
    /// Submitting commands. Some software drivers compute during this call.
    Submit,
    /// Waiting for the GPU.
    Wait,
    /// Copying rows from the read-back buffer, and checking them.
    ReadBack,
}

/// The detail of a measurement: only phases on the host, or also each dispatch. Reading the host's clock costs next to
/// nothing. If GPU time is measured, each dispatch has its own compute pass, which is slower on some drivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Measures only the phases on the host.
    Host,
    /// Measures the phases on the host and, if the adapter has timestamps, each dispatch.
    Gpu,
}

/// The measurements of one dispatch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DispatchTime {
    /// The kernel that ran.
    pub kernel: &'static Kernel,
    /// The variant of the kernel that ran.
    pub variant: ShaderVariant,
    /// The name of the tensor that the dispatch wrote.
    pub writes: &'static str,
    /// The sizes of the dispatch's first binding and of the tensor that the dispatch wrote.
    pub sizes: DispatchSizes,
    /// The time that the dispatch took, in nanoseconds.
    pub ns: u64,
    /// The dispatch's floating point operations, as the graph estimates them.
    pub flops: u64,
    /// The number of bytes that the dispatch must read and write if it accesses each binding once.
    pub bytes: u64,
}

/// The sizes in bytes of a dispatch's first binding and of the tensor that the dispatch wrote. Both sizes are 0 for
/// dispatches outside of the transformer's layers: a row does not stand for a token there, so reports cannot derive a
/// width per token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct DispatchSizes {
    /// The size of the first binding in bytes.
    pub first: u64,
    /// The size in bytes of the tensor that the dispatch wrote.
    pub written: u64,
}

/// All measurements since measuring was enabled.
#[derive(Debug, Clone)]
pub struct Trace {
    /// The detail of the measurement: only phases on the host, or also each dispatch.
    pub measure: Measure,
    /// The number of measured batches.
    pub batches: usize,
    phases: [Duration; 7],
    /// The time of every dispatch, in the order of execution.
    pub dispatches: Vec<DispatchTime>,
    /// The GPU time in nanoseconds, summed over all submits. The time of a submit runs from the start of its first
    /// dispatch to the end of its last dispatch.
    pub gpu_ns: u64,
    /// The bytes of activations in the measured batch with the largest activations.
    pub peak_activation_bytes: u64,
}

impl Trace {
    /// Returns a trace without measurements.
    pub fn new(measure: Measure) -> Self {
        Trace {
            measure,
            batches: 0,
            phases: [Duration::ZERO; 7],
            dispatches: Vec::new(),
            gpu_ns: 0,
            peak_activation_bytes: 0,
        }
    }

    /// Returns the time of a phase, summed over all batches.
    pub fn phase(&self, phase: Phase) -> Duration {
        self.phases[phase as usize]
    }

    fn add(&mut self, phase: Phase, time: Duration) {
        self.phases[phase as usize] += time;
    }

    /// Adds the time of a dispatch. `weight_bytes` returns the size of a weight in bytes.
    pub(crate) fn record(
        &mut self,
        graph: &Graph,
        dispatch: &Dispatch,
        ns: u64,
        weight_bytes: impl Fn(usize) -> u64,
    ) {
        let written = graph.written(dispatch);
        let in_layer = written.is_some_and(|id| graph.tensors[id.0].layer.is_some());
        let size = |id: Option<TensorId>| {
            id.filter(|_| in_layer).map_or(0, |id| graph.tensors[id.0].bytes)
        };
        self.dispatches.push(DispatchTime {
            kernel: dispatch.kernel,
            variant: dispatch.variant.clone(),
            writes: written.map_or("", |id| graph.tensors[id.0].name),
            sizes: DispatchSizes {
                first: size(dispatch.bindings.first().copied()),
                written: size(written),
            },
            ns,
            flops: dispatch.flops,
            bytes: bytes_moved(graph, dispatch, &weight_bytes),
        });
    }
}

/// Returns the current time if a trace is given, or else `None`.
pub(crate) fn clock(trace: Option<&Trace>) -> Option<Instant> {
    trace.map(|_| Instant::now())
}

/// Adds the time since `since` to a phase, if a trace is given.
pub(crate) fn lap(trace: Option<&mut Trace>, since: Option<Instant>, phase: Phase) {
    if let (Some(trace), Some(since)) = (trace, since) {
        trace.add(phase, since.elapsed());
    }
}

/// The maximum number of queries in a query set, as WebGPU limits it.
const SET: usize = 4096;

/// The buffers and query sets that hold two timestamps for each dispatch of a graph.
#[derive(Debug)]
pub(super) struct Stamps {
    sets: Vec<wgpu::QuerySet>,
    resolved: wgpu::Buffer,
    pub readback: wgpu::Buffer,
    pub bytes: u64,
    /// The index of the first dispatch in each submit.
    pub submits: Vec<usize>,
    dispatches: usize,
}

impl Stamps {
    pub fn new(gpu: &Gpu, dispatches: usize) -> Result<Self, Error> {
        use wgpu::BufferUsages as U;
        let bytes = (dispatches * 16) as u64;
        let queries = dispatches * 2;
        let counts = (0..queries).step_by(SET).map(|first| SET.min(queries - first));
        let sets = counts.map(|count| gpu.calls.queries(count as u32)).collect::<Result<_, _>>()?;
        Ok(Stamps {
            sets,
            resolved: gpu.buffer("timestamps", bytes, U::QUERY_RESOLVE | U::COPY_SRC)?,
            readback: gpu.buffer("timestamps read", bytes, U::MAP_READ | U::COPY_DST)?,
            bytes,
            submits: vec![0],
            dispatches,
        })
    }

    /// Returns the queries to which a dispatch's compute pass writes its start and end times.
    pub fn writes(&self, dispatch: usize) -> wgpu::ComputePassTimestampWrites<'_> {
        let query = dispatch * 2;
        let within = (query % SET) as u32;
        wgpu::ComputePassTimestampWrites {
            query_set: &self.sets[query / SET],
            beginning_of_pass_write_index: Some(within),
            end_of_pass_write_index: Some(within + 1),
        }
    }

    /// Records commands that copy the timestamps to the read-back buffer.
    pub fn resolve(&self, encoder: &mut wgpu::CommandEncoder) {
        for (at, set) in self.sets.iter().enumerate() {
            let first = at * SET;
            let queries = SET.min(self.dispatches * 2 - first) as u32;
            encoder.resolve_query_set(set, 0..queries, &self.resolved, (first * 8) as u64);
        }
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.readback, 0, self.bytes);
    }

    /// Adds the times that the GPU wrote to a trace. `period` is the length of a tick of the GPU's clock in
    /// nanoseconds, and `weight_bytes` returns the size of a weight in bytes.
    pub fn read(
        &self,
        trace: &mut Trace,
        graph: &Graph,
        ticks: &[u8],
        period: f64,
        weight_bytes: impl Fn(usize) -> u64,
    ) {
        let times: Vec<u64> = ticks
            .chunks_exact(8)
            .map(|b| u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))
            .collect();
        let ns = |from: u64, to: u64| (to.saturating_sub(from) as f64 * period) as u64;
        for (dispatch, time) in graph.dispatches.iter().zip(times.chunks_exact(2)) {
            trace.record(graph, dispatch, ns(time[0], time[1]), &weight_bytes);
        }
        let ends = self.submits.iter().skip(1).copied().chain([graph.dispatches.len()]);
        for (first, end) in self.submits.iter().zip(ends) {
            let span = &times[first * 2..end * 2];
            if let (Some(from), Some(to)) = (span.iter().min(), span.iter().max()) {
                trace.gpu_ns += ns(*from, *to);
            }
        }
    }
}

/// Returns the bytes of a dispatch's bindings, each binding counted once. If several dispatches write pieces of the
/// same tensor, each dispatch counts an equal share of the tensor's bytes. A weight with few operations for its size is
/// assumed to be a lookup table, and counts as many bytes as the dispatch writes.
fn bytes_moved(graph: &Graph, dispatch: &Dispatch, weight_bytes: &impl Fn(usize) -> u64) -> u64 {
    let written = graph.written(dispatch);
    let pieces = graph.dispatches.iter().filter(|d| graph.written(d) == written).count().max(1);
    let output = written.map_or(0, |id| graph.tensors[id.0].bytes);
    let mut counted = Vec::new();
    let mut bytes = 0;
    for id in &dispatch.bindings {
        if counted.contains(id) {
            continue;
        }
        counted.push(*id);
        let tensor = &graph.tensors[id.0];
        bytes += match tensor.source {
            TensorSource::Weight(weight) => match weight_bytes(weight) {
                bytes if dispatch.flops * 2 < bytes => bytes.min(output),
                bytes => bytes,
            },
            _ => tensor.bytes / pieces as u64,
        };
    }
    bytes
}
