//! Checks every kernel in every variant by naga, without a GPU. Each variant is valid under WebGPU's default limits
//! with only the capabilities that it needs. Each variant agrees with its descriptor, and translates to SPIR-V, MSL and
//! HLSL. `browser.rs` sends the variants to the compiler of a browser.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;

use naga::valid::{Capabilities, SubgroupOperationSet, ValidationFlags, Validator};
use vectile::dtype::Storage;
use vectile::gpu::constants::evaluate;
use vectile::gpu::device::MATRIX_MEMORY;
use vectile::gpu::kernel::{Access, Kernel};
use vectile::gpu::shader::{Lanes, ShaderVariant, resolve_imports};
use vectile::kernels::ALL;

use variants::{MAX_INVOCATIONS, MAX_STORAGE_BUFFERS, MAX_WORKGROUP_MEMORY, variants};

mod assembly;
mod browser;
mod gpus;
#[path = "../support/mod.rs"]
mod support;
mod variants;

fn capabilities(kernel: &Kernel, variant: &ShaderVariant) -> Capabilities {
    // unpack2x16float and pack2x16float are core WebGPU, but naga counts them as a capability.
    let mut capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    if variant.weights == Storage::F16 || variant.activations == Storage::F16 {
        capabilities |= Capabilities::SHADER_FLOAT16;
    }
    if variant.lanes != Lanes::Alone {
        capabilities |= Capabilities::SUBGROUP;
    }
    if kernel.cooperative {
        capabilities |= Capabilities::SUBGROUP | Capabilities::COOPERATIVE_MATRIX;
    }
    capabilities
}

struct Checked {
    module: naga::Module,
    info: naga::valid::ModuleInfo,
}

fn check(kernel: &Kernel, variant: &ShaderVariant) -> Checked {
    let what = format!("{} {variant:?}", kernel.name);
    let source = resolve_imports(kernel.source, variant).expect(&what);
    let module = naga::front::wgsl::parse_str(&source)
        .unwrap_or_else(|e| panic!("{what}\n{}", e.emit_to_string(&source)));
    let info = Validator::new(ValidationFlags::all(), capabilities(kernel, variant))
        .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
        .subgroup_operations(SubgroupOperationSet::all())
        .validate(&module)
        .unwrap_or_else(|e| panic!("{what}\n{}", e.emit_to_string(&source)));
    Checked { module, info }
}

#[test]
fn every_kernel_in_every_variant_is_valid_and_within_default_limits() {
    let mut count = 0;
    for kernel in ALL {
        for variant in variants(kernel) {
            let what = format!("{} {variant:?}", kernel.name);
            let Checked { module, .. } = check(kernel, &variant);
            let entry = &module.entry_points[0];
            assert_eq!(module.entry_points.len(), 1, "{what}");
            assert_eq!(entry.name, kernel.name, "{what}");
            let invocations: u32 = entry.workgroup_size.iter().product();
            assert!(invocations <= MAX_INVOCATIONS, "{what}: {invocations} invocations");
            let mut layouter = naga::proc::Layouter::default();
            layouter.update(module.to_ctx()).expect(&what);
            let memory: u32 = module
                .global_variables
                .iter()
                .filter(|(_, var)| var.space == naga::AddressSpace::WorkGroup)
                .map(|(_, var)| layouter[var.ty].size)
                .sum();
            let most = if kernel.cooperative { MATRIX_MEMORY } else { MAX_WORKGROUP_MEMORY };
            assert!(memory <= most, "{what}: {memory} bytes of workgroup memory");
            count += 1;
        }
    }
    assert!(count > 500, "only {count} variants were walked");
}

#[test]
fn constants_have_the_same_values_in_browsers_as_in_naga() {
    let mut count = 0;
    for kernel in ALL {
        for variant in variants(kernel) {
            let what = format!("{} {variant:?}", kernel.name);
            let source = resolve_imports(kernel.source, &variant).expect(&what);
            let module = naga::front::wgsl::parse_str(&source).expect(&what);
            let by_naga: BTreeMap<String, u32> = module
                .constants
                .iter()
                .filter_map(|(_, constant)| match module.global_expressions[constant.init] {
                    naga::Expression::Literal(naga::Literal::U32(value)) => {
                        Some((constant.name.clone().unwrap(), value))
                    }
                    _ => None,
                })
                .collect();
            let evaluated: BTreeMap<String, u32> = evaluate(&source).into_iter().collect();
            assert_eq!(evaluated, by_naga, "{what}");
            count += evaluated.len();
        }
    }
    assert!(count > 5000, "only {count} constants were compared");
}

