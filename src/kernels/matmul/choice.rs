//! The choice of the variant of a matmul. No other code makes this choice.

use super::{CooperativeTile, FEW_ROWS, LANE_ROWS, OutputTile, Variant, WeightShape, Work};
use crate::dtype::Storage;
use crate::kernels::KernelPlan;

/// A tile size is chosen only if y consists of at least this many tiles of that size. Fewer tiles would leave most of a
/// GPU idle. The number is an assumption; the measurements of `vectile tune` replace it.
const MINIMUM_WORKGROUPS: usize = 64;

/// On GPUs, rows that are grouped by expert come in groups of this many rows. No tile of the matmul has more rows than
/// a group.
const EXPERT_ROWS: usize = 64;

impl KernelPlan {
    /// Returns the number of rows in a group, for [`group_rows`](crate::kernels::group_rows::group_rows).
    pub(crate) fn expert_group_rows(&self) -> usize {
        if self.software { LANE_ROWS[0] as usize } else { EXPERT_ROWS }
    }

    /// Returns the variant that runs for the matmul that `work` describes.
    ///
    /// Cooperative matrices and tiles round differently, so only the adapter and the precision decide between them,
    /// never the batch. Tiles of all sizes and `matmul_few` are bit-identical, so the number of rows may select among
    /// them.
    pub fn matmul(&self, work: &Work) -> Variant {
        if let Some(variant) = self.forced {
            return variant;
        }
        if self.software {
            // With few rows, the larger variant would leave half of its sums unused. The rows of an expert come in
            // groups of 16, which is also the number of rows of the smaller variant.
            let many = work.rows > 64 && !work.experts;
            return Variant::Lane(LANE_ROWS[usize::from(many)]);
        }
        let tuned = self.tuned.as_deref();
        // On RDNA3 a cooperative matrix replaces 64 FMAs of a subgroup and issues 5.9 instructions, where a tile issues
        // 88 for the same products.
        if let Some(cooperative) = self.cooperative
            && work.storages == (Storage::F16, Storage::F16)
            && tuned.and_then(|tuned| tuned.matrices(work)) != Some(false)
        {
            return self.sized(cooperative, work);
        }
        if !self.by_rows {
            return Variant::Tile(OutputTile::PLAIN);
        }
        let candidates = self.bit_identical_variants(work.experts);
        if let Some(variant) = tuned.and_then(|tuned| tuned.variant(work, &candidates)) {
            return variant;
        }
        // With 16 rows, half of a tile's sums would be unused, so the smallest tile issues 3.8 instructions or more for
        // each useful FMA. `matmul_few` issues 1.3 to 3.7.
        if let Some(rows) = FEW_ROWS.iter().find(|rows| work.rows <= **rows as usize)
            && !work.experts
        {
            return Variant::Few(*rows);
        }
        let mut large = self
            .tiles(work.experts)
            .rev()
            .skip_while(|tile| tile.memory() > self.largest_tile.memory());
        let columns4 = work.weight.columns4;
        let full = large.find(|tile| tile.workgroups(work.rows, columns4) >= MINIMUM_WORKGROUPS);
        Variant::Tile(full.or(self.tiles(work.experts).next()).unwrap_or(OutputTile::PLAIN))
    }

    /// Returns the variant with cooperative matrices whose tile size suits the matmul that `work` describes.
    fn sized(&self, smallest: CooperativeTile, work: &Work) -> Variant {
        if !self.matrices_by_rows {
            return Variant::Cooperative(smallest);
        }
        let variants = self.matrices(work.experts);
        if let Some(variant) = self.tuned.as_deref().and_then(|t| t.variant(work, &variants)) {
            return variant;
        }
        // For each matrix instruction, 128 × 128 issues 4.4 to 9.2 instructions, 128 × 64 issues 7.2 to 13.5, and
        // 64 × 64 issues 7.5 to 20.9 (`docs/gpus.md`). No size spills, and on AMD all sizes have 8 resident subgroups.
        // No driver with cooperative matrices of 8 × 8 values was counted. There, the four matrices that a subgroup
        // needs in place of one take more registers, so only the smallest tile runs.
        let suits = |tile: &&CooperativeTile| {
            tile.matrices.side == 16
                && variants.contains(&Variant::Cooperative(**tile))
                && tile.workgroups(work.rows, work.weight.columns4) >= MINIMUM_WORKGROUPS
        };
        let sizes = smallest.sizes();
        Variant::Cooperative(sizes.iter().rev().find(suits).copied().unwrap_or(smallest))
    }

