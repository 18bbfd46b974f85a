//! Makes all decisions that must precede the loading of weights. The decisions concern the device and its kernels, the
//! precision, and the memory.

use std::num::NonZeroUsize;
use std::path::Path;

use crate::dtype::{DtypeOptions, F16Verdict, Precision, ShaderF16, needs_f16, resolve};
use crate::embedder::attempts::Attempts;
use crate::embedder::device::DeviceSetup;
use crate::embedder::load::f16_verdict;
use crate::embedder::memory::{self, Fitted, MemoryEstimate, TokenBudget};
use crate::embedder::model::Model;
use crate::embedder::run::recheck::RecheckPlan;
use crate::error::Error;
use crate::executor::Executor;
use crate::gpu::adapter::AdapterSummary;
use crate::gpu::executor::PipelineKey;
use crate::models;
use crate::selftest;

/// A model whose files are checked, with the open device and the decisions for loading its weights.
pub(crate) struct LoadPlan {
    pub(in crate::embedder) model: Model,
    pub(in crate::embedder) setup: DeviceSetup,
    pub(crate) executor: Executor,
    pub(crate) precision: Precision,
    pub(crate) adapter: AdapterSummary,
    pub(in crate::embedder) memory: MemoryEstimate,
    /// The pipelines that the model's batches need.
    pub(in crate::embedder) pipelines: Vec<PipelineKey>,
    pub(in crate::embedder) recheck: Option<RecheckPlan>,
}

/// The source of the verdict on whether f16 is safe for the model.
#[derive(Debug, Clone, Default)]
pub(super) enum VerdictSource {
    /// The verdict that `vectile verify` stored, if any.
    #[default]
    Stored,
    /// The verdict that the caller passed; `None` if the load must not use a verdict.
    #[cfg_attr(
        not(feature = "lab"),
        expect(
            dead_code,
            reason = "only code of the feature `lab` passes a verdict on f16 that replaces the \
                      stored verdict"
        )
    )]
    Given(Option<F16Verdict>),
}

/// The settings of a builder that affect the decisions before a load.
pub(super) struct Request<'a> {
    pub dtype: DtypeOptions,
    pub batch_tokens: Option<usize>,
    pub max_memory: Option<u64>,
    pub cache: Option<&'a Path>,
    pub verdict: &'a VerdictSource,
    /// True if a LoRA is merged into the weights.
    pub lora: bool,
    /// The number of rows of which at least one is computed a second time; `None` if no row is.
    pub paranoid: Option<NonZeroUsize>,
}

impl LoadPlan {
    /// Opens a device, chooses the precision, estimates the memory, and tests the kernels. If an adapter computes wrong
    /// results, the next adapter is tried, unless the caller named an adapter.
    pub(super) async fn new(
        mut model: Model,
        setup: DeviceSetup,
        request: Request<'_>,
    ) -> Result<Self, Error> {
        let DevicePlan { setup, executor, precision, memory, pipelines } =
            DevicePlan::choose(&model, setup, &request).await?;
        // The memory estimate has recorded every tensor that the model uses, so all other tensors are unused.
        model.config.notes.extend(models::unused_tensors(&model.weights)?);
        let adapter = executor.adapter().clone();
        let recheck = match request.paranoid {
            None => None,
            Some(every) => {
                Some(RecheckPlan::new(&model, &setup, &executor, &precision, memory, every).await?)
            }
        };
        Ok(LoadPlan { model, setup, executor, precision, adapter, memory, pipelines, recheck })
    }
}

/// The part of a [`LoadPlan`] that depends on the adapter.
struct DevicePlan {
    setup: DeviceSetup,
    executor: Executor,
    precision: Precision,
    memory: MemoryEstimate,
    pipelines: Vec<PipelineKey>,
}

impl DevicePlan {
    /// Returns a plan for the adapter of `setup`. If kernels of the model compute wrong results on this adapter, the
    /// next adapter is tried. If the caller named the adapter, an error is returned instead.
    async fn choose(
        model: &Model,
        setup: DeviceSetup,
        request: &Request<'_>,
    ) -> Result<Self, Error> {
        let mut attempts = Attempts::new(setup);
        loop {
            match DevicePlan::on_adapter(model, attempts.setup(), request).await {
                Err(error) => attempts.give_way(error).await?,
                planned => return planned,
            }
        }
    }

    /// Returns a plan for the adapter of `setup`, and tries no other adapter.
    async fn on_adapter(
        model: &Model,
        mut setup: DeviceSetup,
        request: &Request<'_>,
    ) -> Result<Self, Error> {
        let mut executor = setup.open().await?;
        if executor.adapter().is_software() {
            tracing::info!(adapter = %executor.adapter(), "a software adapter computes on the CPU");
        }
        let precision = choose_precision(model, &setup, &mut executor, request).await?;
        setup.test_variants(&mut executor, &precision, request.cache).await?;
        let adapter = executor.adapter().clone();
        let plan = setup.plan(&executor);
        let budget = TokenBudget::choose(request.batch_tokens, &adapter, model.widest());
        let fitted = memory::fit(model, &precision, &plan, &adapter, request.max_memory, budget)?;
        let Fitted { memory, pipelines } = fitted;
        // Some tests edit a kernel so that it computes wrong results, in order to test later checks. The known-answer
        // tests would refuse such a kernel here, so they are skipped.
        if !executor.is_edited() {
            let cache = request.cache;
            selftest::check_model(&mut executor, &pipelines, &plan, &precision, cache).await?;
        }
        Ok(DevicePlan { setup, executor, precision, memory, pipelines })
    }
}

/// Returns the precision in which the model runs. If the model could use f16, the device first runs tests of the
/// kernels that the model would run in f16. The stored verdict of `vectile verify` on whether f16 is safe for the model
/// also affects the choice.
async fn choose_precision(
    model: &Model,
    setup: &DeviceSetup,
    executor: &mut Executor,
    request: &Request<'_>,
) -> Result<Precision, Error> {
    let checkpoint = model.checkpoint_dtype();
    let uses_f16 = needs_f16(request.dtype, &checkpoint);
    let verdict = match request.verdict {
        _ if !uses_f16 => None,
        // The stored verdict does not apply to a model with a LoRA, because `vectile verify` measured the model without
        // a LoRA.
        VerdictSource::Stored if request.lora => None,
        VerdictSource::Stored => f16_verdict::read(model, request.cache)?,
        VerdictSource::Given(verdict) => verdict.clone(),
    };
    let facts = model.transformer.facts().f16;
    let precision_if =
        |f16| resolve(request.dtype, checkpoint.clone(), f16, facts, verdict.as_ref());
    if !uses_f16 {
        return precision_if(ShaderF16::Absent);
    }
    let if_passed = precision_if(ShaderF16::Passed)?;
    let kernels = memory::kernels(model, &if_passed, &setup.plan(executor), executor.adapter())?;
    match selftest::shader_f16(executor, Some(&kernels), request.cache).await? {
        ShaderF16::Passed => Ok(if_passed),
        found => precision_if(found),
    }
}
