//! [`ModelBuilder`]: collects the settings for loading a model, and loads it.

use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use async_lock::Mutex;

use crate::dtype::{ActivationsRequest, DtypeOptions, DtypeRequest, HalfFallback};
use crate::embedder::device::DeviceSetup;
use crate::embedder::load::plan::{LoadPlan, Request, VerdictSource};
use crate::embedder::load::read_model::read_model;
use crate::embedder::run::Runner;
use crate::embedder::run::runtime::Runtime;
use crate::embedder::text_model::TextModel;
use crate::error::Error;
use crate::files::ModelFiles;
use crate::gpu::adapter::{AdapterChoice, Feature};
use crate::gpu::executor::{ShaderEdit, StoppingKernel};
use crate::gpu::inject::FaultPlan;
use crate::tokenize::TransformersVersion;
use crate::weights::LoadProgress;

/// Loads an [`Embedder`](crate::Embedder), or another kind of model, with the given settings. Every setting has a
/// default.
#[derive(Debug)]
pub struct ModelBuilder<M> {
    kind: PhantomData<fn() -> M>,
    files: ModelFiles,
    dtype: DtypeOptions,
    adapter: AdapterChoice,
    disabled: Vec<Feature>,
    batch_tokens: Option<usize>,
    cache_dir: Option<PathBuf>,
    threads: Option<usize>,
    max_binding_bytes: Option<u64>,
    gpu_kernels: bool,
    shader_edit: Option<ShaderEdit>,
    fit_tokens: Option<usize>,
    faults: Option<Arc<FaultPlan>>,
    stopping: Option<StoppingKernel>,
    verdict: VerdictSource,
    lora_task: Option<String>,
    transformers_version: Option<TransformersVersion>,
    max_memory: Option<u64>,
    paranoid: Option<NonZeroUsize>,
    on_progress: Option<OnProgress>,
}

/// The caller's function that receives the progress of a load.
#[derive(Clone)]
struct OnProgress(Arc<dyn Fn(LoadProgress) + Send + Sync>);

impl std::fmt::Debug for OnProgress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnProgress")
    }
}

// `Clone` is implemented by hand, because a derived impl would require `M: Clone`.
impl<M> Clone for ModelBuilder<M> {
    fn clone(&self) -> Self {
        ModelBuilder {
            kind: PhantomData,
            files: self.files.clone(),
            dtype: self.dtype,
            adapter: self.adapter.clone(),
            disabled: self.disabled.clone(),
            batch_tokens: self.batch_tokens,
            cache_dir: self.cache_dir.clone(),
            threads: self.threads,
            max_binding_bytes: self.max_binding_bytes,
            gpu_kernels: self.gpu_kernels,
            shader_edit: self.shader_edit,
            fit_tokens: self.fit_tokens,
            faults: self.faults.clone(),
            stopping: self.stopping,
            verdict: self.verdict.clone(),
            lora_task: self.lora_task.clone(),
            transformers_version: self.transformers_version,
            max_memory: self.max_memory,
            paranoid: self.paranoid,
            on_progress: self.on_progress.clone(),
        }
    }
}

impl<M: TextModel> ModelBuilder<M> {
    pub(in crate::embedder) fn new(files: ModelFiles) -> Self {
        ModelBuilder {
            kind: PhantomData,
            files,
            dtype: DtypeOptions::default(),
            adapter: AdapterChoice::Best,
            disabled: Vec::new(),
            batch_tokens: None,
            cache_dir: None,
            threads: None,
            max_binding_bytes: None,
            gpu_kernels: false,
            shader_edit: None,
            fit_tokens: None,
            faults: None,
            stopping: None,
            verdict: VerdictSource::Stored,
            lora_task: None,
            transformers_version: None,
            max_memory: None,
            paranoid: None,
            on_progress: None,
        }
    }

    /// Sets the dtype in which the model runs. The default is `auto`, which means the checkpoint's own dtype.
    pub fn dtype(mut self, dtype: DtypeRequest) -> Self {
        self.dtype.dtype = dtype;
        self
    }

