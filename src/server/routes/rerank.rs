//! The route `/v1/rerank`, with the requests and responses of Cohere's and Jina's APIs.

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::answer::{small, truncated_header};
use super::body::{ApiRequest, Json};
use super::error::{ApiError, Dialect, ErrorBody};
use super::openai::{Usage, on_too_long};
use super::{App, RANKING_KINDS, ranking};
use crate::embedder::OnTooLong;
use crate::server::models::ScoreScale;

/// A query and the documents to rank.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({
    "query": "Where is the cat?",
    "documents": ["A cat sat on the roof.", "The dog ran."],
    "top_n": 1,
    "return_documents": true,
}))]
pub(crate) struct RankRequest {
    /// Name of a reranker or multi-vector model that `GET /v1/models` lists. Default: the first reranker, or the first
    /// multi-vector model if there is no reranker.
    model: Option<String>,
    query: String,
    /// Texts, or objects with a field `text`.
    documents: Vec<Document>,
    /// Number of results to return. Default: all.
    top_n: Option<usize>,
    /// Whether to return each document with its score.
    return_documents: Option<bool>,
    /// Set this to true (the default) to truncate pairs that are too long, or to false to refuse them. This field
    /// extends Cohere's and Jina's APIs.
    truncate: Option<bool>,
    /// Maximum number of tokens of a document. Longer documents are truncated. Default: the model's maximum.
    max_tokens_per_doc: Option<usize>,
}

impl ApiRequest for RankRequest {
    const DIALECT: Dialect = Dialect::OpenAi;
}

/// A document to rank.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a text or an object with a field `text`")]
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
/// Scores are the same as those of `vectile rerank`. A reranker applies its own activation function to the scores. A
/// multi-vector model computes the scores by MaxSim.
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
    let question = Question {
        model: request.model,
        query: request.query,
        documents: request.documents,
        top_n: request.top_n,
        return_documents: request.return_documents.unwrap_or(false),
        max_tokens_per_doc: request.max_tokens_per_doc,
        on_too_long: on_too_long(request.truncate),
    };
    let ranking = rank(&app, RankRequest::DIALECT, question).await?;
    let usage = Usage::of(ranking.tokens);
    let answer = RankResponse { model: ranking.model, results: ranking.results, usage };
    Ok(truncated_header(small(&answer)?, ranking.truncated))
}

/// A request to rank documents, from any API whose requests have a field `documents`.
pub(super) struct Question {
    pub model: Option<String>,
    pub query: String,
    pub documents: Vec<Document>,
    pub top_n: Option<usize>,
    pub return_documents: bool,
    pub max_tokens_per_doc: Option<usize>,
    pub on_too_long: OnTooLong,
}

/// The ranked documents of a request.
pub(super) struct Ranking {
    pub model: String,
    pub results: Vec<RankedDocument>,
    /// Token count of all pairs.
    pub tokens: usize,
    /// Number of truncated pairs.
    pub truncated: usize,
}

/// Ranks the documents of a request by their scores.
pub(super) async fn rank(
    app: &App,
    dialect: Dialect,
    question: Question,
) -> Result<Ranking, ApiError> {
    let model = app.model(RANKING_KINDS, question.model.as_deref())?;
    app.check_count(dialect, "documents", question.documents.len())?;
    let top = match question.top_n {
        Some(0) => return Err(dialect.invalid("top_n", "top_n: is 0; give at least 1")),
        top => top.unwrap_or(usize::MAX),
    };
    let refused = |refusal| dialect.error(refusal).renamed("input", "documents");
    let mut documents: Vec<String> =
        question.documents.into_iter().map(Document::into_text).collect();
    let returned = question.return_documents.then(|| documents.clone());
    match question.max_tokens_per_doc {
        None => {}
        Some(0) => {
            let message = "max_tokens_per_doc: is 0; give at least 1";
            return Err(dialect.invalid("max_tokens_per_doc", message));
        }
        Some(maximum) => {
            let limited = model.limit_tokens(documents, maximum, question.on_too_long).await;
            documents = limited.map_err(refused)?;
        }
    }
    let scores = model
        .rerank(question.query, documents, ScoreScale::Model, question.on_too_long)
        .await
        .map_err(refused)?;
    let document = |index: usize| {
        let text = returned.as_ref().and_then(|texts| texts.get(index).cloned());
        text.map(|text| DocumentObject { text })
    };
    let result = |(index, relevance_score)| RankedDocument {
        index,
        relevance_score,
        document: document(index),
    };
    Ok(Ranking {
        model: model.name().to_owned(),
        results: ranking(&scores.rows).into_iter().take(top).map(result).collect(),
        tokens: scores.tokens,
        truncated: scores.truncated.len(),
    })
}
