//! [`ServerOptions`], the options of a server.

use std::time::Duration;

use super::api_key::ApiKey;

/// The address on which a [`Server`](crate::server::Server) listens, and its limits for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerOptions {
    /// IP address or host name to listen on. The default, 127.0.0.1, accepts connections from this
    /// machine only.
    pub host: String,
    /// TCP port. If the port is 0, the system picks a free port.
    pub port: u16,
    /// Maximum size of a request body, in bytes.
    pub max_body_bytes: usize,
    /// Maximum number of texts or documents in a request.
    pub max_texts: usize,
    /// Token budget of each model, for requests that were accepted and not yet answered. `None` means the token budget
    /// of twelve batches. A request is charged at most a quarter of this budget, so even a request with more tokens
    /// than the budget can be accepted. In each batch, a large request gets no larger share than other requests.
    pub max_queue_tokens: Option<usize>,
    /// Maximum number of open connections.
    pub max_connections: usize,
    /// Time limit for the head of a request, and for an idle connection.
    pub header_timeout: Duration,
    /// Time limit for the body of a request. A client that reads nothing of its response for this time is disconnected.
    pub body_timeout: Duration,
    /// The maximum time for which a stopping server waits for accepted requests to be answered.
    pub drain: Duration,
    /// Web origins whose pages may call the server. `*` allows every origin.
    pub cors_origins: Vec<String>,
    /// API keys. If the list is not empty, each request must carry one of these keys. Only the pages, the OpenAPI
    /// document and `/health` need no key.
    pub api_keys: Vec<ApiKey>,
    /// Is true if token ids are accepted in place of texts. The ids must come from the model's own tokenizer.
    pub accept_token_ids: bool,
    /// Is true if every API ignores unknown fields of requests. If not, only the APIs of
    /// text-embeddings-inference and Ollama ignore them, as their own servers do. The other APIs refuse
    /// them.
    pub ignore_unknown_fields: bool,
    /// Is true if unpaired surrogates (such as half an emoji) and invalid UTF-8 in requests are replaced by
    /// U+FFFD. If not, such requests are refused.
    pub lossy: bool,
}

impl Default for ServerOptions {
    fn default() -> Self {
        ServerOptions {
            host: "127.0.0.1".to_owned(),
            port: 8080,
            max_body_bytes: 32 << 20,
            max_texts: 2048,
            max_queue_tokens: None,
            max_connections: 1024,
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(60),
            drain: Duration::from_secs(30),
            cors_origins: Vec::new(),
            api_keys: Vec::new(),
            accept_token_ids: false,
            ignore_unknown_fields: false,
            lossy: false,
        }
    }
}
