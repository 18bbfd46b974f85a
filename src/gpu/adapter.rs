//! Lists adapters with their features and limits, and chooses one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::gpu::limits::too_low;

/// An optional feature of an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Feature {
    /// The adapter supports f16 in shaders.
    ShaderF16,
    /// The adapter supports subgroup operations.
    Subgroups,
    /// The adapter writes timestamps of its own clock, which `vectile bench` reads.
    TimestampQuery,
    /// The adapter supports cooperative matrices: a subgroup multiplies small matrices as one operation.
    CooperativeMatrix,
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Feature::ShaderF16 => "shader-f16",
            Feature::Subgroups => "subgroups",
            Feature::TimestampQuery => "timestamp-query",
            Feature::CooperativeMatrix => "cooperative-matrix",
        })
    }
}

impl FromStr for Feature {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name.trim().to_ascii_lowercase().replace('_', "-").as_str() {
            "shader-f16" => Ok(Feature::ShaderF16),
            "subgroups" => Ok(Feature::Subgroups),
            "timestamp-query" => Ok(Feature::TimestampQuery),
            "cooperative-matrix" => Ok(Feature::CooperativeMatrix),
            _ => Err(Error::option(
                "disable",
                format!(
                    "`{name}` is not a feature of adapters; use `shader-f16`, `subgroups`, \
                     `timestamp-query` or `cooperative-matrix`"
                ),
            )),
        }
    }
}

/// The choice of the adapter on which a device is opened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AdapterChoice {
    /// The first adapter of the list. Discrete GPUs come first, then integrated GPUs, then the CPU, then software
    /// drivers. Within each class, Vulkan and Metal come before other backends. If checks find that the adapter
    /// computes wrongly, the next adapter in the list is used.
    #[default]
    Best,
    /// The CPU, without any driver.
    Cpu,
    /// The first adapter of the list that is not the CPU. This adapter may be a software driver.
    Gpu,
    /// The adapter with this number in the list of [`adapters`](crate::adapters).
    Index(usize),
    /// The first adapter whose name contains this text; case is ignored.
    Name(String),
    /// A device that computes nothing, for dry runs in tests. No other choice selects this device.
    #[doc(hidden)]
    Noop(Box<NoopAdapter>),
}

impl AdapterChoice {
    /// Returns a choice that selects exactly this adapter, if `self` selects an adapter automatically. Otherwise
    /// returns `self`.
    #[cfg(feature = "lab")]
    pub(crate) fn fixed(&self, adapter: &AdapterSummary) -> Self {
        match self {
            AdapterChoice::Best | AdapterChoice::Gpu => AdapterChoice::Index(adapter.index),
            named => named.clone(),
        }
    }
}

impl FromStr for AdapterChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        if text.is_empty() {
            return Err(Error::option(
                "adapter",
                "is empty; give `cpu`, `gpu`, an index or a part of an adapter's name",
            ));
        }
        Ok(match text.to_ascii_lowercase().as_str() {
            "cpu" => AdapterChoice::Cpu,
            "gpu" => AdapterChoice::Gpu,
            _ => text
                .parse()
                .map(AdapterChoice::Index)
                .unwrap_or_else(|_| AdapterChoice::Name(text.to_owned())),
        })
    }
}

/// The features and limits that a dry-run adapter reports.
#[doc(hidden)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoopAdapter {
    pub shader_f16: bool,
    pub subgroup_size: Option<u32>,
    pub webgpu_default_limits: bool,
    pub max_binding_bytes: Option<u64>,
    pub software: bool,
}

/// The name of the CPU's backend, which needs no driver.
pub(crate) const NATIVE: &str = "Native";

