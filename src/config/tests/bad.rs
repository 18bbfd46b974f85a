//! Tests that each bad file is refused with a message that names the file and the field.

use super::*;

/// The name of a case, the file that is written over the valid model, and the words that the message must contain.
type Bad = (&'static str, File, &'static [&'static str]);

const CONFIG: &str = "config.json";
const LIST: &str = "modules.json";
const POOL: &str = "1_Pooling/config.json";
const SET: &str = "sentence_bert_config.json";
const OPT: &str = "config_sentence_transformers.json";

const BAD: [Bad; 45] = [
    ("config missing", (CONFIG, "-"), &["config.json", "is missing"]),
    ("config empty", (CONFIG, ""), &["config.json", "is empty"]),
    ("config cut short", (CONFIG, "{\"hidden_size\": "), &["config.json", "line 1"]),
    ("config is an array", (CONFIG, "[]"), &["config.json", "a list"]),
    ("config is null", (CONFIG, "null"), &["config.json", "null"]),
    ("comment", (CONFIG, "{} // note"), &["config.json", "not valid JSON"]),
    ("trailing comma", (CONFIG, r#"{"a": 1,}"#), &["config.json", "trailing comma"]),
    ("NaN", (CONFIG, r#"{"a": NaN}"#), &["NaN and Infinity", "line 1"]),
    ("git-lfs pointer", (CONFIG, "version https://git-lfs.github.com/spec/v1"), &["git lfs pull"]),
    ("HTML page", (CONFIG, "<!DOCTYPE html>"), &["HTML"]),
    ("hidden_size a string", (CONFIG, r#"{"hidden_size": "12"}"#), &["hidden_size", "\"12\""]),
    ("hidden_size a fraction", (CONFIG, r#"{"hidden_size": 1.5}"#), &["hidden_size", "1.5"]),
    ("hidden_size negative", (CONFIG, r#"{"hidden_size": -1}"#), &["hidden_size", "-1"]),
    ("hidden_size 0", (CONFIG, r#"{"hidden_size": 0}"#), &["hidden_size", "0"]),
    (
        "hidden_size beyond 64 bits",
        (CONFIG, r#"{"hidden_size": 99999999999999999999}"#),
        &["hidden_size"],
    ),
    ("hidden_size not the pooling's", (CONFIG, r#"{"hidden_size": 9}"#), &["8", "9", "Pooling"]),
    ("modules empty", (LIST, ""), &["modules.json", "is empty"]),
    ("modules an empty list", (LIST, "[]"), &["modules.json", "no modules"]),
    ("modules an object", (LIST, "{}"), &["modules.json", "list"]),
    ("modules a list of numbers", (LIST, "[1]"), &["modules.json", "[0]"]),
    ("no type", (LIST, r#"[{"path": ""}]"#), &["[0].type", "missing"]),
    (
        "no path",
        (LIST, r#"[{"type": "sentence_transformers.models.Transformer"}]"#),
        &["[0].path", "missing"],
    ),
    (
        "path leaves",
        (LIST, r#"[{"path": "../x", "type": "sentence_transformers.models.Transformer"}]"#),
        &["[0].path", "leaves"],
    ),
    (
        "path absolute",
        (LIST, r#"[{"path": "/etc", "type": "sentence_transformers.models.Transformer"}]"#),
        &["[0].path", "absolute"],
    ),
    (
        "path of Windows",
        (LIST, r#"[{"path": "a\\b", "type": "sentence_transformers.models.Transformer"}]"#),
        &["[0].path", "backslash"],
    ),
    (
        "own module class",
        (LIST, r#"[{"path": "", "type": "custom_st.Pooling"}]"#),
        &["[0].type", "Python code"],
    ),
    (
        "first is no transformer",
        (LIST, r#"[{"path": "", "type": "sentence_transformers.models.CLIPModel"}]"#),
        &["[0].type", "CLIPModel"],
    ),
    (
        "pooling missing",
        (LIST, r#"[{"path": "", "type": "sentence_transformers.models.Transformer"}]"#),
        &["no Pooling"],
    ),
    ("pooling file missing", (POOL, "-"), &["1_Pooling/config.json", "missing"]),
    ("pooling without width", (POOL, "{}"), &["embedding_dimension", "missing"]),
    ("pooling width 0", (POOL, r#"{"embedding_dimension": 0}"#), &["embedding_dimension", "0"]),
    (
        "pooling mode unknown",
        (POOL, r#"{"embedding_dimension": 8, "pooling_mode": "median"}"#),
        &["pooling_mode", "median"],
    ),
    (
        "pooling mode a number",
        (POOL, r#"{"embedding_dimension": 8, "pooling_mode": 1}"#),
        &["pooling_mode", "1"],
    ),
    (
        "pooling modes empty",
        (POOL, r#"{"embedding_dimension": 8, "pooling_mode": []}"#),
        &["pooling_mode", "empty"],
    ),
    (
        "pooling switch a string",
        (POOL, r#"{"embedding_dimension": 8, "pooling_mode_cls_token": "yes"}"#),
        &["pooling_mode_cls_token", "true or false"],
    ),
    (
        "pooling field unknown",
        (POOL, r#"{"embedding_dimension": 8, "pooling_mode_attention": true}"#),
        &["pooling_mode_attention"],
    ),
    (
        "length 0",
        (SET, r#"{"max_seq_length": 0}"#),
        &["sentence_bert_config.json", "max_seq_length", "0"],
    ),
    ("length negative", (SET, r#"{"max_seq_length": -5}"#), &["max_seq_length", "-5"]),
    (
        "chat messages",
        (SET, r#"{"modality_config": {"message": {}}}"#),
        &["modality_config.message"],
    ),
    (
        "another task",
        (SET, r#"{"transformer_task": "fill-mask"}"#),
        &["transformer_task", "fill-mask"],
    ),
    (
        "changed configuration",
        (SET, r#"{"config_args": {"num_hidden_layers": 2}}"#),
        &["config_args.num_hidden_layers"],
    ),
    ("sparse model", (OPT, r#"{"model_type": "SparseEncoder"}"#), &["model_type", "SparseEncoder"]),
    (
        "default prompt unknown",
        (OPT, r#"{"default_prompt_name": "x"}"#),
        &["default_prompt_name", "query"],
    ),
    ("truncate_dim 0", (OPT, r#"{"truncate_dim": 0}"#), &["truncate_dim"]),
    ("prompt a number", (OPT, r#"{"prompts": {"query": 1}}"#), &["prompts.query"]),
];

#[test]
fn bad_files_name_file_and_field() {
    for (name, change, words) in BAD {
        let message = match model(&[change]) {
            Ok(_) => panic!("{name}: loaded"),
            Err(error) => error.to_string(),
        };
        for word in words {
            assert!(message.contains(word), "{name}: {message:?} does not say {word:?}");
        }
    }
}

#[test]
fn bad_module_lists() {
    let entry = |name: &str, class: &str| {
        format!(
            r#"{{"idx": 2, "name": "{name}", "path": "1_Pooling", "type": "sentence_transformers.models.{class}"}}"#
        )
    };
    for (rest, words) in [
        (entry("2", "Transformer"), "second Transformer"),
        (entry("2", "Pooling"), "2 Pooling"),
        (entry("2", "Router"), "Router"),
        (entry("2", "CNN"), "[2].type"),
        (entry("1", "Normalize"), "earlier module"),
    ] {
        let listed: &'static str = modules(&rest).leak();
        let message = model(&[("modules.json", listed)]).unwrap_err().to_string();
        assert!(message.contains("modules.json") && message.contains(words), "{message}");
    }
}

#[test]
fn more_that_is_refused() {
    let adapter = [("config.json", "-"), ("adapter_config.json", "{}")];
    assert!(model(&adapter).unwrap_err().to_string().contains("PEFT"));
    let chat = [("modules.json", "-"), ("tokenizer_config.json", r#"{"chat_template": "x"}"#)];
    assert!(model(&chat).unwrap_err().to_string().contains("chat_template"));
    let huge: &'static str = " ".repeat(10_000_001).leak();
    assert!(model(&[("config.json", huge)]).unwrap_err().to_string().contains("at most 10000000"));
    let deep: &'static str = format!("{{\"a\": {}", "[".repeat(100_000)).leak();
    assert!(model(&[("config.json", deep)]).unwrap_err().to_string().contains("config.json"));
}