    /// Sets the task whose LoRA is merged into the weights, for models that have several LoRAs. An example is
    /// `retrieval.query` of jina-embeddings-v3. Without a task, no LoRA is merged.
    ///
    /// Unlike the argument `task` of `encode`, this setting applies to all texts, and it selects no prompt. To use the
    /// prompt with the name of the task, set `prompt_name` in [`EmbedOptions`](crate::EmbedOptions). The merged weights
    /// are rounded to the storage type of the weights. Without a LoRA, a bf16 checkpoint that is stored as bf16 needs
    /// no rounding; with a LoRA, it is rounded.
    ///
    /// ```no_run
    /// use vectile::{EmbedOptions, Embedder, ModelFiles, block_on};
    ///
    /// let files = ModelFiles::from_directory("models/jina-embeddings-v3")?;
    /// let embedder = block_on(Embedder::builder(files).lora_task("retrieval.query").build())?;
    /// let prompt = EmbedOptions { prompt_name: Some("retrieval.query".into()), ..EmbedOptions::default() };
    /// let vectors = block_on(embedder.embed_with(&["What is WGSL?"], &prompt))?;
    /// # Ok::<(), vectile::Error>(())
    /// ```
    ///
    /// Loading fails if the model has no LoRA for the task.
    pub fn lora_task(mut self, task: impl Into<String>) -> Self {
        self.lora_task = Some(task.into());
        self
    }

    /// Sets the version of the transformers library whose tokenization rules apply.
    ///
    /// The default is the version with which the model was published, as stated in `config.json` or
    /// `config_sentence_transformers.json`. If versions 4 and 5 give different tokens for the model, the model's notes
    /// report this difference. For example, version 4 appends an end token for `add_eos_token`, and version 5 does not.
    ///
    /// ```no_run
    /// use vectile::{Embedder, ModelFiles, TransformersVersion, block_on};
    ///
    /// let files = ModelFiles::from_directory("models/e5-mistral-7b-instruct")?;
    /// let builder = Embedder::builder(files).transformers_version(TransformersVersion::V4);
    /// let embedder = block_on(builder.build())?;
    /// # Ok::<(), vectile::Error>(())
    /// ```
    pub fn transformers_version(mut self, version: TransformersVersion) -> Self {
        self.transformers_version = Some(version);
        self
    }

    /// Sets the storage type that replaces f16 on an adapter without `SHADER_F16`: f32 or packed f16. With
    /// [`HalfFallback::Error`], loading fails instead.
    pub fn half_fallback(mut self, fallback: HalfFallback) -> Self {
        self.dtype.half_fallback = fallback;
        self
    }

    /// Sets the storage type of activations. By default, the dtype policy chooses it.
    pub fn activations(mut self, activations: ActivationsRequest) -> Self {
        self.dtype.activations = Some(activations);
        self
    }

    /// Sets the adapter. The default is the best adapter of the machine. If that adapter computes wrong results, the
    /// next best adapter is used.
    pub fn adapter(mut self, adapter: AdapterChoice) -> Self {
        self.adapter = adapter;
        self
    }

    /// Sets the adapter unless the caller has set one. Tests use this to run on a certain kind of adapter.
    #[doc(hidden)]
    pub fn or_adapter(mut self, adapter: AdapterChoice) -> Self {
        if self.adapter == AdapterChoice::Best {
            self.adapter = adapter;
        }
        self
    }

    /// Sets the number of threads on the CPU. The default is one thread for each physical core. The number does not
    /// affect vectors, and adapters other than the CPU ignore it.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Disables these features: the model runs as if the adapter did not have them.
    pub fn disable(mut self, features: Vec<Feature>) -> Self {
        self.disabled = features;
        self
    }

    /// Sets the token budget of a batch. A text with more tokens makes a batch by itself. A larger budget uses the GPU
    /// better and needs more memory. Vectors do not depend on the budget.
    pub fn batch_tokens(mut self, tokens: usize) -> Self {
        self.batch_tokens = Some(tokens);
        self
    }

    /// Sets the maximum bytes of memory that the model may use, on the device and on the host together. The limit
    /// covers the weights, the buffers of a batch, and temporary memory while loading. A model that needs more memory
    /// is refused before its weights are loaded. The [`Error::TooLarge`] states the bytes needed and the limit. The
    /// program and the GPU driver use some memory in addition.
    ///
    /// The token budget of batches is reduced to fit the limit, unless [`batch_tokens`](Self::batch_tokens) sets it. A
    /// single text whose batch would exceed the limit fails with [`Error::OutOfMemory`]. Without this setting, the
    /// limit on a software adapter is the host's free memory. On a GPU, allocations then fail only when the driver
    /// refuses them, because no API reports a GPU's free memory.
    ///
    /// ```no_run
    /// use vectile::{Embedder, ModelFiles, block_on};
    ///
    /// let files = ModelFiles::from_directory("models/e5-mistral-7b-instruct")?;
    /// let embedder = block_on(Embedder::builder(files).max_memory(15 << 30).build())?;
    /// println!("{}", embedder.memory());
    /// # Ok::<(), vectile::Error>(())
    /// ```
    pub fn max_memory(mut self, bytes: u64) -> Self {
        self.max_memory = Some(bytes);
        self
    }

