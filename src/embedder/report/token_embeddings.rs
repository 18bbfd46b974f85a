//! Computes the hidden states of each token of a text, before pooling.

use crate::dtype::{Precision, Storage};
use crate::embedder::embed::Embedder;
use crate::embedder::multi_vector::MultiVector;
use crate::embedder::options::EmbedOptions;
use crate::embedder::run::{Prepared, Runner};
use crate::embedder::text_model::TextModel;
use crate::error::Error;

impl Embedder {
    /// Returns the transformer's hidden states of a text, one vector for each token that [`Embedder::tokenize`] lists,
    /// like sentence-transformers' `output_value` of `token_embeddings`. The hidden states are neither pooled nor
    /// normalized, and they are computed with f32 activations whatever the model's precision is.
    ///
    /// ```
    /// use vectile::{EmbedOptions, Embedder, ModelFiles, block_on};
    ///
    /// # if block_on(vectile::adapters()).is_empty() { return Ok(()); }
    /// # let directory = "tests/fixtures/bert_mean_norm";
    /// let files = ModelFiles::from_directory(directory)?;
    /// let embedder = block_on(Embedder::builder(files).build())?;
    /// let options = EmbedOptions::default();
    /// let vectors = block_on(embedder.token_embeddings("A cat sat.", &options))?;
    /// assert_eq!(vectors.len(), embedder.tokenize(&["A cat sat."], &options)?[0].len());
    /// # Ok::<(), vectile::Error>(())
    /// ```
    ///
    /// # Errors
    /// Returns the errors of [`Embedder::embed_with`].
    pub async fn token_embeddings(
        &self,
        text: &str,
        options: &EmbedOptions,
    ) -> Result<MultiVector, Error> {
        let prepared = self.prepare(0, &[text], options)?.into_iter().next();
        match prepared.transpose()? {
            Some(prepared) => self.runner().token_states(&prepared).await,
            None => Ok(MultiVector::default()),
        }
    }
}

impl Runner {
    /// Returns the hidden states of a prepared text before pooling. The result has a row for each token, including
    /// special tokens.
    ///
    /// The activations are always f32, because an overflow of f16 would not be detected here. If the device is lost, it
    /// is opened again once.
    ///
    /// # Errors
    /// Returns [`Error::NonFinite`] if a value is not finite; otherwise returns the errors of running a graph.
    pub(crate) async fn token_states(&self, text: &Prepared) -> Result<MultiVector, Error> {
        let precision = Precision { activations: Storage::F32, ..self.precision.clone() };
        let batch = self.pack([&text.tokens]);
        let mut runtime = self.runtime.lock().await;
        let values = match runtime.hidden_states(&precision, &batch).await {
            Err(loss @ Error::DeviceLost { .. }) => {
                runtime.recover(&self.model, &self.precision, loss).await?;
                runtime.hidden_states(&precision, &batch).await?
            }
            values => values?,
        };
        if values.iter().any(|value| !value.is_finite()) {
            return Err(self.non_finite(text.text));
        }
        let dim = values.len() / text.tokens().max(1);
        Ok(MultiVector { dim, values })
    }
}
