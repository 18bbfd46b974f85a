//! The variants of attention, and the choice among them. The adapter, the precision and the head size decide which
//! variant runs; the batch never does.

use super::{ATTENTION_COOP, ATTENTION_LANE, ATTENTION_TILE};
use crate::dtype::Storage;
use crate::gpu::device::{CooperativeMatrices, MATRIX_MEMORY, MATRIX_PAD};
#[cfg(feature = "cpu")]
use crate::gpu::graph::Dispatch;
use crate::gpu::kernel::Kernel;
use crate::gpu::shader::ShaderVariant;
use crate::kernels::KernelPlan;
use crate::kernels::matmul::CooperativeTile;

/// A variant of attention: a kernel, and the constants in its WGSL source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// Runs `attention_lane`, for software adapters.
    Lane,
    /// Runs `attention_tile`, for GPUs.
    Tile(WorkSplit),
    /// Runs `attention_coop`, for GPUs with cooperative matrices.
    Cooperative {
        /// The adapter's cooperative matrices.
        matrices: CooperativeMatrices,
        /// The number of keys in a step: 32 or 16.
        keys: u32,
    },
}

/// How a workgroup of `attention_tile` divides its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkSplit {
    /// The number of queries that a workgroup computes.
    pub queries: u32,
    /// The number of invocations that together compute one query.
    pub split: u32,
    /// The number of keys in workgroup memory at once, a multiple of `group`.
    pub keys: u32,
    /// The number of keys whose scores are computed before the online softmax rescales its sums.
    pub group: u32,
}

/// The number of queries that a workgroup computes on GPUs. In `attention_tile`, a workgroup computes half as many
/// queries if more than four invocations share a query.
const QUERIES: u32 = 64;

/// The number of queries that a workgroup of `attention_lane` computes.
const LANE_QUERIES: u32 = 32;

/// The maximum number of cells (four values each) of a query that an invocation should hold in registers. It also holds
/// the same number of cells of the weighted sum. With 16 cells, the compilers for Apple's M1 and for Adreno 660 spill
/// registers to memory (see `docs/gpus.md`).
const MAX_CELLS: u32 = 8;

impl WorkSplit {
    /// Returns the split for heads of `head4` cells of four values on a device. Several invocations share a query if it
    /// has too many cells for one invocation. The split must share the cells evenly, and the partial scores must fit
    /// into workgroup memory.
    pub fn of(head4: u32, workgroup_memory: u32, invocations: u32) -> WorkSplit {
        let fits = |tile: &WorkSplit| {
            head4.is_multiple_of(tile.split)
                && tile.queries * tile.split <= invocations
                && tile.memory(head4) <= workgroup_memory
        };
        let enough = head4.div_ceil(MAX_CELLS);
        let splits = [1, 2, 4, 8].into_iter().filter(|split| *split >= enough);
        let smallest = |split| {
            let queries = if split > 4 { QUERIES / 2 } else { QUERIES };
            let of = |group| WorkSplit { queries, split, keys: group, group };
            // Loops over the cells of a head and over keys are unrolled. If both loops are long, drivers compile the
            // unrolled code slowly.
            let groups = if split == 1 && head4 <= 8 { [8, 4] } else { [4, 4] };
            groups.map(of).into_iter().find(fits)
        };
        let tile = splits.chain([8, 4, 2, 1]).find_map(smallest);
        let tile = tile.unwrap_or(WorkSplit { queries: QUERIES, split: 1, keys: 1, group: 1 });
        let larger =
            (1..=32 / tile.group).map(|groups| WorkSplit { keys: groups * tile.group, ..tile });
        larger.rev().find(fits).unwrap_or(tile)
    }

    /// Returns the bytes of workgroup memory for keys, values and partial scores.
    pub fn memory(self, head4: u32) -> u32 {
        let parts = if self.split > 1 { self.queries * self.split * self.group } else { 1 };
        2 * self.keys * head4 * 16 + parts * 4
    }
}

/// The maximum number of cells (four values each) in a head for `attention_coop`. The queries and the sums of wider
/// heads do not fit into the registers of a subgroup.
const MAX_MATRIX_CELLS: u32 = 40;

/// The numbers of keys that a step of `attention_coop` may take, best first.
const STEP_KEYS: [u32; 2] = [32, 16];

/// Returns the bytes of workgroup memory of `attention_coop`. That memory holds keys, values and weights in f16, with
/// padded rows. It also holds the scores, with one cell of padding for each row, one factor for each query, and a flag.
fn matrices_memory(head: u32, keys: u32) -> u32 {
    let cells = keys * (head / 4 + MATRIX_PAD) + (head + QUERIES) * (keys / 4 + MATRIX_PAD);
    cells * 8 + QUERIES * (keys / 4 + 1) * 16 + (QUERIES + 1) * 4
}

