//! Makes the system calls of `embed` fail one after the other, for every format that it reads and writes.
//!
//! After each failure, the error names the file, and the output is absent or whole. A run with `--resume` then completes
//! the output, which is byte-identical to that of an undisturbed run. `faults.c` describes the failures.
//!
//! `VECTILE_FAULT_STRIDE` is the distance between the calls that fail (23 by default; 1 for every call).
#![cfg(target_os = "linux")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::support::*;

/// The time after which a run counts as hanging.
const PATIENCE: Duration = Duration::from_secs(60);

/// Compiles `faults.c` once, and returns the library. Returns `None` if this machine has no C compiler or if the program
/// under test is not this system's.
fn library() -> Option<&'static Path> {
    static LIBRARY: OnceLock<Option<PathBuf>> = OnceLock::new();
    let library = LIBRARY.get_or_init(|| {
        if is_windows_program() {
            lacks("the Windows program makes no system calls of Linux");
            return None;
        }
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/faults.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]);
        let compiled = compiler.arg(&library).arg(source).arg("-ldl").output();
        let Ok(compiled) = compiled else {
            lacks("there is no C compiler `cc`, so no system call can fail");
            return None;
        };
        assert!(compiled.status.success(), "{}", stderr(&compiled));
        Some(library)
    });
    library.as_deref()
}

/// A failure of system calls below a directory.
struct Fault<'a> {
    below: &'a Path,
    kind: &'static str,
    at: usize,
}

/// The calls of a run that could fail, and those that did.
#[derive(Debug)]
struct Report {
    calls: usize,
    failed: usize,
    /// The first call that failed, with its path.
    first: String,
}

impl Fault<'_> {
    /// Runs a command with this failure.
    fn run(&self, mut command: Command) -> (Output, Report) {
        let report = self.below.with_extension("report");
        command.env("LD_PRELOAD", library().unwrap());
        command.env("FAULT_BELOW", self.below).env("FAULT_KIND", self.kind);
        command.env("FAULT_AT", self.at.to_string()).env("FAULT_REPORT", &report);
        let since = Instant::now();
        let output = command.output().unwrap();
        assert!(since.elapsed() < PATIENCE, "{} at {} hangs", self.kind, self.at);
        let said = std::fs::read_to_string(&report).unwrap_or_default();
        let mut words = said.trim().splitn(3, ' ');
        let mut number = || words.next().and_then(|word| word.parse().ok());
        let (Some(calls), Some(failed)) = (number(), number()) else {
            panic!("{} at {}: no report, {:?}", self.kind, self.at, stderr(&output));
        };
        let first = words.next().unwrap_or_default().to_owned();
        (output, Report { calls, failed, first })
    }
}

const ROWS: usize = 8;

