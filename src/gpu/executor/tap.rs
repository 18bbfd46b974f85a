//! Runs a graph and reads back every tensor that it writes, one at a time, to measure the range of values. This is
//! slow.

use crate::error::Error;
use crate::gpu::executor::buffers::Shared;
use crate::gpu::executor::{Executor, Outcome, Pieces};
use crate::gpu::graph::{Graph, TensorId};

impl Executor {
    /// Runs a graph as [`Executor::run`] does, and calls `visit` with the bytes of each tensor for which `wanted` is
    /// true. `visit` is called as soon as the tensor's last dispatch is done, in the order of the dispatches.
    ///
    /// Each dispatch is a separate submit, and only one tensor is on the host at a time.
    ///
    /// # Errors
    /// Returns the errors of [`Executor::run`].
    pub async fn run_tapped(
        &mut self,
        graph: &Graph,
        wanted: &[bool],
        visit: impl FnMut(TensorId, &[u8]),
    ) -> Result<Outcome, Error> {
        let outcome = self.tap(graph, wanted, visit).await;
        if outcome.is_err() {
            self.forget();
        }
        outcome
    }

    async fn tap(
        &mut self,
        graph: &Graph,
        wanted: &[bool],
        mut visit: impl FnMut(TensorId, &[u8]),
    ) -> Result<Outcome, Error> {
        self.gpu.check("work that was submitted before this batch", 0)?;
        let output =
            graph.output.ok_or_else(|| Error::Internal("the graph has no output".into()))?;
        let slots = graph.slots();
        let report = self.next_report(graph);
        self.grow(graph, &slots, &report)?;
        self.pipelines.make_for(&self.gpu, graph).await?;
        let bound = self.bind(graph, &slots, &report)?;
        let report_buffer = self.shared[&Shared::Report].clone();
        let mut encoder = self.gpu.calls.encoder()?;
        self.clear(&mut encoder, graph, &slots, &report)?;
        let mut submitted = vec![self.submit(encoder)?];

        // `last_write` holds, for each tensor, the index of the dispatch after which the tensor is complete. The tensor
        // is read right after this dispatch, since later dispatches may reuse its buffer.
        let mut last_write = vec![None; graph.tensors.len()];
        for (at, dispatch) in graph.dispatches.iter().enumerate() {
            if let Some(id) = graph.written(dispatch) {
                last_write[id.0] = Some(at);
            }
        }
        let largest = graph.tensors.iter().zip(wanted).filter(|(_, wanted)| **wanted);
        let largest = largest.map(|(tensor, _)| tensor.bytes).max().unwrap_or(0);
        let tail = graph.tensors[output.0].bytes + report.bytes();
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let readback = self.gpu.buffer("tap", largest.max(tail), usage)?;
        for (at, dispatch) in graph.dispatches.iter().enumerate() {
            let mut encoder = self.gpu.calls.encoder()?;
            let one = std::slice::from_ref(dispatch);
            let pieces = Pieces { first: at, dispatches: one, bound: &bound };
            self.record(&mut encoder, pieces, None)?;
            let whole = graph.written(dispatch).filter(|id| {
                last_write[id.0] == Some(at) && wanted.get(id.0).copied().unwrap_or(false)
            });
            if let Some(id) = whole {
                let bytes = graph.tensors[id.0].bytes;
                let source = self.tensor(graph, &slots, id.0)?;
                self.copy(&mut encoder, source, (&readback, 0), bytes)?;
                submitted.push(self.submit(encoder)?);
                visit(id, &self.read(&readback, bytes, std::mem::take(&mut submitted)).await?);
            } else {
                submitted.push(self.submit(encoder)?);
            }
        }
        let mut encoder = self.gpu.calls.encoder()?;
        let output_bytes = tail - report.bytes();
        let source = self.tensor(graph, &slots, output.0)?;
        self.copy(&mut encoder, source, (&readback, 0), output_bytes)?;
        self.copy(&mut encoder, &report_buffer, (&readback, output_bytes), report.bytes())?;
        submitted.push(self.submit(encoder)?);
        let bytes = self.read(&readback, tail, submitted).await?;
        self.gpu.check("running a batch", 0)?;
        self.outcome(graph, &report, &bytes, output_bytes)
    }
}
