//! The route `/similarity`, which compares one sentence with others.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{TEI, TruncationDirection, check_direction, refused};
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

/// The sentence to compare, and the sentences to compare it with.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct SimilarityInput {
    source_sentence: String,
    sentences: Vec<String>,
}

/// Options of a comparison.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(crate) struct SimilarityParameters {
    /// Set this to true (the default) to truncate texts that are too long, or to false to refuse them.
    truncate: Option<bool>,
    /// The side on which texts are truncated. The model's own tokenizer must truncate on the same side.
    truncation_direction: Option<TruncationDirection>,
    /// Name of the model's prompt to put before each text.
    prompt_name: Option<String>,
}

impl ApiRequest for SimilarityRequest {
    const DIALECT: Dialect = TEI;
}

/// Compare a sentence with others
///
/// Returns the similarity of each pair by the model's own function. The model's own function is the cosine, unless the
/// model's files name another function.
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
    let RequestRows { rows, truncated, .. } = rows.map_err(|refusal| refused(refusal, "inputs"))?;
    let function = model.similarity_function();
    let scores: Vec<f32> = match rows.split_first() {
        Some((source, others)) => {
            others.iter().map(|row| function.score(source, row) as f32).collect()
        }
        None => Vec::new(),
    };
    Ok(truncated_header(small(&scores)?, truncated.len()))
}
