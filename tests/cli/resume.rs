//! Tests interrupted runs of `embed`: their parts, and how later runs resume from them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::*;

/// Makes the command `embed` with the usual fixture.
fn embed(inputs: &[&Path], output: &Path, args: &[&str]) -> Command {
    let mut command = with_model_on_cpu("embed", args);
    for input in inputs {
        command.arg("--input").arg(input);
    }
    command.arg("--output").arg(output);
    command
}

/// Writes a file with texts of many lengths.
fn corpus(directory: &Path, rows: usize) -> PathBuf {
    let line = |i: usize| {
        let words = "some words of a text ".repeat(i * 7 % 5);
        format!("{{\"id\":{i},\"text\":\"row {i} {words}\"}}\n")
    };
    write(directory, "in.jsonl", (0..rows).map(line).collect::<String>())
}

/// Kills a command at random moments, the given number of times, then lets it finish.
fn kill_at_random(
    command: impl Fn() -> Command,
    times: usize,
    seed: u64,
    took: std::time::Duration,
) {
    let mut state = seed;
    let mut random = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as f64 / (1u64 << 31) as f64
    };
    for _ in 0..times {
        let mut child = command().stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(took.mul_f64(random()));
        // On Unix, this is SIGKILL. If the run has already ended, the output is complete.
        let _ = child.kill();
        child.wait().unwrap();
    }
    succeed(command());
}

#[test]
fn a_killed_run_resumes_to_byte_identical_output() {
    // The variable VECTILE_KILLS sets another number of kills.
    let times = std::env::var("VECTILE_KILLS").map_or(4, |times| times.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let input = corpus(directory.path(), 3000);
    let mut sorts = vec![("jsonl.gz", "float32"), ("npy", "int8")];
    if cfg!(feature = "bulk") {
        sorts.extend([("parquet", "float32"), ("arrow", "float16")]);
    }
    for (seed, (extension, precision)) in sorts.into_iter().enumerate() {
        let (whole, killed) =
            (at(&format!("whole.{extension}")), at(&format!("killed.{extension}")));
        let command = |output: &Path, more: &[&str]| {
            let args = [&["--part-rows", "100", "--precision", precision, "-q"], more].concat();
            embed(&[&input], output, &args)
        };
        let started = std::time::Instant::now();
        succeed(command(&whole, &[]));
        let took = started.elapsed();
        kill_at_random(|| command(&killed, &["--resume"]), times, seed as u64 + 1, took);
        let same = std::fs::read(&whole).unwrap() == std::fs::read(&killed).unwrap();
        assert!(same, "{extension} {precision}");
        assert!(!names(directory.path()).iter().any(|name| name.contains(".part")));
    }
}

/// Starts a command, and sends it a signal when this many parts of its output are complete.
#[cfg(unix)]
fn end_after_parts(
    mut command: Command,
    output: &Path,
    parts: usize,
    signal: &str,
) -> (i32, String) {
    let journal = PathBuf::from(format!("{}.parts/journal.jsonl", output.display()));
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let started = std::time::Instant::now();
    let complete = || std::fs::read_to_string(&journal).unwrap_or_default().lines().count();
    while complete() < parts {
        assert!(child.try_wait().unwrap().is_none(), "ended before it was interrupted");
        assert!(started.elapsed().as_secs() < 300, "no parts");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let id = child.id().to_string();
    assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    (output.status.code().unwrap_or(-1), stderr(&output))
}

#[cfg(unix)]
#[test]
fn a_run_resumes_only_with_the_same_settings() {
    let directory = tempfile::tempdir().unwrap();
    let input = corpus(directory.path(), 6000);
    let (whole, out) = (directory.path().join("whole.jsonl"), directory.path().join("out.jsonl"));
    let run = |output: &Path, more: &[&str]| {
        embed(&[&input], output, &[&["--part-rows", "50"], more].concat())
    };
    let (code, said) = end_after_parts(run(&out, &[]), &out, 2, "-INT");
    assert_eq!(code, 1, "{said}");
    let last = said.lines().last().unwrap();
    assert!(last.contains("interrupted after") && last.contains("--resume"), "{said}");
    assert!(last.contains("out.jsonl.parts") && !out.exists(), "{said}");
    assert_eq!(names(directory.path()), ["in.jsonl", "out.jsonl.parts"]);

    refuse(run(&out, &[]), &["out.jsonl.parts", "rows", "--resume", "remove the directory"]);
    fn with<'a>(args: &[&'a str]) -> Vec<&'a str> {
        [&["--resume"], args].concat()
    }
    for (args, words) in [
        (with(&["--normalize"]), vec!["options"]),
        (with(&["--precision", "float16"]), vec!["output_precision", "float32", "float16"]),
        (with(&["--carry", "id"]), vec!["carry was"]),
        (with(&["--embedding-column", "v"]), vec!["embedding_column", "\"v\""]),
        (with(&["--dtype", "bfloat16"]), vec!["precision", "bf16"]),
        (with(&["--field", "id"]), vec!["field"]),
    ] {
        let words = [&["--resume", "other settings"], words.as_slice()].concat();
        refuse(run(&out, &args), &words);
    }
    // From this run on, rows may fail, but none does.
    let lenient = end_after_parts(run(&out, &["--resume", "--on-error", "null"]), &out, 4, "-KILL");
    assert_eq!(lenient.0, -1, "{}", lenient.1);
    let resumed = succeed(run(&out, &["--resume"]));
    assert!(stderr(&resumed).contains("resumed after"), "{}", stderr(&resumed));
    succeed(run(&whole, &["--resume"]));
    assert!(std::fs::read(&whole).unwrap() == std::fs::read(&out).unwrap());
    assert_eq!(names(directory.path()), ["in.jsonl", "out.jsonl", "whole.jsonl"]);

    // If the input has changed, the run is not resumed.
    end_after_parts(run(&out, &[]), &out, 1, "-KILL");
    let lines = std::fs::read_to_string(&input).unwrap();
    std::fs::write(&input, lines + "{\"text\":\"one more\"}\n").unwrap();
    refuse(run(&out, &["--resume"]), &["other settings", "input was", "bytes"]);
    assert_eq!(std::fs::read(&whole).unwrap(), std::fs::read(&out).unwrap());
}

