//! A Vulkan device that returns the statistics and the assembly of its pipelines.
//!
//! wgpu opens its device without `VK_KHR_pipeline_executable_properties`, so this bench opens its own.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::time::Instant;

use ash::{ext, khr, vk};

use crate::spirv;
use crate::work::Pipeline;

/// The statistics of a compiled pipeline.
pub struct Compiled {
    /// The statistics by the names that the driver gives them.
    pub statistics: BTreeMap<String, f64>,
    pub subgroup_size: u32,
    /// Bytes of workgroup memory that the WGSL declares.
    pub workgroup_memory: u64,
    /// The machine code as text, if the driver returns it.
    pub assembly: Option<String>,
    pub milliseconds: f64,
}

pub struct Device {
    // The library that the other fields call must stay loaded.
    _entry: ash::Entry,
    device: ash::Device,
    properties: khr::pipeline_executable_properties::Device,
    /// True if shaders have to check the bounds of buffers.
    checks_buffers: bool,
    /// True if wgpu would let the driver choose the subgroup size.
    varying_subgroups: bool,
}

impl Device {
    /// Opens the first device of the machine's Vulkan loader, with the features that wgpu would enable.
    pub fn open(varying_subgroups: bool) -> Result<Self, String> {
        // SAFETY: the loader is a Vulkan loader, the structures that are chained outlive the calls, and every handle
        // comes from the object that it is used with.
        unsafe { Device::open_first(varying_subgroups) }
    }

    unsafe fn open_first(varying_subgroups: bool) -> Result<Self, String> {
        let entry = unsafe { ash::Entry::load() }.map_err(|e| format!("no Vulkan loader: {e}"))?;
        let says = |what: &'static str| move |e: vk::Result| format!("{what}: {e}");
        let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
        let create = vk::InstanceCreateInfo::default().application_info(&application);
        let instance =
            unsafe { entry.create_instance(&create, None) }.map_err(says("vkCreateInstance"))?;
        let adapters = unsafe { instance.enumerate_physical_devices() };
        let adapter = *adapters
            .map_err(says("vkEnumeratePhysicalDevices"))?
            .first()
            .ok_or("the driver lists no device")?;
        let extensions = unsafe { instance.enumerate_device_extension_properties(adapter) }
            .map_err(says("vkEnumerateDeviceExtensionProperties"))?;
        let has =
            |name: &CStr| extensions.iter().any(|one| one.extension_name_as_c_str() == Ok(name));
        if !has(khr::pipeline_executable_properties::NAME) {
            return Err("the driver has no VK_KHR_pipeline_executable_properties".to_owned());
        }
        let mut names = vec![khr::pipeline_executable_properties::NAME.as_ptr()];
        let (matrices, robustness) =
            (has(khr::cooperative_matrix::NAME), has(ext::robustness2::NAME));
        names.extend(matrices.then_some(khr::cooperative_matrix::NAME.as_ptr()));
        names.extend(robustness.then_some(ext::robustness2::NAME.as_ptr()));

        // First all features are read, then the device is opened with them.
        let mut v11 = vk::PhysicalDeviceVulkan11Features::default();
        let mut v12 = vk::PhysicalDeviceVulkan12Features::default();
        let mut v13 = vk::PhysicalDeviceVulkan13Features::default();
        let mut robust = vk::PhysicalDeviceRobustness2FeaturesEXT::default();
        let mut known = vk::PhysicalDeviceFeatures2::default()
            .push_next(&mut v11)
            .push_next(&mut v12)
            .push_next(&mut v13);
        if robustness {
            known = known.push_next(&mut robust);
        }
        unsafe { instance.get_physical_device_features2(adapter, &mut known) };
        let core = known.features;
        // `nullDescriptor` changes nothing for pipelines, and wgpu does not enable it.
        robust.null_descriptor = vk::FALSE;
        let checks_buffers = robust.robust_buffer_access2 == vk::FALSE;
        (v11.p_next, v12.p_next, v13.p_next, robust.p_next) = Default::default();
        let mut executables = vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default()
            .pipeline_executable_info(true);
        let mut cooperative =
            vk::PhysicalDeviceCooperativeMatrixFeaturesKHR::default().cooperative_matrix(true);
        let mut features = vk::PhysicalDeviceFeatures2::default().features(core);
        features = features
            .push_next(&mut v11)
            .push_next(&mut v12)
            .push_next(&mut v13)
            .push_next(&mut executables);
        if robustness {
            features = features.push_next(&mut robust);
        }
        if matrices {
            features = features.push_next(&mut cooperative);
        }
        let queue = [vk::DeviceQueueCreateInfo::default().queue_priorities(&[1.0])];
        let create = vk::DeviceCreateInfo::default()
            .queue_create_infos(&queue)
            .enabled_extension_names(&names)
            .push_next(&mut features);
        let device = unsafe { instance.create_device(adapter, &create, None) }
            .map_err(says("vkCreateDevice"))?;
        let properties = khr::pipeline_executable_properties::Device::new(&instance, &device);
        Ok(Device { _entry: entry, device, properties, checks_buffers, varying_subgroups })
    }

