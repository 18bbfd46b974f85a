//! Lists the variants of a kernel.

use vectile::dtype::Storage;
use vectile::gpu::device::CooperativeMatrices;
use vectile::gpu::kernel::Kernel;
use vectile::gpu::shader::{Lanes, ShaderVariant};
use vectile::kernels::attention;
use vectile::kernels::matmul::{CooperativeTile, OutputTile, Variant};

/// WebGPU's default limits, which every kernel must respect.
pub const MAX_WORKGROUP_MEMORY: u32 = 16384;
pub const MAX_INVOCATIONS: u32 = 256;
pub const MAX_STORAGE_BUFFERS: usize = 8;

/// Returns every variant of a kernel that can occur: with all storage types, with and without subgroups, and with one
/// setting changed at a time.
pub fn variants(kernel: &Kernel) -> Vec<ShaderVariant> {
    let storages = |read: bool| -> &[Storage] {
        match read {
            true if kernel.cooperative => &[Storage::F16],
            true => &Storage::ALL,
            false => &[Storage::F32],
        }
    };
    let weights = storages(kernel.reads_weights);
    let activations = storages(kernel.reads_activations);
    let lanes: &[Lanes] = if kernel.has_subgroup_variant {
        &[
            Lanes::Alone,
            Lanes::Subgroup(4),
            Lanes::Subgroup(8),
            Lanes::Subgroup(16),
            Lanes::Subgroup(32),
        ]
    } else {
        &[Lanes::Alone]
    };
    let mut all = Vec::new();
    for w in weights {
        for a in activations {
            for l in lanes {
                let base = ShaderVariant::new(*w, *a, *l);
                all.push(base.clone());
                if kernel.name == "matmul_coop" {
                    for (side, invocations) in [(8, 32), (8, 128), (16, 128)] {
                        let matrices = CooperativeMatrices::of(side, invocations);
                        let sizes =
                            CooperativeTile::smallest(matrices).sizes().map(Variant::Cooperative);
                        all.extend(sizes.map(|variant| variant.constants(base.clone(), false)));
                    }
                }
                if kernel.name == "matmul_tile" {
                    all.extend(
                        OutputTile::ALL
                            .map(|tile| Variant::Tile(tile).constants(base.clone(), false)),
                    );
                }
                for setting in kernel.settings {
                    for value in setting.values {
                        all.extend(match setting.name {
                            "HEAD4" => heads(kernel, &base, *value),
                            name if setting.constant => vec![base.clone().constant(name, *value)],
                            name => vec![base.clone().set(name, *value)],
                        });
                    }
                }
            }
        }
    }
    all
}

/// Returns the variants of attention for heads of `head4` cells.
fn heads(kernel: &Kernel, base: &ShaderVariant, head4: u32) -> Vec<ShaderVariant> {
    let variants = match kernel.name {
        "attention_tile" => vec![attention::Variant::Tile(attention::WorkSplit::of(
            head4,
            MAX_WORKGROUP_MEMORY,
            MAX_INVOCATIONS,
        ))],
        "attention_coop" => [8, 16]
            .into_iter()
            .filter(|side| (head4 * 4).is_multiple_of(*side))
            .map(|side| {
                let matrices = CooperativeMatrices::of(side, 128);
                let keys = if head4 < 32 { 32 } else { 16 };
                attention::Variant::Cooperative { matrices, keys }
            })
            .collect(),
        _ => vec![attention::Variant::Lane],
    };
    variants.into_iter().map(|variant| variant.constants(base.clone(), head4)).collect()
}
