//! The forms of the matmul, and which of them a plan takes.

use std::fmt;

use super::KernelPlan;
use super::matmul::{MATMUL_COOP, MATMUL_FEW, MATMUL_LANE, MATMUL_TILE};
use crate::dtype::Storage;
use crate::gpu::graph::Dispatch;
use crate::gpu::kernel::Kernel;
use crate::gpu::shader::Variant;

/// How a matmul is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// `matmul_lane`, for software adapters.
    Lane,
    /// `matmul_tile`, for GPUs.
    Tile(Tile),
    /// `matmul_few`, for GPUs and few rows: so many rows an invocation.
    Few(u32),
    /// `matmul_coop`, for GPUs with cooperative matrices.
    Cooperative(Cooperative),
}

/// The size of a tile of y, and the part of it that an invocation makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    /// Rows of a workgroup.
    pub rows: u32,
    /// Cells of its columns.
    pub cells: u32,
    /// Rows of an invocation.
    pub my_rows: u32,
    /// Cells of an invocation.
    pub my_cells: u32,
}

/// Cooperative matrices as an adapter has them, and the size of the tile of y that they make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cooperative {
    /// Rows, columns and depth of one: 8 or 16.
    pub side: u32,
    /// Invocations of a workgroup: four of the largest subgroups.
    pub invocations: u32,
    /// Rows of a workgroup.
    pub rows: u32,
    /// Columns of a workgroup.
    pub columns: u32,
    /// Depth of the slices that pass through workgroup memory.
    pub slice: u32,
}

impl Cooperative {
    /// Matrices in the smallest tile.
    pub fn of(side: u32, invocations: u32) -> Self {
        Cooperative { side, invocations, rows: 64, columns: 64, slice: 32 }
    }

    /// In tiles of all sizes, the smallest first: each within 16 KiB of workgroup memory, and of the same bits,
    /// since steps along inner follow one another in one order.
    pub fn sizes(self) -> [Cooperative; 3] {
        let of = |rows, columns, slice| Cooperative { rows, columns, slice, ..self };
        [of(64, 64, 32), of(128, 64, 16), of(128, 128, 16)]
    }

    fn groups(self, rows: usize, columns4: usize) -> usize {
        rows.div_ceil(self.rows as usize) * (columns4 * 4).div_ceil(self.columns as usize)
    }
}

/// Depth of the slices that pass through workgroup memory.
const SLICE: u32 = 16;

impl Tile {
    const fn of(rows: u32, cells: u32, my_rows: u32, my_cells: u32) -> Self {
        Tile { rows, cells, my_rows, my_cells }
    }

    /// The one that every GPU can run.
    pub const PLAIN: Tile = Tile::of(64, 16, 8, 1);

    /// All, the smallest first. Each gives the same bits: sums run along inner in one order.
    pub const ALL: [Tile; 4] =
        [Tile::of(32, 16, 4, 1), Tile::PLAIN, Tile::of(128, 16, 8, 1), Tile::of(128, 32, 8, 2)];

    /// Invocations of a workgroup.
    pub fn invocations(self) -> u32 {
        self.rows / self.my_rows * (self.cells / self.my_cells)
    }

    /// Bytes of workgroup memory: a slice of x and one of w.
    pub fn memory(self) -> u32 {
        (self.rows + self.cells * 4) * SLICE * 4
    }

    /// Workgroups that make y.
    fn groups(self, rows: usize, columns4: usize) -> usize {
        rows.div_ceil(self.rows as usize) * columns4.div_ceil(self.cells as usize)
    }
}

/// Rows of an invocation of `matmul_few`.
pub const FEW: [u32; 3] = [4, 8, 16];

/// A tile is taken only where so many of it make y: fewer leave most of a GPU without work. An assumption,
/// which `vectile tune` replaces by measuring.
const FEWEST_GROUPS: usize = 64;

/// The work of a matmul.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// How weights and activations are stored.
    pub storages: (Storage, Storage),
    /// Rows of y, or slots of rows that are grouped by expert.
    pub rows: usize,
    /// Cells of a row of x.
    pub inner4: usize,
    /// Cells of a row of y.
    pub columns4: usize,
    /// Each tile has one expert.
    pub experts: bool,
}

