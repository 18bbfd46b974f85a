//! Compiles the pipelines of one GPU in this process, which runs on that GPU's driver.

use vectile::executor::{AdapterOptions, Executor};
use vectile::{AdapterChoice, block_on};

use crate::arguments::Arguments;
use crate::assembly;
use crate::device::Device;
use crate::gpus::{Gpu, Vendor};
use crate::limits;
use crate::report::{Figures, OfGpu, OfPipeline, Variants};
use crate::work::{Pipeline, pipelines};

/// Returns the figures of every pipeline that the adapter of this process can run.
pub fn measure(gpu: Gpu, arguments: &Arguments) -> OfGpu {
    let mut result = OfGpu {
        gpu: gpu.name.to_owned(),
        product: gpu.product.to_owned(),
        adapter: None,
        variants: None,
        problem: None,
        pipelines: Vec::new(),
    };
    result.problem = compile_all(gpu, arguments, &mut result).err();
    result
}

fn compile_all(gpu: Gpu, arguments: &Arguments, result: &mut OfGpu) -> Result<(), String> {
    let executor = block_on(Executor::open(&AdapterChoice::Gpu, &AdapterOptions::default()))
        .map_err(|e| e.to_string())?;
    let adapter = executor.adapter().clone();
    if adapter.is_software() {
        return Err(format!("the driver is {adapter}, which is software"));
    }
    let (plan, shader_f16) = (executor.plan(), executor.has_shader_f16());
    drop(executor);
    let varying_subgroups = adapter.subgroup_sizes.is_some();
    result.adapter = Some(adapter);
    result.variants = Some(Variants::of(&plan, shader_f16));
    if arguments.adapters.is_some() {
        return Ok(());
    }
    let device = Device::open(varying_subgroups)?;
    let work = pipelines(&plan, shader_f16, arguments.branches);
    for pipeline in &work {
        let blank = OfPipeline::of(pipeline);
        let limited = !arguments.check || limits::concern(gpu, &blank);
        if limited && blank.kernel.contains(&arguments.kernel) {
            result.pipelines.push(compile(gpu, arguments, &device, pipeline, blank));
        }
    }
    Ok(())
}

/// Sets the figures of a pipeline, or the error that prevented them.
fn compile(
    gpu: Gpu,
    arguments: &Arguments,
    device: &Device,
    pipeline: &Pipeline,
    mut result: OfPipeline,
) -> OfPipeline {
    let counts: Option<fn(&str) -> Option<assembly::Counts>> = match gpu.vendor {
        Vendor::Amd => Some(assembly::of_amd),
        Vendor::Nvidia => Some(assembly::of_nvidia),
        Vendor::Qualcomm | Vendor::Apple => None,
    };
    match device.compile(pipeline, counts.is_some()) {
        Ok(compiled) => {
            let text = compiled.assembly.unwrap_or_default();
            if let Some(directory) = arguments.assembly.as_ref().filter(|_| !text.is_empty()) {
                let name = result.name().replace([' ', '/', ','], "_");
                std::fs::create_dir_all(directory).unwrap();
                std::fs::write(directory.join(format!("{} {name}.txt", gpu.name)), &text).unwrap();
            }
            let figures = Figures::of(gpu.vendor, &compiled.statistics, compiled.workgroup_memory);
            result.figures = Figures {
                compile_ms: (compiled.milliseconds * 10.0).round() / 10.0,
                subgroup_size: compiled.subgroup_size,
                counts: counts.and_then(|counts| counts(&text)),
                ..figures
            };
        }
        Err(problem) => result.problem = Some(problem),
    }
    result
}
