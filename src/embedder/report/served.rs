//! Computes results that only the server needs: decoded ids, logits and the names of labels.

use serde_json::Value;

use crate::embedder::options::EmbedOptions;
use crate::embedder::rerank::{RerankOptions, Reranker};
use crate::embedder::run::{Prepared, Runner};
use crate::embedder::text_model::TextModel;
use crate::error::Error;

impl Runner {
    /// Returns the text that token ids stand for. `text` is the index of the ids in the request, for error messages.
    ///
    /// # Errors
    /// Returns [`Error::Option`] for an id that the model does not have, and [`Error::Tokenizer`] if decoding fails.
    pub(crate) fn decode(
        &self,
        text: usize,
        ids: &[u32],
        skip_special_tokens: bool,
    ) -> Result<String, Error> {
        let rows = self.model.tokenizer.rows();
        if let Some(id) = ids.iter().find(|id| **id as usize >= rows) {
            let problem =
                format!("token id {id} does not exist in this model, which has {rows} tokens");
            return Err(Error::option(format!("text {text}"), problem));
        }
        self.model.tokenizer.decode(ids, skip_special_tokens)
    }
}

impl Reranker {
    /// Returns the logits of a row of the model's output, one for each label. A language model that answers `yes` or
    /// `no` has one value: the logit of `yes` minus the logit of `no`.
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

    /// Tokenizes a single text, because a classifier can also read one text alone. Pairs are tokenized by
    /// [`TextModel::prepare`]. `index` is the text's index in the request.
    ///
    /// # Errors
    /// Returns [`Error::Option`] if the model has a chat template, which takes pairs only.
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