impl Form {
    pub(super) fn kernel(self) -> &'static Kernel {
        match self {
            Form::Lane => &MATMUL_LANE,
            Form::Tile(_) => &MATMUL_TILE,
            Form::Few(_) => &MATMUL_FEW,
            Form::Cooperative(_) => &MATMUL_COOP,
        }
    }

    /// That of a dispatch; `None` for other kernels.
    pub(crate) fn of(dispatch: &Dispatch) -> Option<Form> {
        let constant = |name| dispatch.variant.constant_or(name, 0);
        let kernel = dispatch.kernel;
        Some(if kernel == &MATMUL_LANE {
            Form::Lane
        } else if kernel == &MATMUL_TILE {
            Form::Tile(Tile {
                rows: constant("ROWS"),
                cells: constant("CELLS"),
                my_rows: constant("MY_ROWS"),
                my_cells: constant("MY_CELLS"),
            })
        } else if kernel == &MATMUL_FEW {
            Form::Few(constant("ROWS"))
        } else if kernel == &MATMUL_COOP {
            Form::Cooperative(Cooperative {
                side: constant("SIDE"),
                invocations: constant("INVOCATIONS"),
                rows: 2 * constant("PART_ROWS"),
                columns: 2 * constant("PART_COLUMNS"),
                slice: constant("SLICE"),
            })
        } else {
            return None;
        })
    }

    /// What it is called where choices are kept.
    pub fn name(self) -> String {
        match self {
            Form::Lane => "lane".to_owned(),
            Form::Tile(Tile { rows, cells, .. }) => format!("tile {rows}x{}", cells * 4),
            Form::Few(rows) => format!("few {rows}"),
            Form::Cooperative(Cooperative { rows, columns, .. }) => {
                format!("cooperative {rows}x{columns}")
            }
        }
    }

    /// Rows of y and cells of its columns that a workgroup makes.
    pub(super) fn tile(self) -> [usize; 2] {
        match self {
            Form::Lane => [16, 32],
            Form::Tile(tile) => [tile.rows as usize, tile.cells as usize],
            Form::Few(rows) => [rows as usize, 32],
            Form::Cooperative(size) => [size.rows as usize, size.columns as usize / 4],
        }
    }

    /// The constants of its text.
    pub fn constants(self, variant: Variant) -> Variant {
        match self {
            Form::Lane => variant,
            Form::Tile(Tile { rows, cells, my_rows, my_cells }) => variant
                .constant("ROWS", rows)
                .constant("CELLS", cells)
                .constant("MY_ROWS", my_rows)
                .constant("MY_CELLS", my_cells),
            Form::Few(rows) => variant.constant("ROWS", rows),
            Form::Cooperative(Cooperative { side, invocations, rows, columns, slice }) => variant
                .constant("SIDE", side)
                .constant("INVOCATIONS", invocations)
                .constant("PART_ROWS", rows / 2)
                .constant("PART_COLUMNS", columns / 2)
                .constant("SLICE", slice),
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Form::Lane => f.write_str("lanes"),
            Form::Tile(Tile { rows, cells, .. }) => write!(f, "tiles of {rows} × {}", cells * 4),
            Form::Few(rows) => write!(f, "columns of {rows} rows"),
            Form::Cooperative(Cooperative { side, rows, columns, .. }) => {
                write!(f, "cooperative matrices of {side} × {side} in tiles of {rows} × {columns}")
            }
        }
    }
}

impl KernelPlan {
    /// The form of the matmul for some work.
    ///
    /// Whether matrices or tiles are used depends on the adapter and the precision, never on a batch: they
    /// round in other ways. Tiles of all sizes and columns give the same bits, and of them one that suits
    /// the number of rows is taken.
    pub fn matmul(&self, work: &Work) -> Form {
        if let Some(form) = self.forced {
            return form;
        }
        if self.software {
            return Form::Lane;
        }
        let tuned = self.tuned.as_deref();
        if let Some(cooperative) = self.cooperative
            && work.storages == (Storage::F16, Storage::F16)
            && tuned.and_then(|tuned| tuned.matrices(work)) != Some(false)
        {
            return self.sized(cooperative, work);
        }
        if !self.by_rows {
            return Form::Tile(Tile::PLAIN);
        }
        if let Some(form) = tuned.and_then(|tuned| tuned.form(work, &self.alike(work.experts))) {
            return form;
        }
        if let Some(rows) = FEW.iter().find(|rows| work.rows <= **rows as usize)
            && !work.experts
        {
            return Form::Few(*rows);
        }
        let mut large = self
            .tiles(work.experts)
            .rev()
            .skip_while(|tile| tile.memory() > self.largest_tile.memory());
        let full = large.find(|tile| tile.groups(work.rows, work.columns4) >= FEWEST_GROUPS);
        Form::Tile(full.or(self.tiles(work.experts).next()).unwrap_or(Tile::PLAIN))
    }

