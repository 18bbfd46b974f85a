//! Compute pipelines of kernels, one for each variant that runs. Each pipeline is made once.

use std::collections::HashMap;
use std::path::Path;

use crate::error::Error;
use crate::gpu::calls::Calls;
use crate::gpu::device::Gpu;
use crate::gpu::graph::{Dispatch, Graph};
use crate::gpu::kernel::{Access, Kernel};
use crate::gpu::pipeline_cache::PipelineFile;
use crate::gpu::shader::ShaderVariant;
#[cfg(not(target_arch = "wasm32"))]
use crate::gpu::shader::resolve_imports;

/// A compute pipeline and the layout of its bind group 0.
pub(super) struct Pipeline {
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

/// The pipelines that were made on a device.
pub(super) struct Pipelines {
    made: Vec<Pipeline>,
    /// The variants of each kernel that were made, with the numbers of their pipelines.
    numbers: HashMap<&'static str, Vec<(ShaderVariant, usize)>>,
    compiler: Compiler,
    file: Option<PipelineFile>,
    /// True if pipelines were made since the cache file was last written.
    unsaved: bool,
}

/// A kernel and its variant, from which a pipeline is made.
#[derive(Debug, Clone)]
pub(crate) struct PipelineKey {
    pub kernel: &'static Kernel,
    pub variant: ShaderVariant,
}

/// Returns the pipelines that graphs need, each once, in the order of their first use.
pub(crate) fn pipelines_of<'a>(graphs: impl Iterator<Item = &'a Graph>) -> Vec<PipelineKey> {
    let mut keys: Vec<PipelineKey> = Vec::new();
    for dispatch in graphs.flat_map(|graph| &graph.dispatches) {
        let same =
            |key: &PipelineKey| key.kernel == dispatch.kernel && key.variant == dispatch.variant;
        if !keys.iter().any(same) {
            keys.push(PipelineKey { kernel: dispatch.kernel, variant: dispatch.variant.clone() });
        }
    }
    keys
}

/// A compiler that makes pipelines on any thread.
#[derive(Clone)]
pub(crate) struct Compiler {
    calls: Calls,
    /// The layout of bind group 1, which holds the report of a batch (its overflow flags and receipt) in every kernel.
    report: wgpu::BindGroupLayout,
    cache: Option<wgpu::PipelineCache>,
    /// An edit that breaks a kernel. Tests use it to check that the broken kernel is detected.
    edit: Option<ShaderEdit>,
}

/// Pipelines that were made before a graph needs them.
pub(crate) struct Ahead(Vec<(PipelineKey, Pipeline)>);

/// A pipeline, or the driver's error about it.
type Made = Result<Pipeline, wgpu::Error>;

/// A kernel's name, and a function that edits the kernel's WGSL before it is compiled. The function gets the WGSL with
/// imports resolved.
pub type ShaderEdit = (&'static str, fn(String) -> String);

fn storage_entry(binding: u32, read_only: bool) -> wgpu::BindGroupLayoutEntry {
    buffer_entry(binding, wgpu::BufferBindingType::Storage { read_only })
}

fn buffer_entry(binding: u32, ty: wgpu::BufferBindingType) -> wgpu::BindGroupLayoutEntry {
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
        count: None,
    }
}

impl Pipelines {
    pub fn new(gpu: &Gpu) -> Result<Self, Error> {
        let report = gpu.calls.layout("report", storage_entry(0, false))?;
        gpu.check("opening the device", 0)?;
        let compiler = Compiler { calls: gpu.calls.clone(), report, cache: None, edit: None };
        Ok(Pipelines {
            made: Vec::new(),
            numbers: HashMap::new(),
            compiler,
            file: None,
            unsaved: false,
        })
    }

    /// Reads pipelines that an earlier run cached in a directory, and caches the pipelines of this run there.
    pub fn cache_in(&mut self, gpu: &Gpu, directory: &Path) {
        self.file = PipelineFile::open(gpu, directory);
        self.compiler.cache = self.file.as_ref().map(|file| file.cache().clone());
    }