#[test]
fn descriptors_agree_with_the_wgsl() {
    for kernel in ALL {
        let stored = if kernel.cooperative { Storage::F16 } else { Storage::F32 };
        let variant = ShaderVariant::new(stored, stored, Lanes::Alone);
        let Checked { module, .. } = check(kernel, &variant);
        let mut storage = Vec::new();
        let mut uniform = None;
        let mut guarded = false;
        for (_, var) in module.global_variables.iter() {
            let Some(binding) = &var.binding else { continue };
            match (binding.group, var.space) {
                (0, naga::AddressSpace::Storage { access }) => {
                    let write = access.contains(naga::StorageAccess::STORE);
                    storage
                        .push((binding.binding, if write { Access::Write } else { Access::Read }));
                }
                (0, naga::AddressSpace::Uniform) => uniform = Some((binding.binding, var.ty)),
                (1, naga::AddressSpace::Storage { .. }) => guarded = true,
                other => panic!("{}: unexpected binding {other:?}", kernel.name),
            }
        }
        storage.sort_by_key(|(at, _)| *at);
        let access: Vec<Access> = storage.iter().map(|(_, access)| *access).collect();
        assert_eq!(access, kernel.bindings, "{}", kernel.name);
        assert!(guarded, "{}: it has no report", kernel.name);
        assert!(storage.len() + usize::from(guarded) <= MAX_STORAGE_BUFFERS, "{}", kernel.name);
        let (at, ty) = uniform.expect(kernel.name);
        assert_eq!(
            at as usize,
            kernel.bindings.len(),
            "{}: the parameter block comes last",
            kernel.name
        );
        let naga::TypeInner::Struct { members, .. } = &module.types[ty].inner else {
            panic!("{}: the parameters are not a struct", kernel.name)
        };
        let fields: Vec<(String, &str, usize)> = members
            .iter()
            .map(|member| {
                let kind = match module.types[member.ty].inner {
                    naga::TypeInner::Scalar(naga::Scalar::U32) => "u32",
                    naga::TypeInner::Scalar(naga::Scalar::F32) => "f32",
                    ref other => panic!("{}: {other:?}", kernel.name),
                };
                (member.name.clone().unwrap(), kind, member.offset as usize)
            })
            .collect();
        let declared: Vec<(String, &str, usize)> =
            kernel.params.iter().map(|f| (f.name.to_owned(), f.kind, f.offset)).collect();
        assert_eq!(fields, declared, "{}", kernel.name);
        for setting in kernel.settings.iter().filter(|s| !s.constant) {
            assert!(
                module.overrides.iter().any(|(_, o)| o.name.as_deref() == Some(setting.name)),
                "{}: no override {}",
                kernel.name,
                setting.name
            );
        }
        for setting in kernel.settings.iter().filter(|s| s.constant) {
            let line = format!("const {}: u32 = ", setting.name);
            let source = resolve_imports(kernel.source, &variant).expect(kernel.name);
            assert!(source.contains(&line), "{}: no {line}", kernel.name);
        }
    }
}

#[test]
fn f16_is_named_only_where_the_variant_stores_it() {
    for kernel in ALL {
        for variant in variants(kernel) {
            let source = resolve_imports(kernel.source, &variant).unwrap();
            let f16 = variant.weights == Storage::F16 && kernel.reads_weights
                || variant.activations == Storage::F16 && kernel.reads_activations;
            let code: String = source
                .lines()
                .map(|line| line.split("//").next().unwrap_or_default())
                .collect::<Vec<_>>()
                .join("\n");
            assert_eq!(code.contains("enable f16;"), f16, "{} {variant:?}", kernel.name);
            assert_eq!(code.contains("<f16>"), f16, "{} {variant:?}", kernel.name);
            // naga would write invalid modules for cooperative matrices with atomics: see `report_plain.wgsl`.
            assert!(!kernel.cooperative || !code.contains("atomic"), "{} {variant:?}", kernel.name);
        }
    }
}

#[test]
fn every_kernel_translates_for_vulkan_metal_and_dx12() {
    for kernel in ALL {
        for variant in variants(kernel) {
            // wgpu sets overrides before its backends translate a module, so this test does too.
            let what = format!("{} {variant:?}", kernel.name);
            let Checked { module, info } = check(kernel, &variant);
            let constants: naga::back::PipelineConstants = variant
                .overrides
                .iter()
                .map(|(name, value)| ((*name).to_owned(), f64::from(*value)))
                .collect();
            let stage = Some((naga::ShaderStage::Compute, kernel.name));
            let (module, info) = naga::back::pipeline_constants::process_overrides(
                &module, &info, stage, &constants,
            )
            .expect(&what);

            let mut options =
                naga::back::spv::Options { lang_version: (1, 3), ..Default::default() };
            options.capabilities = None;
            naga::back::spv::write_vec(&module, &info, &options, None).expect(&what);

            let options = naga::back::msl::Options {
                lang_version: (3, 0),
                fake_missing_bindings: true,
                ..Default::default()
            };
            let pipeline = naga::back::msl::PipelineOptions::default();
            naga::back::msl::write_string(&module, &info, &options, &pipeline).expect(&what);

            // naga does not translate cooperative matrices to HLSL.
            if kernel.cooperative {
                continue;
            }
            let options = naga::back::hlsl::Options {
                shader_model: naga::back::hlsl::ShaderModel::V6_2,
                fake_missing_bindings: true,
                ..Default::default()
            };
            let pipeline = naga::back::hlsl::PipelineOptions::default();
            let mut text = String::new();
            naga::back::hlsl::Writer::new(&mut text, &options, &pipeline)
                .write(&module, &info, None)
                .expect(&what);
            assert!(text.contains(kernel.name), "{what}");
        }
    }
}

