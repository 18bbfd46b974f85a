//! Tests the lines on stderr: the summary, the JSON format, quiet runs, and messages of other libraries that must not
//! appear.

use std::process::{Command, Output};

use serde_json::Value;

use crate::support::*;

/// Parses each line of stderr as JSON.
fn json_lines(output: &Output) -> Vec<Value> {
    let text = stderr(output);
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect()
}

fn embed_file(directory: &std::path::Path, args: &[&str]) -> Command {
    let long = "word ".repeat(500);
    let lines = format!("{{\"text\":\"a\"}}\n{{\"text\":null}}\n{{\"text\":\"{long}\"}}\n");
    let file = write(directory, "in.jsonl", lines);
    let mut command = with_model("embed", args);
    command.arg("--input").arg(file).arg("--output").arg(directory.join("out.jsonl"));
    command
}

#[test]
fn a_run_ends_with_its_counts() {
    if !have_adapter() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let output = succeed(embed_file(directory.path(), &["--on-error", "null"]));
    let said = stderr(&output);
    let last = said.lines().last().unwrap();
    assert_eq!(
        last,
        "rows: 3 read, 3 written, 1 null, 1 truncated (to the model's max_seq_length of 130 tokens)"
    );
    let file = write(directory.path(), "lines.txt", "a\nb\n\nc\n");
    let mut command = with_model("search", ["a", "--top", "2", "--in"]);
    command.arg(&file);
    let said = stderr(&succeed(command));
    assert_eq!(said.lines().last().unwrap(), "rows: 4 read, 2 written, 0 null, 0 truncated");
}

#[test]
fn a_row_without_a_text_names_the_option_that_goes_on() {
    if !have_adapter() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    refuse(embed_file(directory.path(), &[]), &["line 2", "null", "--on-error null"]);
    // A NumPy array has no null, and `search` has no such option.
    let file = directory.path().join("in.jsonl");
    let mut to_npy = with_model("embed", ["--input"]);
    to_npy.arg(&file).arg("--output").arg(directory.path().join("out.npy"));
    let mut search = with_model("search", ["a", "--in"]);
    search.arg(&file);
    for command in [to_npy, search] {
        let said = refuse(command, &["line 2", "null"]);
        assert!(!said.contains("--on-error"), "{said}");
    }
}

#[test]
fn every_line_is_json_where_it_is_asked_for() {
    if !have_adapter() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let args = ["--on-error", "null", "--log-format", "json"];
    let mut command = embed_file(directory.path(), &args);
    command.env("VECTILE_LOG", "info");
    let lines = json_lines(&succeed(command));
    assert!(lines.len() > 3, "{lines:?}");
    for line in &lines {
        assert!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
        assert!(line["message"].is_string(), "{line}");
    }
    let last = lines.last().unwrap();
    let counts = ["rows_read", "rows_written", "rows_null", "rows_truncated"];
    assert_eq!(counts.map(|name| last[name].as_u64().unwrap()), [3, 3, 1, 1]);
    let said = |words: &str| lines.iter().any(|l| l["message"].as_str().unwrap().contains(words));
    assert!(said("adapter: ") && said("in.jsonl: line 2"), "{lines:?}");

    // The JSON format also applies to errors of the command and of its arguments.
    let output = embed_file(directory.path(), &["--log-format=json"]).output().unwrap();
    let lines = json_lines(&output);
    let last = lines.last().unwrap();
    assert_eq!((output.status.code(), &last["level"]), (Some(2), &"ERROR".into()));
    assert!(last["message"].as_str().unwrap().contains("in.jsonl: line 2:"), "{last}");
    let output = with_model("embed", ["--log-format", "json"]).output().unwrap();
    let lines = json_lines(&output);
    assert_eq!((output.status.code(), lines.len()), (Some(2), 1));
    assert!(lines[0]["message"].as_str().unwrap().contains("--input"), "{lines:?}");
}

#[test]
fn quiet_runs_print_only_errors() {
    if !have_adapter() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let output = succeed(embed_file(directory.path(), &["--on-error", "null", "-q"]));
    assert_eq!(stderr(&output), "");
    let output = embed_file(directory.path(), &["-q"]).output().unwrap();
    let said = stderr(&output);
    assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
    let file = write(directory.path(), "lines.txt", "a\nb\n");
    for (verb, args) in
        [("search", vec!["a", "--in"]), ("similarity", vec!["a", "--top", "1", "--in"])]
    {
        let mut command = with_model(verb, ["-q"]);
        command.args(args).arg(&file);
        assert_eq!(stderr(&succeed(command)), "", "{verb}");
    }
    assert_eq!(stderr(&succeed(with_model("inspect", ["-q"]))), "");
}

/// See KhronosGroup/Vulkan-Tools#721, gfx-rs/wgpu#2123 and alvr-org/ALVR#1608. In programs without a window,
/// libwayland prints an error about XDG_RUNTIME_DIR.
#[test]
fn display_libraries_print_nothing() {
    if !have_adapter() {
        return;
    }
    for value in [None, Some(""), Some("relative")] {
        let mut command = with_model("embed", ["a", "-q"]);
        match value {
            None => command.env_remove("XDG_RUNTIME_DIR"),
            Some(value) => command.env("XDG_RUNTIME_DIR", value),
        };
        assert_eq!(stderr(&succeed(command)), "", "{value:?}");
    }
}

/// The tokenizers crate panics on some files (huggingface/tokenizers#736, #1014 and #1452). The library recovers, and
/// the program prints only the library's error.
#[test]
fn a_panic_of_a_library_is_reported_as_one_error() {
    if !have_adapter() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("model");
    for directory in ["1_Pooling", "2_Normalize"] {
        std::fs::create_dir_all(copy.join(directory)).unwrap();
    }
    for name in [
        "config.json",
        "model.safetensors",
        "modules.json",
        "sentence_bert_config.json",
        "1_Pooling/config.json",
        "2_Normalize/config.json",
    ] {
        std::fs::copy(model("bert_mean_norm").join(name), copy.join(name)).unwrap();
    }
    let tokenizer = std::fs::read(model("bert_mean_norm").join("tokenizer.json")).unwrap();
    let mut tokenizer: Value = serde_json::from_slice(&tokenizer).unwrap();
    tokenizer["post_processor"]["single"][0]["SpecialToken"]["id"] = "[NOPE]".into();
    write(&copy, "tokenizer.json", tokenizer.to_string());
    write(&copy, "tokenizer_config.json", "{\"tokenizer_class\": \"PreTrainedTokenizerFast\"}");
    for backtrace in ["0", "1"] {
        let mut command = vectile();
        command.env("RUST_BACKTRACE", backtrace);
        command.args(["embed", "a", "-q", "--model"]).arg(&copy);
        let output = command.output().unwrap();
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.starts_with("vectile: ") && said.contains("tokenizer.json"), "{said}");
        assert!(said.contains("contradict each other"), "{said}");
    }
}
