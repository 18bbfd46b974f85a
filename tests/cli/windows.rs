//! Tests the parts of the Windows program that depend on Windows: paths, line ends, and files that are open elsewhere.
//!
//! On Linux, `scripts/windows.sh` starts the Windows program under Wine for these tests.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::*;

/// True if the program under test is the Windows program and there is an adapter. Otherwise prints that the test is
/// skipped.
fn on_windows() -> bool {
    if !is_windows_program() {
        skip("VECTILE_REQUIRE_WINDOWS", "the program under test is not the Windows program");
        return false;
    }
    have_adapter()
}

/// Makes the command `embed` from a file to a file. Messages show the paths as the user wrote them.
fn embed(model: &OsStr, input: &OsStr, output: &OsStr) -> Command {
    let mut command = vectile();
    command.arg("embed").arg("--model").arg(model);
    command.arg("--input").arg(input).arg("--output").arg(output);
    command
}

fn windows_model() -> PathBuf {
    windows_path(&model("bert_mean_norm"))
}

#[test]
fn drives_backslashes_and_relative_paths_name_the_same_file() {
    if !on_windows() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("with space")).unwrap();
    let input = write(&directory.path().join("with space"), "texts.txt", "a cat\na dog\n");
    let backslashes = windows_path(&input).into_os_string().into_string().unwrap();
    let expected = rows_of(&succeed(with_model("embed", ["a cat", "a dog"])).stdout);
    let inputs = [
        backslashes.clone(),
        backslashes.replace('\\', "/"),
        format!(r"\\?\{backslashes}"),
        r"with space\texts.txt".to_owned(),
        r".\with space\..\with space/texts.txt".to_owned(),
        // A directory and a pattern list the same file.
        "with space".to_owned(),
        windows_path(&directory.path().join("with space")).to_str().unwrap().to_owned(),
        r"with space\*.txt".to_owned(),
        backslashes.replace("texts", "t*s"),
    ];
    for input in inputs {
        let mut command =
            embed(windows_model().as_ref(), input.as_ref(), r"with space\out.jsonl".as_ref());
        command.current_dir(directory.path());
        succeed(command);
        let out = directory.path().join("with space").join("out.jsonl");
        assert_eq!(rows_of(&std::fs::read(&out).unwrap()), expected, "{input}");
        std::fs::remove_file(out).unwrap();
    }
    assert_eq!(names(&directory.path().join("with space")), ["texts.txt"]);
}

#[test]
fn a_message_shows_the_path_as_the_user_wrote_it() {
    if !on_windows() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let input = write(directory.path(), "texts.txt", "{\n");
    let (input, missing) = (windows_path(&input), windows_path(&directory.path().join("no.txt")));
    let model = windows_model();
    let refused = |input: &Path, output: &Path, words: &[&str]| {
        let line = refuse(embed(model.as_ref(), input.as_ref(), output.as_ref()), words);
        assert!(!line.contains(r"\\?\"), "{line}");
    };
    let out = windows_path(&directory.path().join("out.jsonl"));
    refused(&missing, &out, &[missing.to_str().unwrap(), "cannot be read"]);
    refused(&input, &input, &[input.to_str().unwrap(), "is also the input"]);
    // An earlier output stays if a new one cannot be written.
    let earlier = write(directory.path(), "out.jsonl", "before");
    std::fs::create_dir(directory.path().join("out.jsonl.parts")).unwrap();
    write(&directory.path().join("out.jsonl.parts"), "manifest.json", "no manifest");
    refused(&input, &out, &[out.to_str().unwrap(), "manifest.json cannot be read"]);
    assert_eq!(std::fs::read_to_string(earlier).unwrap(), "before");
}

#[test]
fn names_that_are_not_ascii_are_read_and_written() {
    if !on_windows() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("größe 日本");
    std::fs::create_dir(&folder).unwrap();
    let input = write(&folder, "naïve 😀.txt", "a cat\n");
    let out = folder.join("vektoren ß.jsonl");
    succeed(embed(
        windows_model().as_ref(),
        windows_path(&input).as_ref(),
        windows_path(&out).as_ref(),
    ));
    let text = "Naïve café 日本語 😀";
    let rows = rows_of(&std::fs::read(&out).unwrap());
    assert_eq!(rows, rows_of(&succeed(with_model("embed", ["a cat"])).stdout));
    // A text on the command line has the same characters as in a file.
    let file = write(directory.path(), "text.txt", text);
    let from_file = succeed(with_model("embed", ["--input".as_ref(), file.as_os_str()])).stdout;
    assert_eq!(succeed(with_model("embed", [text])).stdout, from_file);
}

#[test]
fn paths_of_more_than_260_characters_are_read_and_written() {
    if !on_windows() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let long: PathBuf = (0..7).map(|i| format!("{i}{}", "long name ".repeat(5).trim())).collect();
    let long = directory.path().join(long);
    std::fs::create_dir_all(&long).unwrap();
    let lines: String = (0..300).map(|i| format!("line {i}\n")).collect();
    let (input, out) = (write(&long, "texts.txt", &lines), long.join("out.jsonl"));
    assert!(windows_path(&out).as_os_str().len() > 340);
    let mut command =
        embed(windows_model().as_ref(), windows_path(&input).as_ref(), windows_path(&out).as_ref());
    // The parts of the output lie in a directory whose name is longer still.
    command.args(["--part-rows", "100", "--carry", "none"]);
    succeed(command);
    assert_eq!(rows_of(&std::fs::read(&out).unwrap()).len(), 300);
    assert_eq!(names(&long), ["out.jsonl", "texts.txt"]);
}

#[test]
fn lines_end_in_lf_whatever_the_input_has() {
    if !on_windows() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), "texts.csv", "id,text\r\n1,a cat\r\n2,\"a\r\ndog\"\r\n");
    for (name, lines) in [("out.jsonl", 2), ("out.csv", 3)] {
        let out = directory.path().join(name);
        succeed(embed(
            windows_model().as_ref(),
            windows_path(&file).as_ref(),
            windows_path(&out).as_ref(),
        ));
        let bytes = std::fs::read_to_string(&out).unwrap();
        assert_eq!(bytes.replace("a\r\ndog", "").lines().count(), lines, "{bytes}");
        assert!(!bytes.replace("a\r\ndog", "").contains('\r'), "{name}: {bytes:?}");
    }
    let printed = succeed(with_model("embed", ["a", "b"])).stdout;
    assert!(!printed.contains(&b'\r') && printed.ends_with(b"\n"));
}

