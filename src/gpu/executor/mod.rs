//! Runs graphs: makes pipelines and bind groups, submits the dispatches, and reads back the output.

mod buffers;
mod groups;
mod read;
mod report;
mod tap;
mod weights;

use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

use crate::error::Error;
use crate::gpu::device::Gpu;
use crate::gpu::graph::{Dispatch, Graph, Workgroups};
use crate::gpu::pipeline::Pipelines;
#[doc(hidden)]
pub use crate::gpu::pipeline::ShaderEdit;
pub(crate) use crate::gpu::pipeline::{Ahead, Compiler};
pub(crate) use crate::gpu::pipeline::{PipelineKey, pipelines_of};
use crate::gpu::trace::{Measure, Phase, Stamps, Trace, clock, lap};

use buffers::Shared;
pub(crate) use buffers::batch_bytes;
use groups::{Bound, Groups};
use report::Report;

/// The maximum work of a submit, in dispatches of maximum size. On a GPU at the slowest assumed rate, five such
/// dispatches take 250 ms.
const SUBMIT_DISPATCHES_OF_WORK: u64 = 5;

/// The result of running a graph.
#[derive(Debug)]
pub struct Outcome {
    /// The bytes of the output tensor.
    pub output: Vec<u8>,
    /// For each token, whether an activation exceeded the range of its storage type.
    pub overflowed: Vec<bool>,
}

/// A graph in flight: the graph is submitted, but its output is not read back yet.
#[derive(Debug)]
pub struct Running {
    readback: wgpu::Buffer,
    output_bytes: u64,
    report: Report,
    submitted: Vec<wgpu::SubmissionIndex>,
    stamps: Option<Stamps>,
    activation_bytes: u64,
}

/// A device with its pipelines and buffers, which runs graphs.
pub struct Executor {
    /// The device that runs the graphs.
    pub gpu: Gpu,
    pipelines: Pipelines,
    weights: Vec<wgpu::Buffer>,
    /// Writes of weights that may still be in flight.
    uploads: Vec<wgpu::SubmissionIndex>,
    /// The buffers for scratch tensors, one for each slot. The buffers grow to the size that graphs need.
    scratch: Vec<wgpu::Buffer>,
    /// The buffers for inputs, overflow flags and parameters, which grow to the size that graphs need. Graphs in flight
    /// share these buffers. The queue runs writes and submits in order, so a write for the next graph does not affect
    /// the previous graph.
    shared: HashMap<Shared, wgpu::Buffer>,
    /// The bind groups of earlier batches. They are dropped when a buffer is made again, and after a fault.
    groups: Groups,
    /// The content of the buffer of parameters; empty if it is unknown.
    parameters: Vec<u8>,
    /// The memory in which the next batch's parameters are put together.
    spare_parameters: Vec<u8>,
    /// The read-back buffers that no graph in flight uses.
    readbacks: Vec<wgpu::Buffer>,
    /// The number of batches started so far.
    batches: u32,
    /// If set, a graph with more tokens than this fails with an out-of-memory error. Tests set it.
    tokens_that_fit: Option<usize>,
    /// If set, this kernel stops computing after some batches. Tests set it.
    stopping: Option<StoppingKernel>,
    /// The maximum size of a batch's buffers in bytes; `None` if there is no limit.
    pub(crate) batch_limit: Option<u64>,
    /// If set, every run is measured, and this trace collects the measurements.
    pub trace: Option<Trace>,
}

impl std::fmt::Debug for Executor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Executor({}, {} pipelines)", self.gpu.adapter, self.pipelines.len())
    }
}

fn whole(binding: u32, buffer: &wgpu::Buffer) -> wgpu::BindGroupEntry<'_> {
    wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() }
}

impl Executor {
    /// Returns an executor without pipelines and buffers.
    ///
    /// # Errors
    /// Returns [`Error::DeviceLost`], [`Error::OutOfMemory`] or [`Error::Internal`] if the device refuses a layout.
    pub fn new(gpu: Gpu) -> Result<Self, Error> {
        let pipelines = Pipelines::new(&gpu)?;
        Ok(Executor {
            gpu,
            pipelines,
            weights: Vec::new(),
            uploads: Vec::new(),
            scratch: Vec::new(),
            shared: HashMap::new(),
            groups: Groups::default(),
            parameters: Vec::new(),
            spare_parameters: Vec::new(),
            readbacks: Vec::new(),
            batches: 0,
            tokens_that_fit: None,
            stopping: None,
            batch_limit: None,
            trace: None,
        })
    }

