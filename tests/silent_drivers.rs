//! Tests drivers of real GPUs on a machine without these GPUs. Every submit completes, but nothing is computed. No
//! command may return a row from such an adapter. `scripts/test.sh` unpacks the drivers and runs these tests.
#![cfg(feature = "cli")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod support;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use support::{fixture, skip};

/// The environment variable with the directory of the drivers. The directory also holds the script `silent`, which runs
/// a program on one of these drivers.
const DRIVERS: &str = "VECTILE_SILENT_DRIVERS";

/// The names of GPUs from AMD (driver RADV), NVIDIA (NVK), Qualcomm (turnip) and Apple (Honeykrisp).
const GPUS: [&str; 4] = ["navi31", "ga100", "a740", "m1"];

fn drivers() -> Option<PathBuf> {
    let directory = std::env::var_os(DRIVERS).map(PathBuf::from);
    if directory.is_none() {
        skip("VECTILE_REQUIRE_SILENT_DRIVERS", "the drivers that compute nothing are not unpacked");
    }
    directory
}

/// A run of the program on a GPU that the machine does not have.
#[derive(Clone, Copy)]
struct Run<'a> {
    drivers: &'a Path,
    gpu: &'a str,
    /// True if the program also finds a software driver.
    beside: bool,
    cache: &'a Path,
    /// The adapter that the environment variable `VECTILE_ADAPTER` names.
    adapter: Option<&'a str>,
}

fn run(run: &Run<'_>, arguments: &[OsString]) -> Output {
    let Run { drivers, gpu, beside, cache, adapter } = *run;
    let mut command = Command::new(drivers.join("silent"));
    command.arg(gpu).arg(env!("CARGO_BIN_EXE_vectile")).args(arguments);
    command.env("XDG_CACHE_HOME", cache).env_remove("VECTILE_LOG").stdin(Stdio::null());
    command.env_remove("VECTILE_ADAPTER");
    if let Some(adapter) = adapter {
        command.env("VECTILE_ADAPTER", adapter);
    }
    if beside {
        command.env("SILENT_BESIDE_SOFTWARE", "1");
    }
    command.output().unwrap()
}

fn arguments(words: &[&str]) -> Vec<OsString> {
    let model = fixture("bert_mean_norm").into_os_string();
    let word = |word: &&str| if *word == "MODEL" { model.clone() } else { OsString::from(word) };
    words.iter().map(word).collect()
}

/// Returns true if a line says what failed and what to do.
fn says_fault(line: &str) -> bool {
    let what = line.contains("known-answer test failed")
        || line.contains("rows of the batch are discarded");
    what && line.contains("update the driver")
}

#[test]
fn no_command_returns_a_row() {
    let Some(drivers) = drivers() else { return };
    let cache = tempfile::tempdir().unwrap();
    let file = cache.path().join("texts.txt");
    std::fs::write(&file, "A cat.\nA dog.\n").unwrap();
    let file = file.to_str().unwrap();
    let commands: [&[&str]; 4] = [
        &["embed", "--model", "MODEL", "a text"],
        &["embed", "--model", "MODEL", "--adapter", "0", "a text"],
        &["similarity", "--model", "MODEL", "a text", "another text"],
        &["search", "--model", "MODEL", "--in", file, "a query"],
    ];
    for gpu in GPUS {
        for command in commands {
            // The second run finds the files that the first run has cached.
            for _ in 0..2 {
                let on = Run {
                    drivers: &drivers,
                    gpu,
                    beside: false,
                    cache: cache.path(),
                    adapter: Some("gpu"),
                };
                let output = run(&on, &arguments(command));
                let error = String::from_utf8_lossy(&output.stderr);
                assert!(!output.status.success(), "{gpu} {command:?}: {error}");
                assert!(output.stdout.is_empty(), "{gpu} {command:?}: a row came back");
                let named = error.lines().find(|line| line.starts_with("vectile: adapter "));
                assert!(named.is_some_and(says_fault), "{gpu} {command:?}: {error}");
            }
        }
    }
}

#[test]
fn an_automatic_choice_gives_way_to_the_next_adapter_and_says_so() {
    let Some(drivers) = drivers() else { return };
    let cache = tempfile::tempdir().unwrap();
    let command = arguments(&["embed", "--model", "MODEL", "a text"]);
    let on =
        Run { drivers: &drivers, gpu: "navi31", beside: false, cache: cache.path(), adapter: None };
    // The next adapter is the CPU, or the software driver where only GPUs may be used.
    let both = [
        on,
        Run { beside: true, adapter: None, ..on },
        Run { beside: true, adapter: Some("gpu"), ..on },
    ];
    let mut rows = Vec::new();
    for on in both {
        let output = run(&on, &command);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}");
        let mut lines = error.lines().filter(|line| line.contains("tries the next adapter"));
        let line = lines.next().unwrap_or_default();
        assert!(says_fault(line) && lines.next().is_none(), "{error}");
        assert_eq!(line.contains("Native"), on.adapter.is_none(), "{line}");
        let row = String::from_utf8(output.stdout).unwrap();
        assert!(row.contains('.') && row.chars().any(|c| ('1'..='9').contains(&c)), "{row}");
        rows.push(row);
    }
    assert_eq!(rows[0], rows[1]);

    // A report is about one adapter, so the kernels are tested on the adapter that runs the model.
    let command = arguments(&["verify", "MODEL", "--json", "-"]);
    let output = run(&Run { beside: true, adapter: Some("gpu"), ..on }, &command);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["adapter"]["device_type"], "Cpu", "{report}");
    assert!(report["kernels"].as_array().is_some_and(|kernels| !kernels.is_empty()), "{report}");

    // If the user named the adapter, no other adapter is tried.
    for (named, adapter) in [(Some("0"), None), (None, Some("0"))] {
        let mut words = vec!["embed", "--model", "MODEL", "a text"];
        words.extend(named.iter().flat_map(|named| ["--adapter", named]));
        let output = run(&Run { beside: true, adapter, ..on }, &arguments(&words));
        assert!(!output.status.success() && output.stdout.is_empty());
    }
}

#[test]
fn a_tuning_without_a_model_gives_way_to_the_next_adapter() {
    let Some(drivers) = drivers() else { return };
    let cache = tempfile::tempdir().unwrap();
    let on =
        Run { drivers: &drivers, gpu: "navi31", beside: false, cache: cache.path(), adapter: None };
    // The next adapter is the CPU, or the software driver where only GPUs may be used. Neither the CPU nor the software
    // driver has anything to tune.
    for (beside, adapter) in [(false, None), (true, Some("gpu"))] {
        let words = ["tune", "--rows", "1", "--runs", "1"];
        let output = run(&Run { beside, adapter, ..on }, &arguments(&words));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && output.stdout.is_empty(), "{error}");
        let mut lines = error.lines().filter(|line| line.contains("tries the next adapter"));
        assert!(lines.next().is_some_and(says_fault) && lines.next().is_none(), "{error}");
        let last = error.lines().last().unwrap_or_default();
        assert!(last.contains("a software adapter has only one"), "{error}");
    }
}
