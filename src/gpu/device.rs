//! An open device with its features, limits and buffers. The device's errors, and its loss, are returned as values.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::error::Error;
use crate::gpu::adapter::{AdapterChoice, AdapterSummary, Feature, list, noop_options};
use crate::gpu::calls::{self, Calls};
use crate::gpu::inject::FaultPlan;
use crate::gpu::limits::too_low;
use crate::gpu::shader::{Lanes, ShaderVariant};

/// The cooperative matrices of a device, with f16 factors and f32 sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CooperativeMatrices {
    /// The size of a cooperative matrix, 8 or 16: its rows, columns and depth are equal.
    pub side: u32,
    /// The number of invocations in a workgroup that multiplies the matrices: four times the adapter's largest subgroup
    /// size.
    pub invocations: u32,
    /// The number of array elements that hold a cell (four values) in workgroup memory. Kernels load a matrix through a
    /// pointer to an element. On Metal, such a pointer must point to a scalar, so a cell has 4 elements. On other
    /// backends, a cell is one element.
    pub elements: u32,
}

impl CooperativeMatrices {
    /// Returns the matrices of an adapter that does not use Metal.
    pub fn of(side: u32, invocations: u32) -> Self {
        CooperativeMatrices { side, invocations, elements: 1 }
    }

    /// Sets the constants that all kernels with cooperative matrices share.
    pub(crate) fn constants(self, shader: ShaderVariant) -> ShaderVariant {
        shader
            .constant("SIDE", self.side)
            .constant("INVOCATIONS", self.invocations)
            .constant("ELEMENTS", self.elements)
    }
}

/// The maximum number of bytes of workgroup memory that a kernel with cooperative matrices uses. An adapter with less
/// workgroup memory runs the kernels without cooperative matrices.
pub const MATRIX_MEMORY: u32 = 32768;

/// The number of cells (four f16 values each) that pad each row in the workgroup memory of a kernel with cooperative
/// matrices. It is the constant PAD of these kernels.
pub(crate) const MATRIX_PAD: u32 = 2;

/// The GPUs of the machine, best first. None of them is open.
pub(crate) struct Gpus {
    adapters: Vec<wgpu::Adapter>,
    /// The names, limits and features of these GPUs.
    pub summaries: Vec<AdapterSummary>,
}

impl Gpus {
    /// Lists the GPUs. For a dry run, the list has only the device that computes nothing.
    pub async fn search(choice: &AdapterChoice) -> Self {
        let noop = match choice {
            AdapterChoice::Noop(noop) => Some(noop_options(noop)),
            _ => None,
        };
        let adapters = list(noop).await;
        let mut summaries: Vec<AdapterSummary> =
            adapters.iter().enumerate().map(|(i, a)| AdapterSummary::of(i, a)).collect();
        if let AdapterChoice::Noop(noop) = choice
            && noop.software
        {
            summaries.iter_mut().for_each(|adapter| adapter.device_type = "Cpu".into());
        }
        Gpus { adapters, summaries }
    }

    /// Opens a device with all limits and features of its adapter, except the disabled features. The binding limit is
    /// lowered to `max_binding_bytes`. The calls to the device fail as `plan` says.
    ///
    /// # Errors
    /// Returns [`Error::DeviceFault`] if the device cannot be opened, and [`Error::Adapter`] if the limits of `plan` are
    /// too low for our kernels.
    pub async fn open(
        &self,
        index: usize,
        disabled: &[Feature],
        max_binding_bytes: Option<u64>,
        plan: Option<Arc<FaultPlan>>,
    ) -> Result<Gpu, Error> {
        let adapters = &self.adapters;
        let mut adapter = self.summaries[index].clone();
        let wanted = [
            (wgpu::Features::SHADER_F16, Feature::ShaderF16),
            (wgpu::Features::SUBGROUP, Feature::Subgroups),
            (wgpu::Features::TIMESTAMP_QUERY, Feature::TimestampQuery),
        ];
        let mut features = wgpu::Features::empty();
        for (feature, name) in wanted {
            if adapters[index].features().contains(feature) && !disabled.contains(&name) {
                features |= feature;
            }
        }
        features |= adapters[index].features() & wgpu::Features::PIPELINE_CACHE;
        let experimental = experimental(&adapter, features, disabled);
        features |= experimental.0;
        let mut limits = adapters[index].limits();
        if let Some(low) = plan.as_ref().and_then(|plan| plan.limits()) {
            limits = low.of(limits);
            if let Some(problem) = too_low(&limits) {
                return Err(Error::adapter(&adapter.name, problem));
            }
            adapter = adapter.with_limits(&limits);
        }
        if let Some(bytes) = max_binding_bytes {
            limits.max_storage_buffer_binding_size = bytes.min(adapter.max_binding_bytes);
            adapter.max_binding_bytes = limits.max_storage_buffer_binding_size;
        }
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("vectile"),
            required_features: features,
            required_limits: limits,
            // The hint `Performance` would put buffers into shared blocks of up to 256 MiB, and waste memory at the
            // ends of these blocks.
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            experimental_features: experimental.1,
            ..Default::default()
        };
        let calls = calls::open(&adapters[index], &adapter.name, &descriptor, plan).await?;
        Ok(Gpu { adapter, disabled: disabled.to_vec(), calls })
    }
}

