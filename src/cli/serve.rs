//! `vectile serve`: serves models over HTTP.

use std::num::NonZeroUsize;
use std::sync::Arc;

use vectile::server::{ApiKey, Ended, Served, Server, ServerOptions, Stop};
use vectile::{
    AdapterSummary, Embedder, ModelBuilder, ModelKind, MultiVectorEncoder, Precision, Reranker,
    SparseEncoder, TextModel,
};

use super::args::{ModelArgs, ServeArgs};
use super::failure::Failure;
use super::leave::leave_at_once;
use super::message::say;
use super::{message, model};

/// The environment variable that sets an API key. The value of an option would be visible in the process list.
const KEY_VARIABLE: &str = "VECTILE_API_KEY";

pub fn run(args: &ServeArgs) -> Result<(), Failure> {
    let server = Server::bind(options(args))?;
    stop_on_signals(server.stopper())?;
    if !args.quiet {
        say(format_args!("listening on http://{}", server.address()));
    }
    let models: Vec<(ModelArgument, ModelArgs)> = args
        .models
        .iter()
        .map(|model| {
            let model = ModelArgument::parse(model)?;
            let args = args.model(&model.source);
            Ok((model, args))
        })
        .collect::<Result<_, Failure>>()?;
    let load = move || models.iter().map(|(model, args)| load(model, args)).collect();
    let quiet = args.quiet;
    let ready = move |names: &[&str]| {
        if !quiet {
            say(format_args!("ready: {}", names.join(", ")));
        }
    };
    match server.run(load, ready)? {
        Ended { abandoned: 0 } => Ok(()),
        Ended { abandoned } => Err(Failure::Interrupted(format!(
            "stopped with {abandoned} unanswered requests, because the {} seconds of --drain had \
             passed",
            args.drain.as_secs_f64()
        ))),
    }
}

/// Installs signal handlers. The first Ctrl-C or SIGTERM stops the server, and the second signal ends the process. The
/// handlers work even if this process inherited these signals as ignored, as background jobs of a shell do.
#[cfg(unix)]
fn stop_on_signals(stop: Stop) -> Result<(), Failure> {
    use signal_hook::consts::{SIGINT, SIGTERM};

    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])
        .map_err(|error| Failure::Internal(format!("cannot watch for signals: {error}")))?;
    std::thread::spawn(move || {
        for (count, _) in signals.forever().enumerate() {
            stop_or_end(&stop, count > 0);
        }
    });
    Ok(())
}

/// Installs a handler for Ctrl-C. The first Ctrl-C stops the server, and the second Ctrl-C ends the process.
#[cfg(not(unix))]
fn stop_on_signals(stop: Stop) -> Result<(), Failure> {
    let again = std::sync::atomic::AtomicBool::new(false);
    let second = move || again.swap(true, std::sync::atomic::Ordering::SeqCst);
    ctrlc::set_handler(move || stop_or_end(&stop, second()))
        .map_err(|error| Failure::Internal(format!("cannot watch for Ctrl-C: {error}")))
}

fn stop_or_end(stop: &Stop, second: bool) {
    if second {
        message::error(format_args!("a second signal ended the server immediately"));
        leave_at_once(1);
    }
    stop.stop();
}

fn options(args: &ServeArgs) -> ServerOptions {
    let variable = std::env::var(KEY_VARIABLE).ok().filter(|key| !key.is_empty());
    ServerOptions {
        host: args.host.clone(),
        port: args.port,
        max_body_bytes: args.max_body_bytes.get(),
        max_texts: args.max_texts.get(),
        max_queue_tokens: args.max_queue_tokens.map(NonZeroUsize::get),
        max_connections: args.max_connections.get(),
        header_timeout: args.header_timeout,
        body_timeout: args.body_timeout,
        drain: args.drain,
        cors_origins: args.cors_origins.clone(),
        api_keys: args.api_keys.iter().cloned().chain(variable).map(ApiKey::from).collect(),
        accept_token_ids: args.accept_token_ids,
        ignore_unknown_fields: args.ignore_unknown_fields,
        lossy: args.lossy,
    }
}

impl ServeArgs {
    /// Returns the options for loading one of the models.
    fn model(&self, model: &str) -> ModelArgs {
        ModelArgs {
            model: model.to_owned(),
            run: self.run.clone(),
            lora_task: self.lora_task.clone(),
            batch_tokens: self.batch_tokens,
            tune: self.tune,
            paranoid: self.paranoid,
            quiet: self.quiet,
        }
    }
}

/// The parsed value of one `--model`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ModelArgument {
    /// The model's name in requests.
    name: String,
    /// The kind of the model, or `None` to detect the kind from the model's files.
    kind: Option<ModelKind>,
    /// The model's directory or Hub name.
    source: String,
}

/// The prefixes of `--model` that state a model's kind, as in `reranker:DIR`.
const KINDS: [(&str, ModelKind); 4] = [
    ("embedder:", ModelKind::Dense),
    ("reranker:", ModelKind::Reranker),
    ("sparse:", ModelKind::Sparse),
    ("multi-vector:", ModelKind::MultiVector),
];

