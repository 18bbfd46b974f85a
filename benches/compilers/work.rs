//! The pipelines that an adapter can run, from the library's own choice of variants.

use std::collections::BTreeSet;

use vectile::dtype::Storage;
use vectile::gpu::kernel::Kernel;
use vectile::gpu::shader::{Lanes, ShaderVariant};
use vectile::kernels::answers::{ANSWERS, Family, KnownAnswer};
use vectile::kernels::matmul::{MATMUL_COOP, MATMUL_FEW, MATMUL_TILE, Variant, WeightShape, Work};
use vectile::kernels::{Builder, KernelPlan, attention};
use vectile::selftest::STORAGES;

use crate::support::precision;

/// The head sizes for which attention is compiled, in values.
const HEADS: [u32; 6] = [16, 32, 64, 96, 128, 256];

/// The values of WINDOW, HAS_BIAS and RELATIVE with which attention is compiled.
const BRANCHES: [(u32, u32, u32); 5] = [(0, 0, 0), (0, 0, 3), (1, 0, 0), (0, 1, 0), (1, 1, 0)];

/// A kernel in a variant, and its names in tables.
pub struct Pipeline {
    pub kernel: &'static Kernel,
    pub shader: ShaderVariant,
    /// The variant's name, for example `cooperative 128x64` or `heads of 64`.
    pub form: String,
    /// The overrides that are not zero, for example `GATED`.
    pub branch: String,
    /// The storage types on which the kernel's WGSL source depends, weights first, for example `f16/f32`.
    pub storages: String,
    /// True if a model runs this variant without `vectile tune`.
    pub by_default: bool,
}

/// Every pipeline that an adapter with this plan can run, each once. `every_branch` adds the epilogues of
/// matmuls, and windows and biases of attention.
pub fn pipelines(plan: &KernelPlan, shader_f16: bool, every_branch: bool) -> Vec<Pipeline> {
    let mut list = List::default();
    for (weights, activations) in STORAGES.iter().copied() {
        let f16 = [weights, activations].contains(&Storage::F16);
        if f16 && !shader_f16 {
            continue;
        }
        for answer in ANSWERS.iter().filter(|answer| answer.family.is_of(plan)) {
            let Some(own) = answer.family.plan(plan, (weights, activations)) else { continue };
            let name = answer.kernel.name;
            if name.starts_with("matmul_") {
                list.add_matmul(plan, &own, answer, (weights, activations), every_branch);
            } else if !name.starts_with("attention_") {
                list.add_answer(&own, answer, (weights, activations), "", true, true);
            }
        }
        for head in HEADS {
            for (window, bias, relative) in BRANCHES {
                if every_branch || (window, bias) == (0, 0) {
                    list.add_attention(plan, activations, head, [window, bias, relative]);
                }
            }
        }
    }
    list.all
}

#[derive(Default)]
struct List {
    all: Vec<Pipeline>,
}

impl List {
    fn add(
        &mut self,
        kernel: &'static Kernel,
        mut shader: ShaderVariant,
        form: &str,
        by_default: bool,
    ) {
        // Storage types that the WGSL source does not use make no difference.
        if !kernel.reads_weights {
            shader.weights = Storage::F32;
        }
        if !kernel.reads_activations {
            shader.activations = Storage::F32;
        }
        let same = |one: &Pipeline| one.kernel == kernel && one.shader == shader;
        if self.all.iter().any(same) {
            return;
        }
        let read = [
            (kernel.reads_weights, shader.weights),
            (kernel.reads_activations, shader.activations),
        ];
        let storages: Vec<&str> =
            read.iter().filter(|(read, _)| *read).map(|(_, storage)| storage.name()).collect();
        let set: Vec<String> = shader
            .overrides
            .iter()
            .filter(|(_, value)| *value != 0)
            .map(
                |(name, value)| {
                    if *value == 1 { (*name).to_owned() } else { format!("{name}={value}") }
                },
            )
            .collect();
        let (branch, storages) = (set.join(" "), storages.join("/"));
        // Kernels with one variant are told apart by their constants.
        let constants = shader.constants.iter().map(|(name, value)| format!("{name}={value}"));
        let form = match form {
            "" => constants.collect::<Vec<_>>().join(" "),
            form => form.to_owned(),
        };
        self.all.push(Pipeline { kernel, shader, form, branch, storages, by_default });
    }

