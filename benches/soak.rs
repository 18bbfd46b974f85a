//! Puts load on a running server. `cargo bench --bench soak` runs all checks, which take about twelve minutes.
//! `cargo bench --bench soak -- overload signals` runs only the checks `overload` and `signals`. The program exits with
//! 1 if a check fails.
//!
//! The model is tiny, so that the checks measure the server and not the model. The check of throughput uses the model
//! that `VECTILE_TEST_MODEL` names, if this variable is set.

#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

#[path = "../tests/serve/program.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod program;
#[path = "../tests/serve/soak/mod.rs"]
mod soak;
#[path = "../tests/support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::time::Instant;

use soak::{Found, Scale, block_on};

const FULL: Scale = Scale {
    seconds: 20.0,
    overload: 60.0,
    disconnects: 1000,
    signals: 100,
    requests: 100_000,
    rounds: 5,
    times: true,
};

fn run(name: &str) -> Option<Found> {
    let model = support::test_model();
    Some(match name {
        "overload" => block_on(soak::overload::check(&FULL)),
        "disconnects" => block_on(soak::disconnects::check(&FULL)),
        "signals" => block_on(soak::signals::check(&FULL)),
        "garbage" => block_on(soak::garbage::check()),
        "memory" => block_on(soak::memory::check(&FULL)),
        "throughput" => block_on(soak::throughput::check(&FULL, model)),
        _ => return None,
    })
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test` runs this program without `--bench`. In that case the program checks nothing, since the tests of the
    // server contain a short run of each check.
    if !args.iter().any(|arg| arg == "--bench") {
        return ExitCode::SUCCESS;
    }
    let named: Vec<&str> =
        args.iter().map(String::as_str).filter(|arg| !arg.starts_with("--")).collect();
    let all = ["garbage", "disconnects", "overload", "throughput", "signals", "memory"];
    let mut failed = 0;
    for name in if named.is_empty() { all.to_vec() } else { named } {
        println!("== {name}");
        let started = Instant::now();
        let verdict = match run(name) {
            None => format!("FAILED: there is no such check; the checks are {all:?}"),
            Some(Err(found)) => format!("FAILED: {found}"),
            Some(Ok(())) => "passed".to_owned(),
        };
        failed += usize::from(verdict != "passed");
        println!("{verdict} ({:.0} s)", started.elapsed().as_secs_f64());
    }
    ExitCode::from(u8::from(failed > 0))
}
