//! `/similarity`.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{TEI, TruncationDirection, check_direction};
use crate::config::ModelKind;
use crate::embedder::EmbedOptions;
use crate::server::models::{RequestRows, Texts};
use crate::server::routes::App;
use crate::server::routes::answer::{small, truncated_header};
use crate::server::routes::body::{ApiRequest, Json};
use crate::server::routes::error::{ApiError, Dialect, ErrorBody};
use crate::server::routes::openai::on_too_long;

/// A sentence and the sentences to compare it with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "inputs": {
    "source_sentence": "A cat sat on the roof.",
    "sentences": ["The cat is up there.", "The dog ran."],
}}))]
pub(crate) struct SimilarityRequest {
    inputs: SimilarityInput,
    parameters: Option<SimilarityParameters>,
    /// Name of a served model.
    model: Option<String>,
}

/// The sentences of a request.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SimilarityInput {
    source_sentence: String,
    sentences: Vec<String>,
}

/// Options of a comparison.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SimilarityParameters {
    /// Whether texts that are too long are truncated (true, the default) or refused (false).
    truncate: Option<bool>,
    /// The end at which texts are cut. Only the end of the model's own tokenizer is supported.
    truncation_direction: Option<TruncationDirection>,
    /// Name of the model's prompt to put before each text.
    prompt_name: Option<String>,
}

impl ApiRequest for SimilarityRequest {
    const DIALECT: Dialect = TEI;
}

/// Compare a sentence with others
///
/// Returns the cosine of each pair.
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
    let model = app.model(&[ModelKind::Dense], request.model.as_deref())?;
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
    let RequestRows { rows, truncated, .. } = rows.map_err(|refusal| TEI.error(refusal))?;
    let cosines: Vec<f32> = match rows.split_first() {
        Some((source, others)) => others.iter().map(|row| cosine(source, row)).collect(),
        None => Vec::new(),
    };
    Ok(truncated_header(small(&cosines)?, truncated.len()))
}

/// The cosine of two vectors; 0 if one of them is zero.
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |x: &[f32], y: &[f32]| -> f64 {
        x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
    };
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if lengths > 0.0 { (dot(a, b) / lengths) as f32 } else { 0.0 }
}
