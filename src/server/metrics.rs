//! Counters, gauges and histograms in Prometheus' text format.
//!
//! Names of metrics begin with `vectile_`, and times are in seconds. Queues and threads store some values themselves.
//! These values are passed in as [`ModelGauges`] when a client requests the metrics.

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

/// A stage of a request in the server. Each stage is timed separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The time from the end of the request's body until the budget has admitted the request and a tokenizing thread is
    /// free.
    Admission,
    /// The time for tokenizing the request's texts.
    Tokenize,
    /// The time in the queue, waiting for the GPU.
    Queue,
    /// The time from the start of the batch that has the request's first text until the row of the last text arrives.
    Gpu,
    /// The time for serializing the response as JSON.
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

/// Values that a model stores itself, as they are when the metrics are requested.
#[derive(Debug, Clone)]
pub(crate) struct ModelGauges {
    /// Name of the model.
    pub name: String,
    pub queue_requests: usize,
    pub queue_texts: usize,
    pub queue_tokens: usize,
    pub budget_used_tokens: usize,
    pub budget_limit_tokens: usize,
    /// Token budget of a batch.
    pub batch_token_budget: usize,
    pub ready: bool,
    /// Number of batches taken from the queue since the server started.
    pub batches: u64,
    /// Number of tokens run since the server started.
    pub tokens: u64,
    /// Total time for which the GPU was busy since the server started.
    pub gpu_busy: Duration,
    /// Number of texts dropped since the server started, because their client disconnected.
    pub dropped_texts: u64,
}

/// All metrics of the server.
#[derive(Debug)]
pub(crate) struct Metrics {
    requests: Family<RequestLabels, Counter>,
    seconds: Family<RouteLabels, Histogram>,
    stages: Family<StageLabels, Histogram>,
    batch_tokens: Family<ModelLabels, Histogram>,
    in_flight: Gauge,
    /// Number of requests whose headers were read.
    seen: AtomicU64,
    connections: Gauge,
    refused_connections: Counter,
    retried: Counts,
    halved: Counts,
    losses: Counts,
    failures: Counts,
    truncated: Counts,
}

/// The metrics of one model.
#[derive(Debug, Clone)]
pub(crate) struct ModelMetrics {
    metrics: Arc<Metrics>,
    labels: ModelLabels,
}

