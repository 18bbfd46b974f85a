//! Adapters and devices: which one, what it can do, and its errors and loss as values.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex};

use serde::Serialize;

use crate::error::Error;
use crate::gpu::shader::Lanes;
use crate::kernels::KernelPlan;

/// A feature of adapters that Vectile can do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Feature {
    /// f16 in shaders.
    ShaderF16,
    /// Subgroup operations.
    Subgroups,
}

impl FromStr for Feature {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name.trim().to_ascii_lowercase().replace('_', "-").as_str() {
            "shader-f16" => Ok(Feature::ShaderF16),
            "subgroups" => Ok(Feature::Subgroups),
            _ => Err(Error::option(
                "withhold",
                format!("`{name}` is unknown; use shader-f16 or subgroups"),
            )),
        }
    }
}

/// Which adapter to use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AdapterChoice {
    /// Discrete before integrated before software; Vulkan and Metal before others.
    #[default]
    Best,
    /// The one of this number in the list of [`adapters`].
    Index(usize),
    /// The first whose name has this in it, in any case.
    Name(String),
    /// A device that computes nothing, for dry runs in tests: never chosen otherwise.
    #[doc(hidden)]
    Noop(Box<NoopAdapter>),
}

impl FromStr for AdapterChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        if text.is_empty() {
            return Err(Error::option("adapter", "give an index or a part of an adapter's name"));
        }
        Ok(text
            .parse()
            .map(AdapterChoice::Index)
            .unwrap_or_else(|_| AdapterChoice::Name(text.to_owned())))
    }
}

/// What a dry-run adapter pretends to be.
#[doc(hidden)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoopAdapter {
    pub shader_f16: bool,
    pub subgroup_size: Option<u32>,
    pub webgpu_default_limits: bool,
    pub max_binding_bytes: Option<u64>,
    pub software: bool,
}

/// An adapter as [`adapters`] lists it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AdapterSummary {
    /// Its number for [`AdapterChoice::Index`].
    pub index: usize,
    /// Its name.
    pub name: String,
    /// `DiscreteGpu`, `IntegratedGpu`, `VirtualGpu`, `Cpu` (software) or `Other`.
    pub device_type: String,
    /// `Vulkan`, `Metal`, `Dx12`, `Gl` or `BrowserWebGpu`.
    pub backend: String,
    /// The driver's name.
    pub driver: String,
    /// The driver's version.
    pub driver_info: String,
    /// Whether shaders may use f16.
    pub shader_f16: bool,
    /// Smallest and largest subgroup size; `None` without subgroup operations.
    pub subgroup_sizes: Option<(u32, u32)>,
    /// Largest buffer in bytes.
    pub max_buffer_bytes: u64,
    /// Largest part of a buffer that a shader sees at once, in bytes.
    pub max_binding_bytes: u64,
    /// Workgroup memory in bytes.
    pub workgroup_memory_bytes: u32,
    /// Invocations in a workgroup.
    pub workgroup_invocations: u32,
}

impl AdapterSummary {
    fn of(index: usize, adapter: &wgpu::Adapter) -> Self {
        let info = adapter.get_info();
        let limits = adapter.limits();
        let features = adapter.features();
        AdapterSummary {
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
            max_buffer_bytes: limits.max_buffer_size,
            max_binding_bytes: limits.max_storage_buffer_binding_size,
            workgroup_memory_bytes: limits.max_compute_workgroup_storage_size,
            workgroup_invocations: limits.max_compute_invocations_per_workgroup,
        }
    }

    /// True for an adapter that computes on the CPU.
    pub fn is_software(&self) -> bool {
        self.device_type == "Cpu"
    }

    /// Name, backend and driver, as a cache key for what was found out about them.
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

fn instance(backends: wgpu::Backends, noop: Option<wgpu::NoopBackendOptions>) -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    // The same flags in debug and release builds: on DX12 the debug flag slows shaders.
    descriptor.flags = wgpu::InstanceFlags::empty();
    descriptor.memory_budget_thresholds.for_resource_creation = Some(95);
    descriptor.backends = backends;
    if let Some(noop) = noop {
        descriptor.backend_options.noop = noop;
    }
    wgpu::Instance::new(descriptor)
}

/// Lower is better: discrete, integrated, virtual, other, software; native APIs before GL.
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