    /// Adds the pipelines of a known-answer test. Without `every_run`, only those of its first run are added.
    fn add_answer(
        &mut self,
        plan: &KernelPlan,
        answer: &KnownAnswer,
        (weights, activations): (Storage, Storage),
        form: &str,
        every_run: bool,
        by_default: bool,
    ) {
        let runs = if every_run { answer.runs } else { &answer.runs[..1] };
        for run in runs {
            let mut builder = Builder::new(plan, &precision(weights, activations));
            run(&mut builder);
            for dispatch in builder.graph.dispatches {
                if dispatch.kernel == answer.kernel {
                    for shader in with_whole_slices(dispatch.variant) {
                        self.add(dispatch.kernel, shader, form, by_default);
                    }
                }
            }
        }
    }

    /// Adds every variant of a matmul kernel: those that the row count selects by default, and those that `vectile
    /// tune` can choose.
    fn add_matmul(
        &mut self,
        plan: &KernelPlan,
        own: &KernelPlan,
        answer: &KnownAnswer,
        storages: (Storage, Storage),
        every_branch: bool,
    ) {
        let defaults = by_default(plan, storages);
        let all = match answer.family {
            Family::Cooperative => plan.matrices(false),
            _ => own.bit_identical_variants(false),
        };
        for variant in all {
            let runs = match variant {
                Variant::Tile(_) => &MATMUL_TILE,
                Variant::Few(_) => &MATMUL_FEW,
                Variant::Cooperative(_) => &MATMUL_COOP,
                Variant::Lane(_) => continue,
            };
            if runs == answer.kernel {
                let forced = KernelPlan { forced: Some(variant), ..own.clone() };
                let by_default = defaults.contains(&variant);
                self.add_answer(
                    &forced,
                    answer,
                    storages,
                    &variant.name(),
                    every_branch,
                    by_default,
                );
            }
        }
    }

    fn add_attention(
        &mut self,
        plan: &KernelPlan,
        storage: Storage,
        head: u32,
        [window, bias, relative]: [u32; 3],
    ) {
        let head4 = head / 4;
        let variant = plan.attention(head4 as usize, storage, relative > 0);
        let kernel = match variant {
            attention::Variant::Tile(_) => &attention::ATTENTION_TILE,
            attention::Variant::Cooperative { .. } => &attention::ATTENTION_COOP,
            attention::Variant::Lane => return,
        };
        let lanes = if kernel.has_subgroup_variant { plan.lanes } else { Lanes::Alone };
        let shader = ShaderVariant::new(storage, storage, lanes)
            .set("WINDOW", window)
            .set("HAS_BIAS", bias)
            .set("RELATIVE", relative);
        self.add(kernel, variant.constants(shader, head4), &format!("heads of {head}"), true);
    }
}

/// Returns a variant for each value of its override WHOLE, or only the variant if it has no such override. The width of
/// most models is a whole number of slices, and the width in a known answer is not.
fn with_whole_slices(shader: ShaderVariant) -> Vec<ShaderVariant> {
    let Some(at) = shader.overrides.iter().position(|(name, _)| *name == "WHOLE") else {
        return vec![shader];
    };
    let with = |value| {
        let mut shader = shader.clone();
        shader.overrides[at].1 = value;
        shader
    };
    vec![with(0), with(1)]
}

/// Returns the variants that the row count and the shape of the weight select without `vectile tune`.
fn by_default(plan: &KernelPlan, storages: (Storage, Storage)) -> BTreeSet<Variant> {
    let mut selected = BTreeSet::new();
    for columns4 in [96, 192, 288, 384, 768, 1024, 3584] {
        for rows in (1..64).chain((64..=32768).step_by(64)) {
            for experts in [false, true] {
                let weight = WeightShape { inner4: 96, columns4 };
                selected.insert(plan.matmul(&Work { storages, rows, weight, experts }));
            }
        }
    }
    selected
}
