//! Facts about the server: `/info`, health and metrics.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::App;
use super::answer::small;
use super::error::{ApiError, ErrorBody};
use crate::config::ModelKind;
use crate::dtype::Precision;
use crate::gpu::adapter::AdapterSummary;
use crate::server::models::{ModelDescription, ServedModel};

/// Facts about the server and its models. All fields except `models` and `limits` come from the API of
/// text-embeddings-inference and describe the first model.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Info {
    version: &'static str,
    model_id: String,
    /// Storage dtype of the weights.
    model_dtype: String,
    #[schema(value_type = Object)]
    model_type: serde_json::Value,
    max_concurrent_requests: usize,
    /// Maximum number of tokens of a text, or null if the model names no limit.
    max_input_length: Option<usize>,
    max_batch_tokens: usize,
    max_client_batch_size: usize,
    auto_truncate: bool,
    tokenization_workers: usize,
    limits: Limits,
    models: Vec<ModelInfo>,
}

/// Limits on a client's requests.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Limits {
    max_body_bytes: usize,
    max_texts: usize,
    accepts_token_ids: bool,
}

/// Facts about a served model.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelInfo {
    id: String,
    /// The kind of the model: `embedding`, `reranker`, `sparse` or `multi-vector`.
    kind: &'static str,
    /// Number of values in a vector. For a reranker, this is the number of scores of a pair.
    dimensions: usize,
    /// Maximum number of tokens of a text, or null if the model names no limit.
    max_tokens: Option<usize>,
    /// Names of the model's prompts that are not empty.
    prompts: Vec<String>,
    /// Name of the prompt that is used if a request names no prompt.
    default_prompt: Option<String>,
    ready: bool,
    /// Token budget of a batch.
    batch_tokens: usize,
    /// Token budget of the queue.
    max_queue_tokens: usize,
    /// Assumptions made where the model's files are silent.
    notes: Vec<String>,
    #[schema(value_type = Object)]
    adapter: AdapterSummary,
    precision: PrecisionInfo,
}

/// The precision in which a model runs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PrecisionInfo {
    /// The precision as a sentence.
    sentence: String,
    #[serde(flatten)]
    #[schema(value_type = Object)]
    precision: Precision,
}

fn model_info(model: &ServedModel) -> ModelInfo {
    let described = model.describe();
    let named = described.prompts.into_iter().filter(|(_, prompt)| !prompt.is_empty());
    ModelInfo {
        id: model.name().to_owned(),
        kind: described.kind.name(),
        dimensions: described.dimension,
        max_tokens: described.max_tokens,
        prompts: named.map(|(name, _)| name).collect(),
        default_prompt: described.default_prompt,
        ready: described.ready,
        batch_tokens: described.batch_tokens,
        max_queue_tokens: described.max_queue_tokens,
        notes: described.notes,
        adapter: described.adapter,
        precision: PrecisionInfo {
            sentence: described.precision.to_string(),
            precision: described.precision,
        },
    }
}

/// Returns the model's type, as text-embeddings-inference writes it.
fn model_type(described: &ModelDescription) -> serde_json::Value {
    let pooling = match described.kind {
        ModelKind::Dense => described.pooling.as_str(),
        ModelKind::Sparse => "splade",
        // A multi-vector model does not pool, and text-embeddings-inference has no name for that.
        ModelKind::MultiVector => "none",
        ModelKind::Reranker => {
            let labels = described.labels.iter().enumerate();
            let id2label: BTreeMap<String, &String> =
                labels.clone().map(|(id, label)| (id.to_string(), label)).collect();
            let label2id: BTreeMap<&String, usize> =
                labels.map(|(id, label)| (label, id)).collect();
            let name = if described.labels.len() == 1 { "reranker" } else { "classifier" };
            return json!({ name: { "id2label": id2label, "label2id": label2id } });
        }
    };
    json!({ "embedding": { "pooling": pooling } })
}

/// Show the served models, their adapters and precisions
#[utoipa::path(
    get,
    path = "/info",
    tag = "text-embeddings-inference",
    responses((status = OK, body = Info), (status = "default", body = ErrorBody)),
)]
pub(crate) async fn info(State(app): State<App>) -> Result<Response, ApiError> {
    let models = app.models()?;
    let first = app.first()?;
    let described = first.describe();
    small(&Info {
        version: env!("CARGO_PKG_VERSION"),
        model_id: first.name().to_owned(),
        model_dtype: described.precision.weights.to_string(),
        model_type: model_type(&described),
        max_concurrent_requests: app.options.max_connections,
        max_input_length: described.max_tokens,
        max_batch_tokens: described.batch_tokens,
        max_client_batch_size: app.options.max_texts,
        auto_truncate: true,
        tokenization_workers: app.tokenizing_threads,
        limits: Limits {
            max_body_bytes: app.options.max_body_bytes,
            max_texts: app.options.max_texts,
            accepts_token_ids: app.options.accept_token_ids,
        },
        models: models.iter().map(|model| model_info(model)).collect(),
    })
}

/// The state of the server.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Standing {
    #[schema(example = "ready")]
    status: &'static str,
}

/// Tell whether the process is running
#[utoipa::path(
    get,
    path = "/health/live",
    tag = "Health",
    responses((status = OK, body = Standing)),
)]
pub(crate) async fn live() -> Result<Response, ApiError> {
    small(&Standing { status: "live" })
}

/// Tell whether every model is ready
///
/// A model is ready if it returned a row recently or is running a batch. Otherwise a probe must give a row that is
/// bit-identical to the row of the model's first pass. The response is 503 while models load and while the server shuts
/// down. After the loss of a device, the response is 503 until a probe has passed on the newly opened device.
#[utoipa::path(
    get,
    path = "/health/ready",
    tag = "Health",
    responses((status = OK, body = Standing), (status = "default", body = ErrorBody)),
)]
pub(crate) async fn ready(State(app): State<App>) -> Result<Response, ApiError> {
    if app.is_stopping() {
        return Err(ApiError::unavailable("shutting_down", "the server is shutting down"));
    }
    for model in app.models()? {
        if let Err(problem) = model.check_ready().await {
            let message = format!("{}: {problem}", model.name());
            return Err(ApiError::unavailable("not_ready", message));
        }
    }
    small(&Standing { status: "ready" })
}

/// Tell whether every model is ready, like `/health/ready`
#[utoipa::path(
    get,
    path = "/health",
    tag = "text-embeddings-inference",
    responses((status = OK, body = Standing), (status = "default", body = ErrorBody)),
)]
pub(crate) async fn health(state: State<App>) -> Result<Response, ApiError> {
    ready(state).await
}

/// Show metrics in Prometheus' text format
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "Health",
    responses((status = OK, body = String, content_type = "text/plain")),
)]
pub(crate) async fn metrics(State(app): State<App>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let models = app.models().unwrap_or_default();
    let gauges: Vec<_> = models.iter().map(|model| model.gauges()).collect();
    let text = app.metrics.text(&gauges);
    (StatusCode::OK, [(CONTENT_TYPE, HeaderValue::from_static(kind))], text).into_response()
}
