//! OpenAI's API: embeddings and the list of models.

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
use crate::server::models::RequestRows;

/// The texts to embed, and options for their vectors.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[schema(example = json!({
    "model": "all-MiniLM-L6-v2",
    "input": ["A cat sat on the roof.", "The dog ran."],
    "encoding_format": "float",
}))]
pub(crate) struct EmbeddingsRequest {
    input: Input,
    /// Name of a model that `GET /v1/models` lists. Default: the first embedding model.
    model: Option<String>,
    /// Encoding of the vectors. Default: `float`; OpenAI's own clients send `base64`.
    encoding_format: Option<EncodingFormat>,
    /// Truncates vectors to this many values and scales them to length one.
    dimensions: Option<usize>,
    /// The end user, for OpenAI's own records. This field has no effect here.
    #[expect(
        dead_code,
        reason = "declared so that the type of this field is checked; its value is not read"
    )]
    user: Option<String>,
    /// Role of the texts in a search, which selects the model's prompt for that role. This field extends
    /// OpenAI's API.
    input_type: Option<InputType>,
    /// Name of the model's prompt to put before each text. This field extends OpenAI's API.
    prompt_name: Option<String>,
    /// Prompt to put before each text. This field extends OpenAI's API.
    prompt: Option<String>,
    /// Whether to scale vectors to length one. By default, vectors are scaled if the model itself scales them. This
    /// field extends OpenAI's API.
    normalize: Option<bool>,
    /// Set this to true (the default) to truncate texts that are too long and report them in `truncated`, or to false
    /// to refuse them. This field extends OpenAI's API.
    truncate: Option<bool>,
}

impl ApiRequest for EmbeddingsRequest {
    const DIALECT: Dialect = Dialect::OpenAi;
}

/// An encoding of vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EncodingFormat {
    /// A JSON list of numbers.
    Float,
    /// Little-endian float32 values in base64.
    Base64,
}

/// Vectors in the order of the texts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EmbeddingsResponse {
    #[schema(example = "list")]
    object: &'static str,
    data: Vec<EmbeddingObject>,
    /// Name of the model that computed the vectors.
    model: String,
    usage: Usage,
    /// Indices of the truncated texts. This field is absent if no text was truncated.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    truncated: Vec<usize>,
}

/// The vector of one text.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EmbeddingObject {
    #[schema(example = "embedding")]
    object: &'static str,
    embedding: Embedding,
    /// Index of the text in the request.
    index: usize,
}

/// The values of a vector, in the requested encoding.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Embedding {
    Float(Vec<f32>),
    Base64(String),
}

/// Token counts, special tokens included.
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

/// Embed texts
///
/// Vectors are bit-identical to those of `vectile embed`, whatever other requests are running. Token ids
/// are accepted only if the server was started with `--accept-token-ids`.
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
    let model = app.model(&[ModelKind::Dense], request.model.as_deref())?;
    app.check_texts(dialect, "input", &request.input.texts)?;
    let options = EmbedOptions {
        prompt_name: request.prompt_name,
        prompt: request.prompt,
        task: request.input_type.map(InputType::task),
        truncate_dim: request.dimensions,
        normalize: request.normalize.unwrap_or(request.dimensions.is_some()),
        on_too_long: on_too_long(request.truncate),
        ..EmbedOptions::default()
    };
    let rows = model.embed(request.input.texts, options).await;
    let RequestRows { rows, tokens, truncated } =
        rows.map_err(|refusal| dialect.error(refusal).renamed("truncate_dim", "dimensions"))?;
    let format = request.encoding_format.unwrap_or(EncodingFormat::Float);
    let values = rows.iter().map(Vec::len).sum();
    let cut = truncated.len();
    let name = model.name().to_owned();
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

/// Embed texts
///
/// This route does the same as `/v1/embeddings`. text-embeddings-inference and Infinity also have this route.
#[utoipa::path(
    post,
    path = "/embeddings",
    tag = "OpenAI",
    request_body = EmbeddingsRequest,
    responses((status = OK, body = EmbeddingsResponse), (status = "default", body = ErrorBody)),
)]
pub(crate) async fn embeddings_alias(
    state: State<App>,
    request: Json<EmbeddingsRequest>,
) -> Result<Response, ApiError> {
    embeddings(state, request).await
}

pub(super) fn on_too_long(truncate: Option<bool>) -> OnTooLong {
    match truncate {
        Some(false) => OnTooLong::Error,
        _ => OnTooLong::Truncate,
    }
}

/// The list of served models.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelList {
    #[schema(example = "list")]
    object: &'static str,
    data: Vec<ModelObject>,
}

/// An entry in the list of models.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelObject {
    /// Name of the model in requests.
    id: String,
    #[schema(example = "model")]
    object: &'static str,
    /// The time at which the server started, in seconds since 1970.
    created: u64,
    owned_by: &'static str,
}

/// List the served models
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
    let data = models.iter().map(|model| object(model.name())).collect();
    super::answer::small(&ModelList { object: "list", data })
}

/// Show a served model
#[utoipa::path(
    get,
    path = "/v1/models/{model}",
    tag = "OpenAI",
    params(("model" = String, Path, description = "The id of the model")),
    responses((status = OK, body = ModelObject), (status = "default", body = ErrorBody)),
)]
pub(crate) async fn model(
    State(app): State<App>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    // No model has a name that is not UTF-8. Such a name is treated as an empty name, which gives the error for an
    // unknown model.
    let name = name.map(|Path(name)| name).unwrap_or_default();
    let model = app.named(&name)?;
    super::answer::small(&ModelObject {
        id: model.name().to_owned(),
        object: "model",
        created: app.started_unix,
        owned_by: "vectile",
    })
}
