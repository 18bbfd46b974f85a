//! The models that are served: each with its thread, its queue and how it stands.

mod requests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use tokio::sync::Semaphore;

use crate::config::ModelKind;
use crate::dtype::Precision;
use crate::embedder::{Embedder, Prepared, Reranker, SparseEncoder, SparseVector};
use crate::error::Error;
use crate::gpu::adapter::AdapterSummary;
use crate::server::health::Health;
use crate::server::metrics::{Metrics, ModelMetrics};
use crate::server::queue::{Budget, Depth, Progress, Queue, work};
use crate::server::served::{Loaded, Served};
pub(crate) use requests::{Refusal, Rows, Texts};

/// Batches that may wait, where the options do not say.
const BATCHES_WAITING: usize = 12;

type TextQueue<R> = Arc<Queue<Arc<Prepared>, R>>;

/// What a model is, with the queue of its texts.
#[derive(Debug, Clone)]
enum What {
    Embedder(Arc<Embedder>, TextQueue<Vec<f32>>),
    Reranker(Arc<Reranker>, TextQueue<Vec<f32>>),
    Sparse(Arc<SparseEncoder>, TextQueue<SparseVector>),
}

impl What {
    fn runs(&self) -> &Embedder {
        match self {
            What::Embedder(embedder, _) => embedder,
            What::Reranker(reranker, _) => reranker.runs(),
            What::Sparse(encoder, _) => encoder.runs(),
        }
    }
}

/// A served model: its thread, its queue and how it stands.
#[derive(Debug)]
pub(crate) struct Model {
    pub name: String,
    pub budget: Arc<Budget>,
    pub progress: Arc<Progress>,
    pub health: Health,
    pub metrics: ModelMetrics,
    what: What,
    /// Threads that tokenize at once.
    tokenizers: Arc<Semaphore>,
    stopped: AtomicBool,
}

impl Model {
    /// Starts the model's thread.
    pub fn start(
        served: Served,
        max_queue_tokens: Option<usize>,
        tokenizers: Arc<Semaphore>,
        metrics: &Arc<Metrics>,
    ) -> (Arc<Self>, JoinHandle<()>) {
        let runs = match &served.what {
            Loaded::Embedder(embedder) => embedder,
            Loaded::Reranker(reranker) => reranker.runs(),
            Loaded::Sparse(encoder) => encoder.runs(),
        };
        let batch_tokens = runs.batch_tokens();
        let limit = max_queue_tokens.unwrap_or(batch_tokens.saturating_mul(BATCHES_WAITING));
        let what = match served.what {
            Loaded::Embedder(embedder) => {
                What::Embedder(embedder, Arc::new(Queue::new(batch_tokens)))
            }
            Loaded::Reranker(reranker) => {
                What::Reranker(reranker, Arc::new(Queue::new(batch_tokens)))
            }
            Loaded::Sparse(encoder) => What::Sparse(encoder, Arc::new(Queue::new(batch_tokens))),
        };
        let model = Arc::new(Model {
            budget: Budget::new(limit),
            progress: Arc::new(Progress::new()),
            health: Health::default(),
            metrics: metrics.model(&served.name),
            name: served.name,
            what,
            tokenizers,
            stopped: AtomicBool::new(false),
        });
        let works = model.clone();
        let thread = std::thread::spawn(move || works.work());
        (model, thread)
    }

    /// Runs what comes into the queue, on the thread that owns the GPU.
    fn work(&self) {
        match &self.what {
            What::Embedder(_, queue) => self.work_on(queue, |_, row| row.to_vec()),
            What::Reranker(_, queue) => self.work_on(queue, |_, row| row.to_vec()),
            // Rows are as wide as the vocabulary; what is kept of them is not.
            What::Sparse(encoder, queue) => {
                self.work_on(queue, |text, row| encoder.finish(text, row))
            }
        }
    }

    fn work_on<R>(&self, queue: &TextQueue<R>, keep: impl Fn(&Prepared, &[f32]) -> R) {
        work(queue, &self.progress, |more, take| {
            let more = || {
                let texts = more();
                let tokens: usize = texts.iter().map(|text| text.tokens()).sum();
                if tokens > 0 {
                    self.metrics.batch(tokens);
                }
                Ok((!texts.is_empty()).then_some(texts))
            };
            let take = |text: &Prepared, row: Result<&[f32], Error>| {
                if row.is_err() {
                    self.metrics.failed(1);
                }
                take(row.map(|row| keep(text, row)));
                Ok(())
            };
            match pollster::block_on(self.runs().drive(more, take)) {
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
    }

    /// Takes no more requests; those that were taken are answered.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        match &self.what {
            What::Embedder(_, queue) | What::Reranker(_, queue) => queue.close(),
            What::Sparse(_, queue) => queue.close(),
        }
    }

    /// What waits in its queue.
    pub fn depth(&self) -> Depth {
        match &self.what {
            What::Embedder(_, queue) | What::Reranker(_, queue) => queue.depth(),
            What::Sparse(_, queue) => queue.depth(),
        }
    }

    /// Texts that were dropped because their client had gone.
    pub fn dropped(&self) -> u64 {
        match &self.what {
            What::Embedder(_, queue) | What::Reranker(_, queue) => queue.dropped(),
            What::Sparse(_, queue) => queue.dropped(),
        }
    }

    pub fn kind(&self) -> ModelKind {
        match &self.what {
            What::Embedder(..) => ModelKind::Dense,
            What::Reranker(..) => ModelKind::Reranker,
            What::Sparse(..) => ModelKind::Sparse,
        }
    }

    /// What runs the model.
    pub fn runs(&self) -> &Embedder {
        self.what.runs()
    }

    pub fn adapter(&self) -> &AdapterSummary {
        self.runs().adapter()
    }

    pub fn precision(&self) -> &Precision {
        self.runs().precision()
    }

    /// Values of a vector, labels of a reranker, tokens of the vocabulary.
    pub fn dimension(&self) -> usize {
        self.runs().dimension()
    }

    pub fn max_tokens(&self) -> Option<usize> {
        self.runs().max_seq_length()
    }

    pub fn batch_tokens(&self) -> usize {
        self.runs().batch_tokens()
    }

    pub fn prompts(&self) -> &BTreeMap<String, String> {
        self.runs().prompts()
    }

    pub fn gives_unit_vectors(&self) -> bool {
        self.kind() == ModelKind::Dense && self.runs().normalizes()
    }
}