    /// Writes the pipelines to the cache file, if any were made since the file was last written.
    pub fn save(&mut self) {
        if let Some(file) = self.file.as_mut().filter(|_| self.unsaved) {
            file.save();
        }
        self.unsaved = false;
    }

    /// Edits the WGSL of a kernel before it is compiled: see [`ShaderEdit`].
    pub fn edit(&mut self, edit: ShaderEdit) {
        self.compiler.edit = Some(edit);
    }

    /// Is true after [`Pipelines::edit`], which makes a kernel's WGSL differ from its source.
    pub fn is_edited(&self) -> bool {
        self.compiler.edit.is_some()
    }

    pub fn len(&self) -> usize {
        self.made.len()
    }

    pub fn report_layout(&self) -> &wgpu::BindGroupLayout {
        &self.compiler.report
    }

    pub fn compiler(&self) -> Compiler {
        self.compiler.clone()
    }

    /// Adds pipelines that were compiled before a graph needs them.
    pub fn adopt(&mut self, Ahead(made): Ahead) {
        self.unsaved |= !made.is_empty();
        for (key, pipeline) in made {
            if self.find(key.kernel, &key.variant).is_none() {
                let variants = self.numbers.entry(key.kernel.name).or_default();
                variants.push((key.variant, self.made.len()));
                self.made.push(pipeline);
            }
        }
    }

    /// Returns the number of a pipeline that was made earlier, for [`Pipelines::at`].
    pub fn number(&self, kernel: &Kernel, variant: &ShaderVariant) -> Result<usize, Error> {
        self.find(kernel, variant).ok_or_else(|| {
            Error::Internal(format!(
                "the pipeline of kernel {} was not created before its use",
                kernel.name
            ))
        })
    }

    /// Returns the pipeline with a number.
    pub fn at(&self, number: usize) -> &Pipeline {
        &self.made[number]
    }

    fn find(&self, kernel: &Kernel, variant: &ShaderVariant) -> Option<usize> {
        let mut variants = self.numbers.get(kernel.name)?.iter();
        variants.find(|(made, _)| made == variant).map(|(_, number)| *number)
    }

    /// Returns the pipelines of a list that do not exist yet.
    pub fn missing(&self, mut keys: Vec<PipelineKey>) -> Vec<PipelineKey> {
        keys.retain(|key| self.find(key.kernel, &key.variant).is_none());
        keys
    }

    /// Makes the pipelines of a graph that do not exist yet.
    pub async fn make_for(&mut self, gpu: &Gpu, graph: &Graph) -> Result<(), Error> {
        let exists = |d: &Dispatch| self.find(d.kernel, &d.variant).is_some();
        if graph.dispatches.iter().all(exists) {
            return Ok(());
        }
        self.make(gpu, pipelines_of(std::iter::once(graph))).await
    }

    /// Makes the pipelines of a list that do not exist yet, on all threads of the machine. In a browser, one thread
    /// makes all of them.
    pub async fn make(&mut self, gpu: &Gpu, keys: Vec<PipelineKey>) -> Result<(), Error> {
        let missing = self.missing(keys);
        let made = self.compiler.all(&missing).await;
        let mut valid = Vec::with_capacity(made.len());
        for (key, made) in missing.into_iter().zip(made) {
            valid.push((key.clone(), made?.map_err(|error| gpu.refusal(key.kernel.name, &error))?));
        }
        // After a fault the pipelines may be invalid, so they are not kept.
        gpu.check("compiling kernels", 0)?;
        self.adopt(Ahead(valid));
        Ok(())
    }
}

impl Compiler {
    /// Makes pipelines on other threads while this thread runs `here`. In a browser, only one thread can use a device,
    /// so this function makes no pipeline there. [`Compiler::ahead`] can make them later.
    pub fn beside<B>(&self, keys: &[PipelineKey], here: impl FnOnce() -> B) -> (Option<Ahead>, B) {
        #[cfg(not(target_arch = "wasm32"))]
        if !keys.is_empty() {
            return crate::threads::beside(|| pollster::block_on(self.ahead(keys)), here);
        }
        _ = keys;
        (None, here())
    }

