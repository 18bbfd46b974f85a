//! Opens a device, and decides which kernels the model runs on this device.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use serde::{Deserialize, Serialize};

use crate::dtype::{Precision, Storage};
use crate::error::Error;
use crate::executor::{AdapterOptions, Executor};
use crate::gpu::adapter::{AdapterChoice, Feature};
use crate::gpu::executor::ShaderEdit;
use crate::gpu::inject::FaultPlan;
use crate::kernels::KernelPlan;
use crate::kernels::matmul::{Tuned, tuned};
use crate::selftest::{
    cooperative_fault, matrix_tiles_are_bit_identical, variants_are_bit_identical,
};

/// The settings with which a device is opened, and opened again after a loss. The setup also holds the test results
/// that decide which kernels run on the device.
#[derive(Debug, Clone)]
pub(crate) struct DeviceSetup {
    pub adapter: AdapterChoice,
    pub disabled: Vec<Feature>,
    /// The number of threads on the CPU; `None` for one thread on each physical core.
    pub threads: Option<usize>,
    pub max_binding_bytes: Option<u64>,
    /// The maximum number of bytes of memory that the model may use.
    pub max_memory: Option<u64>,
    /// If true, a software adapter runs the kernels for GPUs, instead of the kernels for software adapters.
    pub gpu_kernels: bool,
    /// The directory in which compiled pipelines are cached.
    pub cache_dir: Option<PathBuf>,
    /// The result of the self-test of cooperative matrices.
    pub matrices: CooperativeMatrices,
    /// False if matmul variants that should be bit-identical give different results on this device. The number of rows
    /// must then not select the variant.
    pub by_rows: bool,
    /// The results of `vectile tune` on the device.
    pub tuned: Option<Arc<Tuned>>,
    pub shader_edit: Option<ShaderEdit>,
    /// A limit that only tests set: see [`Executor::fit_tokens`].
    pub fit_tokens: Option<usize>,
    /// The calls to the device that must fail. Only tests set it.
    pub faults: Option<Arc<FaultPlan>>,
    /// The number of times that the device was lost.
    pub losses: Arc<AtomicU64>,
}

/// The result of the known-answer test of cooperative matrices, which decides whether they may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CooperativeMatrices {
    /// Cooperative matrices were not tested, because the adapter does not support them or the precision does not use
    /// them.
    Untested,
    /// Cooperative matrices passed their known-answer test.
    Right {
        /// True if tiles of all sizes give bit-identical results, so that the row count may select the tile size.
        by_rows: bool,
    },
    /// Cooperative matrices failed their known-answer test with this fault.
    Wrong(String),
}

impl DeviceSetup {
    /// Returns a setup that disables no feature of the adapter and holds no test results.
    pub fn new(adapter: AdapterChoice) -> Self {
        DeviceSetup {
            adapter,
            disabled: Vec::new(),
            threads: None,
            max_binding_bytes: None,
            max_memory: None,
            gpu_kernels: false,
            cache_dir: None,
            matrices: CooperativeMatrices::Untested,
            by_rows: true,
            tuned: None,
            shader_edit: None,
            fit_tokens: None,
            faults: None,
            losses: Arc::default(),
        }
    }

    pub async fn open(&self) -> Result<Executor, Error> {
        let options = AdapterOptions {
            disabled: self.disabled.clone(),
            max_binding_bytes: self.max_binding_bytes,
            threads: self.threads,
            faults: self.faults.clone(),
        };
        let mut executor = Executor::open(&self.adapter, &options).await?;
        executor.count_losses(&self.losses);
        if let Some(edit) = self.shader_edit {
            executor.edit_shader(edit);
        }
        executor.fit_tokens(self.fit_tokens);
        // If a test edited a kernel, pipelines are not cached, because later runs would use the edited kernel.
        if let Some(directory) = self.cache_dir.as_deref().filter(|_| self.shader_edit.is_none()) {
            executor.cache_pipelines_in(directory);
        }
        Ok(executor)
    }

    /// Returns true if the caller named an adapter, so that no other adapter may be used.
    pub fn is_named(&self) -> bool {
        !matches!(self.adapter, AdapterChoice::Best | AdapterChoice::Gpu)
    }

    /// Returns the kernels that the device runs. Cooperative matrices are included only if they passed their
    /// known-answer test.
    pub fn plan(&self, executor: &Executor) -> KernelPlan {
        let plan = executor.plan();
        KernelPlan {
            software: plan.software && !self.gpu_kernels,
            cooperative: plan
                .cooperative
                .filter(|_| matches!(self.matrices, CooperativeMatrices::Right { .. })),
            matrices_by_rows: self.matrices == CooperativeMatrices::Right { by_rows: true },
            by_rows: plan.by_rows && self.by_rows,
            tuned: self.tuned.clone(),
            ..plan
        }
    }