/// The pointers through which a kernel loads and stores matrices point to scalars with ELEMENTS = 4. naga writes such
/// pointers as `half*` and `float*`, which Metal accepts. With ELEMENTS = 1 they point to vectors.
#[test]
fn metal_loads_matrices_through_pointers_to_scalars() {
    for kernel in ALL.iter().filter(|kernel| kernel.cooperative) {
        for elements in [1, 4] {
            let base = ShaderVariant::new(Storage::F16, Storage::F16, Lanes::Alone);
            let variant = base.constant("ELEMENTS", elements);
            let Checked { module, info } = check(kernel, &variant);
            let function = &module.entry_points[0].function;
            let types = info.get_entry_point(0);
            let scalar = |pointer: naga::Handle<naga::Expression>| {
                let pointer = types[pointer].ty.inner_with(&module.types);
                let base = pointer.pointer_base_type().expect(kernel.name);
                matches!(base.inner_with(&module.types), naga::TypeInner::Scalar(_))
            };
            let loads: Vec<bool> = function
                .expressions
                .iter()
                .filter_map(|(_, expression)| match expression {
                    naga::Expression::CooperativeLoad { data, .. } => Some(scalar(data.pointer)),
                    _ => None,
                })
                .collect();
            assert!(!loads.is_empty(), "{}", kernel.name);
            assert!(loads.iter().all(|scalar| *scalar == (elements == 4)), "{}", kernel.name);

            let options = naga::back::msl::Options {
                lang_version: (3, 0),
                fake_missing_bindings: true,
                ..Default::default()
            };
            let pipeline = naga::back::msl::PipelineOptions::default();
            let stage = Some((naga::ShaderStage::Compute, kernel.name));
            let none = naga::back::PipelineConstants::default();
            let (module, info) =
                naga::back::pipeline_constants::process_overrides(&module, &info, stage, &none)
                    .unwrap();
            let (text, _) =
                naga::back::msl::write_string(&module, &info, &options, &pipeline).unwrap();
            for pointer in ["const threadgroup half* ptr", "const threadgroup float* ptr"] {
                assert!(text.contains(pointer), "{}: no {pointer}", kernel.name);
            }
        }
    }
}

/// Vulkan requires this alignment of the pointers and strides with which a kernel loads matrices of two-byte values.
#[test]
fn rows_of_matrices_begin_at_multiples_of_16_bytes() {
    for kernel in ALL.iter().filter(|kernel| kernel.cooperative) {
        for variant in variants(kernel) {
            let Checked { module, info } = check(kernel, &variant);
            let function = &module.entry_points[0].function;
            let types = info.get_entry_point(0);
            let mut loads = 0;
            for (_, expression) in function.expressions.iter() {
                let naga::Expression::CooperativeLoad { data, .. } = expression else { continue };
                let stride = match function.expressions[data.stride] {
                    naga::Expression::Constant(constant) => {
                        &module.global_expressions[module.constants[constant].init]
                    }
                    ref expression => expression,
                };
                let naga::Expression::Literal(naga::Literal::U32(stride)) = *stride else {
                    panic!("{} {variant:?}: a stride is {stride:?}", kernel.name)
                };
                let pointer = types[data.pointer].ty.inner_with(&module.types);
                let element = pointer.pointer_base_type().expect(kernel.name);
                let bytes = stride * element.inner_with(&module.types).size(module.to_ctx());
                assert_eq!(bytes % 16, 0, "{} {variant:?}: rows of {bytes} bytes", kernel.name);
                loads += 1;
            }
            assert!(loads > 0, "{} {variant:?}", kernel.name);
        }
    }
}

#[test]
fn an_import_that_does_not_exist_is_named() {
    let variant = ShaderVariant::new(Storage::F32, Storage::F32, Lanes::Alone);
    let error = resolve_imports("#import nowhere\n", &variant).unwrap_err();
    assert!(error.contains("nowhere"), "{error}");
    assert!(resolve_imports("#import storage as hat\n", &variant).is_err());
}
