//! How a device is opened, and which kernels it takes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::dtype::{Precision, Storage};
use crate::error::Error;
use crate::gpu::adapter::{AdapterChoice, Feature};
use crate::gpu::device::Gpu;
use crate::gpu::executor::{Executor, ShaderEdit};
use crate::kernels::KernelPlan;
use crate::kernels::matmul::{Tuned, tuned};
use crate::selftest::{
    cooperative_fault, matrix_tiles_are_bit_identical, variants_are_bit_identical,
};

/// How to open the device, the first time and after a loss.
#[derive(Debug, Clone)]
pub(crate) struct Opening {
    pub adapter: AdapterChoice,
    pub disabled: Vec<Feature>,
    pub max_binding_bytes: Option<u64>,
    /// What the model may take of memory.
    pub max_memory: Option<u64>,
    /// Run the kernels for GPUs whatever the adapter.
    pub gpu_kernels: bool,
    /// Where compiled pipelines are kept.
    pub cache_dir: Option<PathBuf>,
    /// What is known of the device's cooperative matrices.
    pub matrices: Matrices,
    /// False where forms of the matmul that should give the same bits give others on the device.
    pub by_rows: bool,
    /// What `vectile tune` kept of the device.
    pub tuned: Option<Arc<Tuned>>,
    pub shader_edit: Option<ShaderEdit>,
    /// See [`Executor::fit_tokens`].
    pub fit_tokens: Option<usize>,
    /// How often a device that was opened so was lost.
    pub losses: Arc<AtomicU64>,
}

/// Whether cooperative matrices may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Matrices {
    /// Nothing asks: there are none, or the precision has no use for them.
    Untested,
    /// They gave their known answers.
    Right {
        /// In tiles of all sizes the same bits.
        by_rows: bool,
    },
    /// What is wrong with them.
    Wrong(String),
}

impl Opening {
    /// An adapter as it is, of which nothing is known yet.
    pub fn new(adapter: AdapterChoice) -> Self {
        Opening {
            adapter,
            disabled: Vec::new(),
            max_binding_bytes: None,
            max_memory: None,
            gpu_kernels: false,
            cache_dir: None,
            matrices: Matrices::Untested,
            by_rows: true,
            tuned: None,
            shader_edit: None,
            fit_tokens: None,
            losses: Arc::default(),
        }
    }

    pub async fn open(&self) -> Result<Executor, Error> {
        let gpu = Gpu::open_limited(&self.adapter, &self.disabled, self.max_binding_bytes).await?;
        gpu.count_losses(&self.losses);
        let mut executor = Executor::new(gpu);
        if let Some(edit) = self.shader_edit {
            executor.edit_shader(edit);
        }
        executor.fit_tokens(self.fit_tokens);
        // A kernel that was made wrong is not for later runs.
        if let Some(directory) = self.cache_dir.as_deref().filter(|_| self.shader_edit.is_none()) {
            executor.cache_pipelines_in(directory);
        }
        Ok(executor)
    }

    /// Which kernels a device takes.
    pub fn plan(&self, gpu: &Gpu) -> KernelPlan {
        let plan = KernelPlan::for_device(gpu);
        KernelPlan {
            software: plan.software && !self.gpu_kernels,
            cooperative: plan
                .cooperative
                .filter(|_| matches!(self.matrices, Matrices::Right { .. })),
            matrices_by_rows: self.matrices == Matrices::Right { by_rows: true },
            by_rows: plan.by_rows && self.by_rows,
            tuned: self.tuned.clone(),
            ..plan
        }
    }

    /// Asks the device which forms of the matmul a model of this precision may run: whether cooperative
    /// matrices are right, and whether the forms that rows pick among give the same bits. A device that is
    /// lost over its matrices is opened again, and does without.
    pub async fn test_variants(
        &mut self,
        executor: &mut Executor,
        precision: &Precision,
        cache: Option<&Path>,
    ) -> Result<(), Error> {
        let storages = (precision.weights, precision.activations);
        let own = KernelPlan::for_device(&executor.gpu);
        let untested = KernelPlan { cooperative: own.cooperative, ..self.plan(&executor.gpu) };
        if untested.software {
            return Ok(());
        }
        let key = tuned::key(&executor.gpu.adapter);
        self.tuned = cache.and_then(|cache| tuned::read(cache, &key)).map(Arc::new);
        if let Some(matrices) = untested.cooperative
            && storages == (Storage::F16, Storage::F16)
        {
            self.matrices = match cooperative_fault(executor, &untested, matrices, cache).await {
                // On software adapters sizes are for tests, which compare the bits themselves.
                Ok(None) if own.software => Matrices::Right { by_rows: true },
                Ok(None) => {
                    let by_rows = matrix_tiles_are_bit_identical(executor, matrices, cache).await?;
                    Matrices::Right { by_rows }
                }
                Ok(Some(fault)) => Matrices::Wrong(fault),
                Err(Error::DeviceLost { .. }) => {
                    tracing::warn!("the device was lost in the self-test of cooperative matrices");
                    *executor = self.open().await?;
                    Matrices::Wrong("the device was lost in their self-test".to_owned())
                }
                Err(error) => return Err(error),
            };
        }
        // On software adapters these forms are for tests, which compare the bits themselves.
        if !own.software {
            self.by_rows = variants_are_bit_identical(executor, storages, cache).await?;
            // Texts that are run again come with others of their sort too.
            if precision.retries_in_f32() {
                let again = (precision.weights, Storage::F32);
                self.by_rows &= variants_are_bit_identical(executor, again, cache).await?;
            }
        }
        Ok(())
    }
}
