//! Tests that `verify` exits with 0 if all checks pass and with 1 if one fails, and that later loads follow its
//! verdict.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::*;

/// Makes the command with a cache directory of its own, so that tests do not share verdicts.
fn verify(name: &str, cache: &Path, args: &[&str]) -> Command {
    let mut command = vectile();
    command.env("XDG_CACHE_HOME", cache).arg("verify").arg(model(name)).args(args);
    command
}

fn reference_of(name: &str) -> String {
    model(name).join("reference.safetensors").display().to_string()
}

/// Runs a command in which a check must fail. The exit code must be 1, and the last line must have these words.
fn fails(mut command: Command, words: &[&str]) -> Output {
    let output = command.output().unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{command:?}\n{said}");
    let line = said.lines().last().unwrap_or_default();
    assert!(line.starts_with("vectile: "), "{said}");
    for word in words {
        assert!(line.contains(word), "no `{word}` in: {line}");
    }
    output
}

#[test]
fn a_correct_model_passes_and_the_report_has_every_check() {
    if !have_adapter() {
        return;
    }
    let cache = tempfile::tempdir().unwrap();
    let args = ["--reference", &reference_of("bert_concat"), "--quiet"];
    let output = succeed(verify("bert_concat", cache.path(), &args));
    assert_eq!(stderr(&output), "");
    let text = stdout(&output);
    let words = [
        "layer_norm",
        "matmul_lane",
        "attention_tile",
        "packed bf16",
        "computed in float64",
        "layer   1  normed after down",
        "matrices and tables",
        "f16          safe: ",
        "stored in ",
        "\nPASSED\n",
    ];
    for word in words {
        assert!(text.contains(word), "no `{word}` in: {text}");
    }
    assert!(!text.contains("FAIL"), "{text}");
    let kept = std::fs::read_dir(cache.path().join("vectile")).unwrap();
    let kept: Vec<String> =
        kept.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(kept.iter().any(|name| name.starts_with("f16-")), "{kept:?}");
}

#[test]
fn without_reference_vectors_the_cpu_checks_the_adapter() {
    if !have_adapter() {
        return;
    }
    let cache = tempfile::tempdir().unwrap();
    let text = stdout(&succeed(verify("bert_concat", cache.path(), &[])));
    assert!(text.contains("reference    none") && text.contains("give --reference"), "{text}");
    if on_cpu() {
        assert!(text.contains("so f32 itself is not verified"), "{text}");
        assert!(text.contains("against CPU  not compared: the CPU itself ran the model"), "{text}");
        return;
    }
    assert!(text.contains("so the CPU's vectors verify f32"), "{text}");
    let section = text.split("\nagainst CPU  ").nth(1).unwrap().split("\n\n").next().unwrap();
    assert!(section.contains(" texts, run on the CPU in f32 without shaders\n"), "{text}");
    assert!(section.contains("\n  f32         f32         cosine 1 − "), "{text}");
    assert!(
        section.lines().skip(1).all(|line| line.ends_with(" of the tolerance  pass")),
        "{text}"
    );
}

#[test]
fn the_report_can_be_written_as_json() {
    if !have_adapter() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("report.json");
    let args = ["--json", file.to_str().unwrap()];
    let text = stdout(&succeed(verify("bert_concat", directory.path(), &args)));
    assert!(text.contains("PASSED"), "{text}");
    let from_file: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let output = succeed(verify("bert_concat", directory.path(), &["--json", "-"]));
    let from_stdout: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(from_file["kernels"], from_stdout["kernels"]);
    assert_eq!(from_file["schema"], "vectile-verify/1");
    assert_eq!(from_file["passed"], true);
    assert_eq!(from_file["verdict"]["safety"], "safe");
    assert!(from_file["kernels"].as_array().unwrap().len() > 20);
    assert_eq!(from_file["activations"][2]["layer"], 0);
    let against_cpu = &from_file["against_cpu"];
    if on_cpu() {
        assert_eq!(against_cpu["skipped"], "the CPU itself ran the model");
        return;
    }
    assert_eq!(against_cpu["skipped"], Value::Null);
    assert_eq!(against_cpu["first_difference"], Value::Null);
    let comparisons = against_cpu["comparisons"].as_array().unwrap();
    assert!(comparisons.len() >= 2, "{against_cpu}");
    for comparison in comparisons {
        assert_eq!(
            (&comparison["with"], &comparison["texts"]),
            (&"cpu".into(), &from_file["texts"])
        );
        assert_eq!(comparison["failed"], Value::Array(vec![]));
        assert!(comparison["share"].as_f64().unwrap() <= 1.0, "{against_cpu}");
    }
}

