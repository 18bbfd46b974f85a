//! `vectile serve`: models over HTTP.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use vectile::server::{Ended, Served, Server, ServerOptions, Stop};
use vectile::{Embedder, ModelBuilder, ModelKind, Reranker, SparseEncoder};

use super::args::{ModelArgs, RunArgs};
use super::failure::Failure;
use super::{LogFormat, model, say};

/// The environment variable that holds an API key, which the command line shows to everyone.
const KEY_VARIABLE: &str = "VECTILE_API_KEY";

#[derive(Debug, Args)]
pub struct ServeArgs {
    /// A model directory or a Hugging Face Hub name, as often as there are models. `NAME=` before it
    /// is what clients call it, by default its last part or the Hub name. `embedder:`, `reranker:` or
    /// `sparse:` before it (after NAME=) is what it is loaded as, by default what its files say.
    #[arg(
        long = "model",
        required = true,
        value_name = "[NAME=][KIND:]DIR|HUB-ID",
        help_heading = "Model"
    )]
    pub models: Vec<String>,
    /// The address to listen on; 0.0.0.0 is every one of this machine.
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub host: String,
    /// The port to listen on; 0 is any that is free.
    #[arg(long, short, default_value = "8080", value_name = "PORT")]
    pub port: u16,
    /// A key of which requests must carry one, as `Authorization: Bearer KEY`; may be given several
    /// times. VECTILE_API_KEY holds one too, and does not show in the list of processes.
    #[arg(long = "api-key", value_name = "KEY", help_heading = "Clients")]
    pub api_keys: Vec<String>,
    /// An origin whose pages may call the server, or * for every one; may be given several times.
    #[arg(long = "cors-origin", value_name = "ORIGIN", help_heading = "Clients")]
    pub cors_origins: Vec<String>,
    /// Take token ids in place of texts. They must be of the model's own tokenizer.
    #[arg(long, help_heading = "Clients")]
    pub accept_token_ids: bool,
    /// Most bytes of a request's body.
    #[arg(long, value_name = "N", default_value = "33554432", help_heading = "Limits")]
    pub max_body_bytes: NonZeroUsize,
    /// Most texts of a request.
    #[arg(long, value_name = "N", default_value = "2048", help_heading = "Limits")]
    pub max_texts: NonZeroUsize,
    /// Most tokens of requests that are accepted and not answered, for each model; others are told to
    /// come back (429). A request is charged at most a quarter of it [default: 12 batches]
    #[arg(long, value_name = "N", help_heading = "Limits")]
    pub max_queue_tokens: Option<NonZeroUsize>,
    /// Most connections at once.
    #[arg(long, value_name = "N", default_value = "1024", help_heading = "Limits")]
    pub max_connections: NonZeroUsize,
    /// Seconds for the head of a request, and for a connection on which none comes.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds, help_heading = "Limits")]
    pub header_timeout: Duration,
    /// Seconds for the body of a request.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds, help_heading = "Limits")]
    pub body_timeout: Duration,
    /// Seconds to finish in what was accepted, on Ctrl-C or SIGTERM; a second one ends at once.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds, help_heading = "Limits")]
    pub drain: Duration,
    /// How the log on stderr is written.
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// The task whose adapter is added to the weights, of a model that has some.
    #[arg(long, value_name = "NAME", help_heading = "Model")]
    pub lora_task: Option<String>,
    /// Most tokens in a batch. Vectors do not depend on it; speed and memory do.
    #[arg(long, value_name = "N", help_heading = "Model")]
    pub batch_tokens: Option<NonZeroUsize>,
    /// First time which forms of the models' matmuls are fastest on this GPU, where that was not done yet.
    #[arg(long, help_heading = "Model")]
    pub tune: bool,
    /// Say nothing on stderr but errors.
    #[arg(long, short)]
    pub quiet: bool,
    #[command(flatten)]
    pub run: RunArgs,
}

/// A time in seconds, with a fraction if need be.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds is expected".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

pub fn run(args: &ServeArgs) -> Result<(), Failure> {
    let server = Server::bind(options(args))?;
    stop_on_signals(server.stopper())?;
    if !args.quiet {
        say(format_args!("listening on http://{}", server.address()));
    }
    let wanted: Vec<(Wanted, ModelArgs)> = args
        .models
        .iter()
        .map(|model| Wanted::parse(model))
        .map(|wanted| wanted.map(|wanted| (wanted.clone(), args.model(&wanted.place))))
        .collect::<Result<_, _>>()?;
    let load = move || wanted.iter().map(|(wanted, args)| load(wanted, args)).collect();
    let quiet = args.quiet;
    let ready = move |names: &[&str]| {
        if !quiet {
            say(format_args!("ready: {}", names.join(", ")));
        }
    };
    match server.run(load, ready)? {
        Ended { abandoned: 0 } => Ok(()),
        Ended { abandoned } => Err(Failure::Interrupted(format!(
            "with {abandoned} requests unanswered: --drain {} was over",
            args.drain.as_secs_f64()
        ))),
    }
}

/// The first Ctrl-C or SIGTERM stops the server, the second ends the process. Both count also where the
/// program that started this one ignores them, as shells do for what runs in the background.
#[cfg(unix)]
fn stop_on_signals(stop: Stop) -> Result<(), Failure> {
    use signal_hook::consts::{SIGINT, SIGTERM};

    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])
        .map_err(|error| Failure::Internal(format!("signals cannot be watched: {error}")))?;
    std::thread::spawn(move || {
        for (count, _) in signals.forever().enumerate() {
            stop_or_end(&stop, count > 0);
        }
    });
    Ok(())
}

