//! Runs a loaded model: tokenizes texts on the host, forms batches, and runs the batches on the device.
//!
//! ```text
//! texts ──prepare──▶ Prepared ──queue──▶ PackedBatch ──runtime──▶ BatchRows ──▶ a row for each text
//! ```

pub(super) mod prepare;
mod queue;
pub(super) mod recheck;
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
use recheck::Recheck;
pub use recheck::Rechecked;
use runtime::Runtime;

/// A loaded model of any kind, and its device.
///
/// [`Embedder`](crate::Embedder) and the other types of models each wrap a runner. The runner computes output rows in
/// batches, and those types turn the rows into results.
#[derive(Debug)]
pub struct Runner {
    pub(super) model: Model,
    pub(super) precision: Precision,
    pub(super) adapter: AdapterSummary,
    pub(super) batch_tokens: usize,
    pub(super) memory: MemoryEstimate,
    /// The runtime, which holds the device. Concurrent calls lock it in turn, for one batch at a time.
    pub(super) runtime: Mutex<Runtime>,
    /// The number of times that the device was lost.
    #[cfg_attr(
        not(feature = "server"),
        expect(
            dead_code,
            reason = "only code of the feature `server` reads how often the device was lost"
        )
    )]
    pub(super) losses: Arc<AtomicU64>,
    /// Computes a sample of rows a second time; `None` unless the caller requested it.
    pub(super) recheck: Option<Recheck>,
}

impl Runner {
    /// Returns the precision in which the model runs, the precision that was requested, and the reasons for the choice.
    pub fn precision(&self) -> &Precision {
        &self.precision
    }

    /// Returns the adapter that the model runs on.
    pub fn adapter(&self) -> &AdapterSummary {
        &self.adapter
    }

    /// Returns the estimate, made before loading, of the memory that the model needs.
    pub fn memory(&self) -> MemoryEstimate {
        self.memory
    }

    /// Returns notes for the user. The notes state the assumptions that Vectile made where the model's files give no
    /// value.
    pub fn notes(&self) -> &[String] {
        &self.model.config.notes
    }

    /// Returns the maximum number of tokens of a text, including special tokens and the prompt. Returns `None` if the
    /// model states no limit.
    pub fn max_seq_length(&self) -> Option<usize> {
        self.model.tokenizer.limit()
    }

    /// Returns the model's prompts by name.
    pub fn prompts(&self) -> &BTreeMap<String, String> {
        &self.model.config.prompts
    }

    /// Returns the name of the prompt that is used if the caller names none.
    pub fn default_prompt_name(&self) -> Option<&str> {
        self.model.config.default_prompt_name.as_deref()
    }

    /// Returns a digest of all inputs that determine the vectors; see
    /// [`Embedder::fingerprint`](crate::Embedder::fingerprint).
    ///
    /// # Errors
    /// Returns [`Error::File`] if the files can no longer be read.
    pub fn fingerprint(&self) -> Result<String, Error> {
        self.model.fingerprint()
    }

    /// Returns the token budget of a batch.
    pub fn batch_tokens(&self) -> usize {
        self.batch_tokens
    }

    /// Returns the number of values in a row as the device computes it. If the model computes a row for each token, the
    /// result is the number of values in the row of one token.
    pub fn dimension(&self) -> usize {
        self.model.dimension
    }

    /// Returns the number of values in a row after the model's own `truncate_dim`. As in sentence-transformers, a
    /// `truncate_dim` that exceeds the row's length has no effect.
    pub(crate) fn default_dimension(&self) -> usize {
        let all = self.model.dimension;
        self.model.config.truncate_dim.map_or(all, |dim| dim.min(all))
    }

    /// Returns true if the rows of `dim` values that the device computes have length one. The rows have length one if
    /// the last module normalizes and `dim` is the full width.
    pub(crate) fn normalizes(&self, dim: usize) -> bool {
        dim == self.model.dimension
            && matches!(self.model.config.modules.last(), Some(Module::Normalize))
    }

    /// Returns true if the model's vectors, truncated to the model's own `truncate_dim`, have length one.
    #[cfg(feature = "server")]
    pub(crate) fn normalizes_by_default(&self) -> bool {
        self.normalizes(self.default_dimension())
    }

    /// Returns counts of the rows that were computed a second time; `None` if no rows are.
    pub fn rechecked(&self) -> Option<Rechecked> {
        self.recheck.as_ref().map(Recheck::found)
    }

    /// Returns the maximum number of texts in a batch.
    pub(super) fn max_batch_texts(&self) -> usize {
        max_batch_texts(self.model.dimension, &self.adapter)
    }

    pub(super) fn pack<'a>(&self, tokens: impl IntoIterator<Item = &'a Tokens>) -> PackedBatch {
        PackedBatch::pack(tokens, !self.model.include_prompt)
    }

    pub(super) fn non_finite(&self, text: usize) -> Error {
        let advice = match self.precision.activations {
            Storage::F32 => "the model overflows even f32 on this text; check the model's weights",
            _ => {
                "load the model with the dtype `auto` or `float32`, or set its activations to `f32`"
            }
        };
        Error::NonFinite {
            text,
            problem: format!(
                "its activations exceed the range of {} (precision: {}); {advice}",
                self.precision.activations, self.precision
            ),
        }
    }

    /// Returns the transformer's hidden states of a text with the default prompt. The shape is `[tokens, hidden]`.
    pub(super) async fn hidden_states(&self, text: &str) -> Result<Vec<f32>, Error> {
        let prompt = self.prompt(PromptChoice::default())?;
        let tokens = self.model.tokenizer.encode(prompt, text)?;
        let mut runtime = self.runtime.lock().await;
        runtime.hidden_states(&self.precision, &self.pack([&tokens])).await
    }

    /// Destroys the device, as a driver reset does, so that tests can check that Vectile opens it again.
    pub(super) async fn lose_device(&self) {
        self.runtime.lock().await.destroy();
    }
}
