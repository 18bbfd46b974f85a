//! Models over HTTP, under the APIs of OpenAI, text-embeddings-inference, Ollama, Cohere and Jina.
//!
//! ```no_run
//! use std::sync::Arc;
//! use vectile::server::{Served, Server, ServerOptions};
//! use vectile::{Embedder, Error, ModelFiles, block_on};
//!
//! let server = Server::bind(ServerOptions { port: 0, ..ServerOptions::default() })?;
//! println!("http://{}", server.address());
//! let load = || {
//!     let files = ModelFiles::from_directory("models/all-MiniLM-L6-v2")?;
//!     let embedder = block_on(Embedder::builder(files).build())?;
//!     Ok::<_, Error>(vec![Served::embedder("all-MiniLM-L6-v2", Arc::new(embedder))])
//! };
//! server.run(load, |models| println!("ready: {}", models.join(", ")))?;
//! # Ok::<(), Error>(())
//! ```
//!
//! # What is where
//!
//! | module | what |
//! |---|---|
//! | `connections` | accepts, bounds and drains connections |
//! | `routes` | HTTP: a file per API, bodies, errors, keys, what is logged of a request; knows no models |
//! | `openapi` | the OpenAPI document, from the types in `routes` |
//! | `page` | the page at `/` |
//! | `models` | from texts to rows: budget, tokenizer, queue |
//! | `queue` | budget, fair batches, the thread that owns the GPU; knows no HTTP |
//! | `health` | whether a model can be relied on, found out by running it |
//! | `metrics` | what is counted |
//!
//! A request's body is read and parsed on tokio's threads; its place in the budget is taken whole or
//! not at all (429); its texts are tokenized on a thread that may block, and wait in the model's queue.
//! The model's own thread takes fair shares of all requests, a batch at a time, and keeps two on the
//! GPU. Models are independent: each has its queue, its thread and its budget.

mod connections;
mod health;
mod metrics;
mod models;
mod openapi;
mod options;
mod page;
mod queue;
mod routes;
mod served;

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;

use tokio::sync::{Semaphore, oneshot, watch};

use crate::error::Error;
use models::Model;
pub use options::ServerOptions;
use routes::App;
pub use served::Served;

/// A server that listens and does not answer yet.
#[derive(Debug)]
pub struct Server {
    options: ServerOptions,
    listener: TcpListener,
    address: SocketAddr,
    stop: watch::Sender<bool>,
}

/// Stops a [`Server`], from any thread.
#[derive(Debug, Clone)]
pub struct Stop(watch::Sender<bool>);

impl Stop {
    /// Makes the server finish what it has accepted, and return. Once is enough.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Requests that were not answered when the time for that was over.
    pub abandoned: usize,
}

impl Server {
    /// Listens. Until [`Server::run`], clients wait.
    ///
    /// # Errors
    /// [`Error::Option`] where the address cannot be listened on, or an option is impossible.
    pub fn bind(options: ServerOptions) -> Result<Self, Error> {
        check(&options)?;
        let at = (options.host.as_str(), options.port);
        let failed = |error: std::io::Error| {
            let (host, port) = at;
            let problem = format!("{host}:{port} cannot be listened on: {error}; give another");
            Error::option("host and port", problem)
        };
        // A name may have several addresses, of which the first that can be had is taken.
        let addresses: Vec<SocketAddr> = at.to_socket_addrs().map_err(failed)?.collect();
        let listener = TcpListener::bind(&addresses[..]).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Server { options, listener, address, stop: watch::Sender::new(false) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What stops it.
    pub fn stopper(&self) -> Stop {
        Stop(self.stop.clone())
    }

    /// Serves the models that `load` gives until it is stopped; `ready` is told their names once each
    /// has passed its first pass. While they load, requests are answered with 503.
    ///
    /// # Errors
    /// What `load` fails with; [`Error::Option`] where two models have one name;
    /// [`Error::Internal`] where a model's first pass cannot be right.
    pub fn run<E: From<Error> + Send + 'static>(
        self,
        load: impl FnOnce() -> Result<Vec<Served>, E> + Send + 'static,
        ready: impl FnOnce(&[&str]) + Send,
    ) -> Result<Ended, E> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("vectile-http")
            .enable_all()
            .build()
            .map_err(|error| {
                Error::Internal(format!("the HTTP runtime does not start: {error}"))
            })?;
        let ended = runtime.block_on(self.serve(load, ready));
        // Threads that tokenize for clients that have gone are not waited for.
        runtime.shutdown_background();
        ended
    }

