//! The command line: a file per command, and what the commands share.

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
mod model;
mod output;
mod progress;
mod rerank;
mod search;
#[cfg(feature = "server")]
mod serve;
mod similarity;
mod stream;
mod table;
mod tune;
mod verify;

use std::fmt;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use tracing_subscriber::EnvFilter;

use args::{Cli, Command};
use failure::Failure;

/// The environment variable that says what is logged: `warn`, `debug`, `vectile=trace`, ….
const LOG_VARIABLE: &str = "VECTILE_LOG";

/// The Hub client logs as errors what this program says in its own words.
const DEFAULT_LOG: &str = "warn,hf_hub=off";

/// A server says what it answers.
#[cfg(feature = "server")]
const SERVER_LOG: &str = "warn,vectile=info,hf_hub=off";

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// A JSON object a line.
    Json,
}

/// Parses the arguments and runs the command they name.
pub fn run() -> ExitCode {
    // clap prints what is wrong with the arguments, and usage, and exits with 2.
    let cli = Cli::parse();
    let (log, format) = match &cli.command {
        #[cfg(feature = "server")]
        Command::Serve(args) if args.quiet => ("error", args.log_format),
        #[cfg(feature = "server")]
        Command::Serve(args) => (SERVER_LOG, args.log_format),
        _ => (DEFAULT_LOG, LogFormat::Text),
    };
    let result = start_log(log, format).and_then(|()| match cli.command {
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
    });
    match result {
        Ok(()) | Err(Failure::Pipe) => ExitCode::SUCCESS,
        Err(failure) => {
            say(format_args!("vectile: {failure}"));
            ExitCode::from(failure.exit_code())
        }
    }
}

fn start_log(default: &str, format: LogFormat) -> Result<(), Failure> {
    let wanted = std::env::var(LOG_VARIABLE).unwrap_or_default();
    let wanted = if wanted.trim().is_empty() { default } else { wanted.trim() };
    let filter = EnvFilter::try_new(wanted).map_err(|e| {
        Failure::user(format!(
            "{LOG_VARIABLE}={wanted}: {e}; use error, warn, info, debug or trace"
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

/// A line on stderr. A closed stderr is no reason to fail.
fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
