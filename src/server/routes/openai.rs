//! OpenAI's API: vectors, and the list of models.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::answer::{json, truncated_header};
use super::body::{ApiRequest, Json};
use super::error::{ApiError, Dialect, ErrorBody};
use super::input::Input;
use super::{App, InputType};
use crate::config::ModelKind;
use crate::embedder::{EmbedOptions, OnTooLong};
use crate::server::models::Rows;

/// What to embed, and how.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "model": "all-MiniLM-L6-v2",
    "input": ["A cat sat on the roof.", "The dog ran."],
    "encoding_format": "float",
}))]
pub(crate) struct EmbeddingsRequest {
    input: Input,
    /// A model of `GET /v1/models`. Without it, the first that gives vectors.
    model: Option<String>,
    /// How vectors are written. Without it, `float`; OpenAI's own clients ask for `base64`.
    encoding_format: Option<EncodingFormat>,
    /// The first so many values of each vector, scaled to length one.
    dimensions: Option<usize>,
    /// Who asks, for OpenAI's own records. Has no effect.
    #[expect(dead_code, reason = "read, so that it must be a text")]
    user: Option<String>,
    /// Which side of a search the texts are on: the model's prompt for it goes before each. Not
    /// OpenAI's.
    input_type: Option<InputType>,
    /// The model's prompt of this name goes before each text. Not OpenAI's.
    prompt_name: Option<String>,
    /// This goes before each text. Not OpenAI's.
    prompt: Option<String>,
    /// Whether vectors are scaled to length one. Without it, as the model says. Not OpenAI's.
    normalize: Option<bool>,
    /// Texts longer than the model takes are cut and reported in `truncated` (true, the default), or
    /// an error (false). Not OpenAI's.
    truncate: Option<bool>,
}

impl ApiRequest for EmbeddingsRequest {
    const DIALECT: Dialect = Dialect::OpenAi;
}

/// How vectors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EncodingFormat {
    /// A list of numbers.
    Float,
    /// The values as little-endian float32, in base64.
    Base64,
}

/// Vectors in the order of the texts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EmbeddingsResponse {
    #[schema(example = "list")]
    object: &'static str,
    data: Vec<EmbeddingObject>,
    /// The model that made them.
    model: String,
    usage: Usage,
    /// Indices of the texts that were cut to the length the model takes; absent where none was.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    truncated: Vec<usize>,
}

/// A vector.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EmbeddingObject {
    #[schema(example = "embedding")]
    object: &'static str,
    embedding: Embedding,
    /// The text's place in the list.
    index: usize,
}

/// A vector's values.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Embedding {
    Float(Vec<f32>),
    Base64(String),
}

/// Tokens, special tokens included.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub(crate) struct Usage {
    pub prompt_tokens: usize,
    pub total_tokens: usize,
}

impl Usage {
    pub fn of(tokens: usize) -> Self {
        Usage { prompt_tokens: tokens, total_tokens: tokens }
    }
}

impl Embedding {
    fn of(row: Vec<f32>, format: EncodingFormat) -> Self {
        match format {
            EncodingFormat::Float => Embedding::Float(row),
            EncodingFormat::Base64 => {
                let bytes: Vec<u8> = row.iter().flat_map(|value| value.to_le_bytes()).collect();
                Embedding::Base64(STANDARD.encode(bytes))
            }
        }
    }
}

/// Vectors of texts
///
/// The same vectors as `vectile embed` gives, bit by bit, whoever else is asking. Token ids are
/// accepted only where the server was started with `--accept-token-ids`.
#[utoipa::path(
    post,
    path = "/v1/embeddings",
    tag = "OpenAI",
    request_body = EmbeddingsRequest,
    responses((status = OK, body = EmbeddingsResponse), (status = "default", body = ErrorBody)),
)]
pub(crate) async fn embeddings(
    State(app): State<App>,
    Json(request): Json<EmbeddingsRequest>,
) -> Result<Response, ApiError> {
    let dialect = EmbeddingsRequest::DIALECT;
    let model = app.model(ModelKind::Dense, request.model.as_deref())?;
    app.check_texts(dialect, "input", &request.input.texts)?;
    let options = EmbedOptions {
        prompt_name: request.prompt_name,
        prompt: request.prompt,
        task: request.input_type.map(InputType::task),
        truncate_dim: request.dimensions,
        normalize: request.normalize.unwrap_or(request.dimensions.is_some()),
        on_too_long: on_too_long(request.truncate),
    };
    let rows = model.embed(request.input.texts, options).await;
    let Rows { rows, tokens, truncated } =
        rows.map_err(|refusal| dialect.error(refusal).renamed("truncate_dim", "dimensions"))?;
    let format = request.encoding_format.unwrap_or(EncodingFormat::Float);
    let values = rows.iter().map(Vec::len).sum();
    let cut = truncated.len();
    let name = model.name.clone();
    let answer = move || {
        let data = rows.into_iter().enumerate().map(|(index, row)| {
            let embedding = Embedding::of(row, format);
            EmbeddingObject { object: "embedding", embedding, index }
        });
        let data = data.collect();
        EmbeddingsResponse {
            object: "list",
            data,
            model: name,
            usage: Usage::of(tokens),
            truncated,
        }
    };
    Ok(truncated_header(json(&model, values, answer).await?, cut))
}

pub(super) fn on_too_long(truncate: Option<bool>) -> OnTooLong {
    match truncate {
        Some(false) => OnTooLong::Error,
        _ => OnTooLong::Truncate,
    }
}

/// The models that are served.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelList {
    #[schema(example = "list")]
    object: &'static str,
    data: Vec<ModelObject>,
}

/// A model.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelObject {
    /// What requests call it.
    id: String,
    #[schema(example = "model")]
    object: &'static str,
    /// When it was loaded, in seconds since 1970.
    created: u64,
    owned_by: &'static str,
}

/// The models that are served
#[utoipa::path(
    get,
    path = "/v1/models",
    tag = "OpenAI",
    responses((status = OK, body = ModelList), (status = "default", body = ErrorBody)),
)]
pub(crate) async fn models(State(app): State<App>) -> Result<Response, ApiError> {
    let models = app.models()?;
    let object = |name: &str| ModelObject {
        id: name.to_owned(),
        object: "model",
        created: app.started_unix,
        owned_by: "vectile",
    };
    let data = models.iter().map(|model| object(&model.name)).collect();
    super::answer::small(&ModelList { object: "list", data })
}

/// One of the models that are served
#[utoipa::path(
    get,
    path = "/v1/models/{model}",
    tag = "OpenAI",
    params(("model" = String, Path, description = "Its id")),
    responses((status = OK, body = ModelObject), (status = "default", body = ErrorBody)),
)]
pub(crate) async fn model(
    State(app): State<App>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    // What is no UTF-8 names no model.
    let name = name.map(|Path(name)| name).unwrap_or_default();
    let model = app.named(&name)?;
    super::answer::small(&ModelObject {
        id: model.name.clone(),
        object: "model",
        created: app.started_unix,
        owned_by: "vectile",
    })
}
