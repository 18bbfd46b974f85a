//! How a server is set up.

use std::time::Duration;

/// Where a [`Server`](crate::server::Server) listens and what it takes of its clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerOptions {
    /// The address, or a name of this machine. 127.0.0.1 by default: nobody else reaches it.
    pub host: String,
    /// The port; 0 is any that is free.
    pub port: u16,
    /// Bytes of a request's body.
    pub max_body_bytes: usize,
    /// Texts or documents of a request.
    pub max_texts: usize,
    /// Tokens of requests that are accepted and not answered, for each model. `None` is twelve batches.
    /// A request is charged at most a quarter of it, so that one of any size can be accepted: it takes no
    /// more of a batch than others do.
    pub max_queue_tokens: Option<usize>,
    /// Connections that are open at once.
    pub max_connections: usize,
    /// For the head of a request, and for a connection on which none comes.
    pub header_timeout: Duration,
    /// For the body of a request.
    pub body_timeout: Duration,
    /// How long requests in hand are finished for once the server is to stop.
    pub drain: Duration,
    /// Origins whose pages may call the server; `*` is every one.
    pub cors_origins: Vec<String>,
    /// Keys of which requests must carry one; none is needed where there are none. The page, the
    /// OpenAPI document and `/health` need none ever.
    pub api_keys: Vec<String>,
    /// Take token ids in place of texts. They must be of the model's own tokenizer.
    pub accept_token_ids: bool,
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
        }
    }
}
