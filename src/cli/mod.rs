//! The command line: one file per command, and the parts that commands share.

mod adapters;
mod args;
mod bench;
mod bench_table;
mod calibration;
mod carried;
mod compare;
mod embed;
mod failure;
mod input;
mod inspect;
mod interrupt;
mod message;
mod model;
mod output;
mod progress;
mod report_file;
mod rerank;
mod search;
#[cfg(feature = "server")]
mod serve;
mod similarity;
mod stdout;
mod stream;
mod table;
mod tune;
mod verify;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use args::{Cli, Command};
use failure::Failure;

pub use args::LogFormat;
pub use message::say;

/// The environment variable that sets what is logged: `warn`, `debug`, `vectile=trace` and so on.
const LOG_VARIABLE: &str = "VECTILE_LOG";

/// The Hub client logs as errors what this program reports in its own words.
const DEFAULT_LOG: &str = "warn,hf_hub=off";

/// The log under `--quiet`.
const QUIET_LOG: &str = "error,hf_hub=off";

/// A server logs each request.
#[cfg(feature = "server")]
const SERVER_LOG: &str = "warn,vectile=info,hf_hub=off";

/// Parses the arguments, runs the command and returns its exit code.
pub fn run() -> ExitCode {
    // On wrong arguments clap prints the problem and the usage, and exits with 2.
    let cli = Cli::parse();
    let format = match &cli.command {
        #[cfg(feature = "server")]
        Command::Serve(args) => args.log_format,
        _ => LogFormat::Text,
    };
    match start_log(default_log(&cli.command), format).and_then(|()| run_command(cli.command)) {
        Ok(()) | Err(Failure::ClosedPipe) => ExitCode::SUCCESS,
        Err(failure) => {
            say(format_args!("vectile: {failure}"));
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run_command(command: Command) -> Result<(), Failure> {
    match command {
        Command::Embed(args) => embed::run(&args),
        Command::Similarity(args) => similarity::run(&args),
        Command::Search(args) => search::run(&args),
        Command::Rerank(args) => rerank::run(&args),
        #[cfg(feature = "server")]
        Command::Serve(args) => serve::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Adapters(args) => adapters::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Tune(args) => tune::run(&args),
        Command::Verify(args) => verify::run(&args),
    }
}

/// The log filter for a command, unless VECTILE_LOG sets another.
fn default_log(command: &Command) -> &'static str {
    if command.is_quiet() {
        return QUIET_LOG;
    }
    match command {
        #[cfg(feature = "server")]
        Command::Serve(_) => SERVER_LOG,
        _ => DEFAULT_LOG,
    }
}

fn start_log(default: &str, format: LogFormat) -> Result<(), Failure> {
    let chosen = std::env::var(LOG_VARIABLE).unwrap_or_default();
    let chosen = if chosen.trim().is_empty() { default } else { chosen.trim() };
    let filter = EnvFilter::try_new(chosen).map_err(|e| {
        Failure::user(format!(
            "{LOG_VARIABLE}={chosen}: {e}; use error, warn, info, debug or trace"
        ))
    })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    Ok(())
}
