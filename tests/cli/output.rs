//! Tests that each output format and precision holds the same numbers.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use vectile::{OutputPrecision, Quantized, quantize};

use crate::support::*;

const DIM: usize = 48;

/// Returns twelve texts, their rows as f32, and a file with the texts.
fn texts(directory: &std::path::Path) -> (std::path::PathBuf, Vec<f32>) {
    let texts: Vec<String> = (0..12).map(|i| format!("text {i} {}", "more ".repeat(i))).collect();
    let file = write(directory, "texts.jsonl", jsonl(&texts));
    let output = succeed(with_model_on_cpu("embed", ["--input".as_ref(), file.as_os_str()]));
    (file, rows_of(&output.stdout).concat())
}

#[test]
fn jsonl_and_npy_are_bit_identical() {
    let directory = tempfile::tempdir().unwrap();
    let (file, rows) = texts(directory.path());
    let out = directory.path().join("out.npy");
    let input = ["--input".as_ref(), file.as_os_str()];
    let mut command = with_model_on_cpu("embed", input);
    command.arg("--output").arg(&out);
    assert_eq!(stdout(&succeed(command)), "");
    let to_file = std::fs::read(&out).unwrap();
    let (descr, shape, data) = npy(&to_file);
    assert_eq!((descr.as_str(), shape), ("<f4", vec![12, DIM]));
    assert_eq!(floats(&data), rows);
    assert!(!directory.path().join("out.npy.part").exists());
    let mut command = with_model_on_cpu("embed", input);
    command.args(["--format", "npy"]);
    assert_eq!(succeed(command).stdout, to_file);
}

#[test]
fn every_precision_matches_the_library() {
    let directory = tempfile::tempdir().unwrap();
    let (file, rows) = texts(directory.path());
    for precision in OutputPrecision::ALL {
        let name = precision.name();
        let args = ["--precision".as_ref(), name.as_ref(), "--input".as_ref(), file.as_os_str()];
        let (descr, bytes, numbers) = match quantize(&rows, DIM, precision, None).unwrap() {
            Quantized::Float32(v) => ("<f4", le(&v, |v| v.to_le_bytes()), v),
            Quantized::Float16(v) => {
                ("<f2", le(&v, |v| v.to_le_bytes()), v.iter().map(|v| v.to_f32()).collect())
            }
            Quantized::Int8(v) => {
                ("|i1", le(&v, |v| v.to_le_bytes()), v.iter().map(|v| f32::from(*v)).collect())
            }
            Quantized::Uint8(v) => ("|u1", v.clone(), v.iter().map(|v| f32::from(*v)).collect()),
        };
        let lines = succeed(with_model_on_cpu("embed", args));
        assert_eq!(rows_of(&lines.stdout).concat(), numbers, "{name}");
        let point = stdout(&lines).contains('.');
        assert_eq!(point, descr.starts_with("<f"), "{name}: integers are written as integers");
        let mut command = with_model_on_cpu("embed", args);
        command.args(["--format", "npy"]);
        let (found, shape, data) = npy(&succeed(command).stdout);
        assert_eq!((found.as_str(), shape), (descr, vec![12, precision.columns(DIM)]), "{name}");
        assert_eq!(data, bytes, "{name}");
    }
}

fn le<T, const N: usize>(values: &[T], bytes: impl Fn(&T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(bytes).collect()
}

#[test]
fn int8_of_one_text_is_refused() {
    refuse(
        with_model_on_cpu("embed", ["a", "--precision", "int8"]),
        &["int8", "the number of embeddings is 1"],
    );
}

#[test]
fn an_existing_file_is_replaced_only_by_a_complete_one() {
    let directory = tempfile::tempdir().unwrap();
    let out = write(directory.path(), "out.jsonl", "before");
    let bad = write(directory.path(), "bad.jsonl", "{\"text\":\"a\"}\n{}\n");
    let embed = |input: &std::path::Path| {
        let mut command = with_model_on_cpu("embed", ["--input".as_ref(), input.as_os_str()]);
        command.arg("--output").arg(&out);
        command
    };
    refuse(embed(&bad), &["bad.jsonl: line 2:"]);
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "before");
    let good = write(directory.path(), "good.txt", "a\nb\n");
    succeed(embed(&good));
    assert_eq!(rows_of(&std::fs::read(&out).unwrap()).len(), 2);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 3);
}

#[test]
fn outputs_that_cannot_be_written_are_refused_before_the_model_is_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let input = write(directory.path(), "texts.txt", "a\n");
    let embed = |output: &std::path::Path| {
        let mut command = vectile();
        command.args(["embed", "--model", "/nowhere/at all", "--input"]).arg(&input);
        command.arg("--output").arg(output);
        command
    };
    refuse(embed(directory.path()), &["is a directory"]);
    refuse(embed(&directory.path().join("no/such/out.npy")), &["out.npy", "cannot be written"]);
    refuse(embed(&input), &["is also the input"]);
    assert_eq!(std::fs::read_to_string(&input).unwrap(), "a\n");
}

#[cfg(unix)]
#[test]
fn links_and_devices_are_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let real = write(directory.path(), "real.jsonl", "");
    let link = directory.path().join("link.jsonl");
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let mut command = with_model_on_cpu("embed", ["a", "--output"]);
    command.arg(&link);
    succeed(command);
    assert!(link.is_symlink());
    assert_eq!(rows_of(&std::fs::read(&real).unwrap()).len(), 1);
    succeed(with_model_on_cpu("embed", ["a", "--output", "/dev/null", "--format", "npy"]));
    assert!(!std::path::Path::new("/dev/null").is_file());
}

#[test]
fn a_closed_pipe_ends_the_run_quietly() {
    let directory = tempfile::tempdir().unwrap();
    let lines: String = (0..5000).map(|i| format!("line {i}\n")).collect();
    let file = write(directory.path(), "texts.txt", lines);
    let mut command =
        with_model_on_cpu("embed", ["--quiet".as_ref(), "-i".as_ref(), file.as_os_str()]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(first.starts_with("{\"index\":0,\"embedding\":["), "{first}{output:?}");
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
}
