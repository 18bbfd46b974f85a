//! The variants of the matmul. `choice.rs` decides which of them runs.

use std::fmt;

use super::descriptors::{MATMUL_COOP, MATMUL_FEW, MATMUL_LANE, MATMUL_TILE};
use crate::dtype::Storage;
use crate::gpu::device::CooperativeMatrices;
use crate::gpu::graph::Dispatch;
use crate::gpu::kernel::Kernel;
use crate::gpu::shader::ShaderVariant;

/// A variant of the matmul: a kernel and the constants in its WGSL source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variant {
    /// Runs `matmul_lane`, for software adapters. The field is the number of rows that an invocation computes.
    Lane(u32),
    /// Runs `matmul_tile`, for GPUs.
    Tile(OutputTile),
    /// Runs `matmul_few`, for GPUs and few rows. The field is the number of rows that an invocation computes.
    Few(u32),
    /// Runs `matmul_coop`, for GPUs with cooperative matrices.
    Cooperative(CooperativeTile),
}

/// The tile of y that a workgroup of `matmul_tile` computes, and the part of the tile that an invocation computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutputTile {
    /// The number of rows in the tile.
    pub rows: u32,
    /// The number of cells (four values each) in a row of the tile.
    pub cells: u32,
    /// The number of rows that an invocation computes. It computes two cells (eight values) of each of these rows.
    pub my_rows: u32,
}

/// The tile of y that a workgroup of `matmul_coop` computes, and the size of the cooperative matrices that make up the
/// tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CooperativeTile {
    /// The adapter's cooperative matrices.
    pub matrices: CooperativeMatrices,
    /// The number of rows in the tile.
    pub rows: u32,
    /// The number of columns in the tile.
    pub columns: u32,
    /// The depth of the slices of x and w that pass through workgroup memory.
    pub slice: u32,
}

impl CooperativeTile {
    /// Returns the smallest tile made of these cooperative matrices.
    pub fn smallest(matrices: CooperativeMatrices) -> Self {
        // A small tile leaves room for deeper slices, which need fewer barriers.
        CooperativeTile { matrices, rows: 64, columns: 64, slice: 64 }
    }

    /// Returns the tiles of all sizes, smallest first. Each fits into
    /// [`MATRIX_MEMORY`](crate::gpu::device::MATRIX_MEMORY). All tiles give bit-identical results, since each sum adds
    /// its products along inner in the same order.
    pub fn sizes(self) -> [CooperativeTile; 3] {
        let of = |rows, columns| CooperativeTile { rows, columns, slice: 32, ..self };
        [CooperativeTile::smallest(self.matrices), of(128, 64), of(128, 128)]
    }

    /// Returns the bytes of workgroup memory. That memory holds a slice of x and a slice of w, both with padded rows.
    /// It also holds a band of sums for each of the four parts, with 32 columns each.
    #[cfg(test)]
    pub(super) fn memory(self) -> u32 {
        use crate::gpu::device::MATRIX_PAD;
        let cells = (self.rows + self.columns) * (self.slice / 4 + MATRIX_PAD);
        cells * 8 + 4 * self.matrices.side * 32 * 4
    }

    /// Is true if a row of x, which has `inner4` cells of four values, consists of a whole number of slices.
    pub(super) fn divides(self, inner4: usize) -> bool {
        inner4.is_multiple_of(self.slice as usize / 4)
    }

    /// Returns the number of workgroups that compute y.
    pub(super) fn workgroups(self, rows: usize, columns4: usize) -> usize {
        rows.div_ceil(self.rows as usize) * (columns4 * 4).div_ceil(self.columns as usize)
    }
}

/// The depth of the slices of x and w that pass through workgroup memory in `matmul_tile`.
const SLICE: u32 = 16;

impl OutputTile {
    const fn of(rows: u32, cells: u32, my_rows: u32) -> Self {
        OutputTile { rows, cells, my_rows }
    }

    /// The tile that every GPU can run.
    pub const PLAIN: OutputTile = OutputTile::of(64, 16, 4);

    /// All tiles, smallest first. All tiles give bit-identical results, since each sum adds its products along inner in
    /// the same order.
    pub const ALL: [OutputTile; 4] = [
        OutputTile::of(32, 16, 2),
        OutputTile::PLAIN,
        OutputTile::of(128, 16, 8),
        OutputTile::of(128, 32, 8),
    ];

    /// Returns the number of invocations in a workgroup.
    pub fn invocations(self) -> u32 {
        self.rows / self.my_rows * (self.cells / 2)
    }

    /// Returns the bytes of workgroup memory for a slice of x and a slice of w.
    pub fn memory(self) -> u32 {
        (self.rows + self.cells * 4) * SLICE * 4
    }

    /// Returns the number of workgroups that compute y.
    pub(super) fn workgroups(self, rows: usize, columns4: usize) -> usize {
        rows.div_ceil(self.rows as usize) * columns4.div_ceil(self.cells as usize)
    }
}

/// The shape of a weight, in cells of four values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeightShape {
    /// The number of cells in a row of x.
    pub inner4: usize,
    /// The number of cells in a row of the weight.
    pub columns4: usize,
}

