//! What the lab needs of an embedder beyond embedding.

use super::{EmbedOptions, Embedder, KernelChoice, ready};
use crate::error::Error;
use crate::gpu::trace::{Measure, Trace};
use crate::kernels::KernelPlan;

impl Embedder {
    /// Measures what is embedded from here on; returns what was measured until now.
    pub(crate) async fn measure(&self, measure: Option<Measure>) -> Option<Trace> {
        let mut runtime = self.runtime.lock().await;
        std::mem::replace(&mut runtime.executor.trace, measure.map(Trace::new))
    }

    /// True where the GPU can measure time itself, and which kernels it takes.
    pub(crate) async fn abilities(&self) -> (bool, KernelPlan) {
        let runtime = self.runtime.lock().await;
        (runtime.executor.gpu.has_timestamps(), runtime.plan())
    }

    /// The kernels that it runs on its adapter.
    pub(crate) async fn kernels(&self) -> KernelChoice {
        self.runtime.lock().await.kernels(&self.precision)
    }

    /// Runs these kernels from here on, instead of those that suit the adapter. Vectors are other bits then.
    pub(crate) async fn set_plan(&self, plan: Option<KernelPlan>) {
        self.runtime.lock().await.other_plan = plan;
    }

    /// Another size of batch from here on, as far as the adapter takes it.
    pub(crate) fn set_batch_tokens(&mut self, tokens: usize) {
        let widest = self.model.widest();
        self.batch_tokens = ready::batch_tokens(Some(tokens), &self.adapter, widest);
    }

    /// Tokens of a text with its prompt, before it is cut.
    pub(crate) fn untruncated_length(
        &self,
        text: &str,
        options: &EmbedOptions,
    ) -> Result<usize, Error> {
        Ok(self.model.tokenizer.encode(self.prompt(options)?, text)?.untruncated)
    }
}