#[cfg(unix)]
#[test]
fn failed_rows_are_not_resumed_with_on_error_fail() {
    let directory = tempfile::tempdir().unwrap();
    let (input, out) = (corpus(directory.path(), 6000), directory.path().join("out.jsonl"));
    let lines = std::fs::read_to_string(&input).unwrap();
    let mut lines: Vec<&str> = lines.lines().collect();
    lines.insert(120, "{\"text\": null}");
    std::fs::write(&input, lines.join("\n")).unwrap();
    let run = |more: &[&str]| embed(&[&input], &out, &[&["--part-rows", "50"], more].concat());
    refuse(run(&["--on-error", "fail"]), &["in.jsonl: line 121"]);
    let (code, said) = end_after_parts(run(&["--resume", "--on-error", "null"]), &out, 4, "-KILL");
    assert_eq!(code, -1, "{said}");
    let refused = ["on_error was", "null", "fail"];
    refuse(run(&["--resume", "--on-error", "fail"]), &refused);
    let resumed = succeed(run(&["--resume", "--on-error", "null"]));
    assert!(
        stderr(&resumed).contains("rows: 6001 read, 6001 written, 1 null"),
        "{}",
        stderr(&resumed)
    );
}

#[cfg(unix)]
#[test]
fn two_runs_cannot_share_an_output() {
    let directory = tempfile::tempdir().unwrap();
    let (input, out) = (corpus(directory.path(), 6000), directory.path().join("out.jsonl"));
    let run = || embed(&[&input], &out, &["--part-rows", "50", "--resume", "-q"]);
    let mut first = run().spawn().unwrap();
    let parts = directory.path().join("out.jsonl.parts/lock");
    while !parts.exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    std::thread::sleep(std::time::Duration::from_millis(50));
    refuse(run(), &["out.jsonl.parts", "another vectile process"]);
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn only_runs_from_files_to_a_file_can_be_resumed() {
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), "a.txt", "a\n");
    let out = directory.path().join("out.jsonl");
    refuse(
        embed(&[Path::new("-")], &out, &["--resume"]),
        &["--resume", "needs --input FILE and --output FILE"],
    );
    refuse(
        embed(&[&file], Path::new("-"), &["--resume"]),
        &["--resume", "needs --input FILE and --output FILE"],
    );
    refuse(embed(&[&file], &out, &["--carry", "id"]), &["--carry", "no columns"]);
    refuse(
        embed(&[&file], &directory.path().join("a.npy"), &["--carry", "id"]),
        &["--carry", "NumPy"],
    );
    assert_eq!(names(directory.path()), ["a.txt"]);
}

/// Runs a command under a limit on file sizes, in blocks of 512 bytes. A full disk gives similar errors.
#[cfg(unix)]
fn limited(command: Command, blocks: u32) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"")]);
    shell.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

#[cfg(unix)]
#[test]
fn a_full_disk_leaves_no_partial_file() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let input = corpus(directory.path(), 900);
    let mut outputs = vec!["out.jsonl", "out.npy", "out.jsonl.gz"];
    if cfg!(feature = "bulk") {
        outputs.extend(["out.parquet", "out.arrow"]);
    }
    for name in outputs {
        // Under this limit, the first part does not fit.
        let command = limited(embed(&[&input], &at(name), &["-q"]), 64);
        refuse(command, &[&format!("{name}.parts"), "cannot be written"]);
        assert_eq!(names(directory.path()), ["in.jsonl"], "{name}");
        // Under this limit, the parts fit, but the whole output does not.
        let small = ["--part-rows", "100", "-q", "--carry", "none"];
        let command = limited(embed(&[&input], &at(name), &small), 200);
        refuse(command, &[&format!("{name}.part"), "cannot be written"]);
        assert_eq!(names(directory.path()), ["in.jsonl", &format!("{name}.parts")], "{name}");
        succeed(embed(&[&input], &at(name), &[&small[..], &["--resume"]].concat()));
        std::fs::remove_file(at(name)).unwrap();
        assert_eq!(names(directory.path()), ["in.jsonl"], "{name}");
    }
    if !is_windows_program() && Path::new("/dev/full").exists() {
        refuse(
            embed(&[&input], Path::new("/dev/full"), &["-q"]),
            &["/dev/full", "cannot be written"],
        );
    }
}