#[test]
fn an_adapter_that_compiles_no_kernel_gives_way_to_the_next() {
    // Wine offers Direct3D 12 without a compiler for shaders, so no kernel compiles on its first adapter.
    if cfg!(windows) || !on_windows() {
        return lacks("only Wine has an adapter that compiles no kernel");
    }
    let with_direct3d = |mut command: Command| {
        command.env("WINEDLLOVERRIDES", "mscoree,mshtml=");
        command
    };
    let mut adapters = vectile();
    adapters.arg("adapters");
    let adapters = stdout(&succeed(with_direct3d(adapters)));
    if !adapters.contains("Dx12") || !adapters.contains("Vulkan") {
        return lacks("this Wine does not offer both Direct3D 12 and Vulkan");
    }
    let output = succeed(with_direct3d(with_model("embed", ["a cat"])));
    let said = stderr(&output);
    let line = said.lines().find(|line| line.contains("tries the next adapter")).unwrap();
    assert!(line.contains("does not compile") && line.contains("`--adapter`"), "{line}");
    assert!(said.contains("(Vulkan, "), "{said}");
    assert_eq!(rows_of(&output.stdout), rows_of(&succeed(with_model("embed", ["a cat"])).stdout));
    // If the user named the adapter, no other adapter is tried.
    let named = with_direct3d(with_model("embed", ["a cat", "--adapter", "0"])).output().unwrap();
    assert_eq!((named.status.code(), stdout(&named).as_str()), (Some(1), ""));
    assert!(stderr(&named).starts_with("vectile: adapter "), "{}", stderr(&named));
}

#[test]
fn an_output_that_is_open_elsewhere_is_replaced_whole_or_not_at_all() {
    if !on_windows() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    // The first process reads `big.txt` for as long as it runs.
    let lines: String = (0..100_000).map(|i| format!("line {i}\n")).collect();
    let big = write(directory.path(), "big.txt", &lines);
    let small = write(directory.path(), "small.txt", "a\nb\n");
    let mut reader = embed(
        windows_model().as_ref(),
        windows_path(&big).as_ref(),
        windows_path(&at("first.jsonl")).as_ref(),
    );
    let mut reader = reader.arg("--quiet").stderr(Stdio::null()).spawn().unwrap();
    let started = Instant::now();
    while std::fs::metadata(at("first.jsonl.parts").join("part.tmp")).map_or(0, |m| m.len()) == 0 {
        assert!(reader.try_wait().unwrap().is_none(), "ended before its file was replaced");
        assert!(started.elapsed() < Duration::from_secs(120), "no rows");
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut command =
        embed(windows_model().as_ref(), windows_path(&small).as_ref(), windows_path(&big).as_ref());
    let output = command.args(["--format", "jsonl"]).output().unwrap();
    assert!(reader.try_wait().unwrap().is_none(), "the reader ended too early");
    reader.kill().unwrap();
    reader.wait().unwrap();
    let (found, said) = (std::fs::read(&big).unwrap(), stderr(&output));
    match output.status.code() {
        Some(0) => assert_eq!(rows_of(&found).len(), 2, "{said}"),
        code => {
            assert_eq!(code, Some(2), "{said}");
            let line = said.lines().last().unwrap();
            assert!(line.contains("big.txt: cannot be written"), "{said}");
            assert!(found == lines.as_bytes(), "the file was changed");
        }
    }
    assert!(!names(directory.path()).iter().any(|name| name.starts_with("big.txt.")), "{said}");
}