impl ModelArgument {
    fn parse(argument: &str) -> Result<Self, Failure> {
        // The argument is a path if a directory of this name exists, even if the name contains `=` or `:`.
        let exists = std::path::Path::new(argument).is_dir();
        let (name, rest) = match argument.split_once('=').filter(|_| !exists) {
            Some((name, rest)) => (Some(name), rest),
            None => (None, argument),
        };
        let kind =
            KINDS.iter().find_map(|(prefix, kind)| Some((*kind, rest.strip_prefix(prefix)?)));
        let (kind, source) = match kind.filter(|_| !exists) {
            Some((kind, source)) => (Some(kind), source),
            None => (None, rest),
        };
        if source.is_empty() || name == Some("") {
            return Err(Failure::user(format!(
                "--model: `{argument}` is not of the form [NAME=][KIND:]DIR|HUB-ID"
            )));
        }
        let name = name.map_or_else(|| default_name(source), str::to_owned);
        Ok(ModelArgument { name, kind, source: source.to_owned() })
    }
}

/// Returns the last part of a directory's path, or a Hub name unchanged.
fn default_name(source: &str) -> String {
    let path = std::path::Path::new(source);
    // Paths such as `.` and `models/..` end in a file name only after they are resolved.
    let found = path.canonicalize().ok().filter(|path| path.is_dir());
    let last = found.as_deref().and_then(std::path::Path::file_name);
    last.map_or_else(|| source.to_owned(), |last| last.to_string_lossy().into_owned())
}

fn load(model: &ModelArgument, args: &ModelArgs) -> Result<Served, Failure> {
    let name = model.name.as_str();
    let files = match model.kind {
        Some(ModelKind::Reranker) => {
            model::find_reranker(&args.model, args.run.revision.as_deref())?
        }
        _ => model::find(&args.model, args.run.revision.as_deref())?,
    };
    let kind = model.kind.map_or_else(|| ModelKind::of(&files), Ok)?;
    tracing::info!(name, ?kind, source = model.source, "loading");
    let served = match kind {
        ModelKind::Dense => {
            let embedder = built(Embedder::builder(files), args)?;
            announce(args, name, embedder.adapter(), embedder.precision(), embedder.notes());
            Served::embedder(name, embedder)
        }
        ModelKind::Reranker => {
            let reranker = built(Reranker::builder(files), args)?;
            announce(args, name, reranker.adapter(), reranker.precision(), reranker.notes());
            Served::reranker(name, reranker)
        }
        ModelKind::Sparse => {
            let encoder = built(SparseEncoder::builder(files), args)?;
            announce(args, name, encoder.adapter(), encoder.precision(), encoder.notes());
            Served::sparse(name, encoder)
        }
        ModelKind::MultiVector => {
            let encoder = built(MultiVectorEncoder::builder(files), args)?;
            announce(args, name, encoder.adapter(), encoder.precision(), encoder.notes());
            Served::multi_vector(name, encoder)
        }
    };
    Ok(served)
}

fn built<M: TextModel>(builder: ModelBuilder<M>, args: &ModelArgs) -> Result<Arc<M>, Failure> {
    Ok(Arc::new(model::build(model::settings(builder, args), args)?))
}

/// Prints the model's name, adapter, precision and notes.
fn announce(
    args: &ModelArgs,
    name: &str,
    adapter: &AdapterSummary,
    precision: &Precision,
    notes: &[String],
) {
    if !args.quiet {
        say(format_args!("model: {name}"));
        model::announce(adapter, precision, notes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_parsed_with_name_and_kind() {
        let parse = |argument: &str| {
            let ModelArgument { name, kind, source } = ModelArgument::parse(argument).unwrap();
            (name, kind, source)
        };
        let own = |name: &str, kind, source: &str| (name.to_owned(), kind, source.to_owned());
        assert_eq!(parse("BAAI/bge-m3"), own("BAAI/bge-m3", None, "BAAI/bge-m3"));
        assert_eq!(parse("a=BAAI/bge-m3"), own("a", None, "BAAI/bge-m3"));
        let sparse = Some(ModelKind::Sparse);
        assert_eq!(parse("a=sparse:x/y"), own("a", sparse, "x/y"));
        let multi = Some(ModelKind::MultiVector);
        assert_eq!(parse("c=multi-vector:x/y"), own("c", multi, "x/y"));
        let directory = "tests/fixtures/bert_mean_norm/";
        assert_eq!(parse(directory), own("bert_mean_norm", None, directory));
        let reranker = Some(ModelKind::Reranker);
        let given = format!("reranker:{directory}");
        assert_eq!(parse(&given), own("bert_mean_norm", reranker, directory));
        for wrong in ["", "=x", "a=", "reranker:", "a=sparse:", "multi-vector:"] {
            assert!(ModelArgument::parse(wrong).is_err(), "{wrong}");
        }
    }
}