fn seconds() -> Histogram {
    // The bounds of the buckets double from 0.25 ms to 33 s.
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
        // Creates the counters with the value 0, so that clients see them before the first event.
        for counts in [&self.retried, &self.halved, &self.losses, &self.failures, &self.truncated] {
            drop(counts.get_or_create(&labels));
        }
        ModelMetrics { metrics: self.clone(), labels }
    }

    /// Records an answered request.
    pub fn answered(&self, route: &str, method: &str, status: u16, took: Duration) {
        let labels = RequestLabels { route: route.to_owned(), method: method.to_owned(), status };
        self.requests.get_or_create(&labels).inc();
        let labels = RouteLabels { route: route.to_owned() };
        self.seconds.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Counts a request as in flight until the returned guard is dropped.
    pub fn request_in_flight(&self) -> Counted {
        self.seen.fetch_add(1, Ordering::SeqCst);
        Counted::new(&self.in_flight)
    }

    /// Returns the number of requests that are being answered.
    pub fn requests_in_flight(&self) -> usize {
        usize::try_from(self.in_flight.get()).unwrap_or(0)
    }

    /// Returns the number of requests received since the server started.
    pub fn requests_seen(&self) -> u64 {
        self.seen.load(Ordering::SeqCst)
    }

    /// Counts a connection as open until the returned guard is dropped.
    pub fn connection(&self) -> Counted {
        Counted::new(&self.connections)
    }

    pub fn connection_refused(&self) {
        self.refused_connections.inc();
    }

    /// Returns all metrics in Prometheus' text format.
    pub fn text(&self, models: &[ModelGauges]) -> String {
        let mut registry = Registry::with_prefix("vectile");
        let r = &mut registry;
        r.register(
            "requests",
            "Requests answered, by route, method and status",
            self.requests.clone(),
        );
        r.register_with_unit(
            "request_duration",
            "Time from the arrival of a request's headers to its response",
            Unit::Seconds,
            self.seconds.clone(),
        );
        r.register_with_unit(
            "stage_duration",
            "Time that requests spend in each stage",
            Unit::Seconds,
            self.stages.clone(),
        );
        let help = "Tokens in a batch when it is taken from the queue";
        r.register("batch_tokens", help, self.batch_tokens.clone());
        r.register("requests_in_flight", "Requests being answered", self.in_flight.clone());
        r.register("connections", "Open connections", self.connections.clone());
        let help = "Connections refused because too many were open";
        r.register("connections_refused", help, self.refused_connections.clone());
        let help =
            "Texts that were run again with f32 activations because a value left the range of f16";
        r.register("f32_fallbacks", help, self.retried.clone());
        let help = "Batches that were run again as smaller batches because memory ran out";
        r.register("batches_halved", help, self.halved.clone());
        r.register(
            "device_losses",
            "Number of times that the device was lost",
            self.losses.clone(),
        );
        r.register("failed_texts", "Texts that failed and have no vector", self.failures.clone());
        let help = "Texts truncated to the model's maximum length";
        r.register("truncated_texts", help, self.truncated.clone());
        observe(r, models);
        let mut text = String::new();
        // Writing to a string cannot fail, so the result is ignored.
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

/// A guard that adds one to a gauge while it exists.
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

/// Registers the values that the models store themselves.
fn observe(r: &mut Registry, models: &[ModelGauges]) {
    let mut gauge = |name: &str, help: &str, value: &dyn Fn(&ModelGauges) -> f64| {
        let family = Family::<ModelLabels, Gauge<f64, AtomicU64>>::default();
        for model in models {
            family.get_or_create(&labels(model)).set(value(model));
        }
        r.register(name, help, family);
    };
    gauge("queue_requests", "Requests waiting for the GPU", &|m| m.queue_requests as f64);
    gauge("queue_texts", "Texts waiting for the GPU", &|m| m.queue_texts as f64);
    gauge("queue_tokens", "Tokens waiting for the GPU", &|m| m.queue_tokens as f64);
    let help = "Tokens of the accepted requests that count towards the model's queue limit";
    gauge("budget_used_tokens", help, &|m| m.budget_used_tokens as f64);
    let help = "The model's queue limit in tokens; a request counts as at most a quarter of it";
    gauge("budget_limit_tokens", help, &|m| m.budget_limit_tokens as f64);
    gauge("batch_token_budget", "Maximum number of tokens in a batch", &|m| {
        m.batch_token_budget as f64
    });
    let help = "1 if the model is ready, 0 if not";
    gauge("ready", help, &|m| f64::from(u8::from(m.ready)));
    let help = "Share of the batch capacity that was filled with tokens since the server started; 1 means \
                that every batch was full";
    gauge("batch_utilisation", help, &|m| {
        let full = m.batches as f64 * m.batch_token_budget as f64;
        m.tokens as f64 / full.max(1.0)
    });
    let mut counter = |name: &str, help: &str, value: &dyn Fn(&ModelGauges) -> f64| {
        let family = Family::<ModelLabels, Counter<f64, AtomicU64>>::default();
        for model in models {
            family.get_or_create(&labels(model)).inc_by(value(model));
        }
        r.register(name, help, family);
    };
    counter("batches", "Batches taken from the queue", &|m| m.batches as f64);
    counter("tokens", "Tokens that the model has run", &|m| m.tokens as f64);
    counter("gpu_seconds", "Time in which the GPU was busy", &|m| m.gpu_busy.as_secs_f64());
    let help = "Texts dropped before they were run because their client disconnected";
    counter("dropped_texts", help, &|m| m.dropped_texts as f64);
}

fn labels(model: &ModelGauges) -> ModelLabels {
    ModelLabels { model: model.name.clone() }
}
