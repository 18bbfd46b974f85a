//! Reads the tensors that a model computes for one text, so that `vectile verify` can compare two adapters.

use crate::embedder::Embedder;
use crate::embedder::report::activation_ranges::{Tapped, label, tap};
use crate::embedder::text_model::TextModel;
use crate::error::Error;

/// The maximum number of values in a trace, so that a trace takes at most 1 GiB.
const MAX_VALUES: usize = 1 << 28;

/// A tensor that a kernel wrote for a text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TracedTensor {
    /// The transformer layer, counted from 0; `None` for a tensor outside of the layers.
    pub layer: Option<usize>,
    /// The tensor's name, as in [`ActivationRange`](super::activation_ranges::ActivationRange).
    pub tensor: String,
    /// The kernel that wrote the tensor.
    pub kernel: String,
    /// The tensor's values, with the shape `[tokens, width]`.
    pub values: Vec<f32>,
    /// The number of values per token. If the tensor has one row for the whole text, the width is the number of all
    /// values.
    pub width: usize,
}

impl Embedder {
    /// Returns the tensors that the model computes for a text with f32 activations, in the order in which they are
    /// written. The later tensors of a long text are left out if they do not fit into 1 GiB.
    ///
    /// # Errors
    /// Returns the errors of embedding the text. A value that is not finite does not cause an error.
    pub(crate) async fn trace(&self, text: &str) -> Result<Vec<TracedTensor>, Error> {
        let runner = self.runner();
        let (tokens, _) = self.tokens_to_probe(&[text.to_owned()])?;
        let batch = runner.pack(&tokens);
        let mut runtime = runner.runtime.lock().await;
        let mut traced = Vec::new();
        let mut left = Some(MAX_VALUES);
        let tapped = Tapped::ActivationsAndRows;
        let run = tap(&mut runtime, runner, &batch, tapped, |graph, id, values, width| {
            left = left.and_then(|left| left.checked_sub(values.len()));
            if left.is_some() {
                let (layer, tensor, kernel) = label(graph, id);
                traced.push(TracedTensor { layer, tensor, kernel, values: values.to_vec(), width });
            }
        });
        run.await?;
        Ok(traced)
    }
}