    /// Returns the variants that use cooperative matrices. These variants are bit-identical to one another.
    pub fn matrices(&self, experts: bool) -> Vec<Variant> {
        let sizes = self.cooperative.into_iter().flat_map(CooperativeTile::sizes);
        let fits =
            |tile: &CooperativeTile| !experts || EXPERT_ROWS.is_multiple_of(tile.rows as usize);
        sizes.filter(fits).map(Variant::Cooperative).collect()
    }

    /// Returns the tiles that the device can run, smallest first. If rows are grouped by expert, the number of rows in
    /// each returned tile divides the number in a group, since each tile belongs to one expert.
    pub(crate) fn tiles(&self, experts: bool) -> impl DoubleEndedIterator<Item = OutputTile> {
        let (memory, invocations) = (self.workgroup_memory, self.workgroup_invocations);
        OutputTile::ALL.into_iter().filter(move |tile| {
            tile.memory() <= memory
                && tile.invocations() <= invocations
                && (!experts || EXPERT_ROWS.is_multiple_of(tile.rows as usize))
        })
    }

    /// Returns every variant that is bit-identical to [`OutputTile::PLAIN`].
    pub fn bit_identical_variants(&self, experts: bool) -> Vec<Variant> {
        let few = FEW_ROWS.iter().filter(|_| !experts).map(|rows| Variant::Few(*rows));
        self.tiles(experts).map(Variant::Tile).chain(few).collect()
    }