/// An open device with its queue and a summary of its adapter.
#[derive(Debug)]
pub struct Gpu {
    /// The adapter to which the device belongs.
    pub adapter: AdapterSummary,
    /// The features of the adapter that the caller disabled.
    pub disabled: Vec<Feature>,
    pub(super) calls: Calls,
}

impl Gpu {
    /// Is true if shaders on this device may use f16.
    pub fn has_shader_f16(&self) -> bool {
        self.calls.features().contains(wgpu::Features::SHADER_F16)
    }

    /// Is true if the device can write timestamps.
    pub fn has_timestamps(&self) -> bool {
        self.calls.features().contains(wgpu::Features::TIMESTAMP_QUERY)
    }

    /// Is true for a dry-run device, which computes nothing.
    pub(crate) fn is_noop(&self) -> bool {
        self.adapter.backend == "Noop"
    }

    /// Returns how the lanes (invocations) of a kernel share results on this device. Lanes use subgroup operations, or
    /// workgroup memory if the kernels cannot use the device's subgroups.
    pub(crate) fn lanes(&self) -> Lanes {
        let smallest = self.adapter.subgroup_sizes.map_or(0, |sizes| sizes.0);
        let usable = self.calls.features().contains(wgpu::Features::SUBGROUP)
            && smallest.is_power_of_two()
            && smallest >= 4;
        if usable { Lanes::Subgroup(smallest) } else { Lanes::Alone }
    }

    /// Returns the maximum number of floating point operations in a dispatch. Larger dispatches are split, so that the
    /// operating system's watchdog does not stop them. At the slowest assumed rate, the longest dispatch takes 50 ms on
    /// a GPU (400 GFLOP/s), and 0.4 s in software (5 GFLOP/s).
    pub(crate) fn max_dispatch_flops(&self) -> u64 {
        if self.adapter.is_software() { 2_000_000_000 } else { 20_000_000_000 }
    }

    /// Returns the cooperative matrices that kernels on this device may use; `None` if there are none.
    pub(crate) fn cooperative_matrices(&self) -> Option<CooperativeMatrices> {
        let feature = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
        let side = self.adapter.cooperative_matrix?;
        let invocations = 4 * self.adapter.subgroup_sizes?.1;
        let fits = self.calls.features().contains(feature)
            && invocations <= self.adapter.workgroup_invocations.min(256)
            && self.adapter.workgroup_memory_bytes >= MATRIX_MEMORY;
        let elements = if self.adapter.backend == "Metal" { 4 } else { 1 };
        fits.then_some(CooperativeMatrices { side, invocations, elements })
    }

    /// Returns the fault that was reported since the last check, if any, as an error. The error describes the action
    /// that failed by `what` and `bytes`.
    pub(crate) fn check(&self, what: &str, bytes: u64) -> Result<(), Error> {
        if self.calls.faults().other.is_some() {
            // A lost device refuses every call, and may report its loss only at the next poll.
            self.calls.report_loss()?;
        }
        let mut faults = self.calls.faults();
        if let Some(problem) = faults.lost.clone() {
            return Err(Error::DeviceLost { adapter: self.adapter.name.clone(), problem });
        }
        // `out_of_memory` and `other` are cleared together, because running out of memory may cause a second error,
        // which would otherwise fail the next batch.
        let (out_of_memory, other) = (faults.out_of_memory.take(), faults.other.take());
        if out_of_memory.is_some() {
            return Err(self.out_of_memory(what, bytes));
        }
        match other {
            Some(problem) => Err(Error::Internal(format!("{what}: {problem}"))),
            None => Ok(()),
        }
    }