    /// Compiles a pipeline. With `assembly`, the driver also prints its code.
    ///
    /// # Errors
    /// An error message of naga or of the driver.
    pub fn compile(&self, pipeline: &Pipeline, assembly: bool) -> Result<Compiled, String> {
        let module = spirv::translate(pipeline, self.checks_buffers)?;
        // SAFETY: naga has validated the module, the structures outlive the calls, and every handle belongs to this
        // device.
        unsafe { self.compile_module(pipeline, &module, assembly) }
    }

    unsafe fn compile_module(
        &self,
        pipeline: &Pipeline,
        module: &spirv::Module,
        assembly: bool,
    ) -> Result<Compiled, String> {
        let device = &self.device;
        let says = |what: &'static str| move |e: vk::Result| format!("{what}: {e}");
        let started = Instant::now();
        let code = vk::ShaderModuleCreateInfo::default().code(&module.words);
        let shader = unsafe { device.create_shader_module(&code, None) }
            .map_err(says("vkCreateShaderModule"))?;
        let buffers = pipeline.kernel.bindings.len();
        let mut types = vec![vk::DescriptorType::STORAGE_BUFFER; buffers];
        types.push(vk::DescriptorType::UNIFORM_BUFFER);
        let groups = [types, vec![vk::DescriptorType::STORAGE_BUFFER]].map(|types| {
            let bindings: Vec<_> = types
                .iter()
                .enumerate()
                .map(|(at, kind)| {
                    vk::DescriptorSetLayoutBinding::default()
                        .binding(at as u32)
                        .descriptor_type(*kind)
                        .descriptor_count(1)
                        .stage_flags(vk::ShaderStageFlags::COMPUTE)
                })
                .collect();
            let create = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
            unsafe { device.create_descriptor_set_layout(&create, None) }
        });
        let [kernel, report] = groups;
        let layouts = [
            kernel.map_err(says("vkCreateDescriptorSetLayout"))?,
            report.map_err(says("vkCreateDescriptorSetLayout"))?,
        ];
        let create = vk::PipelineLayoutCreateInfo::default().set_layouts(&layouts);
        let layout = unsafe { device.create_pipeline_layout(&create, None) }
            .map_err(says("vkCreatePipelineLayout"))?;
        let entry = CString::new(pipeline.kernel.name).map_err(|e| e.to_string())?;
        let mut stage = vk::PipelineShaderStageCreateInfo::default()
            .stage(vk::ShaderStageFlags::COMPUTE)
            .module(shader)
            .name(&entry);
        if self.varying_subgroups {
            stage = stage.flags(vk::PipelineShaderStageCreateFlags::ALLOW_VARYING_SUBGROUP_SIZE);
        }
        let mut flags = vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR;
        if assembly {
            flags |= vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR;
        }
        let create =
            vk::ComputePipelineCreateInfo::default().flags(flags).layout(layout).stage(stage);
        let made =
            unsafe { device.create_compute_pipelines(vk::PipelineCache::null(), &[create], None) };
        let made = made.map_err(|(_, e)| format!("vkCreateComputePipelines: {e}"))?[0];
        let milliseconds = started.elapsed().as_secs_f64() * 1e3;
        let compiled = unsafe { self.read(made, assembly) };
        unsafe {
            device.destroy_pipeline(made, None);
            device.destroy_pipeline_layout(layout, None);
            layouts.iter().for_each(|one| device.destroy_descriptor_set_layout(*one, None));
            device.destroy_shader_module(shader, None);
        }
        let (statistics, subgroup_size, assembly) = compiled?;
        let workgroup_memory = module.workgroup_memory;
        Ok(Compiled { statistics, subgroup_size, workgroup_memory, assembly, milliseconds })
    }