    /// Cooperative matrices in the tile that suits some work.
    fn sized(&self, plain: Cooperative, work: &Work) -> Form {
        if !self.matrices_by_rows {
            return Form::Cooperative(plain);
        }
        let forms = self.matrices(work.experts);
        if let Some(form) = self.tuned.as_deref().and_then(|tuned| tuned.form(work, &forms)) {
            return form;
        }
        // Matrices of 8 are those of GPUs whose registers hold no larger part.
        let suits = |size: &&Cooperative| {
            size.side == 16
                && forms.contains(&Form::Cooperative(**size))
                && size.groups(work.rows, work.columns4) >= FEWEST_GROUPS
        };
        Form::Cooperative(plain.sizes().iter().rev().find(suits).copied().unwrap_or(plain))
    }

    /// The forms by cooperative matrices, which give the same bits.
    pub(crate) fn matrices(&self, experts: bool) -> Vec<Form> {
        let sizes = self.cooperative.into_iter().flat_map(Cooperative::sizes);
        let fit = |size: &Cooperative| {
            !experts || super::matmul::EXPERT_ROWS.is_multiple_of(size.rows as usize)
        };
        sizes.filter(fit).map(Form::Cooperative).collect()
    }

    /// The tiles that the device can run, the smallest first. Of rows that are grouped by expert each tile
    /// has one expert.
    pub(crate) fn tiles(&self, experts: bool) -> impl DoubleEndedIterator<Item = Tile> {
        let (memory, invocations) = (self.workgroup_memory, self.workgroup_invocations);
        Tile::ALL.into_iter().filter(move |tile| {
            tile.memory() <= memory
                && tile.invocations() <= invocations
                && (!experts || super::matmul::EXPERT_ROWS.is_multiple_of(tile.rows as usize))
        })
    }

    /// Every form that gives the bits of [`Tile::PLAIN`].
    pub(crate) fn alike(&self, experts: bool) -> Vec<Form> {
        let few = FEW.iter().filter(|_| !experts).map(|rows| Form::Few(*rows));
        self.tiles(experts).map(Form::Tile).chain(few).collect()
    }

