//! Compiles the kernels with the drivers of GPUs that the machine lacks, and prints figures about the compiled code.
//! See `benches/README.md`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a bench fails by panicking and prints its tables"
)]

#[cfg(target_os = "linux")]
mod arguments;
#[cfg(target_os = "linux")]
mod assembly;
#[cfg(target_os = "linux")]
mod compare;
#[cfg(target_os = "linux")]
mod device;
#[cfg(target_os = "linux")]
mod gpus;
#[cfg(target_os = "linux")]
mod limits;
#[cfg(target_os = "linux")]
mod measure;
#[cfg(target_os = "linux")]
mod report;
#[cfg(target_os = "linux")]
mod run;
#[cfg(target_os = "linux")]
mod spirv;
#[cfg(target_os = "linux")]
#[path = "../../tests/support/mod.rs"]
mod support;
#[cfg(target_os = "linux")]
mod table;
#[cfg(target_os = "linux")]
mod work;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    run::run()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("SKIPPED: Mesa's drivers without hardware run only on Linux");
}
