//! Runs graphs: pipelines, buffers, bind groups, submits and the one read-back.

mod tap;

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::gpu::device::Gpu;
use crate::gpu::graph::{Dispatch, Graph, Slots, Source};
use crate::gpu::pipeline::Pipelines;
#[doc(hidden)]
pub use crate::gpu::pipeline::ShaderEdit;
use crate::gpu::pipeline::{Ahead, Compiler};
pub(crate) use crate::gpu::pipeline::{Wanted, wanted};
use crate::gpu::trace::{Measure, Phase, Stamps, Trace, clock};

/// Parameter blocks lie this far apart: WebGPU's default alignment of uniform offsets.
const PARAMS_STRIDE: u64 = 256;

/// A submit is cut after so many estimated operations, some 250 ms at the rate the plan assumes.
const SUBMIT_DISPATCHES_OF_WORK: u64 = 5;

/// A wait longer than this for one submit counts as a lost device.
const WAIT: Duration = Duration::from_secs(120);

/// What a graph gave.
#[derive(Debug)]
pub struct Outcome {
    /// The bytes of the output tensor.
    pub output: Vec<u8>,
    /// For each token, whether an activation passed the range of its storage.
    pub overflowed: Vec<bool>,
}

/// A graph on its way: submitted, and not read back yet.
#[derive(Debug)]
pub struct Running {
    readback: wgpu::Buffer,
    output_bytes: u64,
    marks_bytes: u64,
    submitted: Vec<wgpu::SubmissionIndex>,
    stamps: Option<Stamps>,
    activation_bytes: u64,
}

/// A device with the pipelines and buffers made so far.
pub struct Executor {
    /// The device.
    pub gpu: Gpu,
    pipelines: Pipelines,
    weights: Vec<wgpu::Buffer>,
    /// Writes of weights that may not be done.
    uploads: Vec<wgpu::SubmissionIndex>,
    /// Scratch slots, grown as graphs need.
    scratch: Vec<wgpu::Buffer>,
    /// Buffers for inputs, marks and parameters; grown as graphs need. Graphs on their way share them:
    /// the queue runs what is written and submitted in its order.
    named: HashMap<String, wgpu::Buffer>,
    /// Read-back buffers that no graph on its way holds.
    readbacks: Vec<wgpu::Buffer>,
    /// Graphs of more tokens find no memory: for tests.
    tokens_that_fit: Option<usize>,
    /// What the buffers of a batch may take.
    pub(crate) batch_limit: Option<u64>,
    /// Where it is set, what runs is measured and added to it.
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
    /// Writes of weights that go on at once.
    pub(crate) const UPLOADS_AT_ONCE: usize = 2;

    /// An executor with nothing loaded.
    pub fn new(gpu: Gpu) -> Self {
        let pipelines = Pipelines::new(&gpu);
        Executor {
            gpu,
            pipelines,
            weights: Vec::new(),
            uploads: Vec::new(),
            scratch: Vec::new(),
            named: HashMap::new(),
            readbacks: Vec::new(),
            tokens_that_fit: None,
            batch_limit: None,
            trace: None,
        }
    }

    /// Takes compiled pipelines from a directory and keeps those made here in it, where the driver hands them
    /// out.
    pub(crate) fn keep_pipelines_in(&mut self, directory: &Path) {
        self.pipelines.keep_in(&self.gpu, directory);
    }

    /// Writes compiled pipelines where they are kept, if any were made since.
    pub(crate) fn save_pipelines(&mut self) {
        self.pipelines.save();
    }

    /// What makes pipelines on other threads, for [`Executor::adopt`].
    pub(crate) fn compiler(&self) -> Compiler {
        self.pipelines.compiler()
    }

    /// Takes pipelines that were made ahead.
    pub(crate) fn adopt(&mut self, ahead: Ahead) {
        self.pipelines.adopt(ahead);
    }

