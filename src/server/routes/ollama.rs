//! What Ollama's clients ask for: vectors, and what there is to ask.

use std::time::Instant;

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::answer::{json, small, truncated_header};
use super::body::{ApiRequest, Json};
use super::error::{ApiError, Dialect, ErrorBody};
use super::input::Input;
use super::openai::on_too_long;
use super::{App, rfc3339};
use crate::config::ModelKind;
use crate::embedder::EmbedOptions;
use crate::server::models::{Model, Rows, Texts};

/// Texts for vectors.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "model": "all-MiniLM-L6-v2", "input": ["A cat sat on the roof."] }))]
pub(crate) struct OllamaEmbedRequest {
    model: Option<String>,
    input: Input,
    /// Texts longer than the model takes are cut (true, the default) or an error (false).
    truncate: Option<bool>,
    /// The first so many values of each vector, scaled to length one.
    dimensions: Option<usize>,
    /// Settings of Ollama's own runtime. They have no effect.
    #[expect(dead_code, reason = "read, so that it must be an object")]
    #[schema(value_type = Option<Object>)]
    options: Option<serde_json::Map<String, serde_json::Value>>,
    /// How long Ollama keeps the model in memory. It has no effect: models stay.
    #[expect(dead_code, reason = "read, so that it is not an unknown field")]
    #[schema(value_type = Option<String>)]
    keep_alive: Option<serde_json::Value>,
}

impl ApiRequest for OllamaEmbedRequest {
    const DIALECT: Dialect = Dialect::OpenAi;
}

/// Vectors of length one, in the order of the texts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OllamaEmbedResponse {
    model: String,
    embeddings: Vec<Vec<f32>>,
    /// Nanoseconds.
    total_duration: u64,
    /// Always 0: models are loaded when the server starts.
    load_duration: u64,
    /// Tokens of all texts, special tokens included.
    prompt_eval_count: usize,
}

/// Vectors of texts
#[utoipa::path(
    post,
    path = "/api/embed",
    tag = "Ollama",
    request_body = OllamaEmbedRequest,
    responses((status = OK, body = OllamaEmbedResponse), (status = "default", body = ErrorBody)),
)]
pub(crate) async fn embed(
    State(app): State<App>,
    Json(request): Json<OllamaEmbedRequest>,
) -> Result<Response, ApiError> {
    let started = Instant::now();
    let dialect = OllamaEmbedRequest::DIALECT;
    let model = app.model(ModelKind::Dense, request.model.as_deref())?;
    app.check_texts(dialect, "input", &request.input.texts)?;
    let options = EmbedOptions {
        truncate_dim: request.dimensions,
        normalize: true,
        on_too_long: on_too_long(request.truncate),
        ..EmbedOptions::default()
    };
    let rows = model.embed(request.input.texts, options).await;
    let Rows { rows, tokens, truncated } =
        rows.map_err(|refusal| dialect.error(refusal).renamed("truncate_dim", "dimensions"))?;
    let values = rows.iter().map(Vec::len).sum();
    let name = model.name.clone();
    let answer = move || OllamaEmbedResponse {
        model: name,
        embeddings: rows,
        total_duration: u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX),
        load_duration: 0,
        prompt_eval_count: tokens,
    };
    Ok(truncated_header(json(&model, values, answer).await?, truncated.len()))
}

/// A text for a vector: the request before `/api/embed` came.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "model": "all-MiniLM-L6-v2", "prompt": "A cat sat on the roof." }))]
pub(crate) struct OllamaEmbeddingsRequest {
    model: Option<String>,
    prompt: String,
    /// Settings of Ollama's own runtime. They have no effect.
    #[expect(dead_code, reason = "read, so that it must be an object")]
    #[schema(value_type = Option<Object>)]
    options: Option<serde_json::Map<String, serde_json::Value>>,
    /// How long Ollama keeps the model in memory. It has no effect: models stay.
    #[expect(dead_code, reason = "read, so that it is not an unknown field")]
    #[schema(value_type = Option<String>)]
    keep_alive: Option<serde_json::Value>,
}

impl ApiRequest for OllamaEmbeddingsRequest {
    const DIALECT: Dialect = Dialect::OpenAi;
}

/// A vector.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OllamaEmbeddingsResponse {
    embedding: Vec<f32>,
}

