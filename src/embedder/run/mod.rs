//! Runs a loaded model: texts are tokenized on the host, batched, and run on the device.
//!
//! ```text
//! texts ──prepare──▶ Prepared ──queue──▶ PackedBatch ──runtime──▶ BatchRows ──▶ a row for each text
//! ```

pub(super) mod prepare;
mod queue;
pub(super) mod rows;
pub(super) mod runtime;
mod search;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use async_lock::Mutex;

use crate::batch::PackedBatch;
use crate::config::Module;
use crate::dtype::{Precision, Storage};
use crate::embedder::memory::{MemoryEstimate, max_batch_texts};
use crate::embedder::model::Model;
use crate::error::Error;
use crate::gpu::adapter::AdapterSummary;
use crate::tokenize::Tokens;
pub use prepare::Prepared;
pub(crate) use prepare::PromptChoice;
pub use queue::RunCounts;
use runtime::Runtime;

/// A loaded model and its device, of any kind.
///
/// [`Embedder`](crate::Embedder) and the other types of models each wrap a runner. The runner computes rows in
/// batches, and the types turn rows into their results.
#[derive(Debug)]
pub struct Runner {
    pub(super) model: Model,
    pub(super) precision: Precision,
    pub(super) adapter: AdapterSummary,
    pub(super) batch_tokens: usize,
    pub(super) memory: MemoryEstimate,
    /// The runtime, which holds the device. Calls take turns with it, batch by batch.
    pub(super) runtime: Mutex<Runtime>,
    /// The number of times that the device was lost.
    #[cfg_attr(
        not(feature = "server"),
        expect(dead_code, reason = "only the feature `server` reads the number")
    )]
    pub(super) losses: Arc<AtomicU64>,
}

impl Runner {
    /// Returns how the model runs: the precision requested, the precision chosen, and the reasons.
    pub fn precision(&self) -> &Precision {
        &self.precision
    }

    /// The adapter that the model runs on.
    pub fn adapter(&self) -> &AdapterSummary {
        &self.adapter
    }

    /// The memory that the model needs, as it was estimated before loading.
    pub fn memory(&self) -> MemoryEstimate {
        self.memory
    }

    /// Notes for the user: assumptions made where the model's files are silent.
    pub fn notes(&self) -> &[String] {
        &self.model.config.notes
    }

    /// The maximum number of tokens of a text, including special tokens and the prompt. `None` if the model names no
    /// limit.
    pub fn max_seq_length(&self) -> Option<usize> {
        self.model.tokenizer.limit()
    }

    /// The model's prompts by name.
    pub fn prompts(&self) -> &BTreeMap<String, String> {
        &self.model.config.prompts
    }

    /// The name of the prompt that is used if the caller names none.
    pub fn default_prompt_name(&self) -> Option<&str> {
        self.model.config.default_prompt_name.as_deref()
    }

    /// Returns the digest of everything that determines the vectors; see
    /// [`Embedder::fingerprint`](crate::Embedder::fingerprint).
    ///
    /// # Errors
    /// [`Error::File`] if the files can no longer be read.
    pub fn fingerprint(&self) -> Result<String, Error> {
        self.model.fingerprint()
    }

    /// The token budget of a batch.
    pub fn batch_tokens(&self) -> usize {
        self.batch_tokens
    }

    /// The number of values in a row as the device computes it. If the model computes a row for each token, this is
    /// the number of values in the row of one token.
    pub fn dimension(&self) -> usize {
        self.model.dimension
    }

    /// The number of values in a row after the model's own `truncate_dim`. As in sentence-transformers, a
    /// `truncate_dim` that exceeds the row's length cuts nothing.
    pub(crate) fn default_dimension(&self) -> usize {
        let all = self.model.dimension;
        self.model.config.truncate_dim.map_or(all, |dim| dim.min(all))
    }

    /// True if the rows of `dim` values that the device computes have length one. This is the case if the last module
    /// normalizes and no values are cut off.
    pub(crate) fn normalizes(&self, dim: usize) -> bool {
        dim == self.model.dimension
            && matches!(self.model.config.modules.last(), Some(Module::Normalize))
    }

    /// True if the model's own vectors have length one after they are cut to its own `truncate_dim`.
    #[cfg(feature = "server")]
    pub(crate) fn normalizes_by_default(&self) -> bool {
        self.normalizes(self.default_dimension())
    }

    /// The maximum number of texts in a batch.
    pub(super) fn max_batch_texts(&self) -> usize {
        max_batch_texts(self.model.dimension, &self.adapter)
    }

    pub(super) fn pack<'a>(&self, tokens: impl IntoIterator<Item = &'a Tokens>) -> PackedBatch {
        PackedBatch::pack(tokens, !self.model.include_prompt)
    }

    pub(super) fn non_finite(&self, text: usize) -> Error {
        let advice = match self.precision.activations {
            Storage::F32 => "the model overflows even f32 on this text; check the model's weights",
            _ => "load the model with the dtype auto or float32, or set the activations to f32",
        };
        Error::NonFinite {
            text,
            problem: format!(
                "its activations exceed the range of {} (precision: {}); {advice}",
                self.precision.activations, self.precision
            ),
        }
    }

    /// Returns the transformer's hidden states of a text under the default prompt, with the shape `[tokens, hidden]`.
    pub(super) async fn hidden_states(&self, text: &str) -> Result<Vec<f32>, Error> {
        let prompt = self.prompt(PromptChoice::default())?;
        let tokens = self.model.tokenizer.encode(prompt, text)?;
        let mut runtime = self.runtime.lock().await;
        runtime.hidden_states(&self.precision, &self.pack([&tokens])).await
    }

    /// Destroys the device, as a driver reset does, so that tests can check the recovery.
    pub(super) async fn lose_device(&self) {
        self.runtime.lock().await.destroy();
    }
}
