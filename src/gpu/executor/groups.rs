//! Bind groups, which later batches use again.
//!
//! A bind group names whole buffers, so it stays right as long as no buffer is made again. It depends on the graph's
//! shape only through the buffers and the position of each dispatch.

use std::collections::HashMap;

use crate::error::Error;
use crate::gpu::executor::buffers::{PARAMS_STRIDE, Shared};
use crate::gpu::executor::report::Report;
use crate::gpu::executor::{Executor, whole};
use crate::gpu::graph::{Graph, Slots, TensorSource};

/// The maximum number of cached bind groups. If more are needed, all are dropped, and the next batches make theirs
/// again. Each takes about a kilobyte of the host's memory.
const MOST: usize = 2048;

/// The first number in the key of a report's bind group, which belongs to no pipeline.
const REPORT: u32 = u32::MAX;

/// The bind groups of earlier batches.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// The key lists the numbers that determine a bind group: its pipeline, the place of its parameters, and its
    /// buffers.
    made: HashMap<Box<[u32]>, wgpu::BindGroup>,
}

impl Groups {
    pub fn clear(&mut self) {
        self.made.clear();
    }

    fn insert(&mut self, key: &[u32], group: &wgpu::BindGroup) {
        if self.made.len() >= MOST {
            self.clear();
        }
        self.made.insert(key.into(), group.clone());
    }
}

/// The pipelines and bind groups of a graph's dispatches.
pub(super) struct Bound {
    /// The bind group of the report, which all dispatches share.
    pub report: wgpu::BindGroup,
    /// The number of the pipeline and the bind group of each dispatch.
    pub dispatches: Vec<(usize, wgpu::BindGroup)>,
}

impl Executor {
    /// Returns the pipelines and bind groups of a graph. Bind groups of earlier batches are used again.
    pub(super) fn bind(
        &mut self,
        graph: &Graph,
        slots: &Slots,
        report: &Report,
    ) -> Result<Bound, Error> {
        let report = self.bind_report(report)?;
        let mut dispatches = Vec::with_capacity(graph.dispatches.len());
        let mut key = Vec::new();
        for (at, dispatch) in graph.dispatches.iter().enumerate() {
            let pipeline = self.pipelines.number(dispatch.kernel, &dispatch.variant)?;
            key.clear();
            key.extend([pipeline as u32, at as u32, dispatch.params.len() as u32]);
            key.extend(dispatch.bindings.iter().map(|id| buffer_number(graph, slots, id.0)));
            let group = match self.groups.made.get(key.as_slice()) {
                Some(group) => group.clone(),
                None => {
                    let group = self.bind_dispatch(graph, slots, at, pipeline)?;
                    self.groups.insert(&key, &group);
                    group
                }
            };
            dispatches.push((pipeline, group));
        }
        Ok(Bound { report, dispatches })
    }

    fn bind_dispatch(
        &self,
        graph: &Graph,
        slots: &Slots,
        at: usize,
        pipeline: usize,
    ) -> Result<wgpu::BindGroup, Error> {
        let dispatch = &graph.dispatches[at];
        let mut entries = Vec::with_capacity(dispatch.bindings.len() + 1);
        for (binding, id) in dispatch.bindings.iter().enumerate() {
            entries.push(whole(binding as u32, self.tensor(graph, slots, id.0)?));
        }
        entries.push(wgpu::BindGroupEntry {
            binding: entries.len() as u32,
            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: &self.shared[&Shared::Parameters],
                offset: at as u64 * PARAMS_STRIDE,
                size: std::num::NonZeroU64::new(dispatch.params.len() as u64),
            }),
        });
        self.gpu.calls.bind_group(&wgpu::BindGroupDescriptor {
            label: Some(dispatch.kernel.name),
            layout: &self.pipelines.at(pipeline).layout,
            entries: &entries,
        })
    }

    /// Returns the bind group of a report. The kernels find the end of the report by the size of its binding.
    fn bind_report(&mut self, report: &Report) -> Result<wgpu::BindGroup, Error> {
        let bytes = report.bytes();
        let key = [REPORT, bytes as u32, (bytes >> 32) as u32];
        if let Some(group) = self.groups.made.get(key.as_slice()) {
            return Ok(group.clone());
        }
        let group = self.gpu.calls.bind_group(&wgpu::BindGroupDescriptor {
            label: Some("report"),
            layout: self.pipelines.report_layout(),
            entries: &[wgpu::BindGroupEntry {
                binding: 0,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: &self.shared[&Shared::Report],
                    offset: 0,
                    size: std::num::NonZeroU64::new(bytes),
                }),
            }],
        })?;
        self.groups.insert(&key, &group);
        Ok(group)
    }

    /// Forgets the bind groups and parameters of earlier batches. After a fault, they may be invalid.
    pub(super) fn forget(&mut self) {
        self.groups.clear();
        self.parameters.clear();
    }

    /// Returns the number of cached bind groups.
    #[cfg(test)]
    pub(crate) fn cached_bind_groups(&self) -> usize {
        self.groups.made.len()
    }
}

/// Returns a number that differs between the buffers of an executor. A tensor without a buffer has the largest number,
/// and making its bind group fails.
fn buffer_number(graph: &Graph, slots: &Slots, at: usize) -> u32 {
    match &graph.tensors[at].source {
        TensorSource::Weight(weight) => 3 * *weight as u32,
        TensorSource::Input(_) => 3 * at as u32 + 1,
        TensorSource::Scratch | TensorSource::Zeroed => {
            slots.of_tensor[at].map_or(u32::MAX, |slot| 3 * slot as u32 + 2)
        }
    }
}

#[cfg(test)]
mod tests {
    use pollster::block_on;

    use super::*;
    use crate::gpu::adapter::{AdapterChoice, NoopAdapter};
    use crate::gpu::device::Gpus;

    #[test]
    fn the_number_of_cached_groups_is_bounded() {
        let noop = NoopAdapter {
            shader_f16: false,
            subgroup_size: None,
            webgpu_default_limits: true,
            max_binding_bytes: None,
            software: false,
        };
        let gpus = block_on(Gpus::search(&AdapterChoice::Noop(Box::new(noop))));
        let gpu = block_on(gpus.open(0, &[], None, None)).unwrap();
        let mut executor = Executor::new(gpu).unwrap();
        let graph = Graph { tokens: 7, ..Graph::default() };
        let report = Report::new(&graph, 1);
        let usage = wgpu::BufferUsages::STORAGE;
        let buffer = executor.gpu.buffer("report", report.bytes(), usage).unwrap();
        executor.shared.insert(Shared::Report, buffer);
        let group = executor.bind_report(&report).unwrap();
        assert_eq!(executor.groups.made.len(), 1);
        let mut largest = 0;
        for key in 0..3 * MOST as u32 {
            executor.groups.insert(&[key], &group);
            largest = largest.max(executor.groups.made.len());
        }
        assert_eq!(largest, MOST);
        executor.forget();
        assert!(executor.groups.made.is_empty());
    }
}
