//! Ollama's API: embeddings and facts about models.

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
use crate::server::models::{ModelDescription, RequestRows, ServedModel, Texts};

/// The texts to embed, and options for their vectors.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({ "model": "all-MiniLM-L6-v2", "input": ["A cat sat on the roof."] }))]
pub(crate) struct OllamaEmbedRequest {
    model: Option<String>,
    input: Input,
    /// Set this to true (the default) to truncate texts that are too long, or to false to refuse them.
    truncate: Option<bool>,
    /// Truncates vectors to this many values and scales them to length one.
    dimensions: Option<usize>,
    /// Settings of Ollama's own runtime. These settings have no effect here.
    #[expect(
        dead_code,
        reason = "declared so that the type of this field is checked; its value is not read"
    )]
    #[schema(value_type = Option<Object>)]
    options: Option<serde_json::Map<String, serde_json::Value>>,
    /// The time for which Ollama's own server keeps the model in memory. This field has no effect here, because models
    /// stay loaded.
    #[expect(
        dead_code,
        reason = "declared so that requests may contain this field; its value is not read"
    )]
    #[schema(value_type = Option<String>)]
    keep_alive: Option<serde_json::Value>,
}

impl ApiRequest for OllamaEmbedRequest {
    const DIALECT: Dialect = Dialect::Ollama;
}

/// Vectors that have length one, in the order of the texts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OllamaEmbedResponse {
    model: String,
    embeddings: Vec<Vec<f32>>,
    /// Duration of the request in nanoseconds.
    total_duration: u64,
    /// Always 0, because models are loaded when the server starts.
    load_duration: u64,
    /// Token count of all texts, special tokens included.
    prompt_eval_count: usize,
}

/// Embed texts as vectors of length one
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
    let model = app.model(&[ModelKind::Dense], request.model.as_deref())?;
    app.check_texts(dialect, "input", &request.input.texts)?;
    let options = EmbedOptions {
        truncate_dim: request.dimensions,
        normalize: true,
        on_too_long: on_too_long(request.truncate),
        ..EmbedOptions::default()
    };
    let rows = model.embed(request.input.texts, options).await;
    let RequestRows { rows, tokens, truncated } =
        rows.map_err(|refusal| dialect.error(refusal).renamed("truncate_dim", "dimensions"))?;
    let values = rows.iter().map(Vec::len).sum();
    let name = model.name().to_owned();
    let answer = move || OllamaEmbedResponse {
        model: name,
        embeddings: rows,
        total_duration: u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX),
        load_duration: 0,
        prompt_eval_count: tokens,
    };
    Ok(truncated_header(json(&model, values, answer).await?, truncated.len()))
}

/// A text to embed, in a request to Ollama's older route.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({ "model": "all-MiniLM-L6-v2", "prompt": "A cat sat on the roof." }))]
pub(crate) struct OllamaEmbeddingsRequest {
    model: Option<String>,
    prompt: String,
    /// Settings of Ollama's own runtime. These settings have no effect here.
    #[expect(
        dead_code,
        reason = "declared so that the type of this field is checked; its value is not read"
    )]
    #[schema(value_type = Option<Object>)]
    options: Option<serde_json::Map<String, serde_json::Value>>,
    /// The time for which Ollama's own server keeps the model in memory. This field has no effect here, because models
    /// stay loaded.
    #[expect(
        dead_code,
        reason = "declared so that requests may contain this field; its value is not read"
    )]
    #[schema(value_type = Option<String>)]
    keep_alive: Option<serde_json::Value>,
}

impl ApiRequest for OllamaEmbeddingsRequest {
    const DIALECT: Dialect = Dialect::Ollama;
}

/// The vector of a text, scaled to length one.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OllamaEmbeddingsResponse {
    embedding: Vec<f32>,
}