/// Writes the same texts in every format, and returns a file of each format, with the extension of the output to which
/// it is embedded.
fn conversions(directory: &Path) -> Vec<(PathBuf, &'static str, &'static [&'static str])> {
    let text = |row: usize| format!("row {row} {}", "some words of a text ".repeat(row * 7 % 5));
    let all = |line: fn(usize, String) -> String| -> String {
        (0..ROWS).map(|row| line(row, text(row))).collect()
    };
    let lines = all(|_, text| format!("{text}\n"));
    let objects =
        all(|row, text| serde_json::json!({ "id": row, "text": text }).to_string() + "\n");
    let array = format!("[{}]", objects.trim_end().replace('\n', ","));
    let csv = "id,text\n".to_owned() + &all(|row, text| format!("{row},\"{text}\"\n"));
    let tsv = "id\ttext\n".to_owned() + &all(|row, text| format!("{row}\t{text}\n"));
    let mut files = vec![
        (write(directory, "a.txt", lines), "jsonl", &[][..]),
        (write(directory, "b.jsonl", objects), "csv", &[]),
        (write(directory, "c.json", array), "tsv", &[]),
        (write(directory, "d.csv", csv), "npy", &["--precision", "int8"]),
        (write(directory, "e.tsv", tsv), "jsonl.gz", &[]),
    ];
    // The program itself writes the inputs in the other formats.
    let make = |name: &str| {
        let file = directory.join(name);
        let mut command = with_model_on_cpu("embed", ["-q", "--input"]);
        command.arg(directory.join("b.jsonl")).arg("--output").arg(&file);
        succeed(command);
        file
    };
    const ID: &[&str] = &["--carry", "id"];
    files.push((
        make("f.jsonl.gz"),
        if cfg!(feature = "bulk") { "jsonl.zst" } else { "jsonl" },
        ID,
    ));
    if cfg!(feature = "bulk") {
        const SMALL: &[&str] = &["--carry", "id", "--precision", "uint8"];
        files.push((make("g.jsonl.zst"), "parquet", SMALL));
        files.push((make("h.parquet"), "arrow", ID));
        files.push((make("i.arrow"), "parquet", ID));
    }
    files
}

/// Checks a run that had a failure, and then completes its output.
fn check(
    fault: &Fault,
    run: (Output, Report),
    output: &Path,
    expected: &[u8],
    tolerated: bool,
    again: Command,
) -> Report {
    let (ran, report) = run;
    let said = stderr(&ran);
    let what = format!(
        "{} at call {} ({}), exit code {:?}: {said}",
        fault.kind,
        fault.at,
        report.first,
        ran.status.code()
    );
    assert!(matches!(ran.status.code(), Some(0..=2)) && !said.contains("panicked"), "{what}");
    match std::fs::read(output) {
        // A complete output may have an error too: its directory may not have reached the disk.
        Ok(found) => assert!(found == expected, "the output is not whole: {what}"),
        Err(_) => assert!(!ran.status.success(), "no output: {what}"),
    }
    if !ran.status.success() {
        assert!(!tolerated, "this failure must be repaired: {what}");
        assert!(said.contains(fault.below.to_str().unwrap()), "no file is named: {what}");
    }
    succeed(again);
    assert!(std::fs::read(output).unwrap() == expected, "another output after --resume: {what}");
    std::fs::remove_file(output).unwrap();
    let directory = output.parent().unwrap();
    assert!(!names(directory).iter().any(|name| name.contains(".part")), "parts are left: {what}");
    report
}

/// Makes calls fail in every conversion. Prints the number of runs.
fn calls_fail(kind: &'static str, tolerated: bool) {
    if library().is_none() {
        return;
    }
    let stride = std::env::var("VECTILE_FAULT_STRIDE").map_or(23, |stride| stride.parse().unwrap());
    let base = tempfile::tempdir().unwrap();
    let directory = base.path().join("files");
    std::fs::create_dir(&directory).unwrap();
    let mut runs = 0;
    for (number, (input, extension, args)) in conversions(&directory).into_iter().enumerate() {
        let output = directory.join(format!("out.{extension}"));
        let command = |more: &[&str]| {
            let mut command = with_model_on_cpu("embed", ["-q", "--part-rows", "3", "--input"]);
            command.arg(&input).arg("--output").arg(&output).args(args).args(more);
            command
        };
        succeed(command(&[]));
        let expected = std::fs::read(&output).unwrap();
        std::fs::remove_file(&output).unwrap();
        // Each conversion begins at another call, so that all calls have their turn.
        let mut at = 1 + (7 * number) % stride;
        loop {
            let fault = Fault { below: &directory, kind, at };
            let again = command(&["--resume"]);
            let ran = fault.run(command(&[]));
            let report = check(&fault, ran, &output, &expected, tolerated, again);
            assert!(report.calls > 0, "{kind} reaches no call of {}", input.display());
            runs += 1;
            if report.failed == 0 {
                break;
            }
            at += stride;
        }
    }
    eprintln!("{kind}: {runs} runs");
}

#[test]
fn an_io_error_at_any_call_is_reported_and_the_run_resumes() {
    calls_fail("eio", false);
}

#[test]
fn a_full_disk_at_any_call_is_reported_and_the_run_resumes() {
    calls_fail("full", false);
}

#[test]
fn a_refused_path_at_any_call_is_reported_and_the_run_resumes() {
    calls_fail("eacces", false);
}

#[test]
fn an_interrupted_call_is_repeated() {
    calls_fail("eintr", true);
}

#[test]
fn short_reads_and_writes_change_nothing() {
    calls_fail("short", true);
}

/// Runs a shell script as the superuser of a new namespace, in which it may mount file systems.
fn in_namespace(script: &str, arguments: &[&Path]) -> Option<Output> {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]);
    command.args(arguments).env(ADAPTER, "cpu").output().ok()
}