/// An adapter as [`adapters`](crate::adapters) lists it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdapterSummary {
    /// The adapter's number in the list, for [`AdapterChoice::Index`].
    pub index: usize,
    /// The adapter's name, as the driver reports it.
    pub name: String,
    /// The type of the adapter: `DiscreteGpu`, `IntegratedGpu`, `VirtualGpu`, `Cpu` (software) or `Other`.
    pub device_type: String,
    /// The graphics API: `Vulkan`, `Metal`, `Dx12`, `Gl`, `BrowserWebGpu`, or `Native` for the CPU without a driver.
    pub backend: String,
    /// The name of the driver.
    pub driver: String,
    /// The version of the driver.
    pub driver_info: String,
    /// True if shaders may use f16.
    pub shader_f16: bool,
    /// The smallest and largest subgroup size; `None` if the adapter has no subgroup operations.
    pub subgroup_sizes: Option<(u32, u32)>,
    /// The size of the adapter's cooperative matrices with f16 factors and f32 sums: 8 for 8 × 8, or 16 for 16 × 16.
    /// `None` if it has none.
    #[serde(default)]
    pub cooperative_matrix: Option<u32>,
    /// The maximum size of a buffer in bytes.
    pub max_buffer_bytes: u64,
    /// The maximum size in bytes of a binding, which is the part of a buffer that a shader can access.
    pub max_binding_bytes: u64,
    /// The maximum workgroup memory in bytes.
    pub workgroup_memory_bytes: u32,
    /// The maximum number of invocations in a workgroup.
    pub workgroup_invocations: u32,
}

impl AdapterSummary {
    /// Returns an adapter with only the limits that every implementation of WebGPU has.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn webgpu() -> Self {
        AdapterSummary {
            index: 0,
            name: "WebGPU".to_owned(),
            device_type: "Other".to_owned(),
            backend: "BrowserWebGpu".to_owned(),
            driver: String::new(),
            driver_info: String::new(),
            shader_f16: false,
            subgroup_sizes: None,
            cooperative_matrix: None,
            max_buffer_bytes: 256 << 20,
            max_binding_bytes: 128 << 20,
            workgroup_memory_bytes: 16 << 10,
            workgroup_invocations: 256,
        }
    }

    pub(super) fn of(index: usize, adapter: &wgpu::Adapter) -> Self {
        let info = adapter.get_info();
        let features = adapter.features();
        let summary = AdapterSummary {
            index,
            name: info.name,
            device_type: format!("{:?}", info.device_type),
            backend: format!("{:?}", info.backend),
            driver: info.driver,
            driver_info: info.driver_info,
            shader_f16: features.contains(wgpu::Features::SHADER_F16),
            subgroup_sizes: features
                .contains(wgpu::Features::SUBGROUP)
                .then_some((info.subgroup_min_size, info.subgroup_max_size)),
            cooperative_matrix: cooperative_side(adapter),
            max_buffer_bytes: 0,
            max_binding_bytes: 0,
            workgroup_memory_bytes: 0,
            workgroup_invocations: 0,
        };
        summary.with_limits(&adapter.limits())
    }

    /// Returns the summary of this adapter with these limits.
    pub(super) fn with_limits(self, limits: &wgpu::Limits) -> Self {
        AdapterSummary {
            max_buffer_bytes: limits.max_buffer_size,
            max_binding_bytes: limits.max_storage_buffer_binding_size,
            workgroup_memory_bytes: limits.max_compute_workgroup_storage_size,
            workgroup_invocations: limits.max_compute_invocations_per_workgroup,
            ..self
        }
    }

    /// Is true for an adapter that computes on the CPU: the CPU without a driver, or a software driver.
    pub fn is_software(&self) -> bool {
        self.device_type == "Cpu"
    }

    /// Is true for a DX12 adapter for which wgpu did not find Microsoft's compiler `dxcompiler.dll`. wgpu does not
    /// report its compiler. Every adapter with that compiler has subgroups, and no adapter with the older FXC has.
    pub fn lacks_dxc(&self) -> bool {
        self.backend == "Dx12" && self.subgroup_sizes.is_none() && !self.shader_f16
    }

    /// Is true for the CPU without a driver.
    pub fn is_cpu(&self) -> bool {
        self.backend == NATIVE
    }

    /// Returns the size of the largest buffer that one binding can hold. It is less than 2 GiB, since some drivers
    /// store byte counts in signed 32-bit integers.
    pub(crate) fn largest_buffer(&self) -> u64 {
        self.max_binding_bytes.min(self.max_buffer_bytes).min(i32::MAX as u64)
    }

    /// Returns an error if a weight is larger than this adapter's largest binding.
    pub(crate) fn check_weight(&self, name: &str, bytes: u64) -> Result<(), Error> {
        let most = self.largest_buffer();
        if bytes <= most {
            return Ok(());
        }
        let problem = format!(
            "tensor `{name}` takes {bytes} bytes, but the adapter's limit for a binding is {most}; use a \
             16-bit dtype or another adapter"
        );
        Err(Error::adapter(&self.name, problem))
    }

    /// Returns the adapter's name, backend and driver. Facts about the adapter are cached under this key.
    pub fn key(&self) -> String {
        format!("{} | {} | {} {}", self.name, self.backend, self.driver, self.driver_info)
    }
}

