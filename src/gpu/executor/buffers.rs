//! The buffers that graphs share. The buffers grow to the size that graphs need, and never shrink.

use crate::error::Error;
use crate::gpu::executor::Executor;
use crate::gpu::executor::report::Report;
use crate::gpu::graph::{Graph, Slots, TensorSource};

/// The distance in bytes between the parameters of two dispatches: WebGPU's default alignment of uniform offsets.
pub(super) const PARAMS_STRIDE: u64 = 256;

impl Executor {
    /// Makes every shared buffer at least as large as the graph needs, and uploads inputs and parameters.
    pub(super) fn grow(
        &mut self,
        graph: &Graph,
        slots: &Slots,
        report: &Report,
    ) -> Result<(), Error> {
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
            if let TensorSource::Input(bytes) = &tensor.source {
                let name = input_name(at);
                self.bindable(tensor.bytes)?;
                self.grow_named(&name, tensor.bytes, U::STORAGE | U::COPY_DST)?;
                self.gpu.calls.write(&self.named[&name], 0, bytes)?;
            }
        }
        self.grow_named("report", report.bytes(), U::STORAGE | U::COPY_DST | U::COPY_SRC)?;
        let tail = report.initial_tail();
        let at = report.flag_bytes();
        self.gpu.calls.write(&self.named["report"], at, bytemuck::cast_slice(&tail))?;
        let mut params = vec![0; graph.dispatches.len() * PARAMS_STRIDE as usize];
        for (block, dispatch) in
            params.chunks_exact_mut(PARAMS_STRIDE as usize).zip(&graph.dispatches)
        {
            block[..dispatch.params.len()].copy_from_slice(&dispatch.params);
        }
        self.grow_named("parameters", params.len() as u64, U::UNIFORM | U::COPY_DST)?;
        self.gpu.calls.write(&self.named["parameters"], 0, &params)
    }

    /// Returns a free read-back buffer of at least `bytes` bytes. The caller adds it to `readbacks` again once it is
    /// unmapped. After a failure, the caller drops the buffer, and the next call of this function makes a new one.
    pub(super) fn readback(&mut self, bytes: u64) -> Result<wgpu::Buffer, Error> {
        let fitting = self.readbacks.iter().position(|buffer| buffer.size() >= bytes);
        if let Some(at) = fitting {
            return Ok(self.readbacks.swap_remove(at));
        }
        self.readbacks.pop();
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        self.gpu.buffer("read-back", self.roomy(bytes), usage)
    }

    /// Records commands that clear two things: the overflow flags, and the tensors that dispatches write only in part.
    pub(super) fn clear(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        graph: &Graph,
        slots: &Slots,
        report: &Report,
    ) -> Result<(), Error> {
        self.gpu.calls.record(encoder, |encoder| {
            encoder.clear_buffer(&self.named["report"], 0, Some(report.flag_bytes()));
            for (at, tensor) in graph.tensors.iter().enumerate() {
                if tensor.source == TensorSource::Zeroed {
                    encoder.clear_buffer(self.tensor(graph, slots, at)?, 0, Some(tensor.bytes));
                }
            }
            Ok(())
        })?
    }

    /// Returns `bytes` rounded up to a power of two, so that a buffer seldom has to grow. The result exceeds the
    /// binding limit only if `bytes` does.
    fn roomy(&self, bytes: u64) -> u64 {
        let most = self.gpu.adapter.max_binding_bytes & !3;
        bytes.next_power_of_two().min(most).max(bytes)
    }

    /// Returns an error if the buffers of a batch would exceed the memory limit.
    pub(super) fn check_limit(&self, graph: &Graph) -> Result<(), Error> {
        let bytes = batch_bytes(graph);
        let Some(limit) = self.batch_limit.filter(|limit| bytes > *limit) else { return Ok(()) };
        Err(Error::OutOfMemory {
            adapter: self.gpu.adapter.name.clone(),
            what: "a batch".to_owned(),
            bytes,
            advice: format!(
                "the weights leave only {limit} bytes of max_memory for batches; raise max_memory, \
                 lower batch_tokens, or truncate texts to fewer tokens"
            ),
        })
    }

    /// Returns an error if a tensor of a batch exceeds the adapter's binding limit.
    fn bindable(&self, bytes: u64) -> Result<(), Error> {
        let most = self.gpu.adapter.max_binding_bytes;
        if bytes <= most {
            return Ok(());
        }
        Err(Error::adapter(
            &self.gpu.adapter.name,
            format!(
                "a batch needs a buffer binding of {bytes} bytes, but the adapter's limit is \
                 {most} bytes; lower batch_tokens, or truncate texts to fewer tokens"
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

    pub(super) fn tensor<'a>(
        &'a self,
        graph: &Graph,
        slots: &Slots,
        at: usize,
    ) -> Result<&'a wgpu::Buffer, Error> {
        let found = match &graph.tensors[at].source {
            TensorSource::Weight(weight) => self.weights.get(*weight),
            TensorSource::Input(_) => self.named.get(&input_name(at)),
            TensorSource::Scratch | TensorSource::Zeroed => {
                slots.of_tensor[at].and_then(|slot| self.scratch.get(slot))
            }
        };
        found.ok_or_else(|| {
            Error::Internal(format!("tensor {at} ({}) has no buffer", graph.tensors[at].name))
        })
    }
}

/// Returns the bytes of all buffers that [`Executor`] makes for a graph, without its weights. Sizes of inputs are
/// rounded up to powers of two, and two graphs in flight have a read-back buffer each.
pub(crate) fn batch_bytes(graph: &Graph) -> u64 {
    let inputs = graph.tensors.iter().map(|tensor| match tensor.source {
        TensorSource::Input(_) => tensor.bytes.next_power_of_two(),
        _ => 0,
    });
    let output = graph.output.map_or(0, |id| graph.tensors[id.0].bytes);
    let report = Report::bytes_of(graph);
    let parameters = graph.dispatches.len() as u64 * PARAMS_STRIDE;
    graph.scratch_bytes()
        + inputs.sum::<u64>()
        + report.next_power_of_two()
        + 2 * (output + report).next_power_of_two()
        + parameters.next_power_of_two()
}

fn input_name(at: usize) -> String {
    format!("input {at}")
}
