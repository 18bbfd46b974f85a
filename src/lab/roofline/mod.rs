//! Predicts how many tokens a known GPU can embed in a second. The prediction uses the instructions that compilers
//! counted and the rates of data sheets, and no measurement. `docs/roofline.md` states its assumptions.

mod cycles;
mod known;

use crate::gpu::graph::{Dispatch, Graph, TensorSource};
use crate::kernels::matmul;
use cycles::Loops;
pub(crate) use known::KnownGpu;

/// Returns the shortest time in seconds in which a GPU can run a graph. A dispatch takes the longer of its time for
/// instructions and its time for bytes, plus the time between dispatches.
pub(crate) fn shortest_seconds(gpu: &KnownGpu, graph: &Graph) -> f64 {
    let loops = Loops::of(&gpu.loops);
    let mut pieces = vec![0_u32; graph.tensors.len()];
    for id in graph.dispatches.iter().filter_map(|dispatch| graph.written(dispatch)) {
        pieces[id.0] += 1;
    }
    let seconds = |dispatch: &Dispatch| {
        let compute = loops.seconds(gpu, dispatch);
        let memory = bytes(graph, dispatch, &pieces) / (gpu.gbytes_per_s * 1e9);
        compute.max(memory) + gpu.dispatch_us * 1e-6
    };
    graph.dispatches.iter().map(seconds).sum()
}

/// Returns the bytes that a dispatch reads and writes if it accesses each tensor once. `pieces` holds the number of
/// dispatches that write each tensor; dispatches that write parts of one tensor share its bytes. A weight that is no
/// matmul's matrix is a table, of which a dispatch reads as many bytes as it writes.
fn bytes(graph: &Graph, dispatch: &Dispatch, pieces: &[u32]) -> f64 {
    let written = graph.written(dispatch);
    let pieces = f64::from(written.map_or(1, |id| pieces[id.0]).max(1));
    let output = written.map_or(0, |id| graph.tensors[id.0].bytes) as f64 / pieces;
    let matrix = matmul::shape(dispatch).map(|shape| {
        (shape.inner4 * shape.columns4 * 16) as f64 * dispatch.variant.weights.bytes() as f64
    });
    let (mut sum, mut weights) = (0.0, 0);
    for (at, id) in dispatch.bindings.iter().enumerate() {
        if dispatch.bindings[..at].contains(id) {
            continue;
        }
        let tensor = &graph.tensors[id.0];
        match tensor.source {
            TensorSource::Weight(_) => weights += 1,
            _ => sum += tensor.bytes as f64 / pieces,
        }
    }
    sum + matrix.unwrap_or(if weights > 0 { output } else { 0.0 })
}

#[cfg(test)]
mod tests;
