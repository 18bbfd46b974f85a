//! The API of Hugging Face's text-embeddings-inference.
//!
//! Its requests name no model: the first that does what is asked is meant, or that of the field
//! `model`, which is ours.

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::answer::{json, small, truncated_header};
use super::body::{ApiRequest, Json};
use super::error::{ApiError, Dialect, ErrorBody};
use super::input::Input;
use super::openai::on_too_long;
use super::{App, InputType, ranking};
use crate::config::ModelKind;
use crate::embedder::EmbedOptions;
use crate::server::models::{Model, Rows, Texts};

/// Which end of a text is kept where it is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
pub(crate) enum TruncationDirection {
    #[serde(alias = "left")]
    Left,
    #[serde(alias = "right")]
    Right,
}

/// Texts for vectors.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "inputs": ["A cat sat on the roof.", "The dog ran."] }))]
pub(crate) struct EmbedRequest {
    inputs: Input,
    /// Texts longer than the model takes are cut (true, the default) or an error (false).
    truncate: Option<bool>,
    /// Which side is cut: that of the model's tokenizer, anything else is an error.
    truncation_direction: Option<TruncationDirection>,
    /// The model's prompt of this name goes before each text.
    prompt_name: Option<String>,
    /// Whether vectors are scaled to length one: true, unless said otherwise.
    normalize: Option<bool>,
    /// The first so many values of each vector.
    dimensions: Option<usize>,
    /// Which of the served models.
    model: Option<String>,
}

/// Texts for sparse vectors.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "inputs": ["A cat sat on the roof."] }))]
pub(crate) struct EmbedSparseRequest {
    inputs: Input,
    /// Texts longer than the model takes are cut (true, the default) or an error (false).
    truncate: Option<bool>,
    /// Which side is cut: that of the model's tokenizer, anything else is an error.
    truncation_direction: Option<TruncationDirection>,
    /// The model's prompt of this name goes before each text.
    prompt_name: Option<String>,
    /// Which side of a search the texts are on: some models look the weights of queries up.
    input_type: Option<InputType>,
    /// Which of the served models.
    model: Option<String>,
}

/// A weight of a sparse vector.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SparseValue {
    /// The token's id.
    index: u32,
    value: f32,
}

/// A query and texts to rank for it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "query": "Where is the cat?",
    "texts": ["A cat sat on the roof.", "The dog ran."],
}))]
pub(crate) struct RerankRequest {
    query: String,
    texts: Vec<String>,
    /// Pairs longer than the model takes are cut (true, the default) or an error (false).
    truncate: Option<bool>,
    /// Which side is cut: that of the model's tokenizer, anything else is an error.
    truncation_direction: Option<TruncationDirection>,
    /// Scores without the model's activation function.
    #[serde(default)]
    raw_scores: bool,
    /// Texts come back with their scores.
    #[serde(default)]
    return_text: bool,
    /// Which of the served models.
    model: Option<String>,
}

/// A text's score.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Rank {
    /// Its place in the list.
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    score: f32,
}

/// A sentence, and those to compare it with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "inputs": {
    "source_sentence": "A cat sat on the roof.",
    "sentences": ["The cat is up there.", "The dog ran."],
}}))]
pub(crate) struct SimilarityRequest {
    inputs: SimilarityInput,
    parameters: Option<SimilarityParameters>,
    /// Which of the served models.
    model: Option<String>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SimilarityInput {
    source_sentence: String,
    sentences: Vec<String>,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SimilarityParameters {
    /// Texts longer than the model takes are cut (true, the default) or an error (false).
    truncate: Option<bool>,
    /// Which side is cut: that of the model's tokenizer, anything else is an error.
    truncation_direction: Option<TruncationDirection>,
    /// The model's prompt of this name goes before each text.
    prompt_name: Option<String>,
}

/// Texts to cut into tokens.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "inputs": "A cat sat on the roof." }))]
pub(crate) struct TokenizeRequest {
    inputs: Input,
    /// With the special tokens that the model's tokenizer adds: true, unless said otherwise.
    add_special_tokens: Option<bool>,
    /// The model's prompt of this name goes before each text.
    prompt_name: Option<String>,
    /// Which of the served models.
    model: Option<String>,
}

/// A token.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokenObject {
    id: u32,
    /// The part of the text, or the token's own name for a special one.
    text: String,
    special: bool,
    /// Where it begins in the prompt and text joined, in bytes.
    start: Option<usize>,
    /// Where it ends.
    stop: Option<usize>,
}

macro_rules! tei {
    ($($request:ty),*) => {
        $(impl ApiRequest for $request {
            const DIALECT: Dialect = Dialect::Tei;
        })*
    };
}
tei!(EmbedRequest, EmbedSparseRequest, RerankRequest, SimilarityRequest, TokenizeRequest);

const TEI: Dialect = Dialect::Tei;

/// Cutting at another end than the tokenizer does would take another tokenizer.
fn check_direction(model: &Model, asked: Option<TruncationDirection>) -> Result<(), ApiError> {
    let own = match model.runs().truncates_left() {
        true => TruncationDirection::Left,
        false => TruncationDirection::Right,
    };
    match asked {
        Some(asked) if asked != own => {
            let message =
                format!("is {asked:?}, and the tokenizer of this model cuts at the {own:?}");
            Err(TEI.invalid("truncation_direction", message))
        }
        _ => Ok(()),
    }
}

/// Vectors of texts
///
/// A list of vectors, also for one text. How many texts were cut is in the header
/// `x-truncated-texts`.
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
    let model = app.model(ModelKind::Dense, request.model.as_deref())?;
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
    let rows = rows.map_err(|refusal| TEI.error(refusal).renamed("truncate_dim", "dimensions"))?;
    let values = rows.rows.iter().map(Vec::len).sum();
    let answer = json(&model, values, move || rows.rows).await?;
    Ok(truncated_header(answer, rows.truncated.len()))
}