    /// How matmuls of a precision are computed, in words.
    pub fn describe(&self, storages: (Storage, Storage)) -> String {
        let work = Work { storages, rows: 1 << 15, inner4: 1024, columns4: 1024, experts: false };
        match self.matmul(&work) {
            Form::Tile(tile) if self.by_rows && self.forced.is_none() => match &self.tuned {
                None => format!("{} at most, by rows", Form::Tile(tile)),
                Some(_) => "tiles and columns as tuned here, by rows".to_owned(),
            },
            Form::Cooperative(of) if self.matrices_by_rows && self.forced.is_none() => {
                let how = if self.tuned.is_some() { "as tuned here" } else { "at most" };
                format!("{} {how}, by rows", Form::Cooperative(of))
            }
            form => form.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::gpu::shader::Lanes;
    use crate::kernels::tuned::{Choice, Tuned};

    fn plan(largest_tile: Tile) -> KernelPlan {
        KernelPlan {
            software: false,
            lanes: Lanes::Alone,
            workgroup_memory: 16384,
            workgroup_invocations: 256,
            max_flops: u64::MAX,
            cooperative: Some(Cooperative::of(16, 128)),
            matrices_by_rows: true,
            largest_tile,
            by_rows: true,
            tuned: None,
            forced: None,
        }
    }

    fn work(rows: usize) -> Work {
        let storages = (Storage::F32, Storage::F32);
        Work { storages, rows, inner4: 96, columns4: 384, experts: false }
    }

    #[test]
    fn rows_pick_among_forms_of_the_same_bits() {
        let plan = plan(Tile::ALL[3]);
        let forms = [1, 4, 5, 16, 17, 64, 512, 1024, 1 << 15].map(|rows| plan.matmul(&work(rows)));
        let [small, plain, tall, large] = Tile::ALL.map(Form::Tile);
        let (few4, few8, few16) = (Form::Few(4), Form::Few(8), Form::Few(16));
        assert_eq!(forms, [few4, few4, few8, few16, small, small, tall, large, large]);
        let alike = plan.alike(false);
        assert!(forms.iter().all(|form| alike.contains(form)), "{forms:?}");
        assert!(alike.contains(&plain));
        let cut = KernelPlan { by_rows: false, ..plan };
        for rows in [1, 16, 1 << 15] {
            assert_eq!(cut.matmul(&work(rows)), plain);
        }
    }

    #[test]
    fn matrices_are_for_f16_of_any_number_of_rows_and_for_gpus() {
        let plan = plan(Tile::PLAIN);
        for rows in [1, 16, 17, 1 << 15] {
            let f16 = Work { storages: (Storage::F16, Storage::F16), ..work(rows) };
            assert!(matches!(plan.matmul(&f16), Form::Cooperative(_)));
            let half = Work { storages: (Storage::F16, Storage::F32), ..work(rows) };
            assert!(!matches!(plan.matmul(&half), Form::Cooperative(_)));
            let software = KernelPlan { software: true, ..plan.clone() };
            assert_eq!(software.matmul(&f16), Form::Lane);
        }
    }

    #[test]
    fn rows_pick_among_sizes_of_matrices() {
        let plan = plan(Tile::PLAIN);
        let f16 = |rows| Work { storages: (Storage::F16, Storage::F16), ..work(rows) };
        let size = |plan: &KernelPlan, work: &Work| match plan.matmul(work) {
            Form::Cooperative(of) => [of.rows, of.columns],
            form => panic!("{form}"),
        };
        let sizes = [1, 128, 512, 1024].map(|rows| size(&plan, &f16(rows)));
        assert_eq!(sizes, [[64, 64], [64, 64], [128, 64], [128, 128]]);
        let cut = KernelPlan { matrices_by_rows: false, ..plan.clone() };
        assert_eq!(size(&cut, &f16(1024)), [64, 64]);
        let grouped = Work { experts: true, ..f16(1 << 15) };
        assert_eq!(size(&plan, &grouped), [64, 64]);
        let eight = KernelPlan { cooperative: Some(Cooperative::of(8, 128)), ..plan };
        assert_eq!(size(&eight, &f16(1 << 15)), [64, 64]);
        // Slices of x and w with their filling, and 256 sums of each part.
        for of in Cooperative::of(16, 128).sizes() {
            let halves = of.rows * (of.slice + 8) + of.slice * (of.columns + 8);
            assert!(halves * 2 + 4096 <= 16384, "{of:?}");
        }
    }

    #[test]
    fn what_was_measured_comes_before_what_suits() {
        let choice = |storage: Storage, rows, form: &str| Choice {
            weights: storage.name().to_owned(),
            activations: storage.name().to_owned(),
            inner4: 96,
            columns4: 384,
            rows,
            form: form.to_owned(),
        };
        let choices = vec![
            choice(Storage::F32, Some(4), "tile 32x64"),
            choice(Storage::F32, Some(4096), "tile 128x64"),
            choice(Storage::F16, None, "tile 64x64"),
            choice(Storage::F16, Some(4096), "few 16"),
        ];
        let tuned = Some(Arc::new(Tuned { choices }));
        let plan = KernelPlan { tuned, ..plan(Tile::ALL[3]) };
        assert_eq!(plan.matmul(&work(3)), Form::Tile(Tile::ALL[0]));
        assert_eq!(plan.matmul(&work(1 << 15)), Form::Tile(Tile::ALL[2]));
        // Taller than an expert's rows: what suits is taken.
        let grouped = Work { experts: true, ..work(1 << 15) };
        assert_eq!(plan.matmul(&grouped), Form::Tile(Tile::PLAIN));
        let f16 = Work { storages: (Storage::F16, Storage::F16), ..work(100) };
        assert_eq!(plan.matmul(&f16), Form::Few(16));
        let other = Work { inner4: 4, ..f16 };
        assert!(matches!(plan.matmul(&other), Form::Cooperative(_)));
        let cut = KernelPlan { by_rows: false, ..plan };
        assert_eq!(cut.matmul(&work(3)), Form::Tile(Tile::PLAIN));
    }

    #[test]
    fn tiles_fit_the_device_and_the_rows_of_an_expert() {
        let small =
            KernelPlan { workgroup_memory: 8192, workgroup_invocations: 128, ..plan(Tile::ALL[3]) };
        assert_eq!(small.tiles(false).collect::<Vec<_>>(), Tile::ALL[..2]);
        assert_eq!(plan(Tile::ALL[3]).tiles(true).collect::<Vec<_>>(), Tile::ALL[..2]);
        let grouped = Work { experts: true, ..work(1 << 15) };
        assert_eq!(plan(Tile::ALL[3]).matmul(&grouped), Form::Tile(Tile::PLAIN));
        let grouped = Work { experts: true, ..work(16) };
        assert_eq!(plan(Tile::ALL[3]).matmul(&grouped), Form::Tile(Tile::ALL[0]));
    }
}
