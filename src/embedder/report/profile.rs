//! Provides facts and measurements of an embedder to the module `lab`: times, kernels, batch sizes, and the shapes of
//! its matmuls.

use crate::batch::PackedBatch;
use crate::embedder::Embedder;
use crate::embedder::device::KernelChoice;
use crate::embedder::load::LoadPlan;
use crate::embedder::memory::{TokenBudget, one_token_graph};
use crate::embedder::options::EmbedOptions;
use crate::embedder::text_model::TextModel;
use crate::error::Error;
use crate::gpu::graph::Graph;
use crate::gpu::trace::{Measure, Trace};
use crate::kernels::KernelPlan;
use crate::kernels::matmul::{self, WeightShape};

impl LoadPlan {
    /// Returns the kernels that the model would run.
    pub(crate) fn kernel_plan(&self) -> KernelPlan {
        self.setup.plan(&self.executor)
    }

    /// Returns the shapes of the model's matmuls, without duplicates. A shape holds the number of cells (groups of four
    /// values) in a row of x and in a row of the weight matrix.
    pub(crate) fn matmul_shapes(&self) -> Result<Vec<WeightShape>, Error> {
        let plan = self.kernel_plan();
        let graph = one_token_graph(&self.model, &self.precision, &plan, &self.adapter)?;
        let mut shapes: Vec<WeightShape> = Vec::new();
        for shape in graph.dispatches.iter().filter_map(matmul::shape) {
            if !shapes.contains(&shape) {
                shapes.push(shape);
            }
        }
        Ok(shapes)
    }
}

impl Embedder {
    /// Starts to measure later calls, or stops measuring if `measure` is `None`. Returns the measurements so far.
    #[doc(hidden)]
    pub async fn measure(&self, measure: Option<Measure>) -> Option<Trace> {
        let mut runtime = self.runner().runtime.lock().await;
        runtime.executor.measure(measure.map(Trace::new))
    }

    /// Returns two values: whether each dispatch can be timed, and the kernels that the model runs.
    pub(crate) async fn abilities(&self) -> (bool, KernelPlan) {
        let runtime = self.runner().runtime.lock().await;
        (runtime.executor.has_timestamps(), runtime.plan())
    }

    /// Returns the graph of a batch of `texts` texts that each have `length` tokens.
    pub(crate) async fn graph(&self, length: usize, texts: usize) -> Graph {
        let batch = PackedBatch::uniform(length, texts);
        self.runner().runtime.lock().await.graph(&self.runner().precision, &batch).graph
    }

    /// Returns the kernels that the model runs on its adapter.
    pub(crate) async fn kernels(&self) -> KernelChoice {
        self.runner().runtime.lock().await.kernel_choice(&self.runner().precision)
    }

    /// Makes later calls run these kernels instead of the kernels chosen for the adapter. Vectors may then differ
    /// slightly from earlier vectors of the same texts.
    pub(crate) async fn set_plan(&self, plan: Option<KernelPlan>) {
        self.runner().runtime.lock().await.other_plan = plan;
    }

    /// Sets the token budget of a batch. If the adapter does not allow this budget, sets the largest budget that it
    /// allows.
    pub(crate) fn set_batch_tokens(&mut self, tokens: usize) {
        let runner = self.runner_mut();
        let widest = runner.model.widest();
        let budget = TokenBudget::choose(Some(tokens), &runner.adapter, widest);
        runner.batch_tokens = budget.tokens;
    }

    /// Returns the token budget of a batch.
    pub(crate) fn batch_tokens(&self) -> usize {
        self.runner().batch_tokens()
    }

    /// Returns the number of tokens of a text with its prompt, before truncation.
    pub(crate) fn untruncated_length(
        &self,
        text: &str,
        options: &EmbedOptions,
    ) -> Result<usize, Error> {
        let runner = self.runner();
        Ok(runner.model.tokenizer.encode(runner.prompt(options.into())?, text)?.untruncated)
    }
}
