//! Served models. Each model has its own thread, queue, budget and health.
//!
//! [`ServedModel`] is the only type of this module that routes use. `ServedModel` has the model's name, kind and
//! description, and one method for each kind of request. Routes have no access to the tokenizer, the queue and the GPU.

mod describe;
mod embed;
mod health;
mod loaded;
mod requests;
mod score;

use std::borrow::Borrow;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;

use tokio::sync::Semaphore;

use crate::embedder::Prepared;
use crate::error::Error;
use crate::server::metrics::{Metrics, ModelMetrics};
use crate::server::queue::{Budget, Progress, Queue, work};
use crate::server::served::{LoadedModel, Served};
pub(crate) use describe::ModelDescription;
use health::Health;
use loaded::{QueuedText, Row};
pub(crate) use requests::{Refusal, RequestRows, Texts};
pub(crate) use score::{ScoreScale, ScoredInput};

/// The default size of a model's queue, in batches.
const DEFAULT_QUEUED_BATCHES: usize = 12;

/// A served model: the handle through which routes use it.
#[derive(Debug)]
pub(crate) struct ServedModel {
    name: String,
    model: LoadedModel,
    queue: Queue<Arc<QueuedText>, Row>,
    budget: Arc<Budget>,
    progress: Progress,
    health: Health,
    metrics: ModelMetrics,
    /// Limits the number of threads that tokenize at the same time, for all models together.
    tokenizers: Arc<Semaphore>,
    stopped: AtomicBool,
}

impl ServedModel {
    /// Starts the model's thread.
    pub fn start(
        served: Served,
        max_queue_tokens: Option<usize>,
        tokenizers: Arc<Semaphore>,
        metrics: &Arc<Metrics>,
    ) -> (Arc<Self>, JoinHandle<()>) {
        let Served { name, model } = served;
        let batch_tokens = model.runner().batch_tokens();
        let default_limit = batch_tokens.saturating_mul(DEFAULT_QUEUED_BATCHES);
        let served = Arc::new(ServedModel {
            queue: Queue::new(batch_tokens),
            budget: Budget::new(max_queue_tokens.unwrap_or(default_limit)),
            progress: Progress::new(),
            health: Health::default(),
            metrics: metrics.model(&name),
            name,
            model,
            tokenizers,
            stopped: AtomicBool::new(false),
        });
        let worker = served.clone();
        let thread = std::thread::spawn(move || worker.work());
        (served, thread)
    }

    /// Runs queued texts until the queue is closed and empty.
    fn work(&self) {
        work(&self.queue, &self.progress, |more, take| {
            // Rows arrive in the order of the texts, so a queue of the running texts tells which text a row belongs to.
            let running = RefCell::new(VecDeque::new());
            let more = || {
                let texts = more();
                let tokens: usize = texts.iter().map(|text| text.prepared.tokens()).sum();
                if tokens > 0 {
                    self.metrics.batch(tokens);
                }
                running.borrow_mut().extend(texts.iter().cloned());
                let texts: Vec<Running> = texts.into_iter().map(Running).collect();
                Ok((!texts.is_empty()).then_some(texts))
            };
            let take = |_: &Prepared, row: Result<&[f32], Error>| {
                let text: Option<Arc<QueuedText>> = running.borrow_mut().pop_front();
                let text = text.ok_or_else(|| {
                    Error::Internal(
                        "the model returned more rows than the batch has texts".to_owned(),
                    )
                })?;
                let row = row.and_then(|row| self.model.keep(&text, row));
                if row.is_err() {
                    self.metrics.failed(1);
                }
                take(row);
                Ok(())
            };
            match pollster::block_on(self.model.runner().run(more, take)) {
                Ok(met) => {
                    self.metrics.retried(met.retried);
                    self.metrics.halved(met.halved);
                    Ok(())
                }
                Err(error) => {
                    if !matches!(error, Error::OutOfMemory { .. }) {
                        self.health.fail(error.to_string());
                    }
                    Err(error)
                }
            }
        });
        if let Some(rechecked) = self.model.runner().rechecked() {
            tracing::info!(model = self.name, %rechecked, "the model was stopped");
        }
    }
}

/// A queued text while the GPU runs it.
struct Running(Arc<QueuedText>);

impl Borrow<Prepared> for Running {
    fn borrow(&self) -> &Prepared {
        &self.0.prepared
    }
}
