//! Translates a variant to SPIR-V as wgpu does.

use naga::back::spv;
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy, Layouter};
use naga::valid::{Capabilities, SubgroupOperationSet, ValidationFlags, Validator};
use vectile::gpu::shader::resolve_imports;

use crate::work::Pipeline;

/// The SPIR-V of a pipeline, and its bytes of workgroup memory.
pub struct Module {
    pub words: Vec<u32>,
    pub workgroup_memory: u64,
}

/// Translates a pipeline. `checks_buffers` is true on a device that does not check the bounds of buffers itself.
pub fn translate(pipeline: &Pipeline, checks_buffers: bool) -> Result<Module, String> {
    let source = resolve_imports(pipeline.kernel.source, &pipeline.shader)?;
    let module = naga::front::wgsl::parse_str(&source).map_err(|e| e.emit_to_string(&source))?;
    let info = Validator::new(ValidationFlags::all(), Capabilities::all())
        .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
        .subgroup_operations(SubgroupOperationSet::all())
        .validate(&module)
        .map_err(|e| e.emit_to_string(&source))?;
    let overrides = &pipeline.shader.overrides;
    let constants =
        overrides.iter().map(|(name, value)| ((*name).to_owned(), f64::from(*value))).collect();
    let stage = Some((naga::ShaderStage::Compute, pipeline.kernel.name));
    let (module, info) =
        naga::back::pipeline_constants::process_overrides(&module, &info, stage, &constants)
            .map_err(|e| e.to_string())?;
    let mut layouter = Layouter::default();
    layouter.update(module.to_ctx()).map_err(|e| e.to_string())?;
    let shared = module.global_variables.iter();
    let shared = shared.filter(|(_, var)| var.space == naga::AddressSpace::WorkGroup);
    let workgroup_memory = shared.map(|(_, var)| u64::from(layouter[var.ty].size)).sum();
    let buffer =
        if checks_buffers { BoundsCheckPolicy::Restrict } else { BoundsCheckPolicy::Unchecked };
    let options = spv::Options {
        lang_version: (1, 6),
        capabilities: None,
        force_loop_bounding: false,
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        bounds_check_policies: BoundsCheckPolicies {
            index: BoundsCheckPolicy::Restrict,
            buffer,
            image_load: BoundsCheckPolicy::Unchecked,
            binding_array: BoundsCheckPolicy::Unchecked,
        },
        ..Default::default()
    };
    let words =
        spv::write_vec(&module, &info, &options, None).map_err(|e| format!("SPIR-V: {e}"))?;
    Ok(Module { words, workgroup_memory })
}