    /// Reads compiled pipelines from a directory, and caches new ones there if the driver returns them.
    pub(crate) fn cache_pipelines_in(&mut self, directory: &Path) {
        self.pipelines.cache_in(&self.gpu, directory);
    }

    /// Writes compiled pipelines to their cache, if any were made since the cache was last written.
    pub(crate) fn save_pipelines(&mut self) {
        self.pipelines.save();
    }

    /// Returns a compiler that makes pipelines on other threads, for [`Executor::adopt`].
    pub(crate) fn compiler(&self) -> Compiler {
        self.pipelines.compiler()
    }

    /// Adds pipelines that were compiled before a graph needs them.
    pub(crate) fn adopt(&mut self, ahead: Ahead) {
        self.pipelines.adopt(ahead);
    }

    /// Makes the pipelines of several graphs before any of these graphs runs. If the driver refuses a pipeline, the
    /// error is returned later, when a graph that needs the pipeline runs.
    pub(crate) async fn make_ahead<'a>(&mut self, graphs: impl Iterator<Item = &'a Graph>) {
        if !self.gpu.is_noop() {
            let keys = self.pipelines.missing(pipelines_of(graphs));
            let ahead = self.compiler().ahead(&keys).await;
            self.adopt(ahead);
        }
    }

    /// Breaks a kernel. Tests use this function to check that the broken kernel is detected.
    #[doc(hidden)]
    pub fn edit_shader(&mut self, edit: ShaderEdit) {
        self.pipelines.edit(edit);
    }

    /// Sets the number of tokens above which a graph fails with an out-of-memory error. Tests use this function to
    /// check the recovery.
    #[doc(hidden)]
    pub fn fit_tokens(&mut self, tokens: Option<usize>) {
        self.tokens_that_fit = tokens;
    }

    /// Makes a kernel stop computing after some more batches, as a broken driver may. Tests use this function to check
    /// that the failure is detected.
    #[doc(hidden)]
    pub fn stop_kernel(&mut self, stopping: StoppingKernel) {
        let after = self.batches.saturating_add(stopping.after);
        self.stopping = Some(StoppingKernel { after, ..stopping });
    }

    /// Is true if a test has broken a kernel. Measurements of the device must then not be cached.
    pub(crate) fn is_edited(&self) -> bool {
        self.pipelines.is_edited()
    }

    /// Makes the given pipelines, except those that exist already.
    ///
    /// # Errors
    /// Returns [`Error::DeviceFault`] with the driver's message about a pipeline that it refuses.
    pub(crate) async fn make(&mut self, keys: &[PipelineKey]) -> Result<(), Error> {
        self.pipelines.make(&self.gpu, keys.to_vec()).await
    }

    /// Frees every buffer of a lost device.
    pub(crate) fn release(&mut self) {
        self.weights.clear();
        self.scratch.clear();
        self.shared.clear();
        self.forget();
        self.readbacks.clear();
    }

    /// Runs a graph, reads its output back, and returns the output.
    ///
    /// # Errors
    /// Returns [`Error::OutOfMemory`] or [`Error::DeviceLost`]. Returns [`Error::DeviceFault`] if the driver refuses a
    /// pipeline, or [`Error::Internal`] if it refuses a command.
    pub async fn run(&mut self, graph: &Graph) -> Result<Outcome, Error> {
        let running = self.start(graph).await?;
        self.finish(graph, running).await
    }

    /// Submits a graph without waiting for it. More graphs may be started before this one is finished. Each graph has
    /// its own read-back buffer and shares all other buffers.
    ///
    /// # Errors
    /// Returns the errors of [`Executor::run`].
    pub async fn start(&mut self, graph: &Graph) -> Result<Running, Error> {
        let started = self.start_batch(graph).await;
        if started.is_err() {
            self.forget();
        }
        started
    }

    async fn start_batch(&mut self, graph: &Graph) -> Result<Running, Error> {
        self.gpu.check("work that was submitted before this batch", 0)?;
        if self.tokens_that_fit.is_some_and(|most| graph.tokens > most) {
            return Err(self.gpu.out_of_memory("a batch", 0));
        }
        let since = self.clock();
        let slots = graph.slots();
        self.check_limit(graph)?;
        let report = self.next_report(graph);
        self.grow(graph, &slots, &report)?;
        let since = self.lap(since, Phase::Upload);
        self.pipelines.make_for(&self.gpu, graph).await?;
        let mut since = self.lap(since, Phase::Pipelines);
        let mut stamps = self.stamps(graph)?;
        let output =
            graph.output.ok_or_else(|| Error::Internal("the graph has no output".into()))?;
        let output_bytes = graph.tensors[output.0].bytes;

        let bound = self.bind(graph, &slots, &report)?;
        let report_buffer = self.shared[&Shared::Report].clone();
        let mut encoder = self.gpu.calls.encoder()?;
        self.clear(&mut encoder, graph, &slots, &report)?;
        let mut submitted = Vec::new();
        let mut work = 0;
        let budget = SUBMIT_DISPATCHES_OF_WORK * self.gpu.max_dispatch_flops();
        let mut rest: &[Dispatch] = &graph.dispatches;
        let mut first = 0;
        while !rest.is_empty() {
            let mut count = 0;
            while count < rest.len() && (count == 0 || work + rest[count].flops <= budget) {
                work += rest[count].flops;
                count += 1;
            }
            let pieces = Pieces { first, dispatches: &rest[..count], bound: &bound };
            self.record(&mut encoder, pieces, stamps.as_ref())?;
            rest = &rest[count..];
            first += count;
            if !rest.is_empty() {
                let commands = self.gpu.calls.finish(encoder)?;
                since = self.lap(since, Phase::Encode);
                submitted.push(self.gpu.calls.submit(Some(commands))?);
                since = self.lap(since, Phase::Submit);
                encoder = self.gpu.calls.encoder()?;
                work = 0;
                if let Some(stamps) = &mut stamps {
                    stamps.submits.push(first);
                }
            }
        }
        let readback = self.readback(output_bytes + report.bytes())?;
        let source = self.tensor(graph, &slots, output.0)?;
        self.copy(&mut encoder, source, (&readback, 0), output_bytes)?;
        self.copy(&mut encoder, &report_buffer, (&readback, output_bytes), report.bytes())?;
        if let Some(stamps) = &stamps {
            self.gpu.calls.record(&mut encoder, |encoder| stamps.resolve(encoder))?;
        }
        let commands = self.gpu.calls.finish(encoder)?;
        let since = self.lap(since, Phase::Encode);
        submitted.push(self.gpu.calls.submit(Some(commands))?);
        self.lap(since, Phase::Submit);
        // Commands that the device refused are an error of this batch, and not of an earlier one.
        self.gpu.check("running a batch", 0)?;
        let activation_bytes = slots.bytes.iter().sum();
        Ok(Running { readback, output_bytes, report, submitted, stamps, activation_bytes })
    }

    /// Waits for a started graph, reads its output back, and returns the output.
    ///
    /// # Errors
    /// Returns the errors of [`Executor::run`].
    pub async fn finish(&mut self, graph: &Graph, running: Running) -> Result<Outcome, Error> {
        let finished = self.finish_batch(graph, running).await;
        if finished.is_err() {
            self.forget();
        }
        finished
    }

    async fn finish_batch(&mut self, graph: &Graph, running: Running) -> Result<Outcome, Error> {
        let Running { readback, output_bytes, report, submitted, stamps, activation_bytes } =
            running;
        let last = submitted.last().cloned();
        let since = self.clock();
        let mut bytes = self.read(&readback, output_bytes + report.bytes(), submitted).await?;
        self.gpu.calls.change(&mut bytes, output_bytes);
        self.lap(since, Phase::Wait);
        self.readbacks.push(readback);
        self.gpu.check("running a batch", 0)?;
        if let Some(stamps) = &stamps {
            let ticks =
                self.read(&stamps.readback, stamps.bytes, last.into_iter().collect()).await?;
            let period = self.gpu.calls.timestamp_period();
            let weights = &self.weights;
            if let Some(trace) = &mut self.trace {
                stamps.read(trace, graph, &ticks, period, |weight| weights[weight].size());
            }
        }
        if let Some(trace) = &mut self.trace {
            trace.batches += 1;
            trace.peak_activation_bytes = trace.peak_activation_bytes.max(activation_bytes);
        }
        self.outcome(graph, &report, &bytes, output_bytes)
    }

    /// Returns the report that the host expects from the next batch.
    fn next_report(&mut self, graph: &Graph) -> Report {
        self.batches = self.batches.wrapping_add(1);
        Report::new(graph, self.batches)
    }

    /// Returns the result of a batch, from the bytes that were read back: the output, then the report.
    fn outcome(
        &self,
        graph: &Graph,
        report: &Report,
        bytes: &[u8],
        output_bytes: u64,
    ) -> Result<Outcome, Error> {
        let (output, report_bytes) = bytes.split_at(output_bytes as usize);
        if !self.gpu.is_noop() {
            report.check(&self.gpu.adapter.name, report_bytes)?;
        }
        let overflowed = report.flags(report_bytes, graph.tokens);
        Ok(Outcome { output: output.to_vec(), overflowed })
    }

    /// Adds the time since `since` to a phase, and returns the start of the next phase.
    pub(crate) fn lap(&mut self, since: Option<Instant>, phase: Phase) -> Option<Instant> {
        lap(self.trace.as_mut(), since, phase);
        self.clock()
    }

    /// Returns the current time if a trace is being measured, or else `None`.
    pub(crate) fn clock(&self) -> Option<Instant> {
        clock(self.trace.as_ref())
    }

    /// Returns timestamps for each dispatch; `None` if they are not requested or the device has none.
    fn stamps(&self, graph: &Graph) -> Result<Option<Stamps>, Error> {
        let asked = self.trace.as_ref().is_some_and(|trace| trace.measure == Measure::Gpu);
        if !asked || !self.gpu.has_timestamps() {
            return Ok(None);
        }
        Stamps::new(&self.gpu, graph.dispatches.len()).map(Some)
    }

    /// Finishes an encoder and submits its commands.
    fn submit(&self, encoder: wgpu::CommandEncoder) -> Result<wgpu::SubmissionIndex, Error> {
        self.gpu.calls.submit(Some(self.gpu.calls.finish(encoder)?))
    }

    /// Records a command that copies the first `bytes` bytes of a buffer to an offset of another buffer.
    fn copy(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        from: &wgpu::Buffer,
        (to, at): (&wgpu::Buffer, u64),
        bytes: u64,
    ) -> Result<(), Error> {
        let copy = |encoder: &mut wgpu::CommandEncoder| {
            encoder.copy_buffer_to_buffer(from, 0, to, at, bytes);
        };
        self.gpu.calls.record(encoder, copy)
    }

    fn record(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        Pieces { first, dispatches, bound }: Pieces<'_>,
        stamps: Option<&Stamps>,
    ) -> Result<(), Error> {
        self.gpu.calls.record(encoder, |encoder| {
            let mut pass = None;
            let groups = &bound.dispatches[first..];
            for (at, (dispatch, (pipeline, group))) in dispatches.iter().zip(groups).enumerate() {
                // The GPU writes timestamps only at the start and end of a pass, so each timed dispatch has its own
                // pass.
                if pass.is_none() || stamps.is_some() {
                    drop(pass);
                    pass = Some(encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                        label: None,
                        timestamp_writes: stamps.map(|stamps| stamps.writes(first + at)),
                    }));
                }
                let Some(pass) = &mut pass else { continue };
                pass.set_pipeline(&self.pipelines.at(*pipeline).pipeline);
                pass.set_bind_group(0, group, &[]);
                pass.set_bind_group(1, &bound.report, &[]);
                let Workgroups { x, y, z } = match self.stopping {
                    Some(StoppingKernel { kernel, after })
                        if kernel == dispatch.kernel.name && self.batches > after =>
                    {
                        Workgroups { x: 0, y: 0, z: 0 }
                    }
                    _ => dispatch.workgroups,
                };
                pass.dispatch_workgroups(x, y, z);
            }
        })
    }
}

/// A kernel that stops computing after some batches, for tests.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct StoppingKernel {
    /// The name of the kernel.
    pub kernel: &'static str,
    /// The number of batches for which the kernel still computes.
    pub after: u32,
}

/// The dispatches that are recorded into one submit.
struct Pieces<'a> {
    /// The index in the graph of the first of these dispatches.
    first: usize,
    dispatches: &'a [Dispatch],
    /// The pipelines and bind groups of all dispatches of the graph.
    bound: &'a Bound,
}
