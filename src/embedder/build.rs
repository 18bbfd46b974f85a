//! From files and options to an [`Embedder`]: the host's checks first, then the device.

use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::Arc;

use async_lock::Mutex;

use crate::config::ModelKind;
#[cfg(feature = "lab")]
use crate::dtype::F16Verdict;
use crate::dtype::{
    ActivationsRequest, DtypeOptions, DtypeRequest, HalfFallback, ShaderF16, needs_f16, resolve,
};
use crate::embedder::Embedder;
use crate::embedder::estimate::{self, Fitted};
use crate::embedder::kept;
use crate::embedder::opening::Opening;
use crate::embedder::ready::{Ready, batch_tokens, read_model};
use crate::embedder::run::Runtime;
use crate::error::Error;
use crate::files::ModelFiles;
use crate::gpu::adapter::{AdapterChoice, Feature};
use crate::gpu::executor::ShaderEdit;
use crate::selftest;
use crate::weights::LoadProgress;

/// How an [`Embedder`] or another runtime of a model is made. Every setting has a default that suits
/// most machines.
#[derive(Debug)]
pub struct ModelBuilder<M> {
    makes: PhantomData<fn() -> M>,
    files: ModelFiles,
    dtype: DtypeOptions,
    adapter: AdapterChoice,
    disabled: Vec<Feature>,
    batch_tokens: Option<usize>,
    cache_dir: Option<PathBuf>,
    max_binding_bytes: Option<u64>,
    gpu_kernels: bool,
    shader_edit: Option<ShaderEdit>,
    fit_tokens: Option<usize>,
    measured: Measured,
    lora_task: Option<String>,
    max_memory: Option<u64>,
    on_progress: Option<OnProgress>,
}

/// What is told how far a load has come.
#[derive(Clone)]
struct OnProgress(Arc<dyn Fn(LoadProgress) + Send + Sync>);

impl std::fmt::Debug for OnProgress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnProgress")
    }
}

// Derived, it would ask for a model that can be cloned.
impl<M> Clone for ModelBuilder<M> {
    fn clone(&self) -> Self {
        ModelBuilder {
            makes: PhantomData,
            files: self.files.clone(),
            dtype: self.dtype,
            adapter: self.adapter.clone(),
            disabled: self.disabled.clone(),
            batch_tokens: self.batch_tokens,
            cache_dir: self.cache_dir.clone(),
            max_binding_bytes: self.max_binding_bytes,
            gpu_kernels: self.gpu_kernels,
            shader_edit: self.shader_edit,
            fit_tokens: self.fit_tokens,
            measured: self.measured.clone(),
            lora_task: self.lora_task.clone(),
            max_memory: self.max_memory,
            on_progress: self.on_progress.clone(),
        }
    }
}

/// Makes an [`Embedder`].
pub type EmbedderBuilder = ModelBuilder<Embedder>;

/// What a [`ModelBuilder`] makes.
pub trait Built: Sized {
    /// The kind of model that its files must hold.
    #[doc(hidden)]
    const KIND: ModelKind;

    /// From what runs it.
    #[doc(hidden)]
    fn built(embedder: Embedder) -> Result<Self, Error>;
}

impl Built for Embedder {
    const KIND: ModelKind = ModelKind::Dense;

    fn built(embedder: Embedder) -> Result<Self, Error> {
        Ok(embedder)
    }
}

/// Where what was measured of the model's range comes from.
#[derive(Debug, Clone, Default)]
enum Measured {
    /// From what `vectile verify` kept.
    #[default]
    Kept,
    /// From the caller.
    #[cfg(feature = "lab")]
    Given(Option<F16Verdict>),
}

impl Embedder {
    /// Starts making an embedder of a model.
    ///
    /// ```no_run
    /// use vectile::{Embedder, ModelFiles, block_on};
    ///
    /// let files = ModelFiles::from_directory("models/all-MiniLM-L6-v2")?;
    /// let embedder = block_on(Embedder::builder(files).dtype("float16".parse()?).build())?;
    /// println!("{}", embedder.precision());
    /// # Ok::<(), vectile::Error>(())
    /// ```
    pub fn builder(files: ModelFiles) -> EmbedderBuilder {
        ModelBuilder::new(files)
    }
}

impl<M: Built> ModelBuilder<M> {
    pub(super) fn new(files: ModelFiles) -> Self {
        ModelBuilder {
            makes: PhantomData,
            files,
            dtype: DtypeOptions::default(),
            adapter: AdapterChoice::Best,
            disabled: Vec::new(),
            batch_tokens: None,
            cache_dir: None,
            max_binding_bytes: None,
            gpu_kernels: false,
            shader_edit: None,
            fit_tokens: None,
            measured: Measured::Kept,
            lora_task: None,
            max_memory: None,
            on_progress: None,
        }
    }