/// Sparse vectors of texts
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
    let model = app.model(ModelKind::Sparse, request.model.as_deref())?;
    let texts = app.only_text(TEI, "inputs", request.inputs.texts)?;
    check_direction(&model, request.truncation_direction)?;
    let options = EmbedOptions {
        prompt_name: request.prompt_name,
        task: request.input_type.map(InputType::task),
        on_too_long: on_too_long(request.truncate),
        ..EmbedOptions::default()
    };
    let rows = model.embed_sparse(texts, options).await.map_err(|refusal| TEI.error(refusal))?;
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

/// Texts by their relevance to a query
#[utoipa::path(
    post,
    path = "/rerank",
    tag = "text-embeddings-inference",
    request_body = RerankRequest,
    responses((status = OK, body = Vec<Rank>), (status = "default", body = ErrorBody)),
)]
pub(crate) async fn rerank(
    State(app): State<App>,
    Json(request): Json<RerankRequest>,
) -> Result<Response, ApiError> {
    let model = app.model(ModelKind::Reranker, request.model.as_deref())?;
    app.check_count(TEI, "texts", request.texts.len())?;
    check_direction(&model, request.truncation_direction)?;
    let kept = request.return_text.then(|| request.texts.clone());
    let scores = model
        .rerank(request.query, request.texts, request.raw_scores, on_too_long(request.truncate))
        .await
        .map_err(|refusal| TEI.error(refusal))?;
    let text = |index: usize| kept.as_ref().and_then(|texts| texts.get(index).cloned());
    let ranked: Vec<Rank> = ranking(&scores.rows)
        .into_iter()
        .map(|(index, score)| Rank { index, text: text(index), score })
        .collect();
    Ok(truncated_header(small(&ranked)?, scores.truncated.len()))
}

/// Cosines of a sentence with others
#[utoipa::path(
    post,
    path = "/similarity",
    tag = "text-embeddings-inference",
    request_body = SimilarityRequest,
    responses((status = OK, body = Vec<f32>), (status = "default", body = ErrorBody)),
)]
pub(crate) async fn similarity(
    State(app): State<App>,
    Json(request): Json<SimilarityRequest>,
) -> Result<Response, ApiError> {
    let model = app.model(ModelKind::Dense, request.model.as_deref())?;
    let SimilarityInput { source_sentence, sentences } = request.inputs;
    app.check_count(TEI, "inputs.sentences", sentences.len())?;
    let parameters = request.parameters.unwrap_or_default();
    check_direction(&model, parameters.truncation_direction)?;
    let options = EmbedOptions {
        prompt_name: parameters.prompt_name,
        on_too_long: on_too_long(parameters.truncate),
        ..EmbedOptions::default()
    };
    let texts = std::iter::once(source_sentence).chain(sentences).collect();
    let rows = model.embed(Texts::Text(texts), options).await;
    let Rows { rows, truncated, .. } = rows.map_err(|refusal| TEI.error(refusal))?;
    let cosines: Vec<f32> = match rows.split_first() {
        Some((source, others)) => others.iter().map(|row| cosine(source, row)).collect(),
        None => Vec::new(),
    };
    Ok(truncated_header(small(&cosines)?, truncated.len()))
}

/// 0 with a vector of zeros.
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |x: &[f32], y: &[f32]| -> f64 {
        x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
    };
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if lengths > 0.0 { (dot(a, b) / lengths) as f32 } else { 0.0 }
}

/// Tokens of texts
///
/// All of them: nothing is cut to the length the model takes.
#[utoipa::path(
    post,
    path = "/tokenize",
    tag = "text-embeddings-inference",
    request_body = TokenizeRequest,
    responses((status = OK, body = Vec<Vec<TokenObject>>), (status = "default", body = ErrorBody)),
)]
pub(crate) async fn tokenize(
    State(app): State<App>,
    Json(request): Json<TokenizeRequest>,
) -> Result<Response, ApiError> {
    let model = match &request.model {
        Some(name) => app.named(name)?,
        None => app.first()?,
    };
    let texts = app.only_text(TEI, "inputs", request.inputs.texts)?;
    let special = request.add_special_tokens.unwrap_or(true);
    let options = EmbedOptions { prompt_name: request.prompt_name, ..EmbedOptions::default() };
    let tokens =
        model.tokens(texts, options, special).await.map_err(|refusal| TEI.error(refusal))?;
    let object = |(joined, pieces): (String, Vec<crate::tokenize::Piece>)| -> Vec<TokenObject> {
        let pieces = pieces.into_iter().map(|piece| {
            let (start, stop) = piece.bytes;
            let part = joined.as_bytes().get(start..stop).filter(|_| !piece.special);
            let text = part.map_or(piece.token, |part| String::from_utf8_lossy(part).into_owned());
            let span = |at: usize| (!piece.special).then_some(at);
            TokenObject {
                id: piece.id,
                text,
                special: piece.special,
                start: span(start),
                stop: span(stop),
            }
        });
        pieces.collect()
    };
    let count = tokens.iter().map(|(_, pieces)| pieces.len()).sum();
    json(&model, count, move || tokens.into_iter().map(object).collect::<Vec<_>>()).await
}