    /// Tests the matmul variants that a model of this precision may run. The tests check that cooperative matrices
    /// compute correctly, and that the variants selected by row count are bit-identical. If the device is lost while
    /// cooperative matrices are tested, it is opened again without them.
    pub async fn test_variants(
        &mut self,
        executor: &mut Executor,
        precision: &Precision,
        cache: Option<&Path>,
    ) -> Result<(), Error> {
        let storages = (precision.weights, precision.activations);
        let own = executor.plan();
        let untested = KernelPlan { cooperative: own.cooperative, ..self.plan(executor) };
        if untested.software {
            return Ok(());
        }
        let key = tuned::key(executor.adapter());
        self.tuned = cache.and_then(|cache| tuned::read(cache, &key)).map(Arc::new);
        if let Some(matrices) = untested.cooperative
            && storages == (Storage::F16, Storage::F16)
        {
            self.matrices = match cooperative_fault(executor, &untested, matrices, cache).await {
                // A software adapter uses cooperative matrices only in Vectile's test suite, and the test suite checks
                // that tiles of all sizes are bit-identical.
                Ok(None) if own.software => CooperativeMatrices::Right { by_rows: true },
                Ok(None) => {
                    let by_rows = matrix_tiles_are_bit_identical(executor, matrices, cache).await?;
                    CooperativeMatrices::Right { by_rows }
                }
                Ok(Some(fault)) => CooperativeMatrices::Wrong(fault),
                Err(Error::DeviceLost { .. }) => {
                    tracing::warn!("the device was lost in the self-test of cooperative matrices");
                    *executor = self.open().await?;
                    CooperativeMatrices::Wrong(
                        "the device was lost in the self-test of cooperative matrices".to_owned(),
                    )
                }
                Err(error) => return Err(error),
            };
        }
        // A software adapter uses the variants for GPUs only in Vectile's test suite, and the test suite checks that
        // the variants are bit-identical.
        if !own.software {
            self.by_rows = variants_are_bit_identical(executor, storages, cache).await?;
            // Texts that run again with f32 activations share batches with other texts, so the matmul variants for f32
            // activations must be bit-identical too.
            if precision.retries_in_f32() {
                let again = (precision.weights, Storage::F32);
                self.by_rows &= variants_are_bit_identical(executor, again, cache).await?;
            }
        }
        Ok(())
    }

    /// Returns a description, for reports, of the kernels that a model of this precision runs under `plan`.
    pub fn kernel_choice(
        &self,
        executor: &Executor,
        plan: &KernelPlan,
        precision: &Precision,
    ) -> KernelChoice {
        if let Some(matrix_kernels) = executor.matrix_kernels() {
            return KernelChoice {
                family: "cpu".to_owned(),
                matmul: matrix_kernels,
                because: None,
            };
        }
        let storages = (precision.weights, precision.activations);
        let f16 = storages == (Storage::F16, Storage::F16);
        let no_matrices = match &self.matrices {
            _ if plan.software || !f16 => None,
            CooperativeMatrices::Right { .. } => None,
            CooperativeMatrices::Wrong(fault) => Some(format!("cooperative matrices: {fault}")),
            CooperativeMatrices::Untested
                if executor.disabled().contains(&Feature::CooperativeMatrix) =>
            {
                Some("cooperative matrices are disabled".to_owned())
            }
            CooperativeMatrices::Untested => Some(
                "the adapter has no cooperative matrices with f16 values and f32 sums".to_owned(),
            ),
        };
        let one_size = (!plan.by_rows).then(|| {
            "only one tile size is used, because tiles of different sizes give different results on this adapter"
                .to_owned()
        });
        let because: Vec<String> = no_matrices.into_iter().chain(one_size).collect();
        KernelChoice {
            family: if plan.software { "software" } else { "gpu" }.to_owned(),
            matmul: plan.describe(storages),
            because: (!because.is_empty()).then(|| because.join("; ")),
        }
    }
}

/// The kernels that a model runs on its adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelChoice {
    /// The family of kernels: `cpu`, `software` or `gpu`.
    pub family: String,
    /// The kernels that compute linear layers, in words.
    pub matmul: String,
    /// The reason why the fastest variants are not used; `None` if they are used. For example, a GPU runs f16 without
    /// cooperative matrices, or the matmul uses only one tile size.
    pub because: Option<String>,
}

impl fmt::Display for KernelChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, matmul by {}", self.family, self.matmul)?;
        match &self.because {
            Some(because) => write!(f, " ({because})"),
            None => Ok(()),
        }
    }
}