    async fn serve<E: From<Error> + Send + 'static>(
        self,
        load: impl FnOnce() -> Result<Vec<Served>, E> + Send + 'static,
        ready: impl FnOnce(&[&str]) + Send,
    ) -> Result<Ended, E> {
        let metrics = metrics::Metrics::new();
        let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
        let app = App::new(self.options.clone(), metrics.clone(), threads);
        let listener = tokio::net::TcpListener::from_std(self.listener)
            .map_err(|error| Error::Internal(format!("the listener cannot be used: {error}")))?;
        let mut stop = self.stop.subscribe();
        let connections = tokio::spawn(connections::serve(listener, app.clone(), stop.clone()));
        let (sender, loaded) = oneshot::channel();
        // Drivers and weights take their time, and a thread of their own.
        std::thread::spawn(move || sender.send(load()).is_ok());
        let loaded = tokio::select! {
            loaded = loaded => loaded.unwrap_or_else(|_| {
                Err(Error::Internal("loading the models panicked".to_owned()).into())
            })?,
            () = connections::stopped(&mut stop) => return Ok(Ended { abandoned: 0 }),
        };
        check_names(&loaded)?;
        let tokenizers = Arc::new(Semaphore::new(threads));
        let mut models = Vec::new();
        let mut workers = Vec::new();
        for served in loaded {
            let limit = self.options.max_queue_tokens;
            let (model, worker) = Model::start(served, limit, tokenizers.clone(), &metrics);
            workers.push(worker);
            tokio::select! {
                passed = model.first_pass() => passed?,
                () = connections::stopped(&mut stop) => return Ok(Ended { abandoned: 0 }),
            }
            let watched = model.clone();
            tokio::spawn(async move { watched.watch().await });
            models.push(model);
        }
        app.set_models(models.clone());
        ready(&models.iter().map(|model| model.name.as_str()).collect::<Vec<_>>());
        let abandoned = connections
            .await
            .map_err(|error| Error::Internal(format!("accepting connections ended: {error}")))?;
        models.iter().for_each(|model| model.stop());
        if abandoned == 0 {
            // Nothing waits any more: they end at once.
            let ended = tokio::task::spawn_blocking(|| {
                workers.into_iter().for_each(|worker| {
                    let _ = worker.join();
                })
            });
            let _ = tokio::time::timeout(std::time::Duration::from_secs(2), ended).await;
        }
        Ok(Ended { abandoned })
    }
}

fn check(options: &ServerOptions) -> Result<(), Error> {
    let counts = [
        ("max-body-bytes", options.max_body_bytes),
        ("max-texts", options.max_texts),
        ("max-connections", options.max_connections),
        ("max-queue-tokens", options.max_queue_tokens.unwrap_or(1)),
    ];
    for (option, count) in counts {
        if count == 0 {
            return Err(Error::option(option, "is 0; at least 1 is expected"));
        }
    }
    for (option, time) in
        [("header-timeout", options.header_timeout), ("body-timeout", options.body_timeout)]
    {
        if time.is_zero() {
            return Err(Error::option(option, "is 0; give a time"));
        }
    }
    if options.api_keys.iter().any(String::is_empty) {
        return Err(Error::option("api-key", "is empty; give a key, or none at all"));
    }
    Ok(())
}

/// Clients tell models by their names.
fn check_names(served: &[Served]) -> Result<(), Error> {
    if served.is_empty() {
        return Err(Error::option("model", "no model is given; give at least one"));
    }
    let mut names = BTreeSet::new();
    for served in served {
        if !names.insert(served.name()) {
            let problem = format!(
                "two models have the name `{}`; give one another, as NAME=DIR",
                served.name()
            );
            return Err(Error::option("model", problem));
        }
    }
    Ok(())
}
