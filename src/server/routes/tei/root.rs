//! `POST /`: passes a request to the route that suits the kind of the model.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::embed::EmbedRequest;
use super::{embed, score, similarity};
use crate::config::ModelKind;
use crate::server::routes::App;
use crate::server::routes::body::{JsonBytes, parse_on_thread, peek};
use crate::server::routes::error::{ApiError, ErrorBody};

/// The fields that decide which route gets the request.
#[derive(Debug, Default, Deserialize)]
struct Peek {
    model: Option<String>,
    query: Option<IgnoredAny>,
    texts: Option<IgnoredAny>,
    inputs: Option<Inputs>,
}

/// The shape of `inputs`, which distinguishes sentences to compare from other inputs.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Inputs {
    Sentences {
        #[expect(
            dead_code,
            reason = "only the presence of this field is checked; its value is not read"
        )]
        source_sentence: IgnoredAny,
    },
    Other(IgnoredAny),
}

/// Run the model, whatever its kind
///
/// As in TEI, the kind of the model selects the route that gets the request: `/embed` for an embedding model,
/// `/embed_sparse` for a sparse model, and `/embed_all` for a multi-vector model. A request for a reranker or
/// classifier goes to `/predict`. The field `model` names the model. Without this field, the first model is used. A
/// body with `query` and `texts` goes to `/rerank`. A body with `inputs.source_sentence` goes to `/similarity`.
#[utoipa::path(
    post,
    path = "/",
    tag = "text-embeddings-inference",
    request_body = EmbedRequest,
    responses((status = OK, body = Vec<Vec<f32>>), (status = "default", body = ErrorBody)),
)]
pub(crate) async fn root(State(app): State<App>, body: JsonBytes) -> Result<Response, ApiError> {
    // `body` reserves memory in the server's budget, so `body` must live until the response is made.
    let bytes = body.bytes.clone();
    // An invalid body is passed to the route too, so that the route returns its own error.
    let peek: Peek = peek(bytes.clone()).await;
    let state = State(app.clone());
    if peek.query.is_some() && peek.texts.is_some() {
        return score::rerank(state, parse_on_thread(bytes, &app).await?).await;
    }
    if matches!(peek.inputs, Some(Inputs::Sentences { .. })) {
        return similarity::similarity(state, parse_on_thread(bytes, &app).await?).await;
    }
    // If the request names no model, `named_or_first` returns the first model. The route for its kind then picks the
    // same model, because the first model is also the first of its kind.
    match app.named_or_first(peek.model.as_deref())?.kind() {
        ModelKind::Dense => embed::embed(state, parse_on_thread(bytes, &app).await?).await,
        ModelKind::Sparse => embed::embed_sparse(state, parse_on_thread(bytes, &app).await?).await,
        ModelKind::MultiVector => {
            embed::embed_all(state, parse_on_thread(bytes, &app).await?).await
        }
        ModelKind::Reranker => score::predict(state, parse_on_thread(bytes, &app).await?).await,
    }
}