/// Embed one text, with Ollama's older API
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
    let model = app.model(&[ModelKind::Dense], request.model.as_deref())?;
    let options = EmbedOptions { normalize: true, ..EmbedOptions::default() };
    let rows = model.embed(Texts::Text(vec![request.prompt]), options).await;
    let RequestRows { rows, truncated, .. } = rows.map_err(|refusal| dialect.error(refusal))?;
    let embedding = rows.into_iter().next().unwrap_or_default();
    Ok(truncated_header(small(&OllamaEmbeddingsResponse { embedding })?, truncated.len()))
}

/// Version of the server.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OllamaVersion {
    version: &'static str,
}

/// Show the server's version
#[utoipa::path(
    get,
    path = "/api/version",
    tag = "Ollama",
    responses((status = OK, body = OllamaVersion), (status = "default", body = ErrorBody)),
)]
pub(crate) async fn version() -> Result<Response, ApiError> {
    small(&OllamaVersion { version: env!("CARGO_PKG_VERSION") })
}

/// The list of served models.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OllamaTags {
    models: Vec<OllamaModel>,
}

/// An entry in the list of models.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OllamaModel {
    name: String,
    model: String,
    /// The time at which the server started.
    modified_at: String,
    /// Size of the model's weights in bytes.
    size: u64,
    /// Always empty, because the server does not hash weights.
    digest: &'static str,
    details: OllamaDetails,
}

/// Facts about a model.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OllamaDetails {
    parent_model: &'static str,
    format: &'static str,
    family: &'static str,
    families: [&'static str; 1],
    /// Always empty, because the server does not count parameters.
    parameter_size: &'static str,
    /// Storage dtype of the model's weights.
    quantization_level: String,
}

fn details(described: &ModelDescription) -> OllamaDetails {
    let family = described.kind.name();
    OllamaDetails {
        parent_model: "",
        format: "safetensors",
        family,
        families: [family],
        parameter_size: "",
        quantization_level: described.precision.weights.to_string(),
    }
}

/// List the served models
#[utoipa::path(
    get,
    path = "/api/tags",
    tag = "Ollama",
    responses((status = OK, body = OllamaTags), (status = "default", body = ErrorBody)),
)]
pub(crate) async fn tags(State(app): State<App>) -> Result<Response, ApiError> {
    let modified_at = rfc3339(app.started_unix);
    let entry = |model: &ServedModel| {
        let described = model.describe();
        OllamaModel {
            name: model.name().to_owned(),
            model: model.name().to_owned(),
            modified_at: modified_at.clone(),
            size: described.precision.weight_bytes,
            digest: "",
            details: details(&described),
        }
    };
    small(&OllamaTags { models: app.models()?.iter().map(|model| entry(model)).collect() })
}

/// The request that names the model to describe.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({ "model": "all-MiniLM-L6-v2" }))]
pub(crate) struct OllamaShowRequest {
    #[serde(alias = "name")]
    model: String,
}

impl ApiRequest for OllamaShowRequest {
    const DIALECT: Dialect = Dialect::Ollama;
}

/// Facts about a model and its capabilities.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OllamaShow {
    modified_at: String,
    details: OllamaDetails,
    #[schema(value_type = Object)]
    model_info: serde_json::Map<String, serde_json::Value>,
    capabilities: Vec<&'static str>,
}

/// Describe one of the models
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
    let described = model.describe();
    let kind = described.kind.name();
    let mut model_info = serde_json::Map::new();
    model_info.insert("general.architecture".into(), kind.into());
    model_info.insert(format!("{kind}.embedding_length"), described.dimension.into());
    model_info.insert(format!("{kind}.context_length"), described.max_tokens.into());
    small(&OllamaShow {
        modified_at: rfc3339(app.started_unix),
        details: details(&described),
        model_info,
        capabilities: match described.kind {
            ModelKind::Dense => vec!["embedding"],
            ModelKind::Reranker | ModelKind::Sparse | ModelKind::MultiVector => Vec::new(),
        },
    })
}
