//! The program `vectile`, which runs the command line in `cli`.

mod cli;

fn main() {
    cli::run()
}
