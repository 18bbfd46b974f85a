//! The plan of an adapter: the variant of each kernel that the adapter runs.

use std::sync::Arc;

use super::matmul::{CooperativeTile, OutputTile, Tuned, Variant};
use crate::gpu::adapter::AdapterSummary;
#[cfg(any(test, fuzzing))]
use crate::gpu::device::CooperativeMatrices;
use crate::gpu::device::Gpu;
use crate::gpu::shader::Lanes;

/// The settings that decide which variant of each kernel an adapter runs, and how large a dispatch may be.
///
/// A plan is fixed for an adapter, so that a row's result does not depend on its batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelPlan {
    /// True if models run the matmul and attention kernels for software adapters; false if they run those for GPUs.
    pub software: bool,
    /// Whether the invocations of a subgroup or workgroup compute a row together, and by which operations.
    pub lanes: Lanes,
    /// The available workgroup memory in bytes.
    pub workgroup_memory: u32,
    /// The maximum number of invocations in a workgroup.
    pub workgroup_invocations: u32,
    /// The maximum number of floating point operations in a dispatch. Larger dispatches are split, since the operating
    /// system's watchdog ends long ones.
    pub max_flops: u64,
    /// The smallest tile of cooperative matrices with f16 factors and f32 sums. `None` if the adapter has no such
    /// matrices, or if they are not used.
    pub cooperative: Option<CooperativeTile>,
    /// True if the number of rows may select among the tiles of cooperative matrices (see `by_rows`).
    pub matrices_by_rows: bool,
    /// The largest tile of the matmul that suits this class of adapter.
    pub largest_tile: OutputTile,
    /// True if the number of rows may select among the bit-identical variants of the matmul. The value is false on a
    /// device where these variants are not bit-identical.
    pub by_rows: bool,
    /// The fastest variants as measured on this adapter. These variants take precedence over the defaults for the
    /// adapter's class.
    pub tuned: Option<Arc<Tuned>>,
    /// If set, every matmul runs this variant. Tests and measurements set it.
    pub forced: Option<Variant>,
}

impl KernelPlan {
    /// Returns the plan for an open device, according to the device's limits and class.
    pub fn for_device(gpu: &Gpu) -> Self {
        let matrices = gpu.cooperative_matrices();
        KernelPlan {
            software: gpu.adapter.is_software(),
            lanes: gpu.lanes(),
            workgroup_memory: gpu.adapter.workgroup_memory_bytes.min(16384),
            workgroup_invocations: gpu.adapter.workgroup_invocations.min(256),
            max_flops: gpu.max_dispatch_flops(),
            cooperative: matrices.map(CooperativeTile::smallest),
            matrices_by_rows: true,
            largest_tile: largest_tile(&gpu.adapter),
            by_rows: true,
            tuned: None,
            forced: None,
        }
    }
}

impl KernelPlan {
    /// Returns the plan for the CPU, whose executor accepts every variant of a kernel. Dispatches are not split.
    #[cfg(feature = "cpu")]
    pub fn for_cpu() -> Self {
        KernelPlan {
            software: true,
            lanes: Lanes::Alone,
            workgroup_memory: 16384,
            workgroup_invocations: 256,
            max_flops: u64::MAX,
            cooperative: None,
            matrices_by_rows: true,
            largest_tile: OutputTile::PLAIN,
            by_rows: true,
            tuned: None,
            forced: None,
        }
    }
}

/// Returns the largest tile of the matmul that suits a class of GPU. The values follow public reports and were not
/// measured; `vectile tune` measures them.
fn largest_tile(adapter: &AdapterSummary) -> OutputTile {
    let name = format!("{} {}", adapter.name, adapter.driver).to_lowercase();
    let is = |words: &[&str]| words.iter().any(|word| name.contains(word));
    let [_, plain, tall, large] = OutputTile::ALL;
    match adapter.device_type.as_str() {
        _ if is(&["nvidia", "geforce", "quadro", "tesla"]) => large,
        "DiscreteGpu" if is(&["amd", "radeon", "radv"]) => tall,
        _ => plain,
    }
}

#[cfg(any(test, fuzzing))]
impl KernelPlan {
    /// Returns the plan of a GPU at WebGPU's default limits, with cooperative matrices of 16 × 16.
    pub(crate) fn of_gpu() -> Self {
        KernelPlan {
            software: false,
            lanes: Lanes::Alone,
            workgroup_memory: 16384,
            workgroup_invocations: 256,
            max_flops: u64::MAX,
            cooperative: Some(CooperativeTile::smallest(CooperativeMatrices::of(16, 128))),
            matrices_by_rows: true,
            largest_tile: OutputTile::PLAIN,
            by_rows: true,
            tuned: None,
            forced: None,
        }
    }
}
