//! An HTTP server with the APIs of OpenAI, text-embeddings-inference, Ollama, Cohere and Jina.
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
//! # Modules, in the order of imports
//!
//! | module | contents |
//! |---|---|
//! | `metrics` | counters and histograms; imports no other module |
//! | `sync` | locks and the clock, which tests can replace |
//! | `queue` | the budget, fair batches and the loop of a model's thread; does not depend on HTTP or on the kinds of model |
//! | `models` | [`Served`] models, which turn the texts of a request into rows; does not depend on HTTP |
//! | `page`, `openapi` | the pages `/` and `/docs`, and the OpenAPI document |
//! | `routes` | HTTP: one file per API, bodies, errors, keys, logging; uses a model only through its handle `models::ServedModel` |
//! | `connections` | accepts, limits and drains connections |
//!
//! tokio's threads read and parse the body of a request. The request is then charged to the model's budget,
//! or refused as a whole (429). A blocking thread tokenizes the texts, which then wait in the model's
//! queue. The model's own thread takes batches from the queue, with a fair share for each request, and
//! keeps two batches on the GPU. Models are independent: each has its own queue, thread and budget.

mod api_key;
mod connections;
mod metrics;
mod models;
mod openapi;
mod options;
mod page;
mod queue;
mod routes;
mod served;
mod sync;

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;

use tokio::sync::{Semaphore, oneshot, watch};

use crate::error::Error;
pub use api_key::ApiKey;
use models::ServedModel;
pub use options::ServerOptions;
use routes::App;
pub use served::Served;

/// A server that listens on its address, but accepts no connections before [`Server::run`] is called.
#[derive(Debug)]
pub struct Server {
    options: ServerOptions,
    listener: TcpListener,
    address: SocketAddr,
    stop: watch::Sender<bool>,
}

/// A handle that stops a [`Server`] from any thread.
#[derive(Debug, Clone)]
pub struct Stop(watch::Sender<bool>);

impl Stop {
    /// Makes [`Server::run`] finish the accepted requests and return. Further calls of this function have no effect.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// The result of a server that was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Number of requests that were still unanswered when [`ServerOptions::drain`] ran out.
    pub abandoned: usize,
}

impl Server {
    /// Starts listening. Clients may connect, but get no answer before [`Server::run`] is called.
    ///
    /// # Errors
    /// Returns [`Error::Option`] if the address is unavailable or an option is invalid.
    pub fn bind(options: ServerOptions) -> Result<Self, Error> {
        check(&options)?;
        let at = (options.host.as_str(), options.port);
        let failed = |error: std::io::Error| {
            let (host, port) = at;
            let problem =
                format!("cannot listen on {host}:{port}: {error}; choose another host or port");
            Error::option("host and port", problem)
        };
        // A host name may have several addresses. `TcpListener::bind` takes the first available address.
        let addresses: Vec<SocketAddr> = at.to_socket_addrs().map_err(failed)?.collect();
        let listener = TcpListener::bind(&addresses[..]).map_err(failed)?;
        // The standard library lets only 128 connections wait. If more arrive at once, each of them loses a second.
        let waiting = i32::try_from(options.max_connections).unwrap_or(i32::MAX);
        socket2::SockRef::from(&listener).listen(waiting.max(128)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Server { options, listener, address, stop: watch::Sender::new(false) })
    }

    /// Returns the address on which the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns a handle that stops the server.
    pub fn stopper(&self) -> Stop {
        Stop(self.stop.clone())
    }

    /// Serves the models that `load` returns, until the server is stopped. Calls `ready` with the models' names once
    /// every model has completed its first pass. Until then, requests are answered with 503.
    ///
    /// Each connection is an open file. On Unix, this function raises the process's limit on open files if
    /// [`ServerOptions::max_connections`] needs more, and if the system allows it.
    ///
    /// # Errors
    /// Returns the error of `load`. Returns [`Error::Option`] if two models have the same name, and [`Error::Internal`]
    /// if a model's first pass gives a wrong result.
    pub fn run<E: From<Error> + Send + 'static>(
        self,
        load: impl FnOnce() -> Result<Vec<Served>, E> + Send + 'static,
        ready: impl FnOnce(&[&str]) + Send,
    ) -> Result<Ended, E> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("vectile-http")
            .enable_all()
            .build()
            .map_err(|error| Error::Internal(format!("cannot start the HTTP runtime: {error}")))?;
        let ended = runtime.block_on(self.serve(load, ready));
        // Some threads may still tokenize texts of disconnected clients. The shutdown does not wait for these threads.
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
        let listener = tokio::net::TcpListener::from_std(self.listener).map_err(|error| {
            Error::Internal(format!("the HTTP runtime cannot use the listening socket: {error}"))
        })?;
        let mut stop = self.stop.subscribe();
        let connections = tokio::spawn(connections::serve(listener, app.clone(), stop.clone()));
        let (sender, loaded) = oneshot::channel();
        // Loading the models blocks for seconds, so it runs in a separate thread.
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
            let (model, worker) = ServedModel::start(served, limit, tokenizers.clone(), &metrics);
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
        ready(&models.iter().map(|model| model.name()).collect::<Vec<_>>());
        let abandoned = connections.await.map_err(|error| {
            Error::Internal(format!("the task that accepts connections failed: {error}"))
        })?;
        models.iter().for_each(|model| model.stop());
        if abandoned == 0 {
            // The queues are closed and empty, so the threads of the models end immediately.
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

/// Returns the routes of a server whose models tokenize the texts of a request and then refuse the request, so that no
/// device runs. Fuzz targets use these routes.
#[cfg(any(test, fuzzing))]
pub(crate) fn routes_without_device(options: ServerOptions, models: Vec<Served>) -> axum::Router {
    let metrics = metrics::Metrics::new();
    let app = App::new(options, metrics.clone(), 1);
    let tokenizers = Arc::new(Semaphore::new(1));
    let start = |served| {
        let (model, _) = ServedModel::start(served, None, tokenizers.clone(), &metrics);
        model.close_queue();
        model
    };
    app.set_models(models.into_iter().map(start).collect());
    routes::router(app)
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
            return Err(Error::option(option, "is 0; it must be at least 1"));
        }
    }
    for (option, time) in
        [("header-timeout", options.header_timeout), ("body-timeout", options.body_timeout)]
    {
        if time.is_zero() {
            return Err(Error::option(option, "is 0; give a time above 0"));
        }
    }
    if options.api_keys.contains(&ApiKey::from("")) {
        return Err(Error::option("api-key", "is empty; give a key or leave the option out"));
    }
    Ok(())
}

/// Checks that there is at least one model, and that no two models have the same name.
fn check_names(served: &[Served]) -> Result<(), Error> {
    if served.is_empty() {
        return Err(Error::option("model", "no model is given; give at least one"));
    }
    let mut names = BTreeSet::new();
    for served in served {
        if !names.insert(served.name()) {
            let problem =
                format!("two models have the name `{}`; rename one with NAME=DIR", served.name());
            return Err(Error::option("model", problem));
        }
    }
    Ok(())
}
