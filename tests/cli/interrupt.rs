//! Tests Ctrl-C: no partial file is left, and the command reports its progress.
#![cfg(unix)]

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::*;

fn start(mut command: Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until a file has rows, then sends the signal of Ctrl-C.
fn interrupt_when_written(child: &mut Child, part: &Path) {
    let started = Instant::now();
    while std::fs::metadata(part).map_or(0, |about| about.len()) < 1000 {
        assert!(child.try_wait().unwrap().is_none(), "ended before it was interrupted");
        assert!(started.elapsed() < Duration::from_secs(120), "no rows");
        std::thread::sleep(Duration::from_millis(10));
    }
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
}

/// Checks that the command was interrupted. Returns the number of finished texts that it reports.
fn interrupted(child: Child, directory: &Path, files_left: usize) -> usize {
    let output = child.wait_with_output().unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(std::fs::read_dir(directory).unwrap().count(), files_left, "{said}");
    let line = said.lines().last().unwrap();
    assert!(line.ends_with("no file was written"), "{said}");
    let count = line.strip_prefix("vectile: interrupted after ").unwrap();
    count.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn ctrl_c_during_a_run_leaves_no_file() {
    if !have_adapter() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let lines: String = (0..250_000).map(|i| format!("line {i}\n")).collect();
    let file = write(directory.path(), "texts.txt", lines);
    let out = directory.path().join("out.jsonl");
    let mut command = with_model("embed", ["--input".as_ref(), file.as_os_str()]);
    command.arg("--output").arg(&out);
    let mut child = start(command);
    interrupt_when_written(&mut child, &directory.path().join("out.jsonl.parts/part.tmp"));
    let done = interrupted(child, directory.path(), 1);
    assert!(done > 0 && done < 250_000, "{done}");
}

#[test]
fn ctrl_c_while_waiting_for_input_leaves_no_file() {
    if !have_adapter() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut command = with_model("embed", ["--input", "-", "--output"]);
    command.arg(directory.path().join("out.jsonl"));
    let mut child = start(command);
    // Stdin stays open, so the command waits for more lines.
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&b"a line\n".repeat(20)).unwrap();
    stdin.flush().unwrap();
    interrupt_when_written(&mut child, &directory.path().join("out.jsonl.part"));
    assert_eq!(interrupted(child, directory.path(), 0), 20);
    drop(stdin);
}
