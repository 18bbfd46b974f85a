//! Vectors: `/embed`, `/embed_all` and `/embed_sparse`.

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{TEI, TruncationDirection, check_direction, refused};
use crate::config::ModelKind;
use crate::embedder::EmbedOptions;
use crate::server::routes::answer::{json, truncated_header};
use crate::server::routes::body::{ApiRequest, Json};
use crate::server::routes::error::{ApiError, Dialect, ErrorBody};
use crate::server::routes::input::Input;
use crate::server::routes::openai::on_too_long;
use crate::server::routes::{App, InputType};

/// The texts to embed, and options for their vectors.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({ "inputs": ["A cat sat on the roof.", "The dog ran."] }))]
pub(crate) struct EmbedRequest {
    inputs: Input,
    /// Set this to true (the default) to truncate texts that are too long, or to false to refuse them.
    truncate: Option<bool>,
    /// The side on which texts are truncated. The model's own tokenizer must truncate on the same side.
    truncation_direction: Option<TruncationDirection>,
    /// Name of the model's prompt to put before each text.
    prompt_name: Option<String>,
    /// Whether to scale vectors to length one. Default: true.
    normalize: Option<bool>,
    /// Truncates vectors to this many values.
    dimensions: Option<usize>,
    /// Name of a served model.
    model: Option<String>,
}

/// The texts for which one vector per token is computed, and options for these vectors.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({ "inputs": ["A cat sat on the roof."] }))]
pub(crate) struct EmbedAllRequest {
    inputs: Input,
    /// Set this to true (the default) to truncate texts that are too long, or to false to refuse them.
    truncate: Option<bool>,
    /// The side on which texts are truncated. The model's own tokenizer must truncate on the same side.
    truncation_direction: Option<TruncationDirection>,
    /// Name of the model's prompt to put before each text.
    prompt_name: Option<String>,
    /// Role of the texts in a search. A multi-vector model treats texts as documents by default. This field
    /// extends TEI's API.
    input_type: Option<InputType>,
    /// Name of a served model.
    model: Option<String>,
}

/// The texts to embed as sparse vectors, and options for these vectors.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({ "inputs": ["A cat sat on the roof."] }))]
pub(crate) struct EmbedSparseRequest {
    inputs: Input,
    /// Set this to true (the default) to truncate texts that are too long, or to false to refuse them.
    truncate: Option<bool>,
    /// The side on which texts are truncated. The model's own tokenizer must truncate on the same side.
    truncation_direction: Option<TruncationDirection>,
    /// Name of the model's prompt to put before each text.
    prompt_name: Option<String>,
    /// Role of the texts in a search. Some models do not run their transformer on queries, but take the weights of a
    /// query's tokens from a table. This field extends TEI's API.
    input_type: Option<InputType>,
    /// Name of a served model.
    model: Option<String>,
}

/// One weight of a sparse vector.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SparseValue {
    /// Id of the token in the vocabulary.
    index: u32,
    value: f32,
}

impl ApiRequest for EmbedRequest {
    const DIALECT: Dialect = TEI;
}

impl ApiRequest for EmbedAllRequest {
    const DIALECT: Dialect = TEI;
}

impl ApiRequest for EmbedSparseRequest {
    const DIALECT: Dialect = TEI;
}

