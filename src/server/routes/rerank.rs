//! Reranking in the shape of Cohere's and Jina's APIs.

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::answer::{small, truncated_header};
use super::body::{ApiRequest, Json};
use super::error::{ApiError, Dialect, ErrorBody};
use super::openai::{Usage, on_too_long};
use super::{App, RANKING_KINDS, ranking};
use crate::server::models::ScoreScale;

/// A query and the documents to rank.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "query": "Where is the cat?",
    "documents": ["A cat sat on the roof.", "The dog ran."],
    "top_n": 1,
    "return_documents": true,
}))]
pub(crate) struct RankRequest {
    /// A reranker or multi-vector model of `GET /v1/models`. Default: the first reranker, else the first
    /// multi-vector model.
    model: Option<String>,
    query: String,
    /// Texts, or objects with a field `text`.
    documents: Vec<Document>,
    /// Number of results to return. Default: all.
    top_n: Option<usize>,
    /// Whether to return each document with its score.
    return_documents: Option<bool>,
    /// Whether pairs that are too long are truncated (true, the default) or refused (false). Extension of
    /// Cohere's and Jina's APIs.
    truncate: Option<bool>,
}

impl ApiRequest for RankRequest {
    const DIALECT: Dialect = Dialect::OpenAi;
}

/// A document to rank.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a text or an object with a `text`")]
pub(crate) enum Document {
    Text(String),
    Object(DocumentObject),
}

/// A document as an object.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub(crate) struct DocumentObject {
    text: String,
}

impl Document {
    fn into_text(self) -> String {
        match self {
            Document::Text(text) | Document::Object(DocumentObject { text }) => text,
        }
    }
}

/// Ranked documents, the most relevant first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RankResponse {
    model: String,
    results: Vec<RankedDocument>,
    usage: Usage,
}

/// The score of a document.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RankedDocument {
    /// Index of the document in the request.
    index: usize,
    relevance_score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<DocumentObject>,
}

/// Rank documents for a query
///
/// Scores are those of `vectile rerank`: a reranker's after its own activation function, a multi-vector
/// model's by MaxSim.
#[utoipa::path(
    post,
    path = "/v1/rerank",
    tag = "Cohere and Jina",
    request_body = RankRequest,
    responses((status = OK, body = RankResponse), (status = "default", body = ErrorBody)),
)]
pub(crate) async fn rerank(
    State(app): State<App>,
    Json(request): Json<RankRequest>,
) -> Result<Response, ApiError> {
    let dialect = RankRequest::DIALECT;
    let model = app.model(RANKING_KINDS, request.model.as_deref())?;
    app.check_count(dialect, "documents", request.documents.len())?;
    let top = match request.top_n {
        Some(0) => return Err(dialect.invalid("top_n", "top_n: is 0; give at least 1")),
        top => top.unwrap_or(usize::MAX),
    };
    let documents: Vec<String> = request.documents.into_iter().map(Document::into_text).collect();
    let kept = request.return_documents.unwrap_or(false).then(|| documents.clone());
    let scores = model
        .rerank(request.query, documents, ScoreScale::Model, on_too_long(request.truncate))
        .await
        .map_err(|refusal| dialect.error(refusal))?;
    let document = |index: usize| {
        let text = kept.as_ref().and_then(|texts| texts.get(index).cloned());
        text.map(|text| DocumentObject { text })
    };
    let results = ranking(&scores.rows)
        .into_iter()
        .take(top)
        .map(|(index, relevance_score)| RankedDocument {
            index,
            relevance_score,
            document: document(index),
        })
        .collect();
    let usage = Usage::of(scores.tokens);
    let answer = small(&RankResponse { model: model.name().to_owned(), results, usage })?;
    Ok(truncated_header(answer, scores.truncated.len()))
}