    /// Makes pipelines, except those that the driver refuses. A refusal is not an error here: a graph that needs the
    /// pipeline tries to make it again and returns the error.
    pub async fn ahead(&self, keys: &[PipelineKey]) -> Ahead {
        let made = keys.iter().cloned().zip(self.all(keys).await);
        Ahead(made.filter_map(|(key, made)| Some((key, made.ok()?.ok()?))).collect())
    }

    /// Makes pipelines on all threads of the machine. Returns each pipeline, or the driver's error about it. In a
    /// browser, this thread requests all of them and then waits for them.
    async fn all(&self, keys: &[PipelineKey]) -> Vec<Result<Made, Error>> {
        #[cfg(not(target_arch = "wasm32"))]
        let made = crate::threads::each(keys, keys.len(), |key| {
            pollster::block_on(self.compile_alone(key))
        });
        #[cfg(target_arch = "wasm32")]
        let made = {
            let requested: Vec<_> = keys.iter().map(|key| self.compile_alone(key)).collect();
            let mut made = Vec::with_capacity(requested.len());
            for one in requested {
                made.push(one.await);
            }
            made
        };
        made
    }

    /// Requests one pipeline, and returns the pipeline or the driver's error about it. Errors about other pipelines
    /// that are made at the same time are not returned.
    fn compile_alone(&self, key: &PipelineKey) -> impl Future<Output = Result<Made, Error>> {
        let PipelineKey { kernel, variant } = key;
        let source = self.source(kernel, variant);
        let requested = source.map(|source| {
            let make = move |device: &wgpu::Device, entry: &str| {
                self.compile(device, kernel, variant, &source, entry)
            };
            self.calls.pipeline(kernel.name, make)
        });
        async {
            let (made, refused) = requested?;
            let refused = refused.await;
            made.map(|made| refused.map_or(Ok(made), Err))
        }
    }

    /// Returns the WGSL of a kernel's variant, with its imports.
    fn source(&self, kernel: &Kernel, variant: &ShaderVariant) -> Result<String, Error> {
        #[cfg(not(target_arch = "wasm32"))]
        let source = resolve_imports(kernel.source, variant);
        #[cfg(target_arch = "wasm32")]
        let source = crate::gpu::shader::resolve_for_browser(kernel.source, variant);
        let source = source.map_err(Error::Internal)?;
        Ok(match self.edit.filter(|(name, _)| *name == kernel.name) {
            Some((_, edit)) => edit(source),
            None => source,
        })
    }

    fn compile(
        &self,
        device: &wgpu::Device,
        kernel: &Kernel,
        variant: &ShaderVariant,
        source: &str,
        entry: &str,
    ) -> Pipeline {
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(kernel.name),
            source: wgpu::ShaderSource::Wgsl(source.into()),
        };
        let mut checks = wgpu::ShaderRuntimeChecks::checked();
        checks.force_loop_bounding = false;
        // SAFETY: every loop of our shaders counts up to a parameter or a constant, so every loop ends. Bounds checks
        // of indices and buffers stay enabled.
        let module = unsafe { device.create_shader_module_trusted(descriptor, checks) };
        let mut entries: Vec<_> = kernel
            .bindings
            .iter()
            .enumerate()
            .map(|(binding, access)| storage_entry(binding as u32, *access == Access::Read))
            .collect();
        entries.push(buffer_entry(entries.len() as u32, wgpu::BufferBindingType::Uniform));
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some(kernel.name),
            entries: &entries,
        });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(kernel.name),
            bind_group_layouts: &[Some(&layout), Some(&self.report)],
            immediate_size: 0,
        });
        let constants: Vec<(&str, f64)> =
            variant.overrides.iter().map(|(name, value)| (*name, f64::from(*value))).collect();
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(kernel.name),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(entry),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &constants,
                zero_initialize_workgroup_memory: false,
            },
            cache: self.cache.as_ref(),
        });
        Pipeline { pipeline, layout }
    }
}
