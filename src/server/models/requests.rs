//! Runs a request on a model: charges the budget, tokenizes and queues the texts, and collects their rows.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::ServedModel;
use super::loaded::{QueuedText, Row};
use crate::config::ModelKind;
use crate::embedder::{EmbedOptions, EmbedTask, OnTooLong, RerankOptions, TextModel};
use crate::error::Error;
use crate::server::metrics::Stage;
use crate::server::queue::{Answer, Charge, Full, retry_after};
use crate::server::served::LoadedModel;
use crate::tokenize::Piece;

/// The reason why a request has no rows.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The unused part of the budget is too small for the request.
    Full { full: Full, retry_after: Duration },
    /// The server is shutting down.
    Stopped,
    /// The request is invalid, or running it failed.
    Failed(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal::Failed(error)
    }
}

/// The rows of a request.
#[derive(Debug)]
pub(crate) struct RequestRows<R> {
    /// One row for each text, in the order of the texts.
    pub rows: Vec<R>,
    /// Token count of all texts, special tokens included.
    pub tokens: usize,
    /// Indices of the texts that were truncated.
    pub truncated: Vec<usize>,
}

impl<R> RequestRows<R> {
    pub fn try_map<T, E>(
        self,
        convert: impl FnMut(R) -> Result<T, E>,
    ) -> Result<RequestRows<T>, E> {
        let RequestRows { rows, tokens, truncated } = self;
        let rows = rows.into_iter().map(convert).collect::<Result<_, _>>()?;
        Ok(RequestRows { rows, tokens, truncated })
    }
}

/// The texts of a request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Texts {
    Text(Vec<String>),
    /// Token ids from the model's own tokenizer, special tokens included.
    Ids(Vec<Vec<u32>>),
}

impl Texts {
    pub fn len(&self) -> usize {
        match self {
            Texts::Text(texts) => texts.len(),
            Texts::Ids(texts) => texts.len(),
        }
    }
}

/// The tokenized texts of a request, in order.
pub(super) type Tokenized = Result<Vec<QueuedText>, Error>;

impl ServedModel {
    /// Returns an estimate of the number of tokens in texts, from their lengths in bytes, before the texts are
    /// tokenized. The estimate assumes four bytes per token and two special tokens per text. For each text, the
    /// estimate is at most the model's maximum length.
    pub(super) fn estimate(&self, bytes: impl IntoIterator<Item = usize>) -> usize {
        let limit = self.model.runner().max_seq_length().unwrap_or(usize::MAX);
        bytes.into_iter().map(|bytes| (bytes / 4 + 2).min(limit)).sum()
    }

    /// Returns the tokens of each text, with the joined prompt and text from which they come.
    pub async fn tokens(
        &self,
        texts: Vec<String>,
        options: EmbedOptions,
        special: bool,
    ) -> Result<Vec<(String, Vec<Piece>)>, Refusal> {
        let model = self.model.clone();
        self.tokenize(Instant::now(), move || {
            let runs = model.runner();
            texts.into_iter().map(|text| runs.token_pieces(&text, &options, special)).collect()
        })
        .await
    }

    /// Decodes token ids and returns their texts.
    pub async fn decode(
        &self,
        ids: Vec<Vec<u32>>,
        skip_special_tokens: bool,
    ) -> Result<Vec<String>, Refusal> {
        let model = self.model.clone();
        self.tokenize(Instant::now(), move || {
            let runs = model.runner();
            let decode =
                |(text, ids): (usize, Vec<u32>)| runs.decode(text, &ids, skip_special_tokens);
            ids.into_iter().enumerate().map(decode).collect()
        })
        .await
    }

    /// Truncates texts to a maximum number of tokens, on the side on which the model's tokenizer truncates. Special
    /// tokens do not count. With [`OnTooLong::Error`], a longer text is an error instead.
    pub async fn limit_tokens(
        &self,
        texts: Vec<String>,
        maximum: usize,
        on_too_long: OnTooLong,
    ) -> Result<Vec<String>, Refusal> {
        let model = self.model.clone();
        self.tokenize(Instant::now(), move || {
            let runs = model.runner();
            // The limit counts the tokens of the texts alone, so no prompt is added.
            let options = EmbedOptions { prompt: Some(String::new()), ..EmbedOptions::default() };
            let limit = |(index, mut text): (usize, String)| {
                let (_, pieces) = runs.token_pieces(&text, &options, false)?;
                let tokens = pieces.len();
                if tokens <= maximum {
                    return Ok(text);
                }
                if on_too_long == OnTooLong::Error {
                    return Err(Error::TooLong { text: index, tokens, limit: maximum });
                }
                match runs.truncates_left() {
                    true => {
                        let start = text.ceil_char_boundary(pieces[tokens - maximum].bytes.0);
                        text.replace_range(..start, "");
                    }
                    false => {
                        let end = pieces[maximum.saturating_sub(1)].bytes.1;
                        text.truncate(text.floor_char_boundary(end));
                    }
                }
                Ok(text)
            };
            texts.into_iter().enumerate().map(limit).collect()
        })
        .await
    }

    /// Returns the refusal of a request that a model of this kind cannot serve.
    pub(super) fn wrong_kind(&self, needed: &str) -> Refusal {
        let problem =
            format!("`{}` is a model of kind {}, but {needed}", self.name, self.kind().name());
        Refusal::Failed(Error::option("model", problem))
    }

