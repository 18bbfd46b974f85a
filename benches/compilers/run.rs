//! Runs the bench: starts a process for each GPU on that GPU's driver, and prints the tables.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Parser;

use crate::arguments::Arguments;
use crate::gpus::{GPUS, Gpu};
use crate::report::{OfGpu, Report};
use crate::support::{read_json, root, skip};
use crate::{compare, limits, measure, table};

pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(name) = &arguments.here {
        let gpu = known(name).unwrap();
        println!("{}", serde_json::to_string(&measure::measure(gpu, &arguments)).unwrap());
        return ExitCode::SUCCESS;
    }
    if let [before, after] = &arguments.compare[..] {
        print!("{}", compare::compare(&read(before), &read(after)));
        return ExitCode::SUCCESS;
    }
    let Some(drivers) = &arguments.drivers else {
        skip("VECTILE_REQUIRE_SILENT_DRIVERS", "the drivers that compute nothing are not unpacked");
        return ExitCode::SUCCESS;
    };
    let mut gpus = Vec::new();
    for name in &arguments.gpu {
        match known(name) {
            Some(gpu) => gpus.push(gpu),
            None => {
                let names: Vec<&str> = GPUS.iter().map(|gpu| gpu.name).collect();
                eprintln!(
                    "compilers: `{name}` is not a known GPU; supported: {}",
                    names.join(", ")
                );
                return ExitCode::FAILURE;
            }
        }
    }
    if gpus.is_empty() {
        gpus = if arguments.check { limits::gpus() } else { GPUS.to_vec() };
    }
    let report = Report {
        vectile: env!("CARGO_PKG_VERSION").to_owned(),
        commit: commit(),
        date: jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
        gpus: on_all(drivers, &gpus, &arguments),
    };
    if let Some(file) = &arguments.json {
        std::fs::write(file, report.to_json()).unwrap();
        println!("wrote {}", file.display());
    }
    if let Some(file) = &arguments.adapters {
        let adapters: Vec<_> = report.gpus.iter().map(limits::Recorded::of).collect();
        std::fs::write(file, serde_json::to_string_pretty(&adapters).unwrap() + "\n").unwrap();
        println!("wrote {}", file.display());
        return ExitCode::SUCCESS;
    }
    if arguments.check {
        return limits::check(&report);
    }
    let mut failed = false;
    for gpu in &report.gpus {
        println!("{}", table::of(gpu));
        failed |= gpu.problem.is_some();
        failed |= gpu.pipelines.iter().any(|pipeline| pipeline.problem.is_some());
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn known(name: &str) -> Option<Gpu> {
    GPUS.into_iter().find(|gpu| gpu.name == name)
}

fn read(file: &Path) -> Report {
    serde_json::from_value(read_json(file)).unwrap()
}

/// The commit of the working tree; `unknown` outside of git.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").current_dir(root()).args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else { return "unknown".to_owned() };
    let changed = git(&["status", "--porcelain", "--", "src", "shaders"]);
    commit + if changed.is_some_and(|files| !files.is_empty()) { "+" } else { "" }
}

/// The figures of each GPU, in order. As many processes run at once as the machine has processors.
fn on_all(drivers: &Path, gpus: &[Gpu], arguments: &Arguments) -> Vec<OfGpu> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, OfGpu)>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((at, gpu)) = {
                    let at = next.fetch_add(1, Ordering::SeqCst);
                    gpus.get(at).map(|gpu| (at, *gpu))
                } {
                    let result = on_driver(drivers, gpu, arguments);
                    eprintln!("{}: {} pipelines", gpu.name, result.pipelines.len());
                    done.lock().unwrap().push((at, result));
                }
            });
        }
    });
    let mut all = done.into_inner().unwrap();
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, result)| result).collect()
}

/// Runs this program again, on the driver of a GPU.
fn on_driver(drivers: &Path, gpu: Gpu, arguments: &Arguments) -> OfGpu {
    let mut command = Command::new(drivers.join("silent"));
    command.arg(gpu.name).arg(std::env::current_exe().unwrap());
    command.args(["--here", gpu.name, "--kernel", &arguments.kernel]);
    command.args(arguments.branches.then_some("--branches"));
    command.args(arguments.adapters.iter().flat_map(|_| ["--adapters", "-"]));
    command.args(arguments.check.then_some("--check"));
    if let Some(directory) = &arguments.assembly {
        let directory: PathBuf = std::path::absolute(directory).unwrap();
        command.arg("--assembly").arg(directory);
    }
    let output = command.stdin(Stdio::null()).env("MESA_SHADER_CACHE_DISABLE", "true").output();
    let problem = match output {
        Err(error) => format!("{}: {error}", drivers.join("silent").display()),
        Ok(output) => match serde_json::from_slice(&output.stdout) {
            Ok(result) => return result,
            Err(_) => {
                let error = String::from_utf8_lossy(&output.stderr);
                let last: Vec<&str> = error.lines().rev().take(3).collect();
                let last: Vec<&str> = last.into_iter().rev().collect();
                format!("its driver ended with {}: {}", output.status, last.join(" / "))
            }
        },
    };
    OfGpu {
        gpu: gpu.name.to_owned(),
        product: gpu.product.to_owned(),
        adapter: None,
        variants: None,
        problem: Some(problem),
        pipelines: Vec::new(),
    }
}
