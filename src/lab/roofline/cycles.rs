//! Counts the clocks that a GPU's SIMDs need for a dispatch, from the instructions of the kernel's main loop.

use std::collections::BTreeMap;

use super::known::KnownGpu;
use crate::dtype::Storage;
use crate::gpu::graph::Dispatch;
use crate::kernels::matmul::Variant;

/// The counts of each GPU's compiler, by kernel. A test compares them with
/// `benches/results/2026-11-30-compilers.json`.
const LOOPS: &str = include_str!("loops.json");

/// The head sizes for which attention was compiled.
const HEADS: [u32; 6] = [16, 32, 64, 96, 128, 256];

/// The number of invocations in a workgroup of `matmul_few`.
const FEW_INVOCATIONS: u32 = 32;

/// The numbers of FMAs, matrix instructions, other vector instructions and all other instructions in the main loop.
/// The last two numbers are the vector instructions and all other instructions outside of the loop.
pub(super) type Counts = [f64; 6];

/// The counted loops of a GPU, by kernel, variant and storage types.
pub(super) struct Loops(BTreeMap<String, Counts>);

/// The work of a subgroup in one turn of a kernel's main loop.
struct Turn {
    counts: Counts,
    /// The floating point operations of the products that the turn adds.
    flops: f64,
    /// The number of invocations in a workgroup.
    invocations: u32,
}

impl Loops {
    /// Returns the loops of a GPU in `docs/gpus.md`.
    pub fn of(gpu: &str) -> Self {
        Loops(all().remove(gpu).unwrap_or_default())
    }

    /// Returns the shortest time in seconds in which the GPU issues the dispatch's instructions, or 0 for a kernel
    /// whose instructions were not counted.
    pub fn seconds(&self, gpu: &KnownGpu, dispatch: &Dispatch) -> f64 {
        let Some(turn) = self.turn(gpu, dispatch) else { return 0.0 };
        let [fma, matrix, vector, other, outside_vector, outside] = turn.counts;
        // A SIMD issues at most one instruction per clock. Vector instructions of a subgroup occupy its lanes for
        // `wide` clocks.
        let wide = f64::from(gpu.subgroup) / f64::from(gpu.lanes);
        let of_matrices = match (gpu.matrix_products, gpu.matrix_flops_per_clock) {
            (Some(products), Some(rate)) => matrix * 2.0 * products / rate,
            _ => 0.0,
        };
        let of_vectors = (fma + vector) * wide;
        let busy = match gpu.matrices_use_lanes {
            true => of_matrices + of_vectors,
            false => of_matrices.max(of_vectors),
        };
        let a_turn = busy.max(fma + matrix + vector + other);
        let once = (outside_vector * wide).max(outside_vector + outside);
        let workgroups: f64 =
            dispatch.workgroups.to_array().iter().map(|n| f64::from(*n)).product();
        let subgroups = workgroups * f64::from(turn.invocations.div_ceil(gpu.subgroup));
        let clocks = dispatch.flops as f64 / turn.flops * a_turn + subgroups * once;
        // The last round of workgroups may leave units without work.
        let units = f64::from(gpu.units);
        let used = workgroups / (units * (workgroups / units).ceil().max(1.0));
        clocks / (units * f64::from(gpu.simds) * gpu.clock_ghz * 1e9 * used)
    }

    fn turn(&self, gpu: &KnownGpu, dispatch: &Dispatch) -> Option<Turn> {
        let constant = |name| dispatch.variant.constant_or(name, 0);
        let kernel = dispatch.kernel.name;
        let of_fmas = |fmas: f64| 2.0 * fmas * f64::from(gpu.subgroup);
        let of_matrices = |counts: &Counts| Some(2.0 * counts[1] * gpu.matrix_products?);
        let storage = storage(dispatch.variant.weights);
        if let Some(variant) = Variant::of_dispatch(dispatch) {
            let form = variant.name();
            let counts = |whole| self.0.get(&format!("{kernel} {form}{whole} {storage}")).copied();
            return Some(match variant {
                Variant::Lane(_) => return None,
                Variant::Few(rows) => Turn {
                    counts: counts("")?,
                    flops: of_fmas(f64::from(16 * rows)),
                    invocations: FEW_INVOCATIONS,
                },
                Variant::Tile(tile) => {
                    let counts = counts("")?;
                    // Some compilers also count conversions as FMAs, and the products of a loop are a multiple of 128.
                    let flops = of_fmas((counts[0] / 128.0).floor() * 128.0);
                    Turn { counts, flops, invocations: tile.invocations() }
                }
                Variant::Cooperative(tile) => {
                    let whole = dispatch.variant.overrides.contains(&("WHOLE", 1));
                    let counts = counts(if whole { " whole" } else { "" })?;
                    let invocations = tile.matrices.invocations;
                    Turn { flops: of_matrices(&counts)?, counts, invocations }
                }
            });
        }
        if !kernel.starts_with("attention") {
            return None;
        }
        let storage = match dispatch.variant.activations {
            Storage::F32 => "f32",
            Storage::F16 => "f16",
            Storage::PackedF16 | Storage::PackedBf16 => "packed_f16",
        };
        let head = HEADS.into_iter().find(|head| *head >= constant("HEAD4") * 4)?;
        let counts = *self.0.get(&format!("{kernel} heads of {head} {storage}"))?;
        Some(match kernel {
            "attention_coop" => {
                let flops = of_matrices(&counts)?;
                Turn { counts, flops, invocations: constant("INVOCATIONS") }
            }
            // The first products of a sum are multiplications, which compilers do not count as FMAs.
            _ => Turn {
                flops: of_fmas((counts[0] / 64.0).ceil() * 64.0),
                counts,
                invocations: constant("QUERIES") * constant("SPLIT"),
            },
        })
    }
}

/// Returns the counted loops of all GPUs.
pub(super) fn all() -> BTreeMap<String, BTreeMap<String, Counts>> {
    serde_json::from_str(LOOPS).unwrap_or_default()
}

/// Returns the storage types under which the loop of a matmul was counted, given the storage type of its weights. Other
/// types of activations change the loop by at most a few instructions.
fn storage(weights: Storage) -> &'static str {
    match weights {
        Storage::F32 => "f32/f32",
        Storage::F16 => "f16/f16",
        Storage::PackedF16 | Storage::PackedBf16 => "packed_f16/f32",
    }
}