    /// Returns a description, for reports, of how matmuls with these storage types of weights and activations are
    /// computed.
    pub fn describe(&self, storages: (Storage, Storage)) -> String {
        let weight = WeightShape { inner4: 1024, columns4: 1024 };
        let work = Work { storages, rows: 1 << 15, weight, experts: false };
        match self.matmul(&work) {
            Variant::Tile(tile) if self.by_rows && self.forced.is_none() => match &self.tuned {
                None => format!(
                    "{} or smaller tiles; the number of rows in a matmul selects the tile size",
                    Variant::Tile(tile)
                ),
                Some(_) => {
                    "tiles and columns as tuned here; the number of rows in a matmul selects the \
                     variant"
                        .to_owned()
                }
            },
            Variant::Cooperative(of) if self.matrices_by_rows && self.forced.is_none() => {
                let how =
                    if self.tuned.is_some() { "or others, as tuned here" } else { "or smaller" };
                format!(
                    "{} {how}; the number of rows in a matmul selects the tile size",
                    Variant::Cooperative(of)
                )
            }
            Variant::Lane(_) if self.forced.is_none() => {
                "lanes; the number of rows in a matmul selects how many rows a lane computes"
                    .to_owned()
            }
            variant => variant.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::gpu::device::{CooperativeMatrices, MATRIX_MEMORY};
    use crate::kernels::matmul::tuned::{Choice, Tuned};

    fn plan(largest_tile: OutputTile) -> KernelPlan {
        KernelPlan { largest_tile, ..KernelPlan::of_gpu() }
    }

    fn work(rows: usize) -> Work {
        let storages = (Storage::F32, Storage::F32);
        Work { storages, rows, weight: WeightShape { inner4: 96, columns4: 384 }, experts: false }
    }

    #[test]
    fn rows_pick_among_forms_of_the_same_bits() {
        let plan = plan(OutputTile::ALL[3]);
        let variants =
            [1, 4, 5, 16, 17, 64, 512, 1024, 1 << 15].map(|rows| plan.matmul(&work(rows)));
        let [small, plain, tall, large] = OutputTile::ALL.map(Variant::Tile);
        let (few4, few8, few16) = (Variant::Few(4), Variant::Few(8), Variant::Few(16));
        assert_eq!(variants, [few4, few4, few8, few16, small, small, tall, large, large]);
        let identical = plan.bit_identical_variants(false);
        assert!(variants.iter().all(|variant| identical.contains(variant)), "{variants:?}");
        assert!(identical.contains(&plain));
        let cut = KernelPlan { by_rows: false, ..plan };
        for rows in [1, 16, 1 << 15] {
            assert_eq!(cut.matmul(&work(rows)), plain);
        }
    }

    #[test]
    fn matrices_run_for_f16_on_gpus_whatever_the_number_of_rows() {
        let plan = plan(OutputTile::PLAIN);
        for rows in [1, 16, 17, 1 << 15] {
            let f16 = Work { storages: (Storage::F16, Storage::F16), ..work(rows) };
            assert!(matches!(plan.matmul(&f16), Variant::Cooperative(_)));
            let half = Work { storages: (Storage::F16, Storage::F32), ..work(rows) };
            assert!(!matches!(plan.matmul(&half), Variant::Cooperative(_)));
            let software = KernelPlan { software: true, ..plan.clone() };
            let of = if rows > 64 { 32 } else { 16 };
            assert_eq!(software.matmul(&f16), Variant::Lane(of));
            assert_eq!(software.matmul(&Work { experts: true, ..f16 }), Variant::Lane(16));
        }
    }

    #[test]
    fn rows_select_the_size_of_a_tile_of_matrices() {
        let plan = plan(OutputTile::PLAIN);
        let f16 = |rows| Work { storages: (Storage::F16, Storage::F16), ..work(rows) };
        let size = |plan: &KernelPlan, work: &Work| match plan.matmul(work) {
            Variant::Cooperative(of) => [of.rows, of.columns],
            variant => panic!("{variant}"),
        };
        let sizes = [1, 128, 512, 1024].map(|rows| size(&plan, &f16(rows)));
        assert_eq!(sizes, [[64, 64], [64, 64], [128, 64], [128, 128]]);
        let cut = KernelPlan { matrices_by_rows: false, ..plan.clone() };
        assert_eq!(size(&cut, &f16(1024)), [64, 64]);
        let grouped = Work { experts: true, ..f16(1 << 15) };
        assert_eq!(size(&plan, &grouped), [64, 64]);
        let eight = KernelPlan {
            cooperative: Some(CooperativeTile::smallest(CooperativeMatrices::of(8, 128))),
            ..plan
        };
        assert_eq!(size(&eight, &f16(1 << 15)), [64, 64]);
        for of in CooperativeTile::smallest(CooperativeMatrices::of(16, 128)).sizes() {
            assert!(of.memory() <= MATRIX_MEMORY, "{of:?}");
        }
    }

    #[test]
    fn tuned_choices_go_before_assumptions() {
        let choice = |storage: Storage, rows, variant: &str| Choice {
            weights: storage.name().to_owned(),
            activations: storage.name().to_owned(),
            inner4: 96,
            columns4: 384,
            rows,
            variant: variant.to_owned(),
        };
        let choices = vec![
            choice(Storage::F32, Some(4), "tile 32x64"),
            choice(Storage::F32, Some(4096), "tile 128x64"),
            choice(Storage::F16, None, "tile 64x64"),
            choice(Storage::F16, Some(4096), "few 16"),
        ];
        let tuned = Some(Arc::new(Tuned { choices }));
        let plan = KernelPlan { tuned, ..plan(OutputTile::ALL[3]) };
        assert_eq!(plan.matmul(&work(3)), Variant::Tile(OutputTile::ALL[0]));
        assert_eq!(plan.matmul(&work(1 << 15)), Variant::Tile(OutputTile::ALL[2]));
        // The tuned tile has more rows than an expert's group, so the untuned choice applies.
        let grouped = Work { experts: true, ..work(1 << 15) };
        assert_eq!(plan.matmul(&grouped), Variant::Tile(OutputTile::PLAIN));
        let f16 = Work { storages: (Storage::F16, Storage::F16), ..work(100) };
        assert_eq!(plan.matmul(&f16), Variant::Few(16));
        let weight = WeightShape { inner4: 4, ..f16.weight };
        let other = Work { weight, ..f16 };
        assert!(matches!(plan.matmul(&other), Variant::Cooperative(_)));
        let cut = KernelPlan { by_rows: false, ..plan };
        assert_eq!(cut.matmul(&work(3)), Variant::Tile(OutputTile::PLAIN));
    }

    #[test]
    fn tiles_fit_the_device_and_the_rows_of_an_expert() {
        let small = KernelPlan {
            workgroup_memory: 8192,
            workgroup_invocations: 128,
            ..plan(OutputTile::ALL[3])
        };
        assert_eq!(small.tiles(false).collect::<Vec<_>>(), OutputTile::ALL[..2]);
        assert_eq!(plan(OutputTile::ALL[3]).tiles(true).collect::<Vec<_>>(), OutputTile::ALL[..2]);
        let grouped = Work { experts: true, ..work(1 << 15) };
        assert_eq!(plan(OutputTile::ALL[3]).matmul(&grouped), Variant::Tile(OutputTile::PLAIN));
        let grouped = Work { experts: true, ..work(16) };
        assert_eq!(plan(OutputTile::ALL[3]).matmul(&grouped), Variant::Tile(OutputTile::ALL[0]));
    }
}
