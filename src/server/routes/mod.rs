//! HTTP routes: one file per API, and the parts that the APIs share (bodies, errors, keys, logging).
//!
//! Routes select a model by name and [`ModelKind`], and use it only through its handle [`ServedModel`]. The
//! handle hides weights, tokenizers, queues and GPUs.

mod answer;
mod body;
mod cohere;
mod error;
mod guard;
mod info;
mod input;
mod key;
mod linger;
mod observe;
mod ollama;
mod openai;
mod rerank;
mod surrogates;
mod tei;

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::OriginalUri;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::{from_fn, from_fn_with_state, map_request};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, Any, CorsLayer};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::config::ModelKind;
use crate::embedder::EmbedTask;
use crate::server::metrics::Metrics;
use crate::server::models::{ServedModel, Texts};
use crate::server::options::ServerOptions;
use crate::server::queue::Budget;
use crate::server::{openapi, page};
pub(crate) use error::{ApiError, Dialect};

/// Memory in bytes for the request bodies of all clients together. The memory is at least twice the maximum size of one
/// body.
const BODY_BYTES: usize = 256 << 20;

/// Kinds of model that score documents for a query, in the order in which a route prefers them.
const RANKING_KINDS: &[ModelKind] = &[ModelKind::Reranker, ModelKind::MultiVector];

/// State shared by all routes.
#[derive(Debug, Clone)]
pub(crate) struct App(Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    pub options: ServerOptions,
    pub metrics: Arc<Metrics>,
    /// Budget of bytes for request bodies.
    pub bodies: Arc<Budget>,
    pub tokenizing_threads: usize,
    /// Start of the server, in seconds since 1970.
    pub started_unix: u64,
    models: OnceLock<Vec<Arc<ServedModel>>>,
    stopping: AtomicBool,
}

impl Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl App {
    pub fn new(options: ServerOptions, metrics: Arc<Metrics>, tokenizing_threads: usize) -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        App(Arc::new(Shared {
            bodies: Budget::new(BODY_BYTES.max(options.max_body_bytes.saturating_mul(2))),
            options,
            metrics,
            tokenizing_threads,
            started_unix: since.map_or(0, |since| since.as_secs()),
            models: OnceLock::new(),
            stopping: AtomicBool::new(false),
        }))
    }
}

impl Shared {
    /// Makes the models available to requests, after every model has passed its first pass.
    pub fn set_models(&self, models: Vec<Arc<ServedModel>>) {
        // `set_models` is called only once, so `set` cannot fail.
        let _ = self.models.set(models);
    }

    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Returns all models, or an error while they load.
    fn models(&self) -> Result<&[Arc<ServedModel>], ApiError> {
        let loading = || {
            ApiError::unavailable("loading", "the server is still loading its models; try again")
        };
        self.models.get().map(Vec::as_slice).ok_or_else(loading)
    }

    fn first(&self) -> Result<Arc<ServedModel>, ApiError> {
        let none =
            || ApiError::new(StatusCode::NOT_FOUND, "model_not_found", "this server has no model");
        self.models()?.first().cloned().ok_or_else(none)
    }

    /// Returns the model with this name. Ollama's clients append the tag `:latest`, which is ignored.
    fn named(&self, name: &str) -> Result<Arc<ServedModel>, ApiError> {
        let models = self.models()?;
        let untagged = name.strip_suffix(":latest").unwrap_or(name);
        let found = models.iter().find(|model| [name, untagged].contains(&model.name()));
        found.cloned().ok_or_else(|| {
            let names: Vec<&str> = models.iter().map(|model| model.name()).collect();
            let names = names.join(", ");
            let message = format!("this server has no model `{name}`; its models: {names}");
            ApiError::new(StatusCode::NOT_FOUND, "model_not_found", message).param("model")
        })
    }

    /// Returns the model with this name, or the first model if no name is given.
    fn named_or_first(&self, name: Option<&str>) -> Result<Arc<ServedModel>, ApiError> {
        name.map_or_else(|| self.first(), |name| self.named(name))
    }

    /// Returns the model with this name, if it is of one of these kinds. If no name is given, returns the
    /// first model of the first kind that is served.
    fn model(&self, kinds: &[ModelKind], name: Option<&str>) -> Result<Arc<ServedModel>, ApiError> {
        let needed = || kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(" or ");
        if let Some(name) = name {
            let model = self.named(name)?;
            if kinds.contains(&model.kind()) {
                return Ok(model);
            }
            let message = format!(
                "the model `{name}` is of kind {}; this route needs one of kind {}",
                model.kind().name(),
                needed()
            );
            return Err(
                ApiError::new(StatusCode::BAD_REQUEST, "wrong_model", message).param("model")
            );
        }
        let models = self.models()?;
        let first = |kind: &ModelKind| models.iter().find(|model| model.kind() == *kind);
        kinds.iter().find_map(first).cloned().ok_or_else(|| {
            let message =
                format!("this route needs a model of kind {}, but this server has none", needed());
            ApiError::new(StatusCode::NOT_FOUND, "model_not_found", message)
        })
    }

    /// Returns an error for an empty list of texts, and for a list with more texts than a request may have.
    fn check_count(&self, dialect: Dialect, field: &str, texts: usize) -> Result<(), ApiError> {
        if texts == 0 {
            let message = format!("{field}: is an empty list; give at least one text");
            return Err(dialect.invalid(field, message));
        }
        let maximum = self.options.max_texts;
        if texts > maximum {
            let message = format!(
                "{field}: has {texts} texts; the maximum is {maximum}, so send fewer at a time"
            );
            let error = ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_many_texts", message);
            return Err(error.param(field));
        }
        Ok(())
    }