#[test]
fn wrong_vectors_fail() {
    if !have_adapter() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    // The reference has the vectors in another order than the texts.
    let (mut texts, _) = reference("bert_concat", "embeddings");
    texts.reverse();
    std::fs::copy(reference_of("bert_concat"), directory.path().join("reference.safetensors"))
        .unwrap();
    let texts = serde_json::to_string(&texts).unwrap();
    write(directory.path(), "texts.json", texts);
    let file = directory.path().join("reference.safetensors");
    let args = ["--reference", file.to_str().unwrap()];
    let words = ["bert_concat", "differ from the reference", "at least 0.9999999"];
    let output = fails(verify("bert_concat", directory.path(), &args), &words);
    let text = stdout(&output);
    assert!(text.contains("FAILED: ") && text.contains("\nNOT PASSED\n"), "{text}");
}

#[test]
fn f16_where_it_does_not_fit_fails_only_where_it_is_forced_and_is_avoided_from_then_on() {
    if !have_adapter() {
        return;
    }
    let cache = tempfile::tempdir().unwrap();
    let texts = write(cache.path(), "texts.txt", "a plain text\nThe light between the stars\n");
    let texts = ["--texts", texts.to_str().unwrap()];
    let forced = ["--dtype", "float16", "--half-fallback", "packed", "--activations", "f16"];
    let words = ["text 1", "layer 0 up reaches", "beyond 65504"];
    fails(verify("bert_overflow", cache.path(), &[&texts[..], &forced].concat()), &words);
    let text = stdout(&succeed(verify("bert_overflow", cache.path(), &texts)));
    assert!(text.contains("safe with f32 activations: layer 0 up reaches"), "{text}");
    assert!(text.contains("beyond the range of f16 in 1 texts; the first is text 1"), "{text}");

    let mut embed = vectile();
    embed.env("XDG_CACHE_HOME", cache.path()).args(["embed", "light", "--dtype", "float16"]);
    embed.args(["--half-fallback", "packed", "--model"]).arg(model("bert_overflow"));
    let output = succeed(embed);
    let said = stderr(&output);
    assert!(said.contains("f32 activations"), "{said}");
    if !said.contains("no SHADER_F16") {
        assert!(said.contains("too large for f16 (layer 0 up reaches"), "{said}");
    }
    assert_eq!(rows_of(&output.stdout).len(), 1);
}

#[test]
fn write_verdict_writes_the_verdict_beside_the_model() {
    if !have_adapter() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("model");
    std::fs::create_dir_all(copy.join("1_Pooling")).unwrap();
    for name in [
        "config.json",
        "model.safetensors",
        "modules.json",
        "sentence_bert_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "1_Pooling/config.json",
    ] {
        std::fs::copy(model("bert_concat").join(name), copy.join(name)).unwrap();
    }
    let mut command = vectile();
    command.env("XDG_CACHE_HOME", directory.path()).arg("verify").arg(&copy);
    command.args(["--write-verdict", "--quiet"]);
    let text = stdout(&succeed(command));
    assert!(text.contains("vectile-f16.json"), "{text}");
    let kept: Value =
        serde_json::from_slice(&std::fs::read(copy.join("vectile-f16.json")).unwrap()).unwrap();
    assert_eq!(kept["verdict"]["safety"], "safe");
    assert_eq!(kept["weights_sha256"].as_str().map(str::len), Some(64));
}

#[test]
fn unusable_references_and_texts_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let refused = |args: &[&str], words: &[&str]| {
        refuse(verify("bert_concat", directory.path(), args), words);
    };
    let none = directory.path().join("none.safetensors").display().to_string();
    refused(&["--reference", &none], &["none.safetensors", "cannot be read"]);
    let text = write(directory.path(), "text.safetensors", "not a tensor");
    let text = text.display().to_string();
    refused(&["--reference", &text], &["text.safetensors", "not a safetensors file"]);
    let weights = model("bert_concat").join("model.safetensors").display().to_string();
    refused(&["--reference", &weights], &["no tensor `embeddings`"]);
    let empty = write(directory.path(), "empty.txt", "").display().to_string();
    refused(&["--texts", &empty], &["empty.txt", "has no texts"]);
    let nowhere = directory.path().join("no/report.json").display().to_string();
    refused(&["--json", &nowhere], &["report.json", "cannot be written"]);
    let mut command = vectile();
    command.arg("verify");
    refuse_arguments(command, &["MODEL"]);
}
