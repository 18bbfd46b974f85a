//! The command line: one file per command, and the parts that commands share.

mod adapters;
mod args;
mod bench;
mod bench_table;
mod calibration;
mod carried;
mod compare;
mod embed;
mod environment;
mod failure;
#[cfg(all(any(test, fuzzing), feature = "bulk"))]
#[path = "../../fuzz/targets/input.rs"]
pub mod fuzzing;
mod input;
mod inspect;
mod interrupt;
mod leave;
mod message;
mod model;
mod npy;
mod output;
mod panics;
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
mod vectors;
mod verify;

use std::io::IsTerminal;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use args::{Cli, Command, LogFormat};
use failure::Failure;

/// The environment variable that sets the log filter, such as `warn`, `debug` or `vectile=trace`.
const LOG_VARIABLE: &str = "VECTILE_LOG";

/// The default log filter. The filter disables the logs of the Hub client and of wgpu, because this program reports the
/// errors of these libraries itself.
const DEFAULT_LOG: &str = "warn,hf_hub=off,wgpu=off";

/// The log filter if `--quiet` is given.
const QUIET_LOG: &str = "error,hf_hub=off,wgpu=off";

/// The log filter of a server, which also logs each request.
#[cfg(feature = "server")]
const SERVER_LOG: &str = "warn,vectile=info,hf_hub=off,wgpu=off";

/// Parses the arguments, runs the command and ends the process with the command's exit code.
pub fn run() -> ! {
    environment::silence_display_libraries();
    let cli = Cli::try_parse().unwrap_or_else(|error| refuse_arguments(&error));
    let format = cli.log_format;
    message::set_format(format);
    panics::record();
    let run = || {
        start_log(default_log(&cli.command), format)?;
        run_command(cli.command)
    };
    let code = match panics::catch(run) {
        Ok(()) | Err(Failure::ClosedPipe) => 0,
        Err(failure) => {
            message::error(format_args!("{failure}"));
            failure.exit_code()
        }
    };
    leave::leave(code)
}

/// Prints clap's message and exits. The exit code is 0 if the message is the help, and 2 if it is an error.
fn refuse_arguments(error: &clap::Error) -> ! {
    let args: Vec<String> = std::env::args().collect();
    let is_json = args.windows(2).any(|pair| pair == ["--log-format", "json"])
        || args.iter().any(|arg| arg == "--log-format=json");
    if error.use_stderr() && is_json {
        message::set_format(LogFormat::Json);
        message::error(format_args!("{}", error.to_string().trim_end()));
        leave::leave(2);
    }
    error.exit()
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

/// Returns the log filter of a command, which is used unless VECTILE_LOG sets another filter.
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
            "{LOG_VARIABLE}={chosen}: {e}; use `error`, `warn`, `info`, `debug` or `trace`"
        ))
    })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        // If stderr is closed, tracing would print its own error there, and this would panic.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    Ok(())
}
