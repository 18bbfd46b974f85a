//! The limits of an adapter that Vectile's kernels need.

/// Limits that tests set, and that are lower than the adapter's own.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LowLimits {
    /// The limits that every WebGPU adapter has.
    WebGpu,
    /// wgpu's limits for old adapters, which are below WebGPU's.
    Downlevel,
    /// The number of workgroups in a dimension of a dispatch.
    Workgroups(u32),
    /// The number of invocations in a workgroup.
    Invocations(u32),
    /// The number of storage buffers that a kernel binds.
    StorageBuffers(u32),
}

impl LowLimits {
    /// Returns all limits of a device. Those that the variant does not name are the adapter's own limits, `own`.
    pub(super) fn of(self, own: wgpu::Limits) -> wgpu::Limits {
        match self {
            LowLimits::WebGpu => wgpu::Limits::default(),
            LowLimits::Downlevel => wgpu::Limits::downlevel_defaults(),
            LowLimits::Workgroups(most) => {
                wgpu::Limits { max_compute_workgroups_per_dimension: most, ..own }
            }
            LowLimits::Invocations(most) => wgpu::Limits {
                max_compute_invocations_per_workgroup: most,
                max_compute_workgroup_size_x: most,
                ..own
            },
            LowLimits::StorageBuffers(most) => {
                wgpu::Limits { max_storage_buffers_per_shader_stage: most, ..own }
            }
        }
    }
}

/// Returns a sentence about the first limit that is too low for our kernels, if there is one. Old GL drivers have such
/// limits, or no compute shaders. The limits of every WebGPU adapter are high enough.
pub(super) fn too_low(limits: &wgpu::Limits) -> Option<String> {
    let needs = [
        ("invocations in a workgroup", limits.max_compute_invocations_per_workgroup, 128),
        ("storage buffers in a shader", limits.max_storage_buffers_per_shader_stage, 6),
        ("bytes of workgroup memory", limits.max_compute_workgroup_storage_size, 8192),
        ("workgroups in a dimension", limits.max_compute_workgroups_per_dimension, 65_535),
    ];
    let (what, has, needed) = needs.into_iter().find(|(_, has, needed)| has < needed)?;
    Some(format!("the adapter allows {has} {what}, but kernels need {needed}; use another adapter"))
}