/// All adapters, best first. GL is looked at only where no native API shows an adapter: it shows
/// the same ones with less, and looking for a window system takes time and prints complaints.
async fn list(noop: Option<wgpu::NoopBackendOptions>) -> Vec<wgpu::Adapter> {
    let tries: &[wgpu::Backends] = match noop {
        Some(_) => &[wgpu::Backends::NOOP],
        None => &[wgpu::Backends::PRIMARY, wgpu::Backends::GL],
    };
    for backends in tries {
        let instance = instance(*backends, noop.clone());
        let mut adapters = instance.enumerate_adapters(*backends).await;
        // The widest workgroup of our kernels; old GL drivers take none at all.
        adapters.retain(|adapter| adapter.limits().max_compute_invocations_per_workgroup >= 128);
        adapters.sort_by_key(|adapter| rank(&adapter.get_info()));
        if !adapters.is_empty() {
            return adapters;
        }
    }
    Vec::new()
}

/// The machine's adapters, best first: the order that [`AdapterChoice::Index`] counts in.
pub async fn adapters() -> Vec<AdapterSummary> {
    let adapters = list(None).await;
    adapters.iter().enumerate().map(|(i, adapter)| AdapterSummary::of(i, adapter)).collect()
}

/// What went wrong on a device since last asked; wgpu reports it out of band.
#[derive(Debug, Default)]
struct Faults {
    lost: Option<String>,
    out_of_memory: Option<String>,
    other: Option<String>,
}

/// An open device with its queue and what its adapter can do.
#[derive(Debug)]
pub struct Gpu {
    /// The adapter.
    pub adapter: AdapterSummary,
    /// What the caller withheld of it.
    pub withheld: Vec<Feature>,
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    faults: Arc<Mutex<Faults>>,
}

impl Gpu {
    /// Opens a device on the chosen adapter, with all its limits, as if it lacked what is withheld.
    ///
    /// # Errors
    /// [`Error::Adapter`] where there is none, none of that name or number, or it does not open.
    pub async fn open(choice: &AdapterChoice, withheld: &[Feature]) -> Result<Gpu, Error> {
        Gpu::open_limited(choice, withheld, None).await
    }

