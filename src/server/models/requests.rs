//! Requests: what of the budget they take, what is tokenized, what comes back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Model, What};
use crate::embedder::{
    EmbedOptions, OnTooLong, Prepared, RerankOptions, SparseEmbeddings, SparseVector,
};
use crate::error::Error;
use crate::server::metrics::Stage;
use crate::server::queue::{Answer, Full, Queue, retry_after};
use crate::tokenize::Piece;

/// Why a request has no rows.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The budget has no room for it.
    Full { full: Full, retry_after: Duration },
    /// The server is shutting down.
    Stopped,
    /// The request is at fault, or the GPU.
    Failed(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal::Failed(error)
    }
}

/// Rows of a request.
#[derive(Debug)]
pub(crate) struct Rows<R> {
    /// In the order of the texts.
    pub rows: Vec<R>,
    /// Tokens of all texts, special tokens included.
    pub tokens: usize,
    /// Indices of the texts that were cut.
    pub truncated: Vec<usize>,
}

/// What a client sends to be embedded.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Texts {
    Text(Vec<String>),
    /// Token ids, as the model's own tokenizer makes them, special tokens included.
    Ids(Vec<Vec<u32>>),
}

impl Texts {
    pub fn len(&self) -> usize {
        match self {
            Texts::Text(texts) => texts.len(),
            Texts::Ids(texts) => texts.len(),
        }
    }

    /// Tokens that may come of them, before any is tokenized: four bytes each, with two special tokens.
    fn estimate(&self, longest: usize) -> usize {
        match self {
            Texts::Text(texts) => texts.iter().map(|text| guess(text.len(), longest)).sum(),
            Texts::Ids(texts) => texts.iter().map(Vec::len).sum(),
        }
    }
}

fn guess(bytes: usize, longest: usize) -> usize {
    (bytes / 4 + 2).min(longest)
}

impl Model {
    fn longest(&self) -> usize {
        self.max_tokens().unwrap_or(usize::MAX)
    }

    /// Vectors of texts.
    pub async fn embed(
        self: &Arc<Self>,
        texts: Texts,
        options: EmbedOptions,
    ) -> Result<Rows<Vec<f32>>, Refusal> {
        let What::Embedder(embedder, queue) = &self.what else {
            return Err(self.not("an embedder"));
        };
        let estimate = texts.estimate(self.longest());
        let (tokenizes, asked) = (embedder.clone(), options.clone());
        let prepare = move || match texts {
            Texts::Text(texts) => tokenizes.prepare(&texts, &asked),
            Texts::Ids(texts) => tokenizes.prepare_ids(texts, &asked),
        };
        let mut rows = self.run(queue, Some(estimate), prepare).await?;
        let finish = |row| embedder.finish(row, &options);
        rows.rows = rows.rows.into_iter().map(finish).collect::<Result<_, _>>()?;
        Ok(rows)
    }

    /// Sparse vectors of texts.
    pub async fn embed_sparse(
        self: &Arc<Self>,
        texts: Vec<String>,
        options: EmbedOptions,
    ) -> Result<Rows<SparseVector>, Refusal> {
        let What::Sparse(encoder, queue) = &self.what else {
            return Err(self.not("a sparse encoder"));
        };
        let estimate = texts.iter().map(|text| guess(text.len(), self.longest())).sum();
        let encoder = encoder.clone();
        if encoder.looks_up(&options) {
            // Not the GPU's work, and over with the tokens.
            let look_up = move || pollster::block_on(encoder.encode_with(&texts, &options));
            let SparseEmbeddings { vectors: rows, tokens, truncated, .. } =
                self.tokenize(Instant::now(), look_up).await?;
            return Ok(Rows { rows, tokens, truncated });
        }
        self.run(queue, Some(estimate), move || encoder.prepare(&texts, &options)).await
    }

    /// A score for each document: as the model's activation makes it, or `raw`.
    pub async fn rerank(
        self: &Arc<Self>,
        query: String,
        documents: Vec<String>,
        raw: bool,
        on_too_long: OnTooLong,
    ) -> Result<Rows<f32>, Refusal> {
        let What::Reranker(reranker, queue) = &self.what else {
            return Err(self.not("a reranker"));
        };
        reranker.check_ranks()?;
        let guess = |document: &String| guess(query.len() + document.len(), self.longest());
        let estimate = documents.iter().map(guess).sum();
        let tokenizes = reranker.clone();
        let prepare = move || {
            let pairs: Vec<(&str, &str)> =
                documents.iter().map(|document| (query.as_str(), document.as_str())).collect();
            tokenizes.prepare(&pairs, &RerankOptions { on_too_long, ..RerankOptions::default() })
        };
        let Rows { rows, tokens, truncated } = self.run(queue, Some(estimate), prepare).await?;
        let score = |row| {
            let scores = if raw { row } else { reranker.finish(row) };
            scores.first().copied().ok_or_else(|| Error::Internal("a pair has no score".into()))
        };
        let rows = rows.into_iter().map(score).collect::<Result<_, _>>()?;
        Ok(Rows { rows, tokens, truncated })
    }