    /// Computes a sample of rows a second time, and compares both results. At least one row in `every` of each batch is
    /// computed again. A row that differs is an [`Error::WrongRow`], and no row of its batch is returned.
    ///
    /// The adapter computes these rows again in another place of a batch, and they must be bit-identical. If the model
    /// runs on a GPU or a software driver, and Vectile has the feature `cpu`, the CPU computes the rows too. They must
    /// agree within the tolerance of `vectile verify`. The CPU then holds a second copy of the model. With `every` = 1,
    /// all rows are computed again. [`TextModel::rechecked`] returns the counts.
    pub fn paranoid(mut self, every: NonZeroUsize) -> Self {
        self.paranoid = Some(every);
        self
    }

    /// Sets a function that is called after each loaded piece of the weights, on the loading thread.
    ///
    /// ```no_run
    /// use vectile::{Embedder, ModelFiles, block_on};
    ///
    /// let files = ModelFiles::from_directory("models/e5-mistral-7b-instruct")?;
    /// let builder = Embedder::builder(files)
    ///     .on_progress(|load| eprintln!("{} of {} bytes", load.done, load.total));
    /// let embedder = block_on(builder.build())?;
    /// # Ok::<(), vectile::Error>(())
    /// ```
    pub fn on_progress(mut self, progress: impl Fn(LoadProgress) + Send + Sync + 'static) -> Self {
        self.on_progress = Some(OnProgress(Arc::new(progress)));
        self
    }

    /// Sets the cache directory. Vectile stores results of the adapter's self-tests, results of `vectile verify` on
    /// models, and measurements of `vectile tune` in this directory. It also stores compiled pipelines there if the
    /// driver returns their binary data (Vulkan). Without a cache directory, the self-test of f16 runs at every load
    /// that would use f16 in shaders. On a GPU this test takes some milliseconds.
    pub fn cache_dir(mut self, directory: PathBuf) -> Self {
        self.cache_dir = Some(directory);
        self
    }

    /// Lowers the maximum bytes of a binding, so that even a small table exceeds it in tests.
    #[doc(hidden)]
    pub fn max_binding_bytes(mut self, bytes: u64) -> Self {
        self.max_binding_bytes = Some(bytes);
        self
    }

    /// Makes a software adapter run the kernels for GPUs, so that tests can run these kernels without a GPU.
    #[doc(hidden)]
    pub fn gpu_kernels(mut self) -> Self {
        self.gpu_kernels = true;
        self
    }

    /// Edits the WGSL source of a kernel so that it computes wrong results. Tests check that Vectile detects the fault.
    #[doc(hidden)]
    pub fn edit_shader(mut self, edit: ShaderEdit) -> Self {
        self.shader_edit = Some(edit);
        self
    }

    /// Makes a kernel stop computing after some batches, as a broken driver may do. Tests check that Vectile detects
    /// the fault.
    #[doc(hidden)]
    pub fn stop_kernel(mut self, stopping: StoppingKernel) -> Self {
        self.stopping = Some(stopping);
        self
    }

    /// Makes a batch of more than `tokens` tokens run out of memory. Tests check that Vectile then uses smaller
    /// batches.
    #[doc(hidden)]
    pub fn fit_tokens(mut self, tokens: usize) -> Self {
        self.fit_tokens = Some(tokens);
        self
    }

    /// Makes calls to the device fail as a plan says. Tests check that Vectile recovers from each failure.
    #[doc(hidden)]
    pub fn inject(mut self, faults: Arc<FaultPlan>) -> Self {
        self.faults = Some(faults);
        self
    }

    /// Checks the model's files, opens the device and loads the weights.
    ///
    /// # Errors
    /// Returns an error that names the file, field, tensor, option or adapter at fault; see [`Error`]. A faulty value
    /// is never replaced by a guess or ignored.
    pub async fn build(self) -> Result<M, Error> {
        let plan = self.plan().await?;
        self.load(plan)
    }