/// The disk of the output is a tmpfs that is too small. It grows until the run succeeds.
#[test]
fn a_disk_that_is_really_full_is_reported_and_the_run_resumes() {
    if is_windows_program() {
        return lacks("the Windows program has no tmpfs");
    }
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let probe = "mount -t tmpfs -o size=64k tmpfs \"$1\"";
    std::fs::create_dir(at("disk")).unwrap();
    if !in_namespace(probe, &[&at("disk")]).is_some_and(|ran| ran.status.success()) {
        return lacks("this user may not mount a tmpfs, so no disk can be really full");
    }
    let text = |row: usize| format!("row {row} {}\n", "some words of a text ".repeat(row * 7 % 5));
    let input = write(directory.path(), "in.txt", (0..60).map(text).collect::<String>());
    let mut outputs = vec!["out.jsonl", "out.csv", "out.npy", "out.jsonl.gz"];
    if cfg!(feature = "bulk") {
        outputs.extend(["out.parquet", "out.arrow", "out.jsonl.zst"]);
    }
    // The script prints the exit code of each run. An output that is there before its run succeeds is an error.
    let script = r#"
        disk=$1 input=$2 output=$3 program=$4 model=$5
        mount -t tmpfs -o size=4k tmpfs "$disk" || exit 9
        for size in 4 12 20 28 36 44 60 80 120 200 400; do
            mount -o "remount,size=${size}k" "$disk" || exit 9
            "$program" embed -q --model "$model" --input "$input" --output "$disk/$output" --part-rows 7 --resume 2>"$disk.log"
            code=$?
            echo "$size $code $(cat "$disk.log")"
            [ $code -ne 0 ] || break
            [ ! -e "$disk/$output" ] || { echo "half an output"; exit 8; }
        done
        cp "$disk/$output" "$disk.$output"
    "#;
    let program = PathBuf::from(vectile().get_program());
    for name in outputs {
        let expected = at(name);
        let mut whole = with_model_on_cpu("embed", ["-q", "--part-rows", "7", "--input"]);
        whole.arg(&input).arg("--output").arg(&expected);
        succeed(whole);
        let paths = [&at("disk"), &input, Path::new(name), &program, &model("bert_mean_norm")];
        let ran = in_namespace(script, &paths).unwrap();
        let said = stdout(&ran);
        assert!(ran.status.success(), "{name}: {said}{}", stderr(&ran));
        let full: Vec<&str> = said.lines().filter(|line| line.contains("No space left")).collect();
        assert!(full.len() >= 2, "{name}: the disk was never full: {said}");
        for line in full {
            let named = at("disk").display().to_string();
            assert!(line.contains(" 2 vectile: ") && line.contains(&named), "{name}: {line}");
        }
        let found = std::fs::read(directory.path().join(format!("disk.{name}"))).unwrap();
        assert!(found == std::fs::read(&expected).unwrap(), "{name}: {said}");
    }
}

/// At every read of the model's files, the file loses its second half. The program then says which file is damaged, or
/// has read it already.
#[test]
fn a_model_file_that_shrinks_while_it_is_read_is_reported() {
    if library().is_none() {
        return;
    }
    let base = tempfile::tempdir().unwrap();
    let directory = base.path().join("files");
    let command = || {
        let mut command = vectile();
        command.args(["embed", "-q", "a cat on a roof", "--model"]).arg(&directory);
        run_on_cpu(command)
    };
    let restore = || {
        let _ = std::fs::remove_dir_all(&directory);
        let mut copy = Command::new("cp");
        assert!(
            copy.arg("-r").arg(model("bert_mean_norm")).arg(&directory).status().unwrap().success()
        );
    };
    restore();
    let expected = succeed(command()).stdout;
    let (mut at, mut refused) = (1, 0);
    loop {
        restore();
        let fault = Fault { below: &directory, kind: "shrink", at };
        let (ran, report) = fault.run(command());
        let what = format!("{report:?} {:?} {}", ran.status.code(), stderr(&ran));
        assert!(!stderr(&ran).contains("panicked"), "{what}");
        match ran.status.code() {
            Some(0) => assert_eq!(ran.stdout, expected, "{what}"),
            Some(2) => {
                assert!(ran.stdout.is_empty(), "{what}");
                let file = report.first.rsplit('/').next().unwrap();
                assert!(stderr(&ran).contains(file), "the file is not named: {what}");
                refused += 1;
            }
            _ => panic!("{what}"),
        }
        if report.failed == 0 {
            break;
        }
        at += 1;
    }
    eprintln!("{} reads, {refused} of them refused", at - 1);
    assert!(refused > 3, "{refused}");
}
