//! The descriptors of `attention_tile.wgsl`, `attention_coop.wgsl` and `attention_lane.wgsl`.

use crate::gpu::kernel::{Access, Kernel, Setting};
use crate::params;

params! {
    /// The parameters of all attention kernels, laid out as the struct `Params` in their WGSL source.
    pub struct AttentionParams {
        heads: u32,
        first_head: u32,
        group: u32,
        q_stride4: u32,
        q_first4: u32,
        k_stride4: u32,
        k_first4: u32,
        v_stride4: u32,
        v_first4: u32,
        before: u32,
        after: u32,
        reach: u32,
        r_stride4: u32,
        rk_first4: u32,
        rq_first4: u32,
        scale: f32,
    }
}

const BINDINGS: &[Access] = &[
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Write,
];
const HEAD4: Setting = Setting { name: "HEAD4", constant: true, values: &[1, 8, 16, 32, 64] };
const WINDOW: Setting = Setting { name: "WINDOW", constant: false, values: &[0, 1] };
const HAS_BIAS: Setting = Setting { name: "HAS_BIAS", constant: false, values: &[0, 1] };
const RELATIVE: Setting = Setting { name: "RELATIVE", constant: false, values: &[0, 1, 2, 3] };

/// Returns a descriptor with the fields that all attention kernels share.
const fn kernel(name: &'static str, source: &'static str) -> Kernel {
    Kernel {
        name,
        source,
        bindings: BINDINGS,
        params: AttentionParams::FIELDS,
        reads_weights: false,
        reads_activations: true,
        has_subgroup_variant: false,
        cooperative: false,
        settings: &[HEAD4, WINDOW, HAS_BIAS, RELATIVE],
    }
}

/// The descriptor of `attention_tile.wgsl`, for GPUs. Keys and values pass through workgroup memory. Except for HEAD4,
/// its constants are those of a [`WorkSplit`](super::WorkSplit).
pub static ATTENTION_TILE: Kernel =
    kernel("attention_tile", include_str!("../../../shaders/attention_tile.wgsl"));

/// The descriptor of `attention_coop.wgsl`, for GPUs with cooperative matrices. Except for HEAD4, its constants depend
/// on the adapter.
pub static ATTENTION_COOP: Kernel = Kernel {
    cooperative: true,
    settings: &[
        Setting { name: "HEAD4", constant: true, values: &[8, 12, 16, 32, 40] },
        WINDOW,
        HAS_BIAS,
        Setting { name: "KEYS", constant: true, values: &[16, 32] },
        Setting { name: "ELEMENTS", constant: true, values: &[1, 4] },
        // The adapter's largest subgroups may have 8, 16, 32 or 64 invocations, and a workgroup has four times as many.
        Setting { name: "INVOCATIONS", constant: true, values: &[32, 64, 128, 256] },
    ],
    ..kernel("attention_coop", include_str!("../../../shaders/attention_coop.wgsl"))
};

/// The descriptor of `attention_lane.wgsl`, for software adapters. The kernel uses no workgroup memory.
pub static ATTENTION_LANE: Kernel = Kernel {
    has_subgroup_variant: true,
    ..kernel("attention_lane", include_str!("../../../shaders/attention_lane.wgsl"))
};
