//! Computes the vectors of a request: dense vectors, sparse vectors, or one vector for each token.

use std::sync::Arc;
use std::time::Instant;

use super::ServedModel;
use super::loaded::{QueuedText, Row};
use super::requests::{Refusal, RequestRows, Texts, queued, strs};
use crate::embedder::{
    EmbedOptions, EmbedTask, Embedder, MultiVector, SparseEmbeddings, SparseVector, TextModel,
};
use crate::server::served::LoadedModel;

impl ServedModel {
    /// Computes one vector for each text with a dense model.
    pub async fn embed(
        &self,
        texts: Texts,
        options: EmbedOptions,
    ) -> Result<RequestRows<Vec<f32>>, Refusal> {
        let LoadedModel::Dense(embedder) = &self.model else {
            return Err(self.wrong_kind("this route needs a model of kind embedding"));
        };
        let estimate = match &texts {
            Texts::Text(texts) => self.estimate(texts.iter().map(String::len)),
            Texts::Ids(texts) => texts.iter().map(Vec::len).sum(),
        };
        let options = Arc::new(options);
        let (tokenizes, asked) = (embedder.clone(), options.clone());
        let prepare = move || {
            let prepared = match texts {
                Texts::Text(texts) => tokenizes.prepare(0, &strs(&texts), &asked),
                Texts::Ids(texts) => tokenizes.prepare_ids(texts, &asked),
            };
            queued(prepared?, &asked)
        };
        let rows = self.run(Some(estimate), prepare).await?;
        Ok(rows.try_map(|row| embedder.finish_row(&row.into_values()?, &options))?)
    }

    /// Computes one sparse vector for each text with a sparse encoder.
    pub async fn embed_sparse(
        &self,
        texts: Vec<String>,
        options: EmbedOptions,
    ) -> Result<RequestRows<SparseVector>, Refusal> {
        let LoadedModel::Sparse(encoder) = &self.model else {
            return Err(self.wrong_kind("this route needs a model of kind sparse"));
        };
        let estimate = self.estimate(texts.iter().map(String::len));
        let encoder = encoder.clone();
        if encoder.looks_up(&options) {
            // This model looks up the weights of queries in a table, so a query needs only the tokenizer
            // and no GPU.
            let look_up = move || pollster::block_on(encoder.encode_with(&texts, &options));
            let SparseEmbeddings { vectors: rows, tokens, truncated, .. } =
                self.tokenize(Instant::now(), look_up).await?;
            return Ok(RequestRows { rows, tokens, truncated });
        }
        let options = Arc::new(options);
        let prepare = move || queued(encoder.prepare(0, &strs(&texts), &options)?, &options);
        let rows = self.run(Some(estimate), prepare).await?;
        Ok(rows.try_map(Row::into_sparse)?)
    }

    /// Returns one vector for each token of each text. A multi-vector encoder returns a vector for each token that it
    /// does not skip. A dense model returns the hidden states before pooling, including those of special tokens.
    ///
    /// Texts are documents for a multi-vector encoder, unless `options` name a task.
    pub async fn embed_tokens(
        &self,
        texts: Vec<String>,
        mut options: EmbedOptions,
    ) -> Result<RequestRows<MultiVector>, Refusal> {
        match &self.model {
            LoadedModel::MultiVector(encoder) => {
                options.task.get_or_insert(EmbedTask::Document);
                let estimate = self.estimate(texts.iter().map(String::len));
                let (encoder, options) = (encoder.clone(), Arc::new(options));
                let prepare =
                    move || queued(encoder.prepare(0, &strs(&texts), &options)?, &options);
                let rows = self.run(Some(estimate), prepare).await?;
                Ok(rows.try_map(Row::into_multi_vector)?)
            }
            LoadedModel::Dense(embedder) => {
                self.hidden_states(embedder.clone(), texts, options).await
            }
            LoadedModel::Reranker(_) | LoadedModel::Sparse(_) => {
                Err(self.wrong_kind("this route needs a model of kind multi-vector or embedding"))
            }
        }
    }

    /// Returns the hidden states of a dense model for each token. The texts wait in the queue like other texts, but
    /// each runs alone, because batches return pooled rows.
    async fn hidden_states(
        &self,
        embedder: Arc<Embedder>,
        texts: Vec<String>,
        options: EmbedOptions,
    ) -> Result<RequestRows<MultiVector>, Refusal> {
        let estimate = self.estimate(texts.iter().map(String::len));
        let options = Arc::new(options);
        let prepare = move || {
            let texts = queued(embedder.prepare(0, &strs(&texts), &options)?, &options)?;
            Ok(texts.into_iter().map(QueuedText::for_states).collect())
        };
        let rows = self.run(Some(estimate), prepare).await?;
        Ok(rows.try_map(Row::into_multi_vector)?)
    }
}