/// The first Ctrl-C stops the server, the second ends the process.
#[cfg(not(unix))]
fn stop_on_signals(stop: Stop) -> Result<(), Failure> {
    let again = std::sync::atomic::AtomicBool::new(false);
    let second = move || again.swap(true, std::sync::atomic::Ordering::SeqCst);
    ctrlc::set_handler(move || stop_or_end(&stop, second()))
        .map_err(|error| Failure::Internal(format!("Ctrl-C cannot be watched: {error}")))
}

fn stop_or_end(stop: &Stop, second: bool) {
    if second {
        say(format_args!("vectile: ended at once by a second signal"));
        std::process::exit(1);
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
        api_keys: args.api_keys.iter().cloned().chain(variable).collect(),
        accept_token_ids: args.accept_token_ids,
    }
}

impl ServeArgs {
    /// How one of the models is loaded.
    fn model(&self, model: &str) -> ModelArgs {
        ModelArgs {
            model: model.to_owned(),
            run: self.run.clone(),
            lora_task: self.lora_task.clone(),
            batch_tokens: self.batch_tokens,
            tune: self.tune,
            quiet: self.quiet,
        }
    }
}

/// A model as the command line names it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    name: String,
    kind: Option<ModelKind>,
    place: String,
}

impl Wanted {
    fn parse(argument: &str) -> Result<Self, Failure> {
        // A directory that is there is meant, whatever its name.
        let there = std::path::Path::new(argument).is_dir();
        let (name, rest) = match argument.split_once('=').filter(|_| !there) {
            Some((name, rest)) => (Some(name), rest),
            None => (None, argument),
        };
        let kinds = [
            ("embedder:", ModelKind::Dense),
            ("reranker:", ModelKind::Reranker),
            ("sparse:", ModelKind::Sparse),
        ];
        let kind =
            kinds.iter().find_map(|(prefix, kind)| Some((*kind, rest.strip_prefix(prefix)?)));
        let (kind, place) = match kind.filter(|_| !there) {
            Some((kind, place)) => (Some(kind), place),
            None => (None, rest),
        };
        if place.is_empty() || name == Some("") {
            return Err(Failure::user(format!(
                "--model: `{argument}` is not of the form [NAME=][KIND:]DIR|HUB-ID"
            )));
        }
        let name = name.map_or_else(|| own_name(place), str::to_owned);
        Ok(Wanted { name, kind, place: place.to_owned() })
    }
}

/// The last part of a directory, or a Hub name as it is.
fn own_name(place: &str) -> String {
    let path = std::path::Path::new(place);
    // `.` and `models/..` have a name only where they lead.
    let found = path.canonicalize().ok().filter(|path| path.is_dir());
    let last = found.as_deref().and_then(std::path::Path::file_name);
    last.map_or_else(|| place.to_owned(), |last| last.to_string_lossy().into_owned())
}

fn load(wanted: &Wanted, args: &ModelArgs) -> Result<Served, Failure> {
    let name = wanted.name.as_str();
    let files = match wanted.kind {
        Some(ModelKind::Reranker) => {
            model::find_reranker(&args.model, args.run.revision.as_deref())?
        }
        _ => model::find(&args.model, args.run.revision.as_deref())?,
    };
    let kind = wanted.kind.map_or_else(|| ModelKind::of(&files), Ok)?;
    tracing::info!(name, ?kind, place = wanted.place, "loading");
    fn built<M: vectile::Built>(
        builder: ModelBuilder<M>,
        args: &ModelArgs,
    ) -> Result<Arc<M>, Failure> {
        Ok(Arc::new(model::build(model::settings(builder, args), args)?))
    }
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
            return Err(Failure::user(format!(
                "--model: {name} is a multi-vector encoder, which is not served; use `vectile embed \
                 --multi-vector` or `vectile rerank --multi-vector`"
            )));
        }
    };
    Ok(served)
}

fn announce(
    args: &ModelArgs,
    name: &str,
    adapter: &vectile::AdapterSummary,
    precision: &vectile::Precision,
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
    fn models_are_named() {
        let parse = |argument: &str| {
            let Wanted { name, kind, place } = Wanted::parse(argument).unwrap();
            (name, kind, place)
        };
        let own = |name: &str, kind, place: &str| (name.to_owned(), kind, place.to_owned());
        assert_eq!(parse("BAAI/bge-m3"), own("BAAI/bge-m3", None, "BAAI/bge-m3"));
        assert_eq!(parse("a=BAAI/bge-m3"), own("a", None, "BAAI/bge-m3"));
        let sparse = Some(ModelKind::Sparse);
        assert_eq!(parse("a=sparse:x/y"), own("a", sparse, "x/y"));
        let directory = "tests/fixtures/bert_mean_norm/";
        assert_eq!(parse(directory), own("bert_mean_norm", None, directory));
        let reranker = Some(ModelKind::Reranker);
        let given = format!("reranker:{directory}");
        assert_eq!(parse(&given), own("bert_mean_norm", reranker, directory));
        for wrong in ["", "=x", "a=", "reranker:", "a=sparse:"] {
            assert!(Wanted::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn seconds_may_have_a_fraction() {
        assert_eq!(seconds("2.5"), Ok(Duration::from_millis(2500)));
        for wrong in ["", "x", "-1", "NaN", "inf"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
