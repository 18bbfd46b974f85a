//! The server's two pages. On `/`, users compare and search their own texts. `/docs` describes the API and can send
//! requests. The files of both pages are built into the program. The content security policy of the pages allows
//! requests to this server only.

use axum::Router;
use axum::http::HeaderName;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::routing::get;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SVG: &str = "image/svg+xml";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// The path, content type and content of each file.
const FILES: [(&str, &str, &str); 12] = [
    ("/", HTML, include_str!("index.html")),
    ("/docs", HTML, include_str!("docs.html")),
    ("/assets/base.css", CSS, include_str!("base.css")),
    ("/assets/index.css", CSS, include_str!("index.css")),
    ("/assets/docs.css", CSS, include_str!("docs.css")),
    ("/assets/api.js", JAVASCRIPT, include_str!("api.js")),
    ("/assets/scale.js", JAVASCRIPT, include_str!("scale.js")),
    ("/assets/matrix.js", JAVASCRIPT, include_str!("matrix.js")),
    ("/assets/index.js", JAVASCRIPT, include_str!("index.js")),
    ("/assets/schema.js", JAVASCRIPT, include_str!("schema.js")),
    ("/assets/docs.js", JAVASCRIPT, include_str!("docs.js")),
    ("/assets/icon.svg", SVG, include_str!("icon.svg")),
];

/// Returns the routes `GET /` and `GET /docs`, and the routes of their assets.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES.into_iter().fold(Router::new(), |router, (path, kind, content)| {
        router.route(path, get(move || async move { (headers(kind), content) }))
    })
}

fn headers(kind: &'static str) -> [(HeaderName, &'static str); 3] {
    [(CONTENT_TYPE, kind), (CONTENT_SECURITY_POLICY, POLICY), (CACHE_CONTROL, "no-cache")]
}

#[cfg(test)]
mod tests {
    use super::{FILES, HTML, JAVASCRIPT, SVG};

    /// Returns the quoted text after each occurrence of `before`.
    fn quoted<'a>(content: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
        content.split(before).skip(1).filter_map(|rest| rest.split('"').next())
    }

    #[test]
    fn every_file_named_by_a_page_is_served() {
        let served = |path: &str| FILES.iter().any(|file| file.0 == path);
        let mut named = 0;
        for (path, kind, content) in FILES {
            let before: &[&str] = match kind {
                HTML => &["href=\"", "src=\""],
                JAVASCRIPT => &["from \"."],
                _ => &[],
            };
            for name in before.iter().flat_map(|before| quoted(content, before)) {
                let target = match name.trim_start_matches("./") {
                    anchor if anchor.starts_with('#') => continue,
                    name if kind == HTML => format!("/{name}"),
                    name => format!("/assets/{}", name.trim_start_matches('/')),
                };
                assert!(served(&target), "{path} names {name}");
                named += 1;
            }
        }
        assert!(named > 15, "{named}");
    }

    #[test]
    fn no_file_names_another_host_or_has_inline_script_or_style() {
        let never =
            ["http:", "https:", "\"//", "url(", " style=\"", " onclick", "innerHTML", "eval("];
        // SVG files are left out, because they contain the URL of their namespace.
        for (path, _, content) in FILES.into_iter().filter(|file| file.1 != SVG) {
            for word in never {
                assert!(!content.contains(word), "{path} has {word}");
            }
        }
    }
}