    /// Makes all decisions about the load without loading weights.
    ///
    /// # Errors
    /// Returns the errors of [`ModelBuilder::build`].
    pub(crate) async fn plan(&self) -> Result<LoadPlan, Error> {
        if self.threads == Some(0) {
            return Err(Error::option("threads", "is 0; expected at least 1"));
        }
        if self.batch_tokens == Some(0) {
            return Err(Error::option("batch_tokens", "is 0; expected at least 1"));
        }
        let model = read_model(
            self.files.clone(),
            M::KIND,
            self.lora_task.as_deref(),
            self.transformers_version,
        )?;
        let request = Request {
            dtype: self.dtype,
            batch_tokens: self.batch_tokens,
            max_memory: self.max_memory,
            cache: self.cache_dir.as_deref(),
            verdict: &self.verdict,
            lora: self.lora_task.is_some(),
            paranoid: self.paranoid,
        };
        LoadPlan::new(model, self.device_setup(), request).await
    }

    /// Loads the weights according to `plan`.
    ///
    /// # Errors
    /// Returns the errors of [`ModelBuilder::build`].
    pub(crate) fn load(self, plan: LoadPlan) -> Result<M, Error> {
        let LoadPlan { model, setup, executor, mut precision, adapter, memory, pipelines, recheck } =
            plan;
        tracing::info!(model = model.files.label(), %memory, "loading");
        let losses = setup.losses.clone();
        let progress =
            self.on_progress.as_ref().map(|OnProgress(progress)| &**progress as &dyn Fn(_));
        let mut runtime = Runtime::load(
            &model,
            &precision,
            setup,
            executor,
            memory.weights + memory.host_tables,
            &pipelines,
            progress,
        )
        .map_err(|error| memory.explain(error))?;
        if let Some(stopping) = self.stopping {
            runtime.executor.stop_kernel(stopping);
        }
        precision.weight_bytes = runtime.weight_bytes;
        let kernels = runtime.kernel_choice(&precision);
        tracing::info!(%adapter, %precision, %kernels, model = model.files.label(), "loaded");
        let recheck = recheck.map(|recheck| recheck.load(&model)).transpose()?;
        M::from_runner(Runner {
            model,
            precision,
            adapter,
            batch_tokens: memory.batch_tokens,
            memory,
            runtime: Mutex::new(runtime),
            losses,
            recheck,
        })
    }
}

impl<M> ModelBuilder<M> {
    pub(in crate::embedder) fn device_setup(&self) -> DeviceSetup {
        DeviceSetup {
            disabled: self.disabled.clone(),
            threads: self.threads,
            max_binding_bytes: self.max_binding_bytes,
            max_memory: self.max_memory,
            gpu_kernels: self.gpu_kernels,
            cache_dir: self.cache_dir.clone(),
            shader_edit: self.shader_edit,
            fit_tokens: self.fit_tokens,
            faults: self.faults.clone(),
            ..DeviceSetup::new(self.adapter.clone())
        }
    }
}

#[cfg(feature = "lab")]
mod lab {
    //! The settings that the module `lab` reads and replaces.

    use std::path::Path;

    use super::{ModelBuilder, VerdictSource};
    use crate::dtype::{DtypeOptions, F16Verdict};
    use crate::error::Error;
    use crate::executor::Executor;
    use crate::gpu::adapter::AdapterSummary;

    impl<M> ModelBuilder<M> {
        pub(crate) fn cache(&self) -> Option<&Path> {
            self.cache_dir.as_deref()
        }

        /// Opens the device with the settings of this builder, as loading does.
        pub(crate) async fn executor(&self) -> Result<Executor, Error> {
            self.device_setup().open().await
        }

        /// If the adapter is chosen automatically, fixes the choice to `adapter`, on which a model was loaded before.
        /// Otherwise a later load could choose another adapter, but a report must cover one adapter only.
        pub(crate) fn stay_on(mut self, adapter: &AdapterSummary) -> Self {
            self.adapter = self.adapter.fixed(adapter);
            self
        }

        pub(crate) fn dtype_options(&self) -> DtypeOptions {
            self.dtype
        }

        pub(crate) fn with_dtype_options(mut self, options: DtypeOptions) -> Self {
            self.dtype = options;
            self
        }

        /// Makes the load use `verdict` on whether f16 is safe for the model, instead of the stored verdict. With
        /// `None`, the load uses no verdict.
        pub(crate) fn measured(mut self, verdict: Option<F16Verdict>) -> Self {
            self.verdict = VerdictSource::Given(verdict);
            self
        }
    }
}
