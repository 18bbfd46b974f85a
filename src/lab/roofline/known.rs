//! The GPUs whose speed can be predicted, and how an adapter is recognised as one of them.

use serde::Deserialize;

use crate::gpu::adapter::AdapterSummary;

/// The GPUs, one object each. The field `source` says where the numbers come from.
const GPUS: &str = include_str!("gpus.json");

/// The facts about a GPU that bound its speed.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct KnownGpu {
    /// The name of the GPU in `docs/gpus.md`.
    #[cfg(test)]
    pub gpu: String,
    /// The product names by which an adapter is recognised.
    names: Vec<String>,
    /// The number of compute units. A workgroup runs on one unit.
    pub(super) units: u32,
    /// The number of SIMDs in a unit. A subgroup runs on one SIMD.
    pub(super) simds: u32,
    /// The number of f32 FMAs that a SIMD computes per clock.
    pub(super) lanes: u32,
    /// The clock in GHz.
    pub(super) clock_ghz: f64,
    /// The memory bandwidth in 10⁹ bytes per second.
    pub(super) gbytes_per_s: f64,
    /// The memory of the GPU in 10⁹ bytes.
    #[cfg(test)]
    pub memory_gb: f64,
    /// The number of invocations in a subgroup for which the loops were compiled.
    pub(super) subgroup: u32,
    /// The operations per clock of a SIMD's matrix instructions with f32 sums; `None` without such instructions.
    pub(super) matrix_flops_per_clock: Option<f64>,
    /// The number of products in a matrix instruction; `None` without such instructions.
    pub(super) matrix_products: Option<f64>,
    /// True if matrix instructions use the lanes of other instructions, so that their times add up.
    pub(super) matrices_use_lanes: bool,
    /// The time between two dispatches in microseconds.
    pub(super) dispatch_us: f64,
    /// The GPU whose compiler counted the loops that this GPU's prediction uses.
    pub(super) loops: String,
    /// The origin of the numbers.
    #[cfg(test)]
    pub source: String,
}

impl KnownGpu {
    /// Returns all known GPUs, in the order of `docs/gpus.md`.
    pub fn all() -> Vec<KnownGpu> {
        serde_json::from_str(GPUS).unwrap_or_default()
    }

    /// Returns the GPU of an adapter; `None` if no known product name occurs in the adapter's name, or if the adapter
    /// is software.
    pub fn of(adapter: &AdapterSummary) -> Option<KnownGpu> {
        let is = |gpu: &KnownGpu| gpu.names.iter().any(|name| names(&adapter.name, name));
        KnownGpu::all().into_iter().find(is).filter(|_| !adapter.is_software())
    }

    /// Returns the table of the facts, for `docs/roofline.md`.
    #[cfg(test)]
    pub fn table() -> String {
        let mut table = "| GPU | f32 FMAs per clock | GHz | f16 matrices, TFLOPS | GB/s | GB | µs per dispatch | origin |\n"
            .to_owned()
            + "| --- | --- | --- | --- | --- | --- | --- | --- |\n";
        for gpu in KnownGpu::all() {
            let simds = gpu.units * gpu.simds;
            let matrices = gpu.matrix_flops_per_clock.map_or_else(
                || "no".to_owned(),
                |rate| format!("{:.0}", f64::from(simds) * rate * gpu.clock_ghz / 1e3),
            );
            table += &format!(
                "| `{}` | {} | {} | {matrices} | {} | {} | {} | {} |\n",
                gpu.gpu,
                simds * gpu.lanes,
                gpu.clock_ghz,
                gpu.gbytes_per_s,
                gpu.memory_gb,
                gpu.dispatch_us,
                gpu.source
            );
        }
        table
    }
}

/// Is true if `name` occurs in `adapter` as whole words, and no word follows that makes it another product, such as
/// `Ti`.
fn names(adapter: &str, name: &str) -> bool {
    const OTHER: [&str; 10] =
        ["ti", "super", "xt", "xtx", "gre", "2048sp", "pro", "max", "ultra", "laptop"];
    let words = |text: &str| -> Vec<String> {
        text.to_lowercase()
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let (adapter, name) = (words(adapter), words(name));
    adapter.windows(name.len()).enumerate().any(|(at, window)| {
        let next = adapter.get(at + name.len()).map_or("", String::as_str);
        window == name && !OTHER.contains(&next)
    })
}
