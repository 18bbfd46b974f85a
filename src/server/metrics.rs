//! What the server counts, in Prometheus' text format.
//!
//! Names begin with `vectile_`; times are in seconds. What queues and threads know themselves is read
//! when the metrics are asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::server::models::Model;

/// Where a request spends its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// From the end of its body to its place in the budget and a thread that tokenizes.
    Admission,
    /// Tokenizing.
    Tokenize,
    /// Waiting for the GPU.
    Queue,
    /// From the batch of its first text to the rows of its last.
    Gpu,
    /// Writing the answer as JSON.
    Write,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Stage::Admission => "admission",
            Stage::Tokenize => "tokenize",
            Stage::Queue => "queue",
            Stage::Gpu => "gpu",
            Stage::Write => "write",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    method: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabels {
    model: String,
    stage: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ModelLabels {
    model: String,
}

type Counts = Family<ModelLabels, Counter>;

/// All metrics of the server.
#[derive(Debug)]
pub(crate) struct Metrics {
    requests: Family<RequestLabels, Counter>,
    seconds: Family<RouteLabels, Histogram>,
    stages: Family<StageLabels, Histogram>,
    batch_tokens: Family<ModelLabels, Histogram>,
    in_flight: Gauge,
    /// Requests whose head was read.
    seen: AtomicU64,
    connections: Gauge,
    refused_connections: Counter,
    retried: Counts,
    halved: Counts,
    losses: Counts,
    failures: Counts,
    truncated: Counts,
}

/// What is counted for one model.
#[derive(Debug, Clone)]
pub(crate) struct ModelMetrics {
    metrics: Arc<Metrics>,
    labels: ModelLabels,
}

fn seconds() -> Histogram {
    // From a quarter of a millisecond to a minute.
    Histogram::new((0..18).map(|power| 0.000_25 * f64::from(1 << power)))
}

fn tokens() -> Histogram {
    Histogram::new((4..18).map(|power| f64::from(1 << power)))
}

impl Metrics {
    pub fn new() -> Arc<Self> {
        Arc::new(Metrics {
            requests: Family::default(),
            seconds: Family::new_with_constructor(seconds),
            stages: Family::new_with_constructor(seconds),
            batch_tokens: Family::new_with_constructor(tokens),
            in_flight: Gauge::default(),
            seen: AtomicU64::new(0),
            connections: Gauge::default(),
            refused_connections: Counter::default(),
            retried: Counts::default(),
            halved: Counts::default(),
            losses: Counts::default(),
            failures: Counts::default(),
            truncated: Counts::default(),
        })
    }

    pub fn model(self: &Arc<Self>, name: &str) -> ModelMetrics {
        let labels = ModelLabels { model: name.to_owned() };
        // Those that may never be counted are there from the start, as 0.
        for counts in [&self.retried, &self.halved, &self.losses, &self.failures, &self.truncated] {
            drop(counts.get_or_create(&labels));
        }
        ModelMetrics { metrics: self.clone(), labels }
    }

    /// A request that was answered.
    pub fn answered(&self, route: &str, method: &str, status: u16, took: Duration) {
        let labels = RequestLabels { route: route.to_owned(), method: method.to_owned(), status };
        self.requests.get_or_create(&labels).inc();
        let labels = RouteLabels { route: route.to_owned() };
        self.seconds.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Counts up while what it gives lives.
    pub fn request_in_flight(&self) -> Counted {
        self.seen.fetch_add(1, Ordering::SeqCst);
        Counted::new(&self.in_flight)
    }

    /// Requests that are being answered.
    pub fn requests_in_flight(&self) -> usize {
        usize::try_from(self.in_flight.get()).unwrap_or(0)
    }

    /// Requests that came, since the start.
    pub fn requests_seen(&self) -> u64 {
        self.seen.load(Ordering::SeqCst)
    }

    /// Counts up while what it gives lives.
    pub fn connection(&self) -> Counted {
        Counted::new(&self.connections)
    }

    pub fn connection_refused(&self) {
        self.refused_connections.inc();
    }

    /// All of it as text.
    pub fn text(&self, models: &[Arc<Model>]) -> String {
        let mut registry = Registry::with_prefix("vectile");
        let r = &mut registry;
        r.register("requests", "Requests answered, by route and status", self.requests.clone());
        r.register_with_unit(
            "request_duration",
            "From the head of a request to its answer",
            Unit::Seconds,
            self.seconds.clone(),
        );
        r.register_with_unit(
            "stage_duration",
            "Where requests spend their time",
            Unit::Seconds,
            self.stages.clone(),
        );
        let help = "Tokens of a batch when it was taken from the queue";
        r.register("batch_tokens", help, self.batch_tokens.clone());
        r.register("requests_in_flight", "Requests being answered", self.in_flight.clone());
        r.register("connections", "Open connections", self.connections.clone());
        let help = "Connections refused because too many were open";
        r.register("connections_refused", help, self.refused_connections.clone());
        let help = "Texts run again with f32 activations, which passed the range of 16 bits";
        r.register("f32_fallbacks", help, self.retried.clone());
        let help = "Batches run again in smaller ones, because memory ran out";
        r.register("batches_halved", help, self.halved.clone());
        r.register("device_losses", "Times the device was lost", self.losses.clone());
        r.register("failed_texts", "Texts that came out without a vector", self.failures.clone());
        let help = "Texts cut to the length that the model takes";
        r.register("truncated_texts", help, self.truncated.clone());
        observe(r, models);
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &registry);
        text
    }
}

impl ModelMetrics {
    pub fn stage(&self, stage: Stage, took: Duration) {
        let labels = StageLabels { model: self.labels.model.clone(), stage: stage.name() };
        self.metrics.stages.get_or_create(&labels).observe(took.as_secs_f64());
    }

    pub fn batch(&self, tokens: usize) {
        self.metrics.batch_tokens.get_or_create(&self.labels).observe(tokens as f64);
    }

    pub fn retried(&self, texts: usize) {
        self.metrics.retried.get_or_create(&self.labels).inc_by(texts as u64);
    }

    pub fn halved(&self, batches: usize) {
        self.metrics.halved.get_or_create(&self.labels).inc_by(batches as u64);
    }

    pub fn lost(&self, times: u64) {
        self.metrics.losses.get_or_create(&self.labels).inc_by(times);
    }

    pub fn failed(&self, texts: usize) {
        self.metrics.failures.get_or_create(&self.labels).inc_by(texts as u64);
    }

    pub fn truncated(&self, texts: usize) {
        self.metrics.truncated.get_or_create(&self.labels).inc_by(texts as u64);
    }
}

/// One of what a gauge counts.
#[derive(Debug)]
pub(crate) struct Counted(Gauge);

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Counted(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What models know of themselves, as it is at this moment.
fn observe(r: &mut Registry, models: &[Arc<Model>]) {
    let mut gauge = |name: &str, help: &str, value: &dyn Fn(&Model) -> f64| {
        let family = Family::<ModelLabels, Gauge<f64, AtomicU64>>::default();
        for model in models {
            family.get_or_create(&labels(model)).set(value(model));
        }
        r.register(name, help, family);
    };
    let depth = |model: &Model| model.depth();
    gauge("queue_requests", "Requests waiting for the GPU", &|m| depth(m).requests as f64);
    gauge("queue_texts", "Their texts", &|m| depth(m).texts as f64);
    gauge("queue_tokens", "The tokens of those texts", &|m| depth(m).tokens as f64);
    let help = "Tokens that accepted requests are charged";
    gauge("budget_used_tokens", help, &|m| m.budget.used() as f64);
    let help = "Tokens that accepted requests may be charged";
    gauge("budget_limit_tokens", help, &|m| m.budget.limit() as f64);
    gauge("batch_token_budget", "Tokens of a full batch", &|m| m.batch_tokens() as f64);
    let help = "1 where the model is ready, 0 where it is not";
    gauge("ready", help, &|m| f64::from(u8::from(m.health.is_ready())));
    let help = "Tokens of batches as a share of full ones, since the start";
    gauge("batch_utilisation", help, &|m| {
        let full = m.progress.batches.load(Ordering::Relaxed) as f64 * m.batch_tokens() as f64;
        m.progress.tokens.load(Ordering::Relaxed) as f64 / full.max(1.0)
    });
    let mut counter = |name: &str, help: &str, value: &dyn Fn(&Model) -> f64| {
        let family = Family::<ModelLabels, Counter<f64, AtomicU64>>::default();
        for model in models {
            family.get_or_create(&labels(model)).inc_by(value(model));
        }
        r.register(name, help, family);
    };
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64;
    counter("batches", "Batches taken from the queue", &|m| count(&m.progress.batches));
    counter("tokens", "Tokens run", &|m| count(&m.progress.tokens));
    let help = "Time in which the GPU had something to run";
    counter("gpu_seconds", help, &|m| count(&m.progress.busy) / 1e9);
    let help = "Texts dropped before they were run, because their client had gone";
    counter("dropped_texts", help, &|m| m.dropped() as f64);
}

fn labels(model: &Model) -> ModelLabels {
    ModelLabels { model: model.name.clone() }
}