impl fmt::Display for AdapterSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {}", self.name, self.backend, self.driver)?;
        if !self.driver_info.is_empty() {
            write!(f, " {}", self.driver_info)?;
        }
        f.write_str(")")
    }
}

/// Returns the size of the largest cooperative matrices that our kernels can use. These matrices have f16 factors, f32
/// sums, and equal width, height and depth, since WGSL has no others. The feature flag does not say which sizes and
/// types the adapter supports, so this function searches the adapter's list of configurations.
fn cooperative_side(adapter: &wgpu::Adapter) -> Option<u32> {
    let needed = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX
        | wgpu::Features::SHADER_F16
        | wgpu::Features::SUBGROUP;
    if !adapter.features().contains(needed) {
        return None;
    }
    let known = adapter.cooperative_matrix_properties();
    let usable = |side: &u32| {
        known.iter().any(|one| {
            [one.m_size, one.n_size, one.k_size] == [*side; 3]
                && one.ab_type == wgpu::CooperativeScalarType::F16
                && one.cr_type == wgpu::CooperativeScalarType::F32
                && !one.saturating_accumulation
        })
    };
    [16, 8].into_iter().find(usable)
}

fn instance(backends: wgpu::Backends, noop: Option<wgpu::NoopBackendOptions>) -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    // No instance flags are set, not even in debug builds, since wgpu's debug flag makes shaders slower on DX12.
    descriptor.flags = wgpu::InstanceFlags::empty();
    descriptor.memory_budget_thresholds.for_resource_creation = Some(95);
    // On DX12, wgpu loads `dxcompiler.dll` if Windows finds it, and otherwise uses FXC, which has neither f16 nor
    // subgroups. DXC cannot be linked statically, because its crate downloads a binary library when it is built.
    descriptor.backend_options.dx12.shader_compiler = wgpu::Dx12Compiler::Auto;
    descriptor.backends = backends;
    if let Some(noop) = noop {
        descriptor.backend_options.noop = noop;
    }
    wgpu::Instance::new(descriptor)
}

/// Returns the rank of an adapter in the list; the adapter with the lowest rank comes first. The order is: discrete,
/// integrated, virtual, other, software. Within a class, Vulkan comes before DX12, because only Vulkan has cooperative
/// matrices, and DX12 has f16 only with `dxcompiler.dll`. GL comes last.
fn rank(info: &wgpu::AdapterInfo) -> (u8, u8) {
    let device = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    };
    let backend = match info.backend {
        wgpu::Backend::Metal | wgpu::Backend::Vulkan | wgpu::Backend::BrowserWebGpu => 0,
        wgpu::Backend::Dx12 => 1,
        _ => 2,
    };
    (device, backend)
}

/// Lists all adapters, best first. GL is searched only if no native API has an adapter. GL lists the same adapters with
/// fewer features, and its search for a window system takes time and prints warnings.
pub(super) async fn list(noop: Option<wgpu::NoopBackendOptions>) -> Vec<wgpu::Adapter> {
    let tries: &[wgpu::Backends] = match noop {
        Some(_) => &[wgpu::Backends::NOOP],
        None => &[wgpu::Backends::PRIMARY, wgpu::Backends::GL],
    };
    for backends in tries {
        let instance = instance(*backends, noop.clone());
        let mut adapters = instance.enumerate_adapters(*backends).await;
        adapters.retain(|adapter| {
            let problem = too_low(&adapter.limits());
            if let Some(problem) = &problem {
                tracing::warn!(adapter = adapter.get_info().name, problem, "not used");
            }
            problem.is_none()
        });
        adapters.sort_by_key(|adapter| rank(&adapter.get_info()));
        if !adapters.is_empty() {
            return adapters;
        }
    }
    Vec::new()
}

