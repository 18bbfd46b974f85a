//! The buffers that graphs share. The buffers grow to the size that graphs need, and never shrink.

use crate::error::Error;
use crate::gpu::executor::Executor;
use crate::gpu::executor::report::Report;
use crate::gpu::graph::{Graph, Slots, TensorSource};

/// The distance in bytes between the parameters of two dispatches: WebGPU's default alignment of uniform offsets.
pub(super) const PARAMS_STRIDE: u64 = 256;

/// A buffer that graphs share, besides those of activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Shared {
    /// The input tensor with this number.
    Input(usize),
    /// The report of a batch.
    Report,
    /// The parameter blocks of all dispatches.
    Parameters,
}

impl std::fmt::Display for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Shared::Input(at) => write!(f, "input {at}"),
            Shared::Report => f.write_str("report"),
            Shared::Parameters => f.write_str("parameters"),
        }
    }
}

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
                self.forget();
                self.scratch[slot] = self.gpu.buffer("activations", *bytes, usage)?;
            }
        }
        for (at, tensor) in graph.tensors.iter().enumerate() {
            if let TensorSource::Input(bytes) = &tensor.source {
                let input = Shared::Input(at);
                self.bindable(tensor.bytes)?;
                self.grow_shared(input, tensor.bytes, U::STORAGE | U::COPY_DST)?;
                self.gpu.calls.write(&self.shared[&input], 0, bytes)?;
            }
        }
        self.grow_shared(Shared::Report, report.bytes(), U::STORAGE | U::COPY_DST | U::COPY_SRC)?;
        let tail = report.initial_tail();
        let at = report.flag_bytes();
        self.gpu.calls.write(&self.shared[&Shared::Report], at, bytemuck::cast_slice(&tail))?;
        let stride = PARAMS_STRIDE as usize;
        let bytes = graph.dispatches.len() * stride;
        self.grow_shared(Shared::Parameters, bytes as u64, U::UNIFORM | U::COPY_DST)?;
        let mut parameters = std::mem::take(&mut self.spare_parameters);
        parameters.clear();
        parameters.resize(bytes, 0);
        for (block, dispatch) in parameters.chunks_exact_mut(stride).zip(&graph.dispatches) {
            block[..dispatch.params.len()].copy_from_slice(&dispatch.params);
        }
        // A batch of the same shape has the same parameters, which are then on the device already.
        if parameters != self.parameters {
            self.gpu.calls.write(&self.shared[&Shared::Parameters], 0, &parameters)?;
        }
        self.spare_parameters = std::mem::replace(&mut self.parameters, parameters);
        Ok(())
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
            encoder.clear_buffer(&self.shared[&Shared::Report], 0, Some(report.flag_bytes()));
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
        let Some(limit) = self.batch_limit else { return Ok(()) };
        let bytes = batch_bytes(graph);
        if bytes <= limit {
            return Ok(());
        }
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

    fn grow_shared(
        &mut self,
        which: Shared,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<(), Error> {
        if self.shared.get(&which).is_none_or(|buffer| buffer.size() < bytes) {
            self.forget();
            let buffer = self.gpu.buffer(&which.to_string(), self.roomy(bytes), usage)?;
            self.shared.insert(which, buffer);
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
            TensorSource::Input(_) => self.shared.get(&Shared::Input(at)),
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