/// The vector of a text
#[utoipa::path(
    post,
    path = "/api/embeddings",
    tag = "Ollama",
    request_body = OllamaEmbeddingsRequest,
    responses(
        (status = OK, body = OllamaEmbeddingsResponse),
        (status = "default", body = ErrorBody),
    ),
)]
pub(crate) async fn embeddings(
    State(app): State<App>,
    Json(request): Json<OllamaEmbeddingsRequest>,
) -> Result<Response, ApiError> {
    let dialect = OllamaEmbeddingsRequest::DIALECT;
    let model = app.model(ModelKind::Dense, request.model.as_deref())?;
    let options = EmbedOptions { normalize: true, ..EmbedOptions::default() };
    let rows = model.embed(Texts::Text(vec![request.prompt]), options).await;
    let Rows { rows, truncated, .. } = rows.map_err(|refusal| dialect.error(refusal))?;
    let embedding = rows.into_iter().next().unwrap_or_default();
    Ok(truncated_header(small(&OllamaEmbeddingsResponse { embedding })?, truncated.len()))
}

/// The version of the server.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OllamaVersion {
    version: &'static str,
}

/// The version of the server
#[utoipa::path(
    get,
    path = "/api/version",
    tag = "Ollama",
    responses((status = OK, body = OllamaVersion), (status = "default", body = ErrorBody)),
)]
pub(crate) async fn version() -> Result<Response, ApiError> {
    small(&OllamaVersion { version: env!("CARGO_PKG_VERSION") })
}

/// The models that are served.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OllamaTags {
    models: Vec<OllamaModel>,
}

/// A model.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OllamaModel {
    name: String,
    model: String,
    /// When it was loaded.
    modified_at: String,
    /// Bytes of its weights.
    size: u64,
    /// Empty: weights are not hashed.
    digest: &'static str,
    details: OllamaDetails,
}

/// What a model is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OllamaDetails {
    parent_model: &'static str,
    format: &'static str,
    family: &'static str,
    families: [&'static str; 1],
    /// Empty: parameters are not counted.
    parameter_size: &'static str,
    /// How its weights are stored.
    quantization_level: String,
}

fn details(model: &Model) -> OllamaDetails {
    let family = model.kind().name();
    OllamaDetails {
        parent_model: "",
        format: "safetensors",
        family,
        families: [family],
        parameter_size: "",
        quantization_level: model.precision().weights.to_string(),
    }
}

/// The models that are served
#[utoipa::path(
    get,
    path = "/api/tags",
    tag = "Ollama",
    responses((status = OK, body = OllamaTags), (status = "default", body = ErrorBody)),
)]
pub(crate) async fn tags(State(app): State<App>) -> Result<Response, ApiError> {
    let modified_at = rfc3339(app.started_unix);
    let model = |model: &Model| OllamaModel {
        name: model.name.clone(),
        model: model.name.clone(),
        modified_at: modified_at.clone(),
        size: model.precision().weight_bytes,
        digest: "",
        details: details(model),
    };
    small(&OllamaTags { models: app.models()?.iter().map(|m| model(m)).collect() })
}

/// A model to tell of.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({ "model": "all-MiniLM-L6-v2" }))]
pub(crate) struct OllamaShowRequest {
    #[serde(alias = "name")]
    model: String,
}

impl ApiRequest for OllamaShowRequest {
    const DIALECT: Dialect = Dialect::OpenAi;
}

/// What a model is and can do.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OllamaShow {
    modified_at: String,
    details: OllamaDetails,
    #[schema(value_type = Object)]
    model_info: serde_json::Map<String, serde_json::Value>,
    capabilities: Vec<&'static str>,
}

/// What a model is and can do
#[utoipa::path(
    post,
    path = "/api/show",
    tag = "Ollama",
    request_body = OllamaShowRequest,
    responses((status = OK, body = OllamaShow), (status = "default", body = ErrorBody)),
)]
pub(crate) async fn show(
    State(app): State<App>,
    Json(request): Json<OllamaShowRequest>,
) -> Result<Response, ApiError> {
    let model = app.named(&request.model)?;
    let kind = model.kind().name();
    let mut model_info = serde_json::Map::new();
    model_info.insert("general.architecture".into(), kind.into());
    model_info.insert(format!("{kind}.embedding_length"), model.dimension().into());
    model_info.insert(format!("{kind}.context_length"), model.max_tokens().into());
    small(&OllamaShow {
        modified_at: rfc3339(app.started_unix),
        details: details(&model),
        model_info,
        capabilities: match model.kind() {
            ModelKind::Dense => vec!["embedding"],
            ModelKind::Reranker | ModelKind::Sparse | ModelKind::MultiVector => Vec::new(),
        },
    })
}