    /// Makes the pipelines of graphs that are to be run one after the other, on all threads the machine has. What the
    /// driver refuses is told when that graph runs.
    pub(crate) fn make_ahead<'a>(&mut self, graphs: impl Iterator<Item = &'a Graph>) {
        if !self.gpu.is_noop() {
            let wanted = self.pipelines.missing(wanted(graphs));
            if let (Some(ahead), ()) = self.compiler().beside(&wanted, || ()) {
                self.adopt(ahead);
            }
        }
    }

    /// Makes a kernel wrong, for tests of what then notices.
    #[doc(hidden)]
    pub fn edit_shader(&mut self, edit: ShaderEdit) {
        self.pipelines.edit(edit);
    }

    /// Acts as if memory ran out in graphs of more tokens, for tests of what follows.
    #[doc(hidden)]
    pub fn fit_tokens(&mut self, tokens: Option<usize>) {
        self.tokens_that_fit = tokens;
    }

    /// A new buffer for a weight, to be filled by [`Executor::write_weight`]; returns its number.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], or [`Error::Adapter`] where it exceeds what a shader can bind.
    pub fn add_weight(&mut self, name: &str, bytes: u64) -> Result<usize, Error> {
        self.gpu.adapter.check_weight(name, bytes)?;
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        self.weights.push(self.gpu.buffer(name, bytes.max(16), usage)?);
        Ok(self.weights.len() - 1)
    }

    /// Writes a part of a weight. Each call is submitted, and the one before the last waited for, so that
    /// staging memory does not pile up.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] or [`Error::DeviceLost`].
    pub fn write_weight(&mut self, weight: usize, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.gpu.queue.write_buffer(&self.weights[weight], offset, bytes);
        self.uploads.push(self.gpu.queue.submit([]));
        if self.uploads.len() > Self::UPLOADS_AT_ONCE {
            let oldest = self.uploads.remove(0);
            self.wait_natively(vec![oldest]);
        }
        self.gpu.check("uploading weights", bytes.len() as u64)
    }

    /// Waits until all weights are written.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] or [`Error::DeviceLost`].
    pub fn finish_uploads(&mut self) -> Result<(), Error> {
        let uploads = std::mem::take(&mut self.uploads);
        self.wait_natively(uploads);
        self.gpu.check("uploading weights", 0)
    }

    /// Gives up every buffer: of a lost device.
    pub(crate) fn release(&mut self) {
        self.weights.clear();
        self.scratch.clear();
        self.named.clear();
        self.readbacks.clear();
    }

    /// Runs a graph and reads its output back.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::DeviceLost`], or [`Error::Internal`] where the driver
    /// refuses something.
    pub async fn run(&mut self, graph: &Graph) -> Result<Outcome, Error> {
        let running = self.start(graph)?;
        self.finish(graph, running).await
    }

    /// Submits a graph without waiting for it. Others may be started before it is finished; each takes
    /// a read-back buffer of its own, and they share everything else.
    ///
    /// # Errors
    /// As [`Executor::run`].
    pub fn start(&mut self, graph: &Graph) -> Result<Running, Error> {
        self.gpu.check("before a batch", 0)?;
        if self.tokens_that_fit.is_some_and(|most| graph.tokens > most) {
            return Err(self.gpu.out_of_memory("a batch", 0));
        }
        let since = self.clock();
        let slots = graph.slots();
        self.check_limit(graph)?;
        self.grow(graph, &slots)?;
        let since = self.lap(since, Phase::Upload);
        self.pipelines.make(&self.gpu, graph)?;
        let mut since = self.lap(since, Phase::Pipelines);
        let mut stamps = self.stamps(graph)?;
        let marks_bytes = (graph.tokens.max(1) * 4) as u64;
        let output =
            graph.output.ok_or_else(|| Error::Internal("a graph without output".into()))?;
        let output_bytes = graph.tensors[output.0].bytes;

        let marks = self.named["marks"].clone();
        let mut encoder = self.encoder();
        encoder.clear_buffer(&marks, 0, Some(marks_bytes));
        for (at, tensor) in graph.tensors.iter().enumerate() {
            if tensor.source == Source::Zeroed {
                encoder.clear_buffer(self.tensor(graph, &slots, at)?, 0, Some(tensor.bytes));
            }
        }
        let mut submitted = Vec::new();
        let mut work = 0;
        let budget = SUBMIT_DISPATCHES_OF_WORK * self.gpu.plan().max_flops;
        let mut rest: &[Dispatch] = &graph.dispatches;
        let mut first = 0;
        while !rest.is_empty() {
            let mut count = 0;
            while count < rest.len() && (count == 0 || work + rest[count].flops <= budget) {
                work += rest[count].flops;
                count += 1;
            }
            let pieces = Pieces { first, dispatches: &rest[..count], marks_bytes };
            self.record(&mut encoder, graph, &slots, pieces, stamps.as_ref())?;
            rest = &rest[count..];
            first += count;
            if !rest.is_empty() {
                let commands = encoder.finish();
                since = self.lap(since, Phase::Encode);
                submitted.push(self.gpu.queue.submit([commands]));
                since = self.lap(since, Phase::Submit);
                encoder = self.encoder();
                work = 0;
                if let Some(stamps) = &mut stamps {
                    stamps.submits.push(first);
                }
            }
        }
        let readback = self.readback(output_bytes + marks_bytes)?;
        let source = self.tensor(graph, &slots, output.0)?;
        encoder.copy_buffer_to_buffer(source, 0, &readback, 0, output_bytes);
        encoder.copy_buffer_to_buffer(&marks, 0, &readback, output_bytes, marks_bytes);
        if let Some(stamps) = &stamps {
            stamps.resolve(&mut encoder);
        }
        let commands = encoder.finish();
        let since = self.lap(since, Phase::Encode);
        submitted.push(self.gpu.queue.submit([commands]));
        self.lap(since, Phase::Submit);
        let activation_bytes = slots.bytes.iter().sum();
        Ok(Running { readback, output_bytes, marks_bytes, submitted, stamps, activation_bytes })
    }

    /// Waits for a started graph and reads its output back.
    ///
    /// # Errors
    /// As [`Executor::run`].
    pub async fn finish(&mut self, graph: &Graph, running: Running) -> Result<Outcome, Error> {
        let Running { readback, output_bytes, marks_bytes, submitted, stamps, activation_bytes } =
            running;
        let last = submitted.last().cloned();
        let since = self.clock();
        let bytes = self.read(&readback, output_bytes + marks_bytes, submitted).await?;
        self.lap(since, Phase::Wait);
        self.readbacks.push(readback);
        self.gpu.check("running a batch", 0)?;
        if let Some(stamps) = &stamps {
            let ticks =
                self.read(&stamps.readback, stamps.bytes, last.into_iter().collect()).await?;
            let period = f64::from(self.gpu.queue.get_timestamp_period());
            let weights = &self.weights;
            if let Some(trace) = &mut self.trace {
                stamps.read(trace, graph, &ticks, period, |weight| weights[weight].size());
            }
        }
        if let Some(trace) = &mut self.trace {
            trace.batches += 1;
            trace.peak_activation_bytes = trace.peak_activation_bytes.max(activation_bytes);
        }
        let (output, marks) = bytes.split_at(output_bytes as usize);
        Ok(Outcome {
            output: output.to_vec(),
            overflowed: marks
                .chunks_exact(4)
                .take(graph.tokens)
                .map(|mark| mark != [0; 4])
                .collect(),
        })
    }

    /// Adds the time since then to a phase, and begins the next.
    pub(crate) fn lap(&mut self, since: Option<Instant>, phase: Phase) -> Option<Instant> {
        if let (Some(trace), Some(since)) = (&mut self.trace, since) {
            trace.add(phase, since.elapsed());
        }
        self.clock()
    }

    /// Now, where something is measured.
    pub(crate) fn clock(&self) -> Option<Instant> {
        clock(self.trace.as_ref())
    }

    /// Room for the times of each dispatch, where they are asked for and to be had.
    fn stamps(&self, graph: &Graph) -> Result<Option<Stamps>, Error> {
        let asked = self.trace.as_ref().is_some_and(|trace| trace.measure == Measure::Gpu);
        if !asked || !self.gpu.has_timestamps() {
            return Ok(None);
        }
        Stamps::new(&self.gpu, graph.dispatches.len()).map(Some)
    }

    fn encoder(&self) -> wgpu::CommandEncoder {
        self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
    }

    /// Makes every buffer at least as large as the graph needs, and uploads inputs and parameters.
    fn grow(&mut self, graph: &Graph, slots: &Slots) -> Result<(), Error> {
        use wgpu::BufferUsages as U;
        for (slot, bytes) in slots.bytes.iter().enumerate() {
            let usage = U::STORAGE | U::COPY_SRC | U::COPY_DST;
            self.bindable(*bytes)?;
            if slot == self.scratch.len() {
                self.scratch.push(self.gpu.buffer("activations", *bytes, usage)?);
            } else if self.scratch[slot].size() < *bytes {
                self.scratch[slot] = self.gpu.buffer("activations", *bytes, usage)?;
            }
        }
        for (at, tensor) in graph.tensors.iter().enumerate() {
            if let Source::Input(bytes) = &tensor.source {
                let name = input_name(at);
                self.bindable(tensor.bytes)?;
                self.grow_named(&name, tensor.bytes, U::STORAGE | U::COPY_DST)?;
                self.gpu.queue.write_buffer(&self.named[&name], 0, bytes);
            }
        }
        let marks = (graph.tokens.max(1) * 4) as u64;
        self.grow_named("marks", marks, U::STORAGE | U::COPY_DST | U::COPY_SRC)?;
        let mut params = vec![0; graph.dispatches.len() * PARAMS_STRIDE as usize];
        for (block, dispatch) in
            params.chunks_exact_mut(PARAMS_STRIDE as usize).zip(&graph.dispatches)
        {
            block[..dispatch.params.len()].copy_from_slice(&dispatch.params);
        }
        self.grow_named("parameters", params.len() as u64, U::UNIFORM | U::COPY_DST)?;
        self.gpu.queue.write_buffer(&self.named["parameters"], 0, &params);
        Ok(())
    }

    /// A free read-back buffer of at least so many bytes. It is pushed back once it is unmapped: after a
    /// failure it is dropped, and another made.
    fn readback(&mut self, bytes: u64) -> Result<wgpu::Buffer, Error> {
        let fitting = self.readbacks.iter().position(|buffer| buffer.size() >= bytes);
        if let Some(at) = fitting {
            return Ok(self.readbacks.swap_remove(at));
        }
        self.readbacks.pop();
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        self.gpu.buffer("read-back", self.roomy(bytes), usage)
    }

    /// Room to grow, as far as a shader can bind it, in whole words.
    fn roomy(&self, bytes: u64) -> u64 {
        let most = self.gpu.adapter.max_binding_bytes & !3;
        bytes.next_power_of_two().min(most).max(bytes)
    }

    /// Refuses a batch that would take more than it may.
    fn check_limit(&self, graph: &Graph) -> Result<(), Error> {
        let bytes = batch_bytes(graph);
        let Some(limit) = self.batch_limit.filter(|limit| bytes > *limit) else { return Ok(()) };
        Err(Error::OutOfMemory {
            adapter: self.gpu.adapter.name.clone(),
            what: "a batch".to_owned(),
            bytes,
            advice: format!(
                "the memory that the model may take leaves {limit} beside the weights; allow more, lower \
                 the batch tokens, or cut texts shorter"
            ),
        })
    }

    /// Refuses a tensor of a batch that a shader cannot see at once.
    fn bindable(&self, bytes: u64) -> Result<(), Error> {
        let most = self.gpu.adapter.max_binding_bytes;
        if bytes <= most {
            return Ok(());
        }
        Err(Error::adapter(
            &self.gpu.adapter.name,
            format!(
                "a batch needs {bytes} bytes at once and a shader sees {most}; lower the batch \
                 tokens, or cut texts shorter"
            ),
        ))
    }

    fn grow_named(
        &mut self,
        name: &str,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<(), Error> {
        if self.named.get(name).is_none_or(|buffer| buffer.size() < bytes) {
            let buffer = self.gpu.buffer(name, self.roomy(bytes), usage)?;
            self.named.insert(name.to_owned(), buffer);
        }
        Ok(())
    }

    fn tensor<'a>(
        &'a self,
        graph: &Graph,
        slots: &Slots,
        at: usize,
    ) -> Result<&'a wgpu::Buffer, Error> {
        let found = match &graph.tensors[at].source {
            Source::Weight(weight) => self.weights.get(*weight),
            Source::Input(_) => self.named.get(&input_name(at)),
            Source::Scratch | Source::Zeroed => {
                slots.of_tensor[at].and_then(|slot| self.scratch.get(slot))
            }
        };
        found.ok_or_else(|| {
            Error::Internal(format!("tensor {at} ({}) has no buffer", graph.tensors[at].name))
        })
    }

    fn record(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        graph: &Graph,
        slots: &Slots,
        Pieces { first, dispatches, marks_bytes }: Pieces<'_>,
        stamps: Option<&Stamps>,
    ) -> Result<(), Error> {
        let device = &self.gpu.device;
        let marks = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("range marks"),
            layout: self.pipelines.marks_layout(),
            entries: &[wgpu::BindGroupEntry {
                binding: 0,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: &self.named["marks"],
                    offset: 0,
                    size: std::num::NonZeroU64::new(marks_bytes),
                }),
            }],
        });
        let mut pass = None;
        for (at, dispatch) in dispatches.iter().enumerate() {
            // Timestamps stand at the ends of passes.
            if pass.is_none() || stamps.is_some() {
                drop(pass);
                pass = Some(encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                    label: None,
                    timestamp_writes: stamps.map(|stamps| stamps.writes(first + at)),
                }));
            }
            let Some(pass) = &mut pass else { continue };
            let pipeline = self.pipelines.get(dispatch.kernel, &dispatch.variant)?;
            let mut entries = Vec::new();
            for (binding, id) in dispatch.bindings.iter().enumerate() {
                let buffer = self.tensor(graph, slots, id.0)?;
                entries.push(whole(binding as u32, buffer));
            }
            entries.push(wgpu::BindGroupEntry {
                binding: entries.len() as u32,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: &self.named["parameters"],
                    offset: (first + at) as u64 * PARAMS_STRIDE,
                    size: std::num::NonZeroU64::new(dispatch.params.len() as u64),
                }),
            });
            let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(dispatch.kernel.name),
                layout: &pipeline.layout,
                entries: &entries,
            });
            pass.set_pipeline(&pipeline.pipeline);
            pass.set_bind_group(0, &group, &[]);
            if dispatch.kernel.stores_activations {
                pass.set_bind_group(1, &marks, &[]);
            }
            let [x, y, z] = dispatch.groups;
            pass.dispatch_workgroups(x, y, z);
        }
        Ok(())
    }

    /// Waits for all work and returns the first `bytes` of a read-back buffer.
    async fn read(
        &self,
        buffer: &wgpu::Buffer,
        bytes: u64,
        submitted: Vec<wgpu::SubmissionIndex>,
    ) -> Result<Vec<u8>, Error> {
        let (sender, mut receiver) = futures_channel::oneshot::channel();
        buffer.map_async(wgpu::MapMode::Read, 0..bytes, move |result| {
            // The receiver is gone only if the caller gave up waiting.
            let _ = sender.send(result);
        });
        let lost =
            |problem: String| Error::DeviceLost { adapter: self.gpu.adapter.name.clone(), problem };
        // Natively the answer is there once the queue is empty; after a loss it may never come, so
        // it is not waited for. In a browser the event loop brings it.
        let mapped = if cfg!(target_arch = "wasm32") {
            (&mut receiver).await.ok()
        } else {
            self.wait(submitted);
            receiver.try_recv().ok().flatten()
        };
        self.gpu.check("reading a batch back", bytes)?;
        mapped
            .ok_or_else(|| lost("the read-back was not answered".to_owned()))?
            .map_err(|e| lost(format!("the read-back failed: {e}")))?;
        let view = buffer
            .get_mapped_range(0..bytes)
            .map_err(|e| Error::Internal(format!("mapping the read-back: {e}")))?;
        let copy = view.to_vec();
        drop(view);
        buffer.unmap();
        Ok(copy)
    }

    /// As [`Executor::wait`]; in a browser nothing may block.
    fn wait_natively(&self, submitted: Vec<wgpu::SubmissionIndex>) {
        if cfg!(not(target_arch = "wasm32")) {
            self.wait(submitted);
        }
    }

    /// Blocks until every submit is done, each within the limit; in a browser the event loop does
    /// that. wgpu panics where a device is lost meanwhile, and a wait beyond the limit is taken for a
    /// loss too.
    fn wait(&self, submitted: Vec<wgpu::SubmissionIndex>) {
        for index in submitted {
            let wait = wgpu::PollType::Wait { submission_index: Some(index), timeout: Some(WAIT) };
            let poll = || self.gpu.device.poll(wait);
            match std::panic::catch_unwind(std::panic::AssertUnwindSafe(poll)) {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    return self.gpu.mark_lost(format!("no answer in {WAIT:?}: {error}"));
                }
                Err(_) => {
                    return self.gpu.mark_lost("the driver reported a fatal error".to_owned());
                }
            }
        }
    }
}

/// Bytes of all buffers that a graph takes beside its weights, as [`Executor`] makes them: inputs with
/// room to grow, and read-back for two graphs on their way.
pub(crate) fn batch_bytes(graph: &Graph) -> u64 {
    let inputs = graph.tensors.iter().map(|tensor| match tensor.source {
        Source::Input(_) => tensor.bytes.next_power_of_two(),
        _ => 0,
    });
    let output = graph.output.map_or(0, |id| graph.tensors[id.0].bytes);
    let marks = (graph.tokens.max(1) * 4) as u64;
    let parameters = graph.dispatches.len() as u64 * PARAMS_STRIDE;
    graph.scratch_bytes()
        + inputs.sum::<u64>()
        + marks.next_power_of_two()
        + 2 * (output + marks).next_power_of_two()
        + parameters.next_power_of_two()
}

/// Dispatches that go into one submit.
struct Pieces<'a> {
    /// The number of the first.
    first: usize,
    dispatches: &'a [Dispatch],
    marks_bytes: u64,
}

fn input_name(at: usize) -> String {
    format!("input {at}")
}