    /// Returns the error for a kernel that the driver does not compile.
    pub(super) fn refusal(&self, kernel: &str, error: &wgpu::Error) -> Error {
        match error {
            wgpu::Error::OutOfMemory { .. } => {
                self.out_of_memory(&format!("compiling the kernel {kernel}"), 0)
            }
            error => self.does_not_compile(kernel, &error.to_string()),
        }
    }

    /// Returns the error for a kernel that the driver does not compile. `problem` is the driver's message.
    fn does_not_compile(&self, kernel: &str, problem: &str) -> Error {
        // wgpu writes the causes of an error on indented lines, so line breaks and indents are replaced by single
        // spaces.
        let problem = problem.split_whitespace().collect::<Vec<_>>().join(" ");
        let problem = crate::error::plain(format!("kernel {kernel} does not compile: {problem}"));
        Error::DeviceFault {
            adapter: self.adapter.name.clone(),
            problem: problem + crate::error::FAULT_ADVICE,
        }
    }

    /// Returns the error for running out of memory.
    pub(crate) fn out_of_memory(&self, what: &str, bytes: u64) -> Error {
        Error::OutOfMemory {
            adapter: self.adapter.name.clone(),
            what: what.to_owned(),
            bytes,
            advice:
                "use a smaller model, a smaller batch or a 16-bit dtype, or close other programs that use \
                     the GPU"
                    .to_owned(),
        }
    }

    /// Is true after the device was lost.
    pub(crate) fn is_lost(&self) -> bool {
        self.calls.faults().lost.is_some()
    }

    /// Marks the device as lost, as wgpu's callback for lost devices does.
    pub(crate) fn mark_lost(&self, problem: String) {
        self.calls.lose(problem);
    }

    /// Makes the loss of this device increase the counter `losses`.
    pub(crate) fn count_losses(&self, losses: &Arc<AtomicU64>) {
        self.calls.faults().losses = Some(losses.clone());
    }

    /// Makes a buffer on this device.
    pub(crate) fn buffer(
        &self,
        label: &str,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer, Error> {
        let most = self.adapter.max_buffer_bytes.min(i32::MAX as u64);
        if bytes > most {
            return Err(Error::adapter(
                &self.adapter.name,
                format!(
                    "{label} needs a buffer of {bytes} bytes, but the adapter's largest buffer \
                     has {most} bytes; use a smaller model or batch, or another adapter"
                ),
            ));
        }
        let descriptor = wgpu::BufferDescriptor {
            label: Some(label),
            size: bytes.next_multiple_of(4),
            usage,
            mapped_at_creation: false,
        };
        let buffer = self.calls.buffer(&descriptor)?;
        self.check(label, bytes)?;
        Ok(buffer)
    }

    /// Destroys the device, as a driver reset does. Tests use this function to check the recovery.
    #[doc(hidden)]
    pub fn destroy(&self) {
        self.calls.destroy();
    }
}

/// Returns the experimental features with which to open a device: cooperative matrices, if the adapter has usable ones
/// and `features` includes the features that they need.
fn experimental(
    adapter: &AdapterSummary,
    features: wgpu::Features,
    disabled: &[Feature],
) -> (wgpu::Features, wgpu::ExperimentalFeatures) {
    let needed = wgpu::Features::SHADER_F16 | wgpu::Features::SUBGROUP;
    if adapter.cooperative_matrix.is_none()
        || !features.contains(needed)
        || disabled.contains(&Feature::CooperativeMatrix)
    {
        return (wgpu::Features::empty(), wgpu::ExperimentalFeatures::disabled());
    }
    // SAFETY: wgpu requires an acknowledgement that experimental features may have bugs. Two kernels use cooperative
    // matrices. These kernels load matrices in uniform control flow, only from workgroup memory that they have written,
    // and within its bounds. A model uses these kernels only if they have passed their known-answer tests on the
    // device.
    let enabled = unsafe { wgpu::ExperimentalFeatures::enabled() };
    (wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX, enabled)
}