    /// Returns an error if there are too many texts, or if there are token ids that the server does not accept.
    fn check_texts(&self, dialect: Dialect, field: &str, texts: &Texts) -> Result<(), ApiError> {
        self.check_count(dialect, field, texts.len())?;
        match texts {
            Texts::Ids(_) if !self.options.accept_token_ids => Err(token_ids(field)),
            _ => Ok(()),
        }
    }

    /// Returns the texts of a request to a route that never accepts token ids.
    fn only_text(
        &self,
        dialect: Dialect,
        field: &str,
        texts: Texts,
    ) -> Result<Vec<String>, ApiError> {
        self.check_count(dialect, field, texts.len())?;
        match texts {
            Texts::Text(texts) => Ok(texts),
            Texts::Ids(_) => {
                let message = format!("{field}: this route takes no token ids; send text");
                Err(dialect.invalid(field, message))
            }
        }
    }
}

fn token_ids(field: &str) -> ApiError {
    let message = "token ids are not accepted, because ids of another tokenizer (LangChain's \
                   OpenAIEmbeddings sends tiktoken's) would give meaningless vectors. Send text: with \
                   LangChain, set check_embedding_ctx_length=False. If the ids come from this model's own \
                   tokenizer, start the server with --accept-token-ids";
    ApiError::new(StatusCode::BAD_REQUEST, "token_ids_not_supported", message).param(field)
}

/// The role of texts in a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InputType {
    /// A query to search with.
    #[serde(alias = "search_query")]
    Query,
    /// A document to be found.
    #[serde(alias = "passage", alias = "search_document")]
    Document,
}

impl InputType {
    fn task(self) -> EmbedTask {
        match self {
            InputType::Query => EmbedTask::Query,
            InputType::Document => EmbedTask::Document,
        }
    }
}

/// Returns indices and scores, sorted from the highest score to the lowest. Equal scores keep their order.
fn ranking(scores: &[f32]) -> Vec<(usize, f32)> {
    let mut ranked: Vec<(usize, f32)> = scores.iter().copied().enumerate().collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranked
}

/// Returns a Unix time as text in RFC 3339, which Ollama's clients expect.
fn rfc3339(unix: u64) -> String {
    let second = i64::try_from(unix).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(second).unwrap_or_default().to_string()
}

/// Returns all routes of the server.
pub(crate) fn router(app: App) -> Router {
    let keyed = OpenApiRouter::new()
        .routes(routes!(openai::embeddings))
        .routes(routes!(openai::embeddings_alias))
        .routes(routes!(openai::models))
        .routes(routes!(tei::embed::embed))
        .routes(routes!(tei::embed::embed_all))
        .routes(routes!(tei::embed::embed_sparse))
        .routes(routes!(tei::score::rerank))
        .routes(routes!(tei::score::predict))
        .routes(routes!(tei::similarity::similarity))
        .routes(routes!(tei::tokens::tokenize))
        .routes(routes!(tei::tokens::decode))
        .routes(routes!(tei::root::root))
        .routes(routes!(info::info))
        .routes(routes!(rerank::rerank))
        .routes(routes!(cohere::embed))
        .routes(routes!(cohere::rerank))
        .routes(routes!(ollama::embed))
        .routes(routes!(ollama::embeddings))
        .routes(routes!(ollama::version))
        .routes(routes!(ollama::tags))
        .routes(routes!(ollama::show))
        .routes(routes!(info::metrics));
    let open = OpenApiRouter::new()
        .routes(routes!(info::live))
        .routes(routes!(info::ready))
        .routes(routes!(info::health));
    let (keyed, mut document) = keyed.split_for_parts();
    let keyed = keyed
        // Model names may contain slashes, so the path takes all remaining parts of the URL.
        .route("/v1/models/{*model}", get(openai::model))
        .route_layer(from_fn_with_state(app.clone(), key::check_key));
    let (open, health) = open.split_for_parts();
    document.merge(health);
    let document = openapi::document(document, !app.options.api_keys.is_empty());
    let open = open
        .route("/openapi.json", get(move || async move { answer::json_text(document) }))
        .merge(page::routes());
    keyed
        .merge(open)
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(guard::guard))
        .layer(cors(&app.options.cors_origins))
        .layer(from_fn_with_state(app.clone(), observe::observe))
        .layer(map_request(linger::linger))
        .with_state(app)
}

fn cors(origins: &[String]) -> CorsLayer {
    let origin = match origins {
        all if all.iter().any(|origin| origin == "*") => AllowOrigin::any(),
        some => AllowOrigin::list(some.iter().filter_map(|o| HeaderValue::from_str(o).ok())),
    };
    CorsLayer::new()
        .allow_origin(origin)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(Any)
        .expose_headers(Any)
}

async fn not_found(OriginalUri(uri): OriginalUri) -> ApiError {
    let message = format!("there is no route {}; /openapi.json lists all routes", uri.path());
    ApiError::new(StatusCode::NOT_FOUND, "not_found", message)
}

async fn wrong_method(method: Method, OriginalUri(uri): OriginalUri) -> ApiError {
    let message = format!(
        "{} does not take {method}; the response header `allow` lists its methods",
        uri.path()
    );
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    let message = text.unwrap_or("no message");
    tracing::error!(message, "a request panicked");
    ApiError::internal("internal error (please report it): the request panicked").into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_scores_keep_their_order() {
        assert_eq!(ranking(&[0.5, 0.9, 0.5, -1.0]), [(1, 0.9), (0, 0.5), (2, 0.5), (3, -1.0)]);
    }

    #[test]
    fn times_are_written_as_rfc_3339() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_700_000_000), "2023-11-14T22:13:20Z");
    }
}
