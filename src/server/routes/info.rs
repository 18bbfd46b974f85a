//! What is served and how it does.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::answer::small;
use super::error::{ApiError, ErrorBody};
use crate::config::ModelKind;
use crate::dtype::Precision;
use crate::gpu::adapter::AdapterSummary;
use crate::server::models::Model;

/// The server and its models. Fields beside `models` and `limits` are those of
/// text-embeddings-inference, of the first model.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Info {
    version: &'static str,
    model_id: String,
    /// How weights are stored.
    model_dtype: String,
    #[schema(value_type = Object)]
    model_type: serde_json::Value,
    max_concurrent_requests: usize,
    /// Tokens a text may have; null where the model names no limit.
    max_input_length: Option<usize>,
    max_batch_tokens: usize,
    max_client_batch_size: usize,
    auto_truncate: bool,
    tokenization_workers: usize,
    limits: Limits,
    models: Vec<ModelInfo>,
}

/// What the server takes of a client.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Limits {
    max_body_bytes: usize,
    max_texts: usize,
    accepts_token_ids: bool,
}

/// A model.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelInfo {
    id: String,
    /// `embedding`, `reranker` or `sparse`.
    kind: &'static str,
    /// Values of a vector; scores of a pair for a reranker.
    dimensions: usize,
    /// Tokens a text may have; null where the model names no limit.
    max_tokens: Option<usize>,
    /// Names of its prompts that are not empty.
    prompts: Vec<String>,
    /// The prompt that is used where a request names none.
    default_prompt: Option<String>,
    ready: bool,
    /// Tokens of a full batch.
    batch_tokens: usize,
    /// Tokens that may wait.
    max_queue_tokens: usize,
    notes: Vec<String>,
    #[schema(value_type = Object)]
    adapter: AdapterSummary,
    precision: PrecisionInfo,
}

/// How a model runs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PrecisionInfo {
    /// In words.
    sentence: String,
    #[serde(flatten)]
    #[schema(value_type = Object)]
    precision: Precision,
}

fn model_info(model: &Model) -> ModelInfo {
    let runs = model.runs();
    let named = model.prompts().iter().filter(|(_, prompt)| !prompt.is_empty());
    ModelInfo {
        id: model.name.clone(),
        kind: model.kind().name(),
        dimensions: model.dimension(),
        max_tokens: model.max_tokens(),
        prompts: named.map(|(name, _)| name.clone()).collect(),
        default_prompt: runs.default_prompt_name().map(str::to_owned),
        ready: model.health.is_ready(),
        batch_tokens: model.batch_tokens(),
        max_queue_tokens: model.budget.limit(),
        notes: runs.notes().to_vec(),
        adapter: model.adapter().clone(),
        precision: PrecisionInfo {
            sentence: model.precision().to_string(),
            precision: model.precision().clone(),
        },
    }
}

/// What is served, on which adapter and in which precision
#[utoipa::path(
    get,
    path = "/info",
    tag = "text-embeddings-inference",
    responses((status = OK, body = Info), (status = "default", body = ErrorBody)),
)]
pub(crate) async fn info(State(app): State<App>) -> Result<Response, ApiError> {
    let models = app.models()?;
    let first = app.first()?;
    let model_type = match first.kind() {
        ModelKind::Dense => {
            serde_json::json!({ "embedding": { "pooling": first.runs().pooling() } })
        }
        ModelKind::Sparse => serde_json::json!({ "embedding": { "pooling": "splade" } }),
        ModelKind::MultiVector => serde_json::json!({ "embedding": { "pooling": "none" } }),
        ModelKind::Reranker => {
            serde_json::json!({ "reranker": { "id2label": {}, "label2id": {} } })
        }
    };
    small(&Info {
        version: env!("CARGO_PKG_VERSION"),
        model_id: first.name.clone(),
        model_dtype: first.precision().weights.to_string(),
        model_type,
        max_concurrent_requests: app.options.max_connections,
        max_input_length: first.max_tokens(),
        max_batch_tokens: first.batch_tokens(),
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

/// How the server stands.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Standing {
    #[schema(example = "ready")]
    status: &'static str,
}

/// Whether the process lives
#[utoipa::path(
    get,
    path = "/health/live",
    tag = "Health",
    responses((status = OK, body = Standing)),
)]
pub(crate) async fn live() -> Result<Response, ApiError> {
    small(&Standing { status: "live" })
}

/// Whether requests can be relied on to be answered
///
/// Every model has run lately, or runs now, and gives the bits it gave when it was loaded. 503 while
/// models load, from the loss of a device until a pass on the device opened in its place is right
/// again, and once the server is shutting down.
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
            let message = format!("{}: {problem}", model.name);
            return Err(ApiError::unavailable("not_ready", message));
        }
    }
    small(&Standing { status: "ready" })
}

/// As `/health/ready`
#[utoipa::path(
    get,
    path = "/health",
    tag = "text-embeddings-inference",
    responses((status = OK, body = Standing), (status = "default", body = ErrorBody)),
)]
pub(crate) async fn health(state: State<App>) -> Result<Response, ApiError> {
    ready(state).await
}

/// Counts and times, in Prometheus' text format
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "Health",
    responses((status = OK, body = String, content_type = "text/plain")),
)]
pub(crate) async fn metrics(State(app): State<App>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let text = app.metrics.text(app.models().unwrap_or_default());
    (StatusCode::OK, [(CONTENT_TYPE, HeaderValue::from_static(kind))], text).into_response()
}