    /// The dtype of the model: `auto` takes the checkpoint's own.
    pub fn dtype(mut self, dtype: DtypeRequest) -> Self {
        self.dtype.dtype = dtype;
        self
    }

    /// The task whose adapter is added to the weights: `retrieval.query` and others of
    /// jina-embeddings-v3. Without one none is added.
    ///
    /// Unlike the `task` of `encode` this is for all texts of the embedder, and it brings no prompt: the
    /// model's prompt of the same name is asked for by [`EmbedOptions`](crate::EmbedOptions).
    /// The sums are rounded to the weight storage, so bf16 weights of a bf16 checkpoint are not exact
    /// then.
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
    /// Loading fails where the model has no such task.
    pub fn lora_task(mut self, task: impl Into<String>) -> Self {
        self.lora_task = Some(task.into());
        self
    }

    /// What becomes of f16 on an adapter without `SHADER_F16`.
    pub fn half_fallback(mut self, fallback: HalfFallback) -> Self {
        self.dtype.half_fallback = fallback;
        self
    }

    /// How activations are stored, instead of what the policy says.
    pub fn activations(mut self, activations: ActivationsRequest) -> Self {
        self.dtype.activations = Some(activations);
        self
    }

    /// Which adapter to use, instead of the best.
    pub fn adapter(mut self, adapter: AdapterChoice) -> Self {
        self.adapter = adapter;
        self
    }

    /// Runs as if the adapter lacked these features.
    pub fn disable(mut self, features: Vec<Feature>) -> Self {
        self.disabled = features;
        self
    }

    /// Tokens of a batch, at most; a longer text goes alone. More tokens use the GPU better and take
    /// more memory; vectors do not depend on it.
    pub fn batch_tokens(mut self, tokens: usize) -> Self {
        self.batch_tokens = Some(tokens);
        self
    }

    /// Bytes of memory that the model may take, at most: weights, buffers of a batch and what loading them
    /// takes, on the device and on the host together. A model that needs more is
    /// refused before anything of it is loaded ([`Error::TooLarge`] has both numbers); the program itself and
    /// its driver take some more beside it.
    ///
    /// Batches get as few tokens as that takes, unless [`batch_tokens`](Self::batch_tokens) says how many. A
    /// text so long that its batch alone would take more is refused with [`Error::OutOfMemory`]. Without this,
    /// a software adapter is held to what the host has free, and a GPU, whose free memory no API tells, to what
    /// its driver gives.
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

    /// Calls `progress` after each piece of weights that is loaded, from the thread that loads.
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

    /// A directory where findings are kept: verdicts of the adapter's self-tests, what `vectile verify`
    /// measured of models, what `vectile tune` found on adapters, and compiled pipelines, where the driver hands
    /// them out (Vulkan). Without it the self-test runs at every load that wants f16
    /// on an adapter that has it, which takes some milliseconds on a GPU.
    pub fn cache_dir(mut self, directory: PathBuf) -> Self {
        self.cache_dir = Some(directory);
        self
    }

    /// Runs as if shaders saw at most so many bytes of a buffer: for tests of large tables.
    #[doc(hidden)]
    pub fn max_binding_bytes(mut self, bytes: u64) -> Self {
        self.max_binding_bytes = Some(bytes);
        self
    }

    /// Runs the kernels for GPUs on a software adapter too: for tests.
    #[doc(hidden)]
    pub fn gpu_kernels(mut self) -> Self {
        self.gpu_kernels = true;
        self
    }

    /// Makes a kernel wrong: for tests of what then notices.
    #[doc(hidden)]
    pub fn edit_shader(mut self, edit: ShaderEdit) -> Self {
        self.shader_edit = Some(edit);
        self
    }

    /// Acts as if memory ran out in batches of more tokens: for tests.
    #[doc(hidden)]
    pub fn fit_tokens(mut self, tokens: usize) -> Self {
        self.fit_tokens = Some(tokens);
        self
    }

    /// Checks the model's files, opens the device and loads the weights.
    ///
    /// # Errors
    /// Any that names a file, field, tensor, option or adapter: nothing is guessed or left out. See
    /// [`Error`].
    pub async fn build(self) -> Result<M, Error> {
        let ready = self.ready().await?;
        self.load(ready)
    }