/// Embed texts
///
/// Returns a list of vectors, even for one text. The header `x-truncated-texts` holds the number of texts that were
/// truncated.
#[utoipa::path(
    post,
    path = "/embed",
    tag = "text-embeddings-inference",
    request_body = EmbedRequest,
    responses((status = OK, body = Vec<Vec<f32>>), (status = "default", body = ErrorBody)),
)]
pub(crate) async fn embed(
    State(app): State<App>,
    Json(request): Json<EmbedRequest>,
) -> Result<Response, ApiError> {
    let model = app.model(&[ModelKind::Dense], request.model.as_deref())?;
    app.check_texts(TEI, "inputs", &request.inputs.texts)?;
    check_direction(&model, request.truncation_direction)?;
    let options = EmbedOptions {
        prompt_name: request.prompt_name,
        truncate_dim: request.dimensions,
        normalize: request.normalize.unwrap_or(true),
        on_too_long: on_too_long(request.truncate),
        ..EmbedOptions::default()
    };
    let rows = model.embed(request.inputs.texts, options).await;
    let rows =
        rows.map_err(|refusal| refused(refusal, "inputs").renamed("truncate_dim", "dimensions"))?;
    let values = rows.rows.iter().map(Vec::len).sum();
    let answer = json(&model, values, move || rows.rows).await?;
    Ok(truncated_header(answer, rows.truncated.len()))
}

/// Embed each token of texts
///
/// Returns a list for each text, with one vector for each token. A multi-vector model returns the vectors of the tokens
/// that it does not skip, after its own projection and normalization. An embedding model returns its hidden states
/// before pooling, special tokens included.
#[utoipa::path(
    post,
    path = "/embed_all",
    tag = "text-embeddings-inference",
    request_body = EmbedAllRequest,
    responses((status = OK, body = Vec<Vec<Vec<f32>>>), (status = "default", body = ErrorBody)),
)]
pub(crate) async fn embed_all(
    State(app): State<App>,
    Json(request): Json<EmbedAllRequest>,
) -> Result<Response, ApiError> {
    let kinds = [ModelKind::MultiVector, ModelKind::Dense];
    let model = app.model(&kinds, request.model.as_deref())?;
    let texts = app.only_text(TEI, "inputs", request.inputs.texts)?;
    check_direction(&model, request.truncation_direction)?;
    let options = EmbedOptions {
        prompt_name: request.prompt_name,
        task: request.input_type.map(InputType::task),
        on_too_long: on_too_long(request.truncate),
        ..EmbedOptions::default()
    };
    let rows =
        model.embed_tokens(texts, options).await.map_err(|refusal| refused(refusal, "inputs"))?;
    let values = rows.rows.iter().map(|vectors| vectors.values.len()).sum();
    let cut = rows.truncated.len();
    let answer = move || -> Vec<Vec<Vec<f32>>> {
        rows.rows.iter().map(|vectors| vectors.rows().map(<[f32]>::to_vec).collect()).collect()
    };
    Ok(truncated_header(json(&model, values, answer).await?, cut))
}

/// Embed texts as sparse vectors
#[utoipa::path(
    post,
    path = "/embed_sparse",
    tag = "text-embeddings-inference",
    request_body = EmbedSparseRequest,
    responses((status = OK, body = Vec<Vec<SparseValue>>), (status = "default", body = ErrorBody)),
)]
pub(crate) async fn embed_sparse(
    State(app): State<App>,
    Json(request): Json<EmbedSparseRequest>,
) -> Result<Response, ApiError> {
    let model = app.model(&[ModelKind::Sparse], request.model.as_deref())?;
    let texts = app.only_text(TEI, "inputs", request.inputs.texts)?;
    check_direction(&model, request.truncation_direction)?;
    let options = EmbedOptions {
        prompt_name: request.prompt_name,
        task: request.input_type.map(InputType::task),
        on_too_long: on_too_long(request.truncate),
        ..EmbedOptions::default()
    };
    let rows =
        model.embed_sparse(texts, options).await.map_err(|refusal| refused(refusal, "inputs"))?;
    let values = rows.rows.iter().map(|vector| vector.values.len()).sum();
    let cut = rows.truncated.len();
    let answer = move || -> Vec<Vec<SparseValue>> {
        let vectors = rows.rows.into_iter().map(|vector| {
            let pairs = vector.indices.into_iter().zip(vector.values);
            pairs.map(|(index, value)| SparseValue { index, value }).collect()
        });
        vectors.collect()
    };
    Ok(truncated_header(json(&model, values, answer).await?, cut))
}
