//! The descriptors of `matmul_tile.wgsl`, `matmul_few.wgsl`, `matmul_coop.wgsl` and `matmul_lane.wgsl`.

use crate::gpu::kernel::{Access, Kernel, Setting};
use crate::params;

params! {
    /// The parameters of all matmul kernels, laid out as the struct `Params` in their WGSL source.
    pub struct MatmulParams {
        rows: u32,
        first_row: u32,
        inner4: u32,
        columns4: u32,
        stride4: u32,
        first_cell: u32,
        cells4: u32,
        x_share: u32,
        token_share: u32,
        head4: u32,
        rotated: u32,
        pairs: u32,
        angles: u32,
    }
}

const BINDINGS: &[Access] =
    &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Read, Access::Write];
const SETTINGS: &[Setting] = &[
    Setting { name: "ACTIVATION", constant: false, values: &[0, 1, 2, 3, 4, 5, 6] },
    Setting { name: "HAS_RESIDUAL", constant: false, values: &[0, 1] },
    Setting { name: "EXPERTS", constant: false, values: &[0, 1] },
    Setting { name: "GATED", constant: false, values: &[0, 1] },
    Setting { name: "ROTARY", constant: false, values: &[0, 1] },
];

/// Returns the settings that all matmul kernels have, followed by those in `more`. `ALL` is the total number of
/// settings.
const fn with<const MORE: usize, const ALL: usize>(more: [Setting; MORE]) -> [Setting; ALL] {
    let mut all = [SETTINGS[0]; ALL];
    let mut at = 0;
    while at < ALL {
        all[at] = if at < SETTINGS.len() { SETTINGS[at] } else { more[at - SETTINGS.len()] };
        at += 1;
    }
    all
}

/// Returns a descriptor with the fields that all matmul kernels share.
const fn kernel(name: &'static str, source: &'static str) -> Kernel {
    Kernel {
        name,
        source,
        bindings: BINDINGS,
        params: MatmulParams::FIELDS,
        reads_weights: true,
        reads_activations: true,
        has_subgroup_variant: false,
        cooperative: false,
        settings: SETTINGS,
    }
}

/// The numbers of rows that one invocation computes in the variants of `matmul_few`.
pub const FEW_ROWS: [u32; 3] = [4, 8, 16];

/// The numbers of rows that one invocation computes in the variants of `matmul_lane`.
pub const LANE_ROWS: [u32; 2] = [16, 32];

/// The descriptor of `matmul_tile.wgsl`, for GPUs. It computes tiles in registers, with operands in workgroup memory.
pub static MATMUL_TILE: Kernel =
    kernel("matmul_tile", include_str!("../../../shaders/matmul_tile.wgsl"));

/// The descriptor of `matmul_few.wgsl`, for GPUs and few rows. The kernel reads each weight once.
pub static MATMUL_FEW: Kernel = Kernel {
    settings: &with::<2, 7>([
        Setting { name: "ROWS", constant: true, values: &FEW_ROWS },
        Setting { name: "CELLS", constant: true, values: &[1, 2] },
    ]),
    ..kernel("matmul_few", include_str!("../../../shaders/matmul_few.wgsl"))
};

/// The descriptor of `matmul_coop.wgsl`, for GPUs with cooperative matrices.
pub static MATMUL_COOP: Kernel = Kernel {
    cooperative: true,
    settings: &with::<4, 9>([
        Setting { name: "SIDE", constant: true, values: &[8, 16] },
        Setting { name: "ELEMENTS", constant: true, values: &[1, 4] },
        Setting { name: "WHOLE", constant: false, values: &[0, 1] },
        // The adapter's largest subgroups may have 8, 16, 32 or 64 invocations, and a workgroup has four times as many.
        Setting { name: "INVOCATIONS", constant: true, values: &[32, 64, 128, 256] },
    ]),
    ..kernel("matmul_coop", include_str!("../../../shaders/matmul_coop.wgsl"))
};

/// The descriptor of `matmul_lane.wgsl`, for software adapters. The kernel uses no workgroup memory.
pub static MATMUL_LANE: Kernel = Kernel {
    has_subgroup_variant: true,
    settings: &with::<1, 6>([Setting { name: "ROWS", constant: true, values: &LANE_ROWS }]),
    ..kernel("matmul_lane", include_str!("../../../shaders/matmul_lane.wgsl"))
};
