//! Kernels in their variants → compute pipelines, each made once.

use std::collections::HashMap;
use std::path::Path;

use crate::error::Error;
use crate::gpu::device::Gpu;
use crate::gpu::graph::Graph;
use crate::gpu::kernel::{Access, Kernel};
use crate::gpu::pipeline_cache::Kept;
use crate::gpu::shader::{Variant, resolve_imports};

/// A pipeline and the layout of its group 0.
pub(super) struct Pipeline {
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

/// The pipelines made so far on a device.
pub(super) struct Pipelines {
    made: HashMap<(&'static str, Variant), Pipeline>,
    compiler: Compiler,
    kept: Option<Kept>,
    /// Some were made since those kept were written.
    unsaved: bool,
}

/// A kernel in a variant.
pub(crate) type Wanted = (&'static Kernel, Variant);

/// The kernels of graphs in their variants, each once, in the order of the first.
pub(crate) fn wanted<'a>(graphs: impl Iterator<Item = &'a Graph>) -> Vec<Wanted> {
    let mut wanted: Vec<Wanted> = Vec::new();
    for dispatch in graphs.flat_map(|graph| &graph.dispatches) {
        let known =
            |(kernel, variant): &Wanted| *kernel == dispatch.kernel && *variant == dispatch.variant;
        if !wanted.iter().any(known) {
            wanted.push((dispatch.kernel, dispatch.variant.clone()));
        }
    }
    wanted
}

/// What makes pipelines, on any thread.
#[derive(Clone)]
pub(crate) struct Compiler {
    device: wgpu::Device,
    /// Group 1 of the kernels that store activations: the marks of tokens out of range.
    marks: wgpu::BindGroupLayout,
    cache: Option<wgpu::PipelineCache>,
    /// A kernel to be made wrong, for tests of what then notices.
    edit: Option<ShaderEdit>,
}

/// Pipelines that were made before they were needed.
pub(crate) struct Ahead(Vec<(Wanted, Pipeline)>);

/// A kernel's name and what becomes of its WGSL, imports resolved, before it is compiled.
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
    pub fn new(gpu: &Gpu) -> Self {
        let device = gpu.device.clone();
        let marks = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some("range marks"),
            entries: &[storage_entry(0, false)],
        });
        let compiler = Compiler { device, marks, cache: None, edit: None };
        Pipelines { made: HashMap::new(), compiler, kept: None, unsaved: false }
    }

    /// Takes pipelines that an earlier run kept in a directory, and keeps those of this one there.
    pub fn keep_in(&mut self, gpu: &Gpu, directory: &Path) {
        self.kept = Kept::open(gpu, directory);
        self.compiler.cache = self.kept.as_ref().map(|kept| kept.cache().clone());
    }

    /// Writes those that are to be kept, where any were made since.
    pub fn save(&mut self) {
        if let Some(kept) = self.kept.as_mut().filter(|_| self.unsaved) {
            kept.save();
        }
        self.unsaved = false;
    }

    /// See [`ShaderEdit`].
    pub fn edit(&mut self, edit: ShaderEdit) {
        self.compiler.edit = Some(edit);
    }

    pub fn len(&self) -> usize {
        self.made.len()
    }

    pub fn marks_layout(&self) -> &wgpu::BindGroupLayout {
        &self.compiler.marks
    }

    pub fn compiler(&self) -> Compiler {
        self.compiler.clone()
    }

    /// Takes pipelines that were made ahead.
    pub fn adopt(&mut self, Ahead(made): Ahead) {
        self.unsaved |= !made.is_empty();
        for ((kernel, variant), pipeline) in made {
            self.made.entry((kernel.name, variant)).or_insert(pipeline);
        }
    }

    /// A pipeline that was made.
    pub fn get(&self, kernel: &Kernel, variant: &Variant) -> Result<&Pipeline, Error> {
        self.made
            .get(&(kernel.name, variant.clone()))
            .ok_or_else(|| Error::Internal(format!("kernel {} was not made", kernel.name)))
    }

    /// Of some pipelines those that are not there yet.
    pub fn missing(&self, mut wanted: Vec<Wanted>) -> Vec<Wanted> {
        wanted.retain(|(kernel, variant)| !self.made.contains_key(&(kernel.name, variant.clone())));
        wanted
    }

    /// Makes the pipelines of a graph, those that are not there yet, on the threads the machine has.
    pub fn make(&mut self, gpu: &Gpu, graph: &Graph) -> Result<(), Error> {
        let missing = self.missing(wanted(std::iter::once(graph)));
        // In a browser a device belongs to one thread.
        #[cfg(target_arch = "wasm32")]
        let made: Vec<Result<Pipeline, Error>> = missing
            .iter()
            .map(|(kernel, variant)| {
                let made = self.compiler.compile(kernel, variant)?;
                gpu.check(&format!("making kernel {}", kernel.name), 0)?;
                Ok(made)
            })
            .collect();
        #[cfg(not(target_arch = "wasm32"))]
        let made = crate::threads::each(&missing, missing.len(), |wanted @ (kernel, _)| {
            let refused = |error| gpu.refusal(&format!("making kernel {}", kernel.name), &error);
            self.compiler.compile_alone(wanted)?.map_err(refused)
        });
        for ((kernel, variant), made) in missing.into_iter().zip(made) {
            self.made.insert((kernel.name, variant), made?);
            self.unsaved = true;
        }
        gpu.check("making kernels", 0)
    }
}