    /// As [`Gpu::open`], as if shaders saw at most `max_binding_bytes` of a buffer.
    ///
    /// # Errors
    /// As [`Gpu::open`].
    pub async fn open_limited(
        choice: &AdapterChoice,
        withheld: &[Feature],
        max_binding_bytes: Option<u64>,
    ) -> Result<Gpu, Error> {
        let noop = match choice {
            AdapterChoice::Noop(noop) => Some(noop_options(noop)),
            _ => None,
        };
        let adapters = list(noop).await;
        let summaries: Vec<AdapterSummary> =
            adapters.iter().enumerate().map(|(i, a)| AdapterSummary::of(i, a)).collect();
        let index = choose(choice, &summaries)?;
        let mut adapter = summaries[index].clone();
        if let AdapterChoice::Noop(noop) = choice
            && noop.software
        {
            adapter.device_type = "Cpu".into();
        }
        let wanted = [
            (wgpu::Features::SHADER_F16, Feature::ShaderF16),
            (wgpu::Features::SUBGROUP, Feature::Subgroups),
        ];
        let mut features = wgpu::Features::empty();
        for (feature, name) in wanted {
            if adapters[index].features().contains(feature) && !withheld.contains(&name) {
                features |= feature;
            }
        }
        let mut limits = adapters[index].limits();
        if let Some(bytes) = max_binding_bytes {
            limits.max_storage_buffer_binding_size = bytes.min(adapter.max_binding_bytes);
            adapter.max_binding_bytes = limits.max_storage_buffer_binding_size;
        }
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("vectile"),
            required_features: features,
            required_limits: limits,
            ..Default::default()
        };
        let (device, queue) = adapters[index]
            .request_device(&descriptor)
            .await
            .map_err(|e| Error::adapter(&adapter.name, format!("the device does not open: {e}")))?;
        let faults = Arc::new(Mutex::new(Faults::default()));
        watch(&device, &faults);
        Ok(Gpu { adapter, withheld: withheld.to_vec(), device, queue, faults })
    }

    /// True where shaders on this device may use f16.
    pub fn has_shader_f16(&self) -> bool {
        self.device.features().contains(wgpu::Features::SHADER_F16)
    }

    /// True for a dry-run device, which computes nothing.
    pub(crate) fn is_noop(&self) -> bool {
        self.adapter.backend == "Noop"
    }

    /// Which form of each kernel suits this device.
    pub fn plan(&self) -> KernelPlan {
        let smallest = self.adapter.subgroup_sizes.map_or(0, |sizes| sizes.0);
        let subgroups = self.device.features().contains(wgpu::Features::SUBGROUP)
            && smallest.is_power_of_two()
            && smallest >= 4;
        let software = self.adapter.is_software();
        KernelPlan {
            software,
            lanes: if subgroups { Lanes::Subgroup(smallest) } else { Lanes::Alone },
            workgroup_memory: self.adapter.workgroup_memory_bytes.min(16384),
            // Some 50 ms at the slowest rate of the class: 5 GFLOP/s, 400 GFLOP/s.
            max_flops: if software { 2_000_000_000 } else { 20_000_000_000 },
        }
    }

    /// The fault that was reported since last asked, as an error. `what` and `bytes` name what was
    /// being done.
    pub(crate) fn check(&self, what: &str, bytes: u64) -> Result<(), Error> {
        let mut faults = lock(&self.faults);
        if let Some(problem) = faults.lost.clone() {
            return Err(Error::DeviceLost { adapter: self.adapter.name.clone(), problem });
        }
        if faults.out_of_memory.take().is_some() {
            return Err(Error::OutOfMemory {
                adapter: self.adapter.name.clone(),
                what: what.to_owned(),
                bytes,
                advice: "use a smaller model or batch, a 16-bit dtype, or close other programs \
                         that use the GPU"
                    .to_owned(),
            });
        }
        match faults.other.take() {
            Some(problem) => Err(Error::Internal(format!("{what}: {problem}"))),
            None => Ok(()),
        }
    }

    /// Marks the device as lost, as its callback would.
    pub(crate) fn mark_lost(&self, problem: String) {
        lock(&self.faults).lost.get_or_insert(problem);
    }

    /// A buffer, or the error that creating it met.
    pub(crate) fn buffer(
        &self,
        label: &str,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer, Error> {
        let most = self.adapter.max_buffer_bytes.min(i32::MAX as u64);
        if bytes > most {
            return Err(Error::adapter(
                &self.adapter.name,
                format!("{label} needs a buffer of {bytes} bytes and the largest is {most}"),
            ));
        }
        let descriptor = wgpu::BufferDescriptor {
            label: Some(label),
            size: bytes.next_multiple_of(4),
            usage,
            mapped_at_creation: false,
        };
        let buffer = self.device.create_buffer(&descriptor);
        self.check(label, bytes)?;
        Ok(buffer)
    }

    /// Destroys the device, as a driver reset does: for tests of what follows.
    #[doc(hidden)]
    pub fn destroy(&self) {
        self.device.destroy();
        self.mark_lost("destroyed".to_owned());
    }
}

fn lock(faults: &Mutex<Faults>) -> std::sync::MutexGuard<'_, Faults> {
    faults.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn watch(device: &wgpu::Device, faults: &Arc<Mutex<Faults>>) {
    let sink = faults.clone();
    // Without a handler wgpu panics.
    device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
        let mut faults = lock(&sink);
        let slot = match error {
            wgpu::Error::OutOfMemory { .. } => &mut faults.out_of_memory,
            _ => &mut faults.other,
        };
        slot.get_or_insert(error.to_string());
    }));
    let sink = faults.clone();
    device.set_device_lost_callback(move |reason, message| {
        lock(&sink).lost.get_or_insert(format!("{reason:?}: {message}"));
    });
}

fn choose(choice: &AdapterChoice, adapters: &[AdapterSummary]) -> Result<usize, Error> {
    let names = || {
        let names: Vec<String> =
            adapters.iter().map(|a| format!("{}: {} ({})", a.index, a.name, a.backend)).collect();
        names.join(", ")
    };
    if adapters.is_empty() {
        return Err(Error::adapter(
            "none",
            "no GPU adapter was found; install a driver for your GPU, or a software one \
             (Debian: mesa-vulkan-drivers)",
        ));
    }
    match choice {
        AdapterChoice::Best | AdapterChoice::Noop(_) => Ok(0),
        AdapterChoice::Index(index) if *index < adapters.len() => Ok(*index),
        AdapterChoice::Index(index) => {
            Err(Error::adapter(index.to_string(), format!("no such index; there are {}", names())))
        }
        AdapterChoice::Name(name) => {
            let wanted = name.to_lowercase();
            adapters.iter().position(|a| a.name.to_lowercase().contains(&wanted)).ok_or_else(|| {
                Error::adapter(name, format!("no adapter has that name; there are {}", names()))
            })
        }
    }
}

fn noop_options(noop: &NoopAdapter) -> wgpu::NoopBackendOptions {
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
