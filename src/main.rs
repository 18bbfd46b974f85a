//! The command line of Vectile: parse, call, print.

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
