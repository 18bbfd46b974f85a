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

/// Returns the largest tile of the matmul that suits a class of GPU. The choice follows the counts of compilers, in
/// `benches/results/2026-11-30-compilers.json`; no GPU has timed the tiles. `vectile tune` times them.
fn largest_tile(adapter: &AdapterSummary) -> OutputTile {
    let name = format!("{} {}", adapter.name, adapter.driver).to_lowercase();
    let is = |words: &[&str]| words.iter().any(|word| name.contains(word));
    let [_, plain, _, large] = OutputTile::ALL;
    if is(&["nvidia", "geforce", "quadro", "tesla", "nvk"]) {
        // For each FMA, 128 × 128 issues 1.47 instructions and 64 × 64 issues 1.78. The larger tile needs 104 registers
        // instead of 64, and no tile spills.
        return large;
    }
    if is(&["amd", "radeon", "radv"]) {
        // For each FMA, 128 × 128 issues 1.38 to 1.40 instructions, 128 × 64 issues 1.44 to 1.48, and 64 × 64 issues
        // 1.62 to 1.72. The largest tile needs fewer registers than 128 × 64. Integrated GPUs have the same units.
        return large;
    }
    // On Apple's M1, 128 × 128 lowers the instructions for each FMA by at most 10%, and the resident threads from 832
    // to 512. On Adreno it lowers the resident subgroups from 8 to 6, or from 6 to 4. These compilers do not count the
    // instructions of loops, and no compiler of other GPUs was run, so there is no evidence for a larger tile.
    plain
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

    /// Returns the plan of a GPU that is not there, as Vulkan would report it. Lanes share results through workgroup
    /// memory.
    #[cfg(test)]
    pub(crate) fn of_known(adapter: &AdapterSummary) -> Self {
        let subgroup = adapter.subgroup_sizes.map_or(0, |(_, largest)| largest);
        let matrices =
            adapter.cooperative_matrix.map(|side| CooperativeMatrices::of(side, 4 * subgroup));
        KernelPlan {
            max_flops: 20_000_000_000,
            cooperative: matrices.map(CooperativeTile::smallest),
            largest_tile: largest_tile(adapter),
            ..KernelPlan::of_gpu()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const ADAPTERS: &str = include_str!("../../benches/compilers/adapters.json");
    const COMPILED: &str = include_str!("../../benches/results/2026-11-30-compilers.json");

    fn tile(adapter: &Value) -> String {
        let adapter: AdapterSummary = serde_json::from_value(adapter.clone()).unwrap();
        Variant::Tile(largest_tile(&adapter)).name()
    }

    /// Returns the instructions that the main loop issues for each FMA; `None` if the compiler does not count loops.
    fn issued_per_fma(pipeline: &Value) -> Option<f64> {
        let counts = pipeline["counts"]["main_loop"].as_object()?;
        let issued: f64 = counts.values().filter_map(Value::as_f64).sum();
        Some(issued / counts.get("fma")?.as_f64()?)
    }

    #[test]
    fn the_largest_tile_of_each_known_gpu_is_the_recorded_one() {
        let recorded: Vec<Value> = serde_json::from_str(ADAPTERS).unwrap();
        assert_eq!(recorded.len(), 18);
        for one in recorded {
            assert_eq!(tile(&one["adapter"]), one["variants"]["matmul_f32"], "{}", one["gpu"]);
        }
    }

    #[test]
    fn the_largest_tile_issues_the_fewest_instructions_where_the_compiler_counts_them() {
        let compiled: Value = serde_json::from_str(COMPILED).unwrap();
        let mut counted = 0;
        for gpu in compiled["gpus"].as_array().unwrap() {
            let pipelines = gpu["pipelines"].as_array().unwrap().iter();
            let tiles: Vec<&Value> = pipelines
                .filter(|p| p["kernel"] == "matmul_tile" && p["storages"] == "f32/f32")
                .collect();
            assert_eq!(tiles.len(), OutputTile::ALL.len(), "{}", gpu["gpu"]);
            let without_spills = tiles.iter().filter(|p| p["spills"] == 0);
            let figures = without_spills.filter_map(|p| Some((issued_per_fma(p)?, &p["form"])));
            let best = figures.min_by(|a, b| a.0.total_cmp(&b.0));
            let expected = best.map_or("tile 64x64", |(_, form)| form.as_str().unwrap());
            assert_eq!(tile(&gpu["adapter"]), expected, "{}", gpu["gpu"]);
            counted += usize::from(best.is_some());
        }
        assert_eq!(counted, 12);
    }
}