impl Compiler {
    /// Makes pipelines on other threads while `here` works on this one. In a browser a device belongs to one
    /// thread, and none is made.
    pub fn beside<B>(&self, wanted: &[Wanted], here: impl FnOnce() -> B) -> (Option<Ahead>, B) {
        #[cfg(not(target_arch = "wasm32"))]
        if !wanted.is_empty() {
            return crate::threads::beside(|| self.ahead(wanted), here);
        }
        _ = wanted;
        (None, here())
    }

    /// What the driver refuses is left out and nobody hears of it: whoever needs that pipeline makes it
    /// again, and is told then.
    #[cfg(not(target_arch = "wasm32"))]
    fn ahead(&self, wanted: &[Wanted]) -> Ahead {
        let compile = |wanted: &Wanted| self.compile_alone(wanted).ok()?.ok();
        let made = crate::threads::each(wanted, wanted.len(), compile);
        let made = wanted.iter().cloned().zip(made);
        Ahead(made.filter_map(|(wanted, made)| Some((wanted, made?))).collect())
    }

    /// What the driver refuses is heard here and nowhere else: threads that compile at the same time do not take the
    /// errors of each other for theirs.
    #[cfg(not(target_arch = "wasm32"))]
    fn compile_alone(
        &self,
        (kernel, variant): &Wanted,
    ) -> Result<Result<Pipeline, wgpu::Error>, Error> {
        use wgpu::ErrorFilter::{Internal, OutOfMemory, Validation};
        // Scopes are the thread's own.
        let scopes = [OutOfMemory, Internal, Validation].map(|f| self.device.push_error_scope(f));
        let made = self.compile(kernel, variant);
        let errors = scopes.into_iter().rev().map(|scope| pollster::block_on(scope.pop()));
        let refused = errors.fold(None, |first, error| first.or(error));
        made.map(|made| refused.map_or(Ok(made), Err))
    }

    fn compile(&self, kernel: &Kernel, variant: &Variant) -> Result<Pipeline, Error> {
        let mut source = resolve_imports(kernel.source, variant).map_err(Error::Internal)?;
        if let Some((_, edit)) = self.edit.filter(|(name, _)| *name == kernel.name) {
            source = edit(source);
        }
        let device = &self.device;
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(kernel.name),
            source: wgpu::ShaderSource::Wgsl(source.into()),
        };
        let mut checks = wgpu::ShaderRuntimeChecks::checked();
        checks.force_loop_bounding = false;
        // SAFETY: every loop of our shaders is bounded by a parameter or a constant and counts up;
        // index and buffer checks stay on.
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
        let mut layouts = vec![Some(&layout)];
        if kernel.stores_activations {
            layouts.push(Some(&self.marks));
        }
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(kernel.name),
            bind_group_layouts: &layouts,
            immediate_size: 0,
        });
        let constants: Vec<(&str, f64)> =
            variant.overrides.iter().map(|(name, value)| (*name, f64::from(*value))).collect();
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(kernel.name),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(kernel.name),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &constants,
                zero_initialize_workgroup_memory: false,
            },
            cache: self.cache.as_ref(),
        });
        Ok(Pipeline { pipeline, layout })
    }
}
