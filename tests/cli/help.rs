//! Tests the help, and wrong arguments and models.

use crate::support::*;

fn help(args: &[&str]) -> String {
    let mut command = vectile();
    command.args(args);
    stdout(&succeed(command))
}

#[test]
fn help_names_every_command_and_the_exit_codes() {
    let text = help(&["--help"]);
    for word in [
        "embed",
        "similarity",
        "search",
        "rerank",
        "serve",
        "inspect",
        "adapters",
        "tune",
        "verify",
        "Exit codes",
    ] {
        assert!(text.contains(word), "no `{word}` in: {text}");
    }
    assert!(help(&["--version"]).starts_with("vectile "));
}

#[test]
fn help_of_each_command_names_its_options() {
    let model = [
        "--model",
        "--revision",
        "--dtype",
        "--half-fallback",
        "--activations",
        "--adapter",
        "--disable",
        "--batch-tokens",
        "--quiet",
    ];
    let texts = ["--prompt-name", "--prompt", "--truncate-dim", "--normalize", "--on-too-long"];
    let lines = [
        "--input-format",
        "--field",
        "--column",
        "--lossy",
        "--delimiter",
        "--quote",
        "--escape",
        "--log-format",
    ];
    let embed = [
        "--input",
        "--output",
        "--format",
        "--precision",
        "--as",
        "--sparse",
        "--multi-vector",
        "--calibration",
        "--resume",
        "--on-error",
        "--carry",
        "--embedding-column",
        "--part-rows",
        "[TEXT]...",
    ];
    let all = |groups: &[&[&'static str]]| groups.concat();
    for (command, options) in [
        ("embed", all(&[&model, &texts, &lines, &embed])),
        ("similarity", all(&[&model, &texts, &lines, &["--in", "--top", "<A>", "[B]"]])),
        (
            "search",
            all(&[
                &model,
                &texts,
                &lines,
                &["--in", "--top", "--embedding-column", "QUERY", "encode_query"],
            ]),
        ),
        (
            "rerank",
            all(&[
                &model,
                &lines,
                &[
                    "--in",
                    "--top",
                    "--json",
                    "<QUERY>",
                    "--prompt",
                    "--on-too-long",
                    "--multi-vector",
                ],
            ]),
        ),
        #[cfg(feature = "server")]
        (
            "serve",
            all(&[
                &model,
                &[
                    "--host",
                    "--port",
                    "--api-key",
                    "--cors-origin",
                    "--accept-token-ids",
                    "--max-body-bytes",
                    "--max-texts",
                    "--max-queue-tokens",
                    "--max-connections",
                    "--header-timeout",
                    "--body-timeout",
                    "--drain",
                    "--log-format",
                ],
            ]),
        ),
        ("inspect", all(&[&model, &["--json", "--rerank", "--sparse", "--multi-vector"]])),
        ("adapters", vec!["--json"]),
        (
            "verify",
            all(&[
                &model[1..],
                &lines,
                &["<MODEL>", "--reference", "--texts", "--write-verdict", "--json", "model.encode"],
            ]),
        ),
    ] {
        let text = help(&[command, "--help"]);
        for option in options {
            assert!(text.contains(option), "{command}: no `{option}` in: {text}");
        }
    }
}

#[test]
fn wrong_values_are_refused_with_the_valid_ones() {
    for (args, words) in [
        (["--dtype", "int8"], ["--dtype", "bfloat16"]),
        (["--half-fallback", "no"], ["--half-fallback", "packed"]),
        (["--activations", "bf16"], ["--activations", "`f32` and `f16`"]),
        (["--disable", "shader-f16,ray-tracing"], ["ray-tracing", "subgroups"]),
        (["--batch-tokens", "0"], ["--batch-tokens", "0"]),
        (["--truncate-dim", "0"], ["--truncate-dim", "0"]),
        (["--on-too-long", "drop"], ["--on-too-long", "`truncate` or `error`"]),
        (["--precision", "int4"], ["--precision", "ubinary"]),
        (["--format", "xml"], ["--format", "npy"]),
        (["--input-format", "xml"], ["--input-format", "jsonl"]),
        (["--on-error", "skip"], ["--on-error", "null"]),
        (["--carry", "a,,b"], ["--carry", "names"]),
        (["--part-rows", "0"], ["--part-rows", "0"]),
        (["--adapter", ""], ["--adapter", "index"]),
        (["--colour", "red"], ["--colour", "unexpected"]),
    ] {
        let mut command = with_model("embed", ["a"]);
        command.args(args);
        refuse_arguments(command, &words);
    }
    let prompts = ["a", "--prompt", "x", "--prompt-name", "query"];
    refuse_arguments(with_model("embed", prompts), &["cannot be used with"]);
    refuse_arguments(with_model("similarity", ["a", "b", "--top", "3"]), &["--top", "cannot be"]);
    let mut command = vectile();
    command.args(["embed", "a"]);
    refuse_arguments(command, &["--model"]);
}

#[test]
fn missing_models_are_refused_with_the_places_that_were_tried() {
    let directory = tempfile::tempdir().unwrap();
    let file = write(directory.path(), "model.safetensors", "");
    let embed = |model: &std::ffi::OsStr, more: &[&str]| {
        let mut command = vectile();
        command.args(["embed", "a", "--model"]).arg(model).args(more);
        command
    };
    refuse(embed(directory.path().as_os_str(), &[]), &["config.json"]);
    refuse(embed(file.as_os_str(), &[]), &["is a file", "directory"]);
    refuse(embed("./no/such/model".as_ref(), &[]), &["no directory ./no/such/model", "owner/name"]);
    let fixture = model("bert_mean_norm");
    refuse(embed(fixture.as_os_str(), &["--revision", "main"]), &["--revision", "directory"]);
}

#[test]
fn a_wrong_log_filter_is_refused() {
    let mut command = vectile();
    command.args(["adapters", "--json"]).env("VECTILE_LOG", "vectile=loud");
    refuse(command, &["VECTILE_LOG=vectile=loud", "debug"]);
}
