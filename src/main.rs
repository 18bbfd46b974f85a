//! The program `vectile`, whose code is in the library.

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