    /// Loads what [`ready`](Self::ready) gave.
    ///
    /// # Errors
    /// As [`ModelBuilder::build`].
    pub(crate) fn load(self, ready: Ready) -> Result<M, Error> {
        let Ready { model, opening, executor, mut precision, adapter, memory, pipelines } = ready;
        tracing::info!(model = model.files.label(), %memory, "loading");
        let losses = opening.losses.clone();
        let progress =
            self.on_progress.as_ref().map(|OnProgress(progress)| &**progress as &dyn Fn(_));
        let runtime = Runtime::load(
            &model,
            &precision,
            opening,
            executor,
            memory.weights + memory.host_tables,
            &pipelines,
            progress,
        )
        .map_err(|error| memory.explain(error))?;
        precision.weight_bytes = runtime.weight_bytes;
        let kernels = runtime.kernels(&precision);
        tracing::info!(%adapter, %precision, %kernels, model = model.files.label(), "loaded");
        let runtime = Mutex::new(runtime);
        let batch_tokens = memory.batch_tokens;
        M::built(Embedder { model, precision, adapter, batch_tokens, memory, runtime, losses })
    }

    /// All that comes before weights are loaded.
    ///
    /// # Errors
    /// As [`ModelBuilder::build`].
    pub(crate) async fn ready(&self) -> Result<Ready, Error> {
        if self.batch_tokens == Some(0) {
            return Err(Error::option("batch_tokens", "is 0; at least 1 is expected"));
        }
        let model = read_model(self.files.clone(), M::KIND, self.lora_task.as_deref())?;
        let facts = model.transformer.facts();
        let mut opening = self.opening();
        let mut executor = opening.open().await?;
        let gpu = &executor.gpu;
        if gpu.adapter.is_software() {
            tracing::info!(adapter = %gpu.adapter, "a software adapter computes on the CPU");
        }
        let cache = self.cache_dir.as_deref();
        let checkpoint = model.checkpoint();
        let (shader_f16, measured) = if needs_f16(self.dtype, &checkpoint) {
            let measured = match &self.measured {
                // What was measured had no adapter of a task added to the weights.
                Measured::Kept if self.lora_task.is_some() => None,
                Measured::Kept => kept::read(&model, cache)?,
                #[cfg(feature = "lab")]
                Measured::Given(measured) => measured.clone(),
            };
            // What the model would run if the device's f16 is right.
            let (passed, f16) = (ShaderF16::Passed, facts.f16);
            let half = resolve(self.dtype, checkpoint.clone(), passed, f16, measured.as_ref())?;
            let gpu = &executor.gpu;
            let runs = estimate::kernels(&model, &half, &opening.plan(gpu), &gpu.adapter)?;
            (selftest::shader_f16(&mut executor, Some(&runs), cache).await?, measured)
        } else {
            // Nothing asks.
            (ShaderF16::Absent, None)
        };
        let precision = resolve(self.dtype, checkpoint, shader_f16, facts.f16, measured.as_ref())?;
        opening.test_variants(&mut executor, &precision, cache).await?;
        let adapter = executor.gpu.adapter.clone();
        let plan = opening.plan(&executor.gpu);
        let tokens = batch_tokens(self.batch_tokens, &adapter, model.widest());
        let tokens = (tokens, self.batch_tokens.is_some());
        let Fitted { memory, pipelines } =
            estimate::fit(&model, &precision, &plan, &adapter, self.max_memory, tokens)?;
        Ok(Ready { model, opening, executor, precision, adapter, memory, pipelines })
    }
}

impl<M> ModelBuilder<M> {
    fn opening(&self) -> Opening {
        Opening {
            disabled: self.disabled.clone(),
            max_binding_bytes: self.max_binding_bytes,
            max_memory: self.max_memory,
            gpu_kernels: self.gpu_kernels,
            cache_dir: self.cache_dir.clone(),
            shader_edit: self.shader_edit,
            fit_tokens: self.fit_tokens,
            ..Opening::new(self.adapter.clone())
        }
    }
}

#[cfg(feature = "lab")]
impl<M> ModelBuilder<M> {
    pub(crate) fn cache(&self) -> Option<&std::path::Path> {
        self.cache_dir.as_deref()
    }
}

/// What `vectile verify` needs of a builder.
#[cfg(feature = "lab")]
impl EmbedderBuilder {
    /// The device as the embedder will open it.
    pub(crate) async fn executor(&self) -> Result<crate::gpu::executor::Executor, Error> {
        self.opening().open().await
    }

    pub(crate) fn dtype_options(&self) -> DtypeOptions {
        self.dtype
    }

    pub(crate) fn with_dtype_options(mut self, options: DtypeOptions) -> Self {
        self.dtype = options;
        self
    }

    /// Takes what was measured of the model from the caller, and not from what was kept.
    pub(crate) fn measured(mut self, verdict: Option<F16Verdict>) -> Self {
        self.measured = Measured::Given(verdict);
        self
    }
}
