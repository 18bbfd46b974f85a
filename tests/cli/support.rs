//! Runs the program and reads its files.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

#[path = "../support/mod.rs"]
mod shared;

pub use shared::{
    ADAPTER, adapter, build, cosine, fixture as model, have_adapter, is_windows_program, lacks,
    on_cpu, skip, vectile, windows_path,
};

/// Makes a command with the fixture that most tests use.
pub fn with_model<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(verb: &str, args: I) -> Command {
    let mut command = vectile();
    command.arg(verb).arg("--model").arg(model("bert_mean_norm")).args(args);
    command
}

/// Makes the command of [`with_model`], but computes on the CPU.
///
/// Tests of files and formats use it: the program then starts twenty times as fast as on a software driver.
pub fn with_model_on_cpu<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(
    verb: &str,
    args: I,
) -> Command {
    run_on_cpu(with_model(verb, args))
}

/// Makes the program compute on the CPU, whatever adapter the other tests run on.
pub fn run_on_cpu(mut command: Command) -> Command {
    command.env(ADAPTER, "cpu");
    command
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Returns everything that the program and its libraries print on stderr.
pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Runs a command that must succeed.
pub fn succeed(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{command:?}\n{}", stderr(&output));
    output
}

/// Runs a command that must be refused. The exit code must be 2, stdout must be empty, and the last line on stderr
/// must have all these words.
pub fn refuse(mut command: Command, words: &[&str]) -> String {
    let output = command.output().unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{command:?}\n{said}");
    assert!(output.stdout.is_empty(), "{command:?}\n{}", stdout(&output));
    let line = said.lines().last().unwrap_or_default().to_owned();
    assert!(line.starts_with("vectile: "), "{said}");
    for word in words {
        assert!(line.contains(word), "no `{word}` in: {line}");
    }
    line
}

/// Like [`refuse`], but for wrong arguments, which clap reports together with the usage.
pub fn refuse_arguments(mut command: Command, words: &[&str]) {
    let output = command.output().unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{command:?}\n{said}");
    for word in words {
        assert!(said.contains(word), "no `{word}` in: {said}");
    }
}

/// Returns the texts of a fixture, and the vectors that sentence-transformers gives for them.
pub fn reference(name: &str, tensor: &str) -> (Vec<String>, Vec<Vec<f64>>) {
    (shared::texts(name), reference_rows(name, tensor))
}

/// Returns a tensor of a fixture's reference, in f64.
pub fn reference_rows(name: &str, tensor: &str) -> Vec<Vec<f64>> {
    let (shape, values) = shared::tensor(&model(name).join("reference.safetensors"), tensor);
    values.chunks(shape[1]).map(<[f64]>::to_vec).collect()
}

/// Returns texts as the content of a .jsonl file.
pub fn jsonl(texts: &[String]) -> String {
    texts.iter().map(|text| serde_json::json!({ "text": text }).to_string() + "\n").collect()
}

/// Parses the rows of jsonl output, whose indices must count from 0.
pub fn rows_of(output: &[u8]) -> Vec<Vec<f32>> {
    let text = std::str::from_utf8(output).unwrap();
    let row = |(i, line): (usize, &str)| {
        let object: Value = serde_json::from_str(line).unwrap();
        assert_eq!(object["index"], i);
        let values = object["embedding"].as_array().unwrap();
        values.iter().map(|value| value.to_string().parse().unwrap()).collect()
    };
    text.lines().enumerate().map(row).collect()
}

/// Parses a NumPy file into its descr, shape and data. The header must follow the format.
pub fn npy(bytes: &[u8]) -> (String, Vec<usize>, Vec<u8>) {
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    assert_eq!((10 + length) % 64, 0);
    let header = std::str::from_utf8(&bytes[10..10 + length]).unwrap();
    assert!(header.ends_with('\n') && header.contains("'fortran_order': False"), "{header}");
    let between = |start: &str, end: char| {
        let at = header.find(start).unwrap() + start.len();
        header[at..].split(end).next().unwrap().to_owned()
    };
    let shape = between("'shape': (", ')');
    let shape = shape.split(',').filter_map(|n| n.trim().parse().ok()).collect();
    (between("'descr': '", '\''), shape, bytes[10 + length..].to_vec())
}

pub fn floats(data: &[u8]) -> Vec<f32> {
    data.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
}

pub fn write(directory: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

/// Returns the sorted names of a directory's entries.
pub fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<String> = entries.map(|entry| name(entry).into_string().unwrap()).collect();
    names.sort();
    names
}