/// Returns the index of the adapter that `choice` selects.
pub(crate) fn choose(choice: &AdapterChoice, adapters: &[AdapterSummary]) -> Result<usize, Error> {
    let names = || {
        let names: Vec<String> =
            adapters.iter().map(|a| format!("{}: {} ({})", a.index, a.name, a.backend)).collect();
        names.join(", ")
    };
    if adapters.is_empty() {
        return Err(no_gpu());
    }
    match choice {
        AdapterChoice::Best | AdapterChoice::Noop(_) => Ok(0),
        AdapterChoice::Cpu => adapters.iter().position(AdapterSummary::is_cpu).ok_or_else(|| {
            let problem =
                "this build of Vectile cannot compute on the CPU; enable its feature `cpu`";
            Error::adapter("cpu", problem)
        }),
        AdapterChoice::Gpu => adapters.iter().position(|a| !a.is_cpu()).ok_or_else(no_gpu),
        AdapterChoice::Index(index) if *index < adapters.len() => Ok(*index),
        AdapterChoice::Index(index) => Err(Error::adapter(
            index.to_string(),
            format!("there is no adapter with this index; the adapters are {}", names()),
        )),
        AdapterChoice::Name(name) => {
            let wanted = name.to_lowercase();
            adapters.iter().position(|a| a.name.to_lowercase().contains(&wanted)).ok_or_else(|| {
                Error::adapter(
                    name,
                    format!("no adapter's name contains this text; the adapters are {}", names()),
                )
            })
        }
    }
}

fn no_gpu() -> Error {
    #[cfg(target_arch = "wasm32")]
    let remedy = "WebGPU needs HTTPS, and for example Chrome or Edge 113, Firefox 141 or Safari 26; \
                  without it, use the adapter cpu";
    #[cfg(not(target_arch = "wasm32"))]
    let remedy =
        "install a driver for your GPU, or a software driver (Debian: mesa-vulkan-drivers)";
    Error::adapter("none", format!("no GPU adapter was found; {remedy}"))
}

pub(super) fn noop_options(noop: &NoopAdapter) -> wgpu::NoopBackendOptions {
    let mut limits = wgpu::Limits::default();
    if !noop.webgpu_default_limits {
        limits.max_buffer_size = 1 << 31;
        limits.max_storage_buffer_binding_size = (1 << 31) - 4;
    }
    if let Some(bytes) = noop.max_binding_bytes {
        limits.max_storage_buffer_binding_size = bytes;
    }
    let mut features = wgpu::Features::empty();
    if noop.shader_f16 {
        features |= wgpu::Features::SHADER_F16;
    }
    if noop.subgroup_size.is_some() {
        features |= wgpu::Features::SUBGROUP;
    }
    wgpu::NoopBackendOptions {
        enable: true,
        limits: Some(limits),
        features: Some(features),
        subgroup_min_size: noop.subgroup_size,
        subgroup_max_size: noop.subgroup_size,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vulkan_comes_before_dx12_for_the_same_gpu() {
        use wgpu::{Backend, DeviceType};
        let mut listed = [
            (DeviceType::DiscreteGpu, Backend::Dx12),
            (DeviceType::IntegratedGpu, Backend::Dx12),
            (DeviceType::Cpu, Backend::Vulkan),
            (DeviceType::IntegratedGpu, Backend::Vulkan),
            (DeviceType::DiscreteGpu, Backend::Gl),
            (DeviceType::DiscreteGpu, Backend::Vulkan),
        ];
        listed.sort_by_key(|(kind, backend)| rank(&wgpu::AdapterInfo::new(*kind, *backend)));
        let expected = [
            (DeviceType::DiscreteGpu, Backend::Vulkan),
            (DeviceType::DiscreteGpu, Backend::Dx12),
            (DeviceType::DiscreteGpu, Backend::Gl),
            (DeviceType::IntegratedGpu, Backend::Vulkan),
            (DeviceType::IntegratedGpu, Backend::Dx12),
            (DeviceType::Cpu, Backend::Vulkan),
        ];
        assert_eq!(listed, expected);
    }

    #[test]
    fn only_dx12_without_subgroups_lacks_dxc() {
        let fxc = AdapterSummary { backend: "Dx12".to_owned(), ..AdapterSummary::webgpu() };
        assert!(fxc.lacks_dxc());
        assert!(!AdapterSummary { subgroup_sizes: Some((32, 32)), ..fxc.clone() }.lacks_dxc());
        assert!(!AdapterSummary { backend: "Vulkan".to_owned(), ..fxc }.lacks_dxc());
    }
}