/// The properties of a matmul that decide which variant runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// The storage types of weights and of activations.
    pub storages: (Storage, Storage),
    /// The number of rows of y. If rows are grouped by expert, it is the number of slots for rows.
    pub rows: usize,
    /// The shape of the weight, or of the weight of each expert.
    pub weight: WeightShape,
    /// True if rows are grouped by expert, so that each tile belongs to one expert.
    pub experts: bool,
}

/// The number of sums that a workgroup computes, as rows and columns of y.
pub(super) struct WorkgroupSums {
    pub rows: usize,
    /// The number of cells (four values each) in a row.
    pub cells: usize,
}

impl Variant {
    /// Returns the kernel that computes this variant.
    pub(super) fn kernel(self) -> &'static Kernel {
        match self {
            Variant::Lane(_) => &MATMUL_LANE,
            Variant::Tile(_) => &MATMUL_TILE,
            Variant::Few(_) => &MATMUL_FEW,
            Variant::Cooperative(_) => &MATMUL_COOP,
        }
    }

    /// Is true if the variant multiplies cooperative matrices.
    pub(crate) fn is_cooperative(self) -> bool {
        matches!(self, Variant::Cooperative(_))
    }

    /// Returns the variant that a dispatch runs; `None` if the dispatch is not a matmul.
    pub(crate) fn of_dispatch(dispatch: &Dispatch) -> Option<Variant> {
        Variant::of(dispatch.kernel, &dispatch.variant)
    }

    /// Returns the variant that a kernel runs with these constants; `None` if the kernel is not a matmul.
    pub(crate) fn of(kernel: &Kernel, shader: &ShaderVariant) -> Option<Variant> {
        let constant = |name| shader.constant_or(name, 0);
        Some(if kernel == &MATMUL_LANE {
            Variant::Lane(constant("ROWS"))
        } else if kernel == &MATMUL_TILE {
            Variant::Tile(OutputTile {
                rows: constant("ROWS"),
                cells: constant("CELLS"),
                my_rows: constant("MY_ROWS"),
            })
        } else if kernel == &MATMUL_FEW {
            Variant::Few(constant("ROWS"))
        } else if kernel == &MATMUL_COOP {
            Variant::Cooperative(CooperativeTile {
                matrices: CooperativeMatrices {
                    side: constant("SIDE"),
                    invocations: constant("INVOCATIONS"),
                    elements: constant("ELEMENTS"),
                },
                rows: 2 * constant("PART_ROWS"),
                columns: 2 * constant("PART_COLUMNS"),
                slice: constant("SLICE"),
            })
        } else {
            return None;
        })
    }

    /// Returns the variant's name in the file of tuned choices.
    pub fn name(self) -> String {
        match self {
            Variant::Lane(rows) => format!("lane {rows}"),
            Variant::Tile(OutputTile { rows, cells, .. }) => format!("tile {rows}x{}", cells * 4),
            Variant::Few(rows) => format!("few {rows}"),
            Variant::Cooperative(CooperativeTile { rows, columns, .. }) => {
                format!("cooperative {rows}x{columns}")
            }
        }
    }

    /// Returns how many sums a workgroup computes. `gated` is true if the epilogue combines two cells (four values
    /// each) into one.
    pub(super) fn workgroup_sums(self, gated: bool) -> WorkgroupSums {
        let (rows, cells) = match self {
            Variant::Lane(rows) => (rows, 32),
            Variant::Tile(tile) => (tile.rows, tile.cells),
            Variant::Few(rows) => (rows, if gated { 64 } else { 32 }),
            Variant::Cooperative(tile) => (tile.rows, tile.columns / 4),
        };
        WorkgroupSums { rows: rows as usize, cells: cells as usize }
    }

    /// Sets the constants in the WGSL source of this variant's kernel. `gated` is true if the epilogue combines two
    /// cells (four values each) into one.
    pub fn constants(self, shader: ShaderVariant, gated: bool) -> ShaderVariant {
        match self {
            Variant::Lane(rows) => shader.constant("ROWS", rows),
            Variant::Tile(OutputTile { rows, cells, my_rows }) => {
                shader.constant("ROWS", rows).constant("CELLS", cells).constant("MY_ROWS", my_rows)
            }
            Variant::Few(rows) => {
                shader.constant("ROWS", rows).constant("CELLS", 1 + u32::from(gated))
            }
            Variant::Cooperative(CooperativeTile { matrices, rows, columns, slice }) => matrices
                .constants(shader)
                .constant("PART_ROWS", rows / 2)
                .constant("PART_COLUMNS", columns / 2)
                .constant("SLICE", slice),
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Variant::Lane(rows) => write!(f, "lanes of {rows} rows"),
            Variant::Tile(OutputTile { rows, cells, .. }) => {
                write!(f, "tiles of {rows} × {}", cells * 4)
            }
            Variant::Few(rows) => write!(f, "few rows: {rows} at a time"),
            Variant::Cooperative(CooperativeTile { matrices, rows, columns, .. }) => {
                let side = matrices.side;
                write!(f, "cooperative matrices of {side} × {side} in tiles of {rows} × {columns}")
            }
        }
    }
}