    /// Returns the statistics, the subgroup size and the assembly of a pipeline.
    #[allow(clippy::type_complexity, reason = "the fields of `Compiled`")]
    unsafe fn read(
        &self,
        pipeline: vk::Pipeline,
        assembly: bool,
    ) -> Result<(BTreeMap<String, f64>, u32, Option<String>), String> {
        let info = vk::PipelineInfoKHR::default().pipeline(pipeline);
        let executables = unsafe { self.properties.get_pipeline_executable_properties(&info) }
            .map_err(|e| format!("vkGetPipelineExecutableProperties: {e}"))?;
        let first = executables.first().ok_or("the driver compiled no executable")?;
        let executable = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline);
        let statistics = unsafe { self.properties.get_pipeline_executable_statistics(&executable) }
            .map_err(|e| format!("vkGetPipelineExecutableStatistics: {e}"))?;
        let value = |one: &vk::PipelineExecutableStatisticKHR<'_>| {
            use vk::PipelineExecutableStatisticFormatKHR as Format;
            // SAFETY: the format says which field of the union is set.
            unsafe {
                match one.format {
                    Format::UINT64 => one.value.u64 as f64,
                    Format::INT64 => one.value.i64 as f64,
                    Format::FLOAT64 => one.value.f64,
                    _ => f64::from(one.value.b32),
                }
            }
        };
        let name = |one: &vk::PipelineExecutableStatisticKHR<'_>| {
            one.name_as_c_str().map_or_else(|_| String::new(), |n| n.to_string_lossy().into_owned())
        };
        let statistics = statistics.iter().map(|one| (name(one), value(one))).collect();
        let assembly = if assembly { unsafe { self.assembly(&executable) } } else { None };
        Ok((statistics, first.subgroup_size, assembly))
    }

    /// Returns the machine code as text. The call of ash returns no texts, so the driver's function is called twice:
    /// for the sizes, and for the texts.
    unsafe fn assembly(&self, executable: &vk::PipelineExecutableInfoKHR<'_>) -> Option<String> {
        let get = self.properties.fp().get_pipeline_executable_internal_representations_khr;
        let (device, none) = (self.device.handle(), std::ptr::null_mut());
        let mut count = 0;
        unsafe { get(device, executable, &mut count, none) }.result().ok()?;
        let mut all =
            vec![vk::PipelineExecutableInternalRepresentationKHR::default(); count as usize];
        unsafe { get(device, executable, &mut count, all.as_mut_ptr()) }.result().ok()?;
        let mut texts: Vec<Vec<u8>> = all.iter().map(|one| vec![0; one.data_size]).collect();
        for (one, text) in all.iter_mut().zip(&mut texts) {
            one.p_data = text.as_mut_ptr().cast();
        }
        unsafe { get(device, executable, &mut count, all.as_mut_ptr()) }.result().ok()?;
        let is_assembly = |one: &vk::PipelineExecutableInternalRepresentationKHR<'_>| {
            one.name_as_c_str()
                .is_ok_and(|name| name.to_string_lossy().to_lowercase().contains("assembly"))
        };
        let at = all.iter().position(is_assembly)?;
        Some(String::from_utf8_lossy(&texts[at]).into_owned())
    }
}