    /// Rows of a few texts past the budget, whatever the model gives.
    pub async fn rows_of(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, Refusal> {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let options = EmbedOptions::default();
        match &self.what {
            What::Embedder(embedder, queue) => {
                let embedder = embedder.clone();
                let prepare = move || embedder.prepare(&texts, &options);
                Ok(self.run(queue, None, prepare).await?.rows)
            }
            What::Reranker(reranker, queue) => {
                let reranker = reranker.clone();
                let prepare = move || {
                    let pairs: Vec<(&str, &str)> =
                        texts.iter().map(|text| ("What is it?", text.as_str())).collect();
                    reranker.prepare(&pairs, &RerankOptions::default())
                };
                Ok(self.run(queue, None, prepare).await?.rows)
            }
            What::Sparse(encoder, queue) => {
                let encoder = encoder.clone();
                let rows = self.run(queue, None, move || encoder.prepare(&texts, &options)).await?;
                let flat = |vector: SparseVector| {
                    let indices = vector.indices.into_iter().map(|index| index as f32);
                    indices.chain(vector.values).collect()
                };
                Ok(rows.rows.into_iter().map(flat).collect())
            }
        }
    }

    /// The tokens of texts, each with the text and its prompt joined.
    pub async fn tokens(
        &self,
        texts: Vec<String>,
        options: EmbedOptions,
        special: bool,
    ) -> Result<Vec<(String, Vec<Piece>)>, Refusal> {
        let what = self.what.clone();
        self.tokenize(Instant::now(), move || {
            let runs = what.runs();
            texts.into_iter().map(|text| runs.describe(&text, &options, special)).collect()
        })
        .await
    }

    fn not(&self, what: &str) -> Refusal {
        let problem = format!("`{}` is not {what} but of kind {}", self.name, self.kind().name());
        Refusal::Failed(Error::option("model", problem))
    }

    /// Tokenizes on a thread of its own, when there is one.
    async fn tokenize<T: Send + 'static>(
        &self,
        arrived: Instant,
        tokenize: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Refusal> {
        // It is closed never.
        let permit = self.tokenizers.clone().acquire_owned().await.map_err(|_| Refusal::Stopped)?;
        self.metrics.stage(Stage::Admission, arrived.elapsed());
        let started = Instant::now();
        let tokenized = tokio::task::spawn_blocking(move || {
            let tokenized = tokenize();
            // Held by the thread and not by the request, which may leave before it.
            drop(permit);
            tokenized
        });
        let tokenized = tokenized.await;
        self.metrics.stage(Stage::Tokenize, started.elapsed());
        Ok(tokenized.map_err(|_| Error::Internal("tokenizing panicked".into()))??)
    }

    /// Admits, tokenizes, queues and waits. Without `estimate` nothing is charged.
    async fn run<R: Send>(
        &self,
        queue: &Queue<Arc<Prepared>, R>,
        estimate: Option<usize>,
        prepare: impl FnOnce() -> Result<Vec<Result<Prepared, Error>>, Error> + Send + 'static,
    ) -> Result<Rows<R>, Refusal> {
        let arrived = Instant::now();
        let full = |full: Full| {
            let retry_after = retry_after(full.used, self.progress.rate());
            Refusal::Full { full, retry_after }
        };
        let mut charge =
            estimate.map(|tokens| self.budget.admit(tokens)).transpose().map_err(full)?;
        if self.stopped.load(Ordering::SeqCst) {
            return Err(Refusal::Stopped);
        }
        let prepare = move || prepare()?.into_iter().collect::<Result<Vec<Prepared>, Error>>();
        let prepared = self.tokenize(arrived, prepare).await?;
        let lengths: Vec<usize> = prepared.iter().map(Prepared::tokens).collect();
        let tokens = lengths.iter().sum();
        if let Some(charge) = &mut charge {
            charge.adjust(tokens).map_err(full)?;
        }
        let cut = prepared.iter().enumerate().filter(|(_, text)| text.truncated());
        let truncated: Vec<usize> = cut.map(|(index, _)| index).collect();
        self.metrics.truncated(truncated.len());
        let texts = prepared.into_iter().map(Arc::new).collect();
        let answer = queue.submit(texts, lengths, charge).await;
        let Answer { rows, queued, ran } = answer.map_err(|_| Refusal::Stopped)?;
        self.metrics.stage(Stage::Queue, queued);
        self.metrics.stage(Stage::Gpu, ran);
        let rows = rows.into_iter().collect::<Result<_, _>>()?;
        Ok(Rows { rows, tokens, truncated })
    }
}
