//! Tests how inputs become texts, and which inputs are refused.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use crate::support::*;

/// Makes the command `embed --input` for a file with this content.
fn embed(name: &str, content: impl AsRef<[u8]>, args: &[&str]) -> (Command, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), name, content);
    let mut command = with_model_on_cpu("embed", args);
    command.arg("--input").arg(file);
    (command, directory)
}

fn rows(name: &str, content: impl AsRef<[u8]>, args: &[&str]) -> Vec<Vec<f32>> {
    let (command, _directory) = embed(name, content, args);
    rows_of(&succeed(command).stdout)
}

fn refused(name: &str, content: impl AsRef<[u8]>, words: &[&str]) {
    let (command, _directory) = embed(name, content, &[]);
    refuse(command, words);
}

#[test]
fn line_ends_byte_order_marks_and_empty_lines() {
    let plain = rows("a.txt", "one\n\ntwo\n", &[]);
    assert_eq!(plain.len(), 3);
    assert_eq!(rows("a.txt", "one\r\n\r\ntwo", &[]), plain);
    assert_eq!(rows("a.txt", "\u{feff}one\n\ntwo", &[]), plain);
    assert_eq!(rows("a", "one\n\ntwo\n", &[]), plain);
    assert_eq!(rows("a.txt", "one\n\ntwo\n\n", &[]).len(), 4);
}

#[test]
fn an_empty_file_gives_no_rows() {
    assert!(rows("a.txt", "", &[]).is_empty());
    assert!(rows("a.jsonl", "", &["--precision", "int8"]).is_empty());
    let (mut command, directory) = embed("a.txt", "", &[]);
    let out = directory.path().join("out.npy");
    command.arg("--output").arg(&out);
    succeed(command);
    let (_, shape, data) = npy(&std::fs::read(out).unwrap());
    assert_eq!((shape, data.len()), (vec![0, 48], 0));
}

#[test]
fn jsonl_reads_the_named_field() {
    let expected = rows("a.txt", "one\ntwo\n", &[]);
    let lines = "{\"text\":\"one\",\"n\":[1,{}]}\r\n\n{\"bad\":\"\\ud800\",\"text\":\"two\"}";
    // Without this option, half of a surrogate pair would be carried as it was written.
    let alone = ["--carry", "none"];
    assert_eq!(rows("a.jsonl", lines, &alone), expected);
    assert_eq!(rows("a.ndjson", lines, &alone), expected);
    let named = ["--input-format", "jsonl", "--carry", "none"];
    assert_eq!(rows("a.txt", lines, &named), expected);
    let bodies = "{\"body\":\"one\",\"text\":5}\n{\"body\":\"two\"}\n";
    assert_eq!(rows("a.jsonl", bodies, &["--field", "body"]), expected);
    let texts = rows("a.jsonl", "one\ntwo\n", &["--input-format", "txt"]);
    assert_eq!(texts, expected);
}

#[test]
fn bytes_that_are_not_utf_8_are_refused_or_replaced() {
    let bytes = b"good\nna\xefve\n";
    refused("a.txt", bytes, &["a.txt: line 2:", "byte 3", "UTF-8", "--lossy"]);
    assert_eq!(rows("a.txt", bytes, &["--lossy"]), rows("b.txt", "good\nna\u{fffd}ve\n", &[]));
    refused("a.jsonl", b"{\"text\":\"\xff\"}\n", &["a.jsonl: line 1:", "UTF-8"]);
}

#[test]
fn utf_16_is_named_as_such() {
    refused("a.txt", b"\xff\xfea\0\n\0", &["a.txt: line 1:", "UTF-16", "iconv"]);
}

#[test]
fn jsonl_lines_that_hold_no_text_are_refused_with_line_and_column() {
    for (line, words) in [
        ("[\"a\"]", ["column", "object with the field `text`"]),
        ("\"a\"", ["column", "object"]),
        ("words", ["column 1", "expected"]),
        ("{\"texts\":\"a\"}", ["has no field `text`", "--field"]),
        ("{\"text\":5}", ["column 9", "expected a string"]),
        ("{\"text\":null}", ["null", "expected a string"]),
        ("{\"text\":[\"a\"]}", ["sequence", "expected a string"]),
        ("{\"text\":\"a\"", ["column", "EOF"]),
        ("{\"text\":\"a\"}{", ["column 13", "trailing"]),
        ("{\"text\":\"\\ud800\"}", ["column", "surrogate"]),
    ] {
        let content = format!("{{\"text\":\"good\"}}\n{line}\n");
        let both = [&["a.jsonl: line 2:"], words.as_slice()].concat();
        refused("a.jsonl", content, &both);
    }
}

#[test]
fn a_bad_line_far_down_leaves_no_output_file() {
    let mut content = String::new();
    for i in 0..3000 {
        writeln!(content, "{{\"text\":\"line {i}\"}}").unwrap();
    }
    content.push_str("{}\n");
    let (mut command, directory) = embed("a.jsonl", content, &["--quiet"]);
    command.arg("--output").arg(directory.path().join("out.npy"));
    refuse(command, &["a.jsonl: line 3001:"]);
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn files_with_extensions_of_other_formats_are_refused() {
    for name in ["a.NPY", "a.zip", "a.parquet.gz", "a.xlsx"] {
        refused(name, "x\n", &[name, "--input-format"]);
    }
}

#[test]
fn missing_files_and_directories_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing.txt");
    let input = |path: &Path| with_model_on_cpu("embed", ["--input".as_ref(), path.as_os_str()]);
    refuse(input(&missing), &["missing.txt", "cannot be read"]);
    refuse(input(directory.path()), &["is a directory"]);
}

#[test]
fn exactly_one_input_is_required() {
    refuse_arguments(with_model_on_cpu("embed", [""; 0]), &["--input", "TEXT"]);
    refuse_arguments(with_model_on_cpu("embed", ["--input", "-", "a"]), &["cannot be used with"]);
    refuse_arguments(with_model_on_cpu("similarity", ["a"]), &["--in"]);
    refuse_arguments(
        with_model_on_cpu("similarity", ["a", "b", "--in", "c"]),
        &["cannot be used with"],
    );
    refuse_arguments(with_model_on_cpu("search", ["a"]), &["--in"]);
}

/// A compressed file of 64 KiB may have a row that fills the memory.
#[test]
fn rows_longer_than_64_mib_are_refused() {
    let long = "a".repeat((64 << 20) + 1);
    for (name, start, words) in [
        ("a.txt.gz", "one\n", "line 2 is longer than 64 MiB"),
        ("a.jsonl.gz", "{\"text\":\"", "line 1 is longer than 64 MiB"),
        (
            "a.json.gz",
            "[\n{\"text\":\"",
            "line 2: the value that starts here is longer than 64 MiB",
        ),
        ("a.csv.gz", "text\none\n", "line 3: the row that starts here is longer than 64 MiB"),
        ("a.tsv.gz", "text\none\n", "line 3: the row that starts here is longer than 64 MiB"),
        ("a.csv.gz", "text\n\"", "line 2: the quote that opens here is not closed within 64 MiB"),
    ] {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(start.as_bytes()).unwrap();
        packed.write_all(long.as_bytes()).unwrap();
        refused(name, packed.finish().unwrap(), &[name, words]);
    }
}
