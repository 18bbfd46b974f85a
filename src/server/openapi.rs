//! The OpenAPI document, generated from the types of requests and answers.

use bytes::Bytes;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::tag::{Tag, TagBuilder};
use utoipa::openapi::{
    ComponentsBuilder, InfoBuilder, LicenseBuilder, OpenApi, SecurityRequirement,
};

/// The APIs, in the order in which they are shown.
const TAGS: [&str; 5] =
    ["OpenAI", "text-embeddings-inference", "Cohere and Jina", "Ollama", "Health"];

fn tag(name: &str) -> Tag {
    TagBuilder::new().name(name).build()
}

/// What the routes say of themselves, with what is true of all of them.
pub(crate) fn document(mut routes: OpenApi, keyed: bool) -> Bytes {
    let description = "Embeddings, sparse embeddings and reranking, under the APIs of OpenAI, \
                       text-embeddings-inference, Ollama, Cohere and Jina. Vectors have the same bits \
                       whoever else is asking.\n\nEvery answer that is not a success has the body \
                       `{\"error\": {\"message\", \"type\", \"param\", \"code\"}}`. 429 and 503 come with \
                       `retry-after` (seconds) and `retry-after-ms`; nothing of such a request was taken. \
                       `x-request-id` of a request comes back with its answer.";
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
    // Text and lists of it: it has a form in JSON always.
    serde_json::to_vec(&routes).unwrap_or_default().into()
}
