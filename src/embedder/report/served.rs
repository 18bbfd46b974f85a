//! Returns results that only the server needs: hidden states of tokens, decoded ids, logits and labels.

use serde_json::Value;

use crate::dtype::{Precision, Storage};
use crate::embedder::multi_vector::MultiVector;
use crate::embedder::options::EmbedOptions;
use crate::embedder::rerank::{RerankOptions, Reranker};
use crate::embedder::run::{Prepared, Runner};
use crate::embedder::text_model::TextModel;
use crate::error::Error;

impl Runner {
    /// Returns the hidden states of a prepared text before pooling. There is a row for each token, including special
    /// tokens.
    ///
    /// The hidden states are computed with f32 activations in every precision, because an overflow of f16 would not
    /// be noticed. After a loss, the device is opened again, once.
    ///
    /// # Errors
    /// [`Error::NonFinite`] if a value is not finite; otherwise the errors of running a graph.
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

    /// Decodes token ids to their text. `text` is the index in the request, for errors.
    ///
    /// # Errors
    /// [`Error::Option`] for an id that the model does not have, [`Error::Tokenizer`] if decoding fails.
    pub(crate) fn decode(
        &self,
        text: usize,
        ids: &[u32],
        skip_special_tokens: bool,
    ) -> Result<String, Error> {
        let rows = self.model.tokenizer.rows();
        if let Some(id) = ids.iter().find(|id| **id as usize >= rows) {
            let problem =
                format!("token id {id} is too large for the model, which has {rows} tokens");
            return Err(Error::option(format!("text {text}"), problem));
        }
        self.model.tokenizer.decode(ids, skip_special_tokens)
    }
}

impl Reranker {
    /// Returns the logits of a row of the model's output, one for each label. For a language model's answers there is
    /// one value, the logit of `yes` minus the logit of `no`.
    pub(crate) fn logits(&self, row: &[f32]) -> Vec<f32> {
        match *row {
            [yes, no] if self.labels() == 1 => vec![(f64::from(yes) - f64::from(no)) as f32],
            _ => row.to_vec(),
        }
    }

    /// Returns the names of the labels: `id2label` of `config.json`, or else transformers' default names `LABEL_0`,
    /// `LABEL_1` and so on.
    pub(crate) fn label_names(&self) -> Vec<String> {
        let named = self.runner().model.config.transformer.raw("id2label");
        let name = |label: usize| {
            let given =
                named.and_then(|named| named.get(label.to_string())).and_then(Value::as_str);
            given.map_or_else(|| format!("LABEL_{label}"), str::to_owned)
        };
        (0..self.labels()).map(name).collect()
    }

    /// Tokenizes a single text, which a classifier can read without a second text. [`TextModel::prepare`] tokenizes
    /// pairs. `index` is the text's index in the request.
    ///
    /// # Errors
    /// [`Error::Option`] if the model has a chat template, which takes pairs only.
    pub(crate) fn prepare_text(
        &self,
        index: usize,
        text: &str,
        options: &RerankOptions,
    ) -> Result<Vec<Result<Prepared, Error>>, Error> {
        if self.runner().model.tokenizer.has_chat_template() {
            let problem = "is a single text, but this model's chat template takes pairs of texts; send \
                           [query, document]";
            return Err(Error::option(format!("inputs[{index}]"), problem));
        }
        let options = EmbedOptions { on_too_long: options.on_too_long, ..EmbedOptions::default() };
        self.runner().prepare_texts(index, &[text], &options)
    }
}
