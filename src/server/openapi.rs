//! The OpenAPI document, generated from the request and response types.

use bytes::Bytes;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::tag::{Tag, TagBuilder};
use utoipa::openapi::{
    ComponentsBuilder, InfoBuilder, LicenseBuilder, OpenApi, SecurityRequirement,
};

/// Groups of routes, in the order in which `/docs` shows them.
const TAGS: [&str; 5] =
    ["OpenAI", "text-embeddings-inference", "Cohere and Jina", "Ollama", "Health"];

fn tag(name: &str) -> Tag {
    TagBuilder::new().name(name).build()
}

/// Adds the title, the groups and, if `keyed`, the security scheme to `routes`. Returns the serialized
/// OpenAPI document.
pub(crate) fn document(mut routes: OpenApi, keyed: bool) -> Bytes {
    let description = "Embeddings, sparse embeddings, token vectors and reranking, through the APIs of \
                       OpenAI, text-embeddings-inference, Ollama, Cohere and Jina. Vectors are \
                       bit-identical whatever other requests are running.\n\nEvery error has the body \
                       `{\"error\": {\"message\", \"type\", \"param\", \"code\"}}`. Responses 429 and 503 \
                       carry `retry-after` (seconds) and `retry-after-ms` (milliseconds); no part of such \
                       a request was processed. The response repeats the request's `x-request-id`.";
    routes.info = InfoBuilder::new()
        .title("Vectile")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(description))
        .license(Some(LicenseBuilder::new().name(env!("CARGO_PKG_LICENSE")).build()))
        .build();
    routes.tags = Some(TAGS.into_iter().map(tag).collect());
    if keyed {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let mut components =
            routes.components.take().unwrap_or_else(|| ComponentsBuilder::new().build());
        components.add_security_scheme("key", SecurityScheme::Http(bearer));
        routes.components = Some(components);
        routes.security = Some(vec![SecurityRequirement::new("key", Vec::<String>::new())]);
    }
    // The document holds only strings, numbers, lists and maps with string keys, so serialization cannot fail.
    serde_json::to_vec(&routes).unwrap_or_default().into()
}
