//! A forward pass as plain data: numbered tensors and an ordered list of dispatches.
//!
//! The executor runs a graph. An analysis of its tensors' lifetimes decides which tensors share a buffer. A no-op
//! device accepts a graph without computing anything, and `vectile inspect` prints the graph. A graph contains no GPU
//! object.

use super::kernel::{Access, Kernel};
use super::shader::ShaderVariant;

/// A tensor of a [`Graph`], named by its index in the graph's list of tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TensorId(pub usize);

/// The origin of a tensor's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TensorSource {
    /// A buffer of the loaded model. The field is the buffer's number among the model's buffers.
    Weight(usize),
    /// The bytes are uploaded for this batch.
    Input(Vec<u8>),
    /// The tensor shares a buffer with other tensors: a dispatch writes all of it before any dispatch reads it.
    Scratch,
    /// The tensor has its own buffer, which is cleared first: dispatches write only parts of it, and the other parts
    /// stay zero.
    Zeroed,
}

/// A tensor's name, size and origin.
#[derive(Debug, Clone)]
pub struct TensorInfo {
    /// The tensor's name in listings and in labels of buffers.
    pub name: &'static str,
    /// The tensor's size in bytes.
    pub bytes: u64,
    /// The origin of the tensor's bytes.
    pub source: TensorSource,
    /// The transformer layer that the tensor belongs to, counted from 0; `None` before and after the layers.
    pub layer: Option<usize>,
}

/// The number of workgroups of a dispatch in each dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workgroups {
    /// The number of workgroups in x.
    pub x: u32,
    /// The number of workgroups in y.
    pub y: u32,
    /// The number of workgroups in z.
    pub z: u32,
}

impl Workgroups {
    /// Returns a row of `x` workgroups.
    pub fn row(x: u32) -> Self {
        Workgroups { x, y: 1, z: 1 }
    }

    /// Returns a grid of `x` · `y` workgroups.
    pub fn grid(x: u32, y: u32) -> Self {
        Workgroups { x, y, z: 1 }
    }

    /// Returns the numbers of workgroups in x, y and z.
    pub fn to_array(self) -> [u32; 3] {
        [self.x, self.y, self.z]
    }
}

/// One dispatch of a kernel, with its bindings and parameters.
#[derive(Debug, Clone)]
pub struct Dispatch {
    /// The kernel to run.
    pub kernel: &'static Kernel,
    /// The variant of the kernel, which determines its WGSL.
    pub variant: ShaderVariant,
    /// The tensors that are bound to the kernel's bindings, in order.
    pub bindings: Vec<TensorId>,
    /// The bytes of the kernel's parameters.
    pub params: Vec<u8>,
    /// The number of workgroups in each dimension.
    pub workgroups: Workgroups,
    /// An estimate of the dispatch's floating point operations. The executor splits long submits by these estimates.
    pub flops: u64,
}

/// A forward pass over one packed batch.
#[derive(Debug, Default)]
pub struct Graph {
    /// The tensors, numbered by [`TensorId`].
    pub tensors: Vec<TensorInfo>,
    /// The dispatches, in the order of execution.
    pub dispatches: Vec<Dispatch>,
    /// The tensor that is read back; its rows are f32.
    pub output: Option<TensorId>,
    /// The number of tokens in the batch, which is the number of overflow flags.
    pub tokens: usize,
    /// The transformer layer to which new tensors are assigned.
    pub layer: Option<usize>,
}

/// The slots that scratch tensors share. A slot is a buffer that holds different tensors at different times.
#[derive(Debug, PartialEq, Eq)]
pub struct Slots {
    /// The slot of each tensor; `None` for weights and inputs.
    pub of_tensor: Vec<Option<usize>>,
    /// The size of each slot in bytes.
    pub bytes: Vec<u64>,
}

impl Graph {
    /// Adds a tensor of at least 16 bytes, and returns its number.
    pub fn add(&mut self, name: &'static str, bytes: u64, source: TensorSource) -> TensorId {
        // A buffer binding cannot be empty, so a tensor has at least 16 bytes.
        self.tensors.push(TensorInfo { name, bytes: bytes.max(16), source, layer: self.layer });
        TensorId(self.tensors.len() - 1)
    }

    /// Returns the tensor that a dispatch writes: the last of its bindings that has write access.
    pub fn written(&self, dispatch: &Dispatch) -> Option<TensorId> {
        let bindings = dispatch.bindings.iter().zip(dispatch.kernel.bindings).rev();
        bindings.filter(|(_, access)| **access == Access::Write).map(|(id, _)| *id).next()
    }

    /// Assigns scratch tensors to slots (shared buffers) by a greedy algorithm that keeps slots few and small. A
    /// tensor's slot is free again after the last dispatch that uses the tensor.
    pub fn slots(&self) -> Slots {
        let mut last_use = vec![0; self.tensors.len()];
        for (at, dispatch) in self.dispatches.iter().enumerate() {
            for id in &dispatch.bindings {
                last_use[id.0] = at;
            }
        }
        if let Some(output) = self.output {
            last_use[output.0] = usize::MAX;
        }
        let mut of_tensor = vec![None; self.tensors.len()];
        let mut bytes: Vec<u64> = Vec::new();
        // `busy_until` holds, for each slot (a buffer that several tensors share), the index of the last dispatch that
        // uses it.
        let mut busy_until: Vec<usize> = Vec::new();
        for (at, dispatch) in self.dispatches.iter().enumerate() {
            let written = dispatch
                .bindings
                .iter()
                .zip(dispatch.kernel.bindings)
                .filter(|(_, access)| **access == Access::Write);
            for (id, _) in written {
                let info = &self.tensors[id.0];
                if of_tensor[id.0].is_some()
                    || matches!(info.source, TensorSource::Weight(_) | TensorSource::Input(_))
                {
                    continue;
                }
                let zeroed = info.source == TensorSource::Zeroed;
                // `free` is the free slot whose size is nearest. A larger slot would waste bytes, and a smaller slot
                // has to grow.
                let free = (0..bytes.len())
                    .filter(|slot| !zeroed && busy_until[*slot] < at)
                    .min_by_key(|slot| bytes[*slot].abs_diff(info.bytes));
                let slot = free.unwrap_or_else(|| {
                    bytes.push(0);
                    busy_until.push(0);
                    bytes.len() - 1
                });
                bytes[slot] = bytes[slot].max(info.bytes);
                busy_until[slot] = if zeroed { usize::MAX } else { last_use[id.0] };
                of_tensor[id.0] = Some(slot);
            }
        }
        Slots { of_tensor, bytes }
    }

    /// Returns the size in bytes of all scratch buffers together.
    pub fn scratch_bytes(&self) -> u64 {
        self.slots().bytes.iter().sum()
    }

    /// Returns an estimate of the floating point operations of all dispatches.
    pub fn flops(&self) -> u64 {
        self.dispatches.iter().map(|dispatch| dispatch.flops).sum()
    }
}