impl KernelPlan {
    /// Returns the variant of attention for heads of `head4` cells of four values and a storage type of activations.
    /// `relative` is true if the attention also has keys or queries for distances between tokens.
    pub fn attention(&self, head4: usize, storage: Storage, relative: bool) -> Variant {
        let head4 = head4 as u32;
        if self.software {
            return Variant::Lane;
        }
        if let Some(CooperativeTile { matrices, .. }) = self.cooperative
            && storage == Storage::F16
            && !relative
            && (head4 * 4).is_multiple_of(matrices.side)
            && head4 <= MAX_MATRIX_CELLS
            && let Some(keys) = STEP_KEYS
                .into_iter()
                .find(|keys| matrices_memory(head4 * 4, *keys) <= MATRIX_MEMORY)
        {
            return Variant::Cooperative { matrices, keys };
        }
        Variant::Tile(WorkSplit::of(head4, self.workgroup_memory, self.workgroup_invocations))
    }
}

/// Returns the number of queries that a workgroup of a dispatch of attention computes.
#[cfg(feature = "cpu")]
pub(crate) fn queries_of(dispatch: &Dispatch) -> u32 {
    match dispatch.kernel == &ATTENTION_LANE {
        true => LANE_QUERIES,
        // Only variants of `attention_tile` set this constant.
        false => dispatch.variant.constant_or("QUERIES", QUERIES),
    }
}

impl Variant {
    pub(super) fn kernel(self) -> &'static Kernel {
        match self {
            Variant::Lane => &ATTENTION_LANE,
            Variant::Tile(_) => &ATTENTION_TILE,
            Variant::Cooperative { .. } => &ATTENTION_COOP,
        }
    }

    /// Returns the number of queries that a workgroup computes.
    pub(super) fn queries(self) -> u32 {
        match self {
            Variant::Lane => LANE_QUERIES,
            Variant::Tile(tile) => tile.queries,
            Variant::Cooperative { .. } => QUERIES,
        }
    }

    /// Sets the constants in the WGSL source of this variant's kernel.
    pub fn constants(self, variant: ShaderVariant, head4: u32) -> ShaderVariant {
        let variant = variant.constant("HEAD4", head4);
        match self {
            Variant::Lane => variant,
            Variant::Tile(WorkSplit { queries, split, keys, group }) => variant
                .constant("QUERIES", queries)
                .constant("SPLIT", split)
                .constant("KEYS", keys)
                .constant("GROUP", group),
            Variant::Cooperative { matrices, keys } => {
                matrices.constants(variant).constant("KEYS", keys)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_split_when_registers_cannot_hold_them() {
        let tile = |head: u32| {
            let WorkSplit { split, keys, group, .. } = WorkSplit::of(head / 4, 16384, 256);
            [split, keys, group]
        };
        for (head, expected) in [
            (4, [1, 32, 8]),
            (32, [1, 32, 8]),
            (64, [2, 28, 4]),
            (80, [4, 16, 4]),
            (96, [4, 16, 4]),
            (128, [4, 12, 4]),
            // These heads have 17 and 63 cells of four values. Two invocations cannot share them evenly, so each query
            // has one invocation.
            (68, [1, 28, 4]),
            (252, [1, 8, 4]),
            // This head has 34 cells, which two invocations can share evenly, but four cannot.
            (136, [2, 12, 4]),
            (160, [8, 8, 4]),
            (192, [8, 8, 4]),
            (256, [8, 4, 4]),
        ] {
            assert_eq!(tile(head), expected, "{head}");
        }
    }

    #[test]
    fn splits_fit_every_device() {
        for (memory, invocations) in [(16384, 256), (16384, 128), (16384, 64), (8192, 256)] {
            for head4 in 1..=64 {
                let tile = WorkSplit::of(head4, memory, invocations);
                assert!(tile.memory(head4) <= memory, "{head4}: {tile:?}");
                assert!(tile.queries * tile.split <= invocations);
                assert!(head4.is_multiple_of(tile.split));
                assert!(tile.keys.is_multiple_of(tile.group));
            }
        }
    }

    #[test]
    fn steps_have_32_keys_where_memory_has_room() {
        let plan = KernelPlan::of_gpu();
        let keys = |head: usize| match plan.attention(head / 4, Storage::F16, false) {
            Variant::Cooperative { keys, .. } => keys,
            variant => panic!("{variant:?}"),
        };
        assert_eq!([16, 32, 64, 96, 128, 160].map(keys), [32, 32, 32, 32, 16, 16]);
    }

    #[test]
    fn matrices_run_for_f16_heads_of_whole_matrices() {
        let plan = KernelPlan::of_gpu();
        let takes = |plan: &KernelPlan, head: usize, storage, relative| {
            matches!(plan.attention(head / 4, storage, relative), Variant::Cooperative { .. })
        };
        let f16 = Storage::F16;
        for (head, expected) in [
            (8, false),
            (16, true),
            (24, false),
            (32, true),
            (128, true),
            (160, true),
            (256, false),
        ] {
            assert_eq!(takes(&plan, head, f16, false), expected, "{head}");
        }
        assert!(!takes(&plan, 64, f16, true));
        assert!(!takes(&plan, 64, Storage::F32, false));
        assert!(!takes(&plan, 64, Storage::PackedF16, false));
        let eight = KernelPlan {
            cooperative: Some(CooperativeTile::smallest(CooperativeMatrices::of(8, 128))),
            ..plan.clone()
        };
        assert!(takes(&eight, 24, f16, false));
        assert!(!takes(&KernelPlan { cooperative: None, ..plan.clone() }, 64, f16, false));
        let software = KernelPlan { software: true, ..plan };
        assert_eq!(software.attention(16, f16, false), Variant::Lane);
    }
}
