//! The forms of the matmul. `choice.rs` says which of them a plan takes.

use std::fmt;

use super::matmul::{MATMUL_COOP, MATMUL_FEW, MATMUL_LANE, MATMUL_TILE};
use crate::dtype::Storage;
use crate::gpu::graph::Dispatch;
use crate::gpu::kernel::Kernel;
use crate::gpu::shader::Variant;

/// How a matmul is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// `matmul_lane`, for software adapters: so many rows an invocation.
    Lane(u32),
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
    /// Rows of an invocation, each with two cells.
    pub my_rows: u32,
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

    /// Workgroups that make y.
    pub(super) fn groups(self, rows: usize, columns4: usize) -> usize {
        rows.div_ceil(self.rows as usize) * (columns4 * 4).div_ceil(self.columns as usize)
    }
}

/// Depth of the slices that pass through workgroup memory.
const SLICE: u32 = 16;

impl Tile {
    const fn of(rows: u32, cells: u32, my_rows: u32) -> Self {
        Tile { rows, cells, my_rows }
    }

    /// The one that every GPU can run.
    pub const PLAIN: Tile = Tile::of(64, 16, 4);

    /// All, the smallest first. Each gives the same bits: sums run along inner in one order.
    pub const ALL: [Tile; 4] =
        [Tile::of(32, 16, 2), Tile::PLAIN, Tile::of(128, 16, 8), Tile::of(128, 32, 8)];

    /// Invocations of a workgroup.
    pub fn invocations(self) -> u32 {
        self.rows / self.my_rows * (self.cells / 2)
    }

    /// Bytes of workgroup memory: a slice of x and one of w.
    pub fn memory(self) -> u32 {
        (self.rows + self.cells * 4) * SLICE * 4
    }

    /// Workgroups that make y.
    pub(super) fn groups(self, rows: usize, columns4: usize) -> usize {
        rows.div_ceil(self.rows as usize) * columns4.div_ceil(self.cells as usize)
    }
}

/// Rows of an invocation of `matmul_few`.
pub const FEW: [u32; 3] = [4, 8, 16];

/// Rows of an invocation of `matmul_lane`.
pub const LANE: [u32; 2] = [16, 32];

/// The work of a matmul.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// How weights and activations are stored.
    pub storages: (Storage, Storage),
    /// Rows of y, or slots of rows that are grouped by expert.
    pub rows: usize,
    /// Cells of a row of x.
    pub inner4: usize,
    /// Cells of a row of the weight.
    pub columns4: usize,
    /// Each tile has one expert.
    pub experts: bool,
}

impl Form {
    pub(super) fn kernel(self) -> &'static Kernel {
        match self {
            Form::Lane(_) => &MATMUL_LANE,
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
            Form::Lane(constant("ROWS"))
        } else if kernel == &MATMUL_TILE {
            Form::Tile(Tile {
                rows: constant("ROWS"),
                cells: constant("CELLS"),
                my_rows: constant("MY_ROWS"),
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
            Form::Lane(rows) => format!("lane {rows}"),
            Form::Tile(Tile { rows, cells, .. }) => format!("tile {rows}x{}", cells * 4),
            Form::Few(rows) => format!("few {rows}"),
            Form::Cooperative(Cooperative { rows, columns, .. }) => {
                format!("cooperative {rows}x{columns}")
            }
        }
    }

    /// Rows and cells of sums that a workgroup makes; `pairs` where an epilogue takes two cells at once.
    pub(super) fn tile(self, pairs: bool) -> [usize; 2] {
        match self {
            Form::Lane(rows) => [rows as usize, 32],
            Form::Tile(tile) => [tile.rows as usize, tile.cells as usize],
            Form::Few(rows) => [rows as usize, if pairs { 64 } else { 32 }],
            Form::Cooperative(size) => [size.rows as usize, size.columns as usize / 4],
        }
    }

    /// The constants of its text; `pairs` where an epilogue takes two cells at once.
    pub fn constants(self, variant: Variant, pairs: bool) -> Variant {
        match self {
            Form::Lane(rows) => variant.constant("ROWS", rows),
            Form::Tile(Tile { rows, cells, my_rows }) => {
                variant.constant("ROWS", rows).constant("CELLS", cells).constant("MY_ROWS", my_rows)
            }
            Form::Few(rows) => {
                variant.constant("ROWS", rows).constant("CELLS", 1 + u32::from(pairs))
            }
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
            Form::Lane(rows) => write!(f, "lanes of {rows} rows"),
            Form::Tile(Tile { rows, cells, .. }) => write!(f, "tiles of {rows} × {}", cells * 4),
            Form::Few(rows) => write!(f, "columns of {rows} rows"),
            Form::Cooperative(Cooperative { side, rows, columns, .. }) => {
                write!(f, "cooperative matrices of {side} × {side} in tiles of {rows} × {columns}")
            }
        }
    }
}