    /// Runs texts on a model of any kind, and returns the numbers in their rows. The texts are not charged to the
    /// budget.
    pub(super) async fn uncharged_rows(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, Refusal> {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let model = self.model.clone();
        let task = (self.kind() == ModelKind::MultiVector).then_some(EmbedTask::Document);
        let options = Arc::new(EmbedOptions { task, ..EmbedOptions::default() });
        let prepare = move || {
            let prepared = match &model {
                LoadedModel::Dense(embedder) => embedder.prepare(0, &strs(&texts), &options),
                LoadedModel::Sparse(encoder) => encoder.prepare(0, &strs(&texts), &options),
                LoadedModel::MultiVector(encoder) => encoder.prepare(0, &strs(&texts), &options),
                LoadedModel::Reranker(reranker) => {
                    let pairs: Vec<(&str, &str)> =
                        texts.iter().map(|text| ("What is it?", text.as_str())).collect();
                    reranker.prepare(0, &pairs, &RerankOptions::default())
                }
            };
            queued(prepared?, &options)
        };
        let rows = self.run(None, prepare).await?;
        Ok(rows.rows.into_iter().map(Row::into_numbers).collect())
    }

    /// Returns true if the model itself scales its vectors to length one.
    pub(super) fn gives_unit_vectors(&self) -> bool {
        self.kind() == ModelKind::Dense && self.model.runner().normalizes_by_default()
    }

    /// Runs `tokenize` on a blocking thread, as soon as a thread is free. `arrived` is the time at which the request
    /// was read.
    pub(super) async fn tokenize<T: Send + 'static>(
        &self,
        arrived: Instant,
        tokenize: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Refusal> {
        // `acquire_owned` fails only if the semaphore was closed. The server never closes the semaphore while it runs.
        let permit = self.tokenizers.clone().acquire_owned().await.map_err(|_| Refusal::Stopped)?;
        self.metrics.stage(Stage::Admission, arrived.elapsed());
        let started = Instant::now();
        let tokenized = tokio::task::spawn_blocking(move || {
            let tokenized = tokenize();
            // The tokenizing thread holds the permit, because the request may be dropped before the thread ends.
            drop(permit);
            tokenized
        });
        let tokenized = tokenized.await;
        self.metrics.stage(Stage::Tokenize, started.elapsed());
        Ok(tokenized.map_err(|_| Error::Internal("tokenizing panicked".into()))??)
    }

    /// Admits a request, tokenizes and queues its texts, and waits for their rows. If the estimated number
    /// of tokens is `None`, nothing is charged to the budget.
    pub(super) async fn run(
        &self,
        estimate: Option<usize>,
        prepare: impl FnOnce() -> Tokenized + Send + 'static,
    ) -> Result<RequestRows<Row>, Refusal> {
        let Admitted { texts, lengths, tokens, truncated, charge } =
            self.admit(estimate, prepare).await?;
        let texts = texts.into_iter().map(Arc::new).collect();
        let answer = self.queue.submit(texts, lengths, charge).await;
        let Answer { rows, queued, ran } = answer.map_err(|_| Refusal::Stopped)?;
        self.metrics.stage(Stage::Queue, queued);
        self.metrics.stage(Stage::Gpu, ran);
        let rows = rows.into_iter().collect::<Result<_, _>>()?;
        Ok(RequestRows { rows, tokens, truncated })
    }

    /// Admits a request and tokenizes its texts. The request is charged by the estimate first, and by its
    /// true number of tokens after tokenizing.
    async fn admit(
        &self,
        estimate: Option<usize>,
        prepare: impl FnOnce() -> Tokenized + Send + 'static,
    ) -> Result<Admitted, Refusal> {
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
        let texts = self.tokenize(arrived, prepare).await?;
        let lengths: Vec<usize> = texts.iter().map(|text| text.prepared.tokens()).collect();
        let tokens = lengths.iter().sum();
        if let Some(charge) = &mut charge {
            charge.adjust(tokens).map_err(full)?;
        }
        let cut = texts.iter().enumerate().filter(|(_, text)| text.prepared.truncated());
        let truncated: Vec<usize> = cut.map(|(index, _)| index).collect();
        self.metrics.truncated(truncated.len());
        Ok(Admitted { texts, lengths, tokens, truncated, charge })
    }
}

/// A request whose texts are tokenized and charged to the budget.
struct Admitted {
    texts: Vec<QueuedText>,
    /// Token count of each text.
    lengths: Vec<usize>,
    /// Token count of all texts.
    tokens: usize,
    /// Indices of the texts that were truncated.
    truncated: Vec<usize>,
    charge: Option<Charge>,
}

/// Returns the texts as string slices, as the tokenizer expects them.
pub(super) fn strs(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

/// Returns prepared texts with their options, or the error of the first text that cannot be run.
pub(super) fn queued(
    prepared: Vec<Result<crate::embedder::Prepared, Error>>,
    options: &Arc<EmbedOptions>,
) -> Tokenized {
    let text = |prepared| QueuedText { prepared, options: options.clone(), states: false };
    prepared.into_iter().map(|prepared| prepared.map(text)).collect()
}
