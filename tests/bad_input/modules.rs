//! Tests wrong and unusual contents of `modules.json`, and of the directories that it names.

use serde_json::{Value, json};

use crate::Kind::{Config, File, Tensor, Unsupported};
use crate::Model;

const LIST: &str = "modules.json";
const POOL: &str = "1_Pooling/config.json";

/// Returns the valid model with another list of modules. A module is given by its type and path.
fn listed(modules: &[(&str, &str)]) -> Model {
    let list: Vec<Value> = modules
        .iter()
        .enumerate()
        .map(|(i, (kind, path))| {
            let kind = format!("sentence_transformers.models.{kind}");
            json!({"idx": i, "name": i.to_string(), "path": path, "type": kind})
        })
        .collect();
    Model::good().file(LIST, serde_json::to_vec(&list).unwrap())
}

const TRANSFORMER: (&str, &str) = ("Transformer", "");
const POOLING: (&str, &str) = ("Pooling", "1_Pooling");

#[test]
fn modules_absent_means_mean_pooling_with_a_note() {
    let embedder = Model::good().without(LIST).loads();
    let notes = embedder.notes().join("\n");
    assert!(notes.contains("mean pooling"), "{notes}");
}

#[test]
fn modules_empty() {
    Model::good().file(LIST, "").refused(File, &[LIST, "is empty"]);
}

#[test]
fn modules_an_empty_list() {
    Model::good().file(LIST, "[]").refused(File, &[LIST, "no modules"]);
}

#[test]
fn modules_an_object() {
    Model::good().file(LIST, "{}").refused(File, &[LIST, "list"]);
}

#[test]
fn modules_a_list_of_nulls() {
    Model::good().file(LIST, "[null]").refused(Config, &[LIST, "[0]", "null"]);
}

#[test]
fn idx_with_gaps_loads() {
    Model::good().edit(LIST, |list| list[2]["idx"] = json!(9)).loads();
}

#[test]
fn idx_out_of_order_gives_a_note() {
    let embedder = Model::good().edit(LIST, |list| list[0]["idx"] = json!(9)).loads();
    assert!(embedder.notes().join("\n").contains("idx"));
}

#[test]
fn idx_a_string() {
    Model::good()
        .edit(LIST, |list| list[0]["idx"] = json!("0"))
        .refused(Config, &[LIST, "[0].idx", "whole number"]);
}

#[test]
fn module_unknown() {
    listed(&[TRANSFORMER, POOLING, ("CNN", "2_CNN")])
        .refused(Unsupported, &[LIST, "[2].type", "CNN", "modules are"]);
}

#[test]
fn module_router() {
    listed(&[("Router", "")]).refused(Unsupported, &[LIST, "[0].type", "Router", "Transformer"]);
}

#[test]
fn module_of_custom_code() {
    Model::good()
        .edit(LIST, |list| list[1]["type"] = json!("custom_st.Pooling"))
        .refused(Unsupported, &[LIST, "[1].type", "custom_st.Pooling", "Python code"]);
}

#[test]
fn module_types_of_older_versions_load() {
    listed(&[TRANSFORMER, POOLING, ("Normalize", "2_Normalize")]).loads();
}

#[test]
fn module_type_missing() {
    Model::good()
        .edit(LIST, |list| list[1]["type"] = Value::Null)
        .refused(Config, &[LIST, "[1].type", "missing"]);
}

#[test]
fn path_leaves_the_model() {
    listed(&[TRANSFORMER, ("Pooling", "../1_Pooling")])
        .refused(Config, &[LIST, "[1].path", "leaves the model"]);
}

#[test]
fn path_absolute() {
    listed(&[TRANSFORMER, ("Pooling", "/etc")]).refused(Config, &[LIST, "[1].path", "absolute"]);
}

#[test]
fn path_with_a_drive() {
    listed(&[TRANSFORMER, ("Pooling", "C:1_Pooling")])
        .refused(Config, &[LIST, "[1].path", "absolute"]);
}

#[test]
fn path_with_backslashes() {
    listed(&[TRANSFORMER, ("Pooling", "models\\1_Pooling")])
        .refused(Config, &[LIST, "[1].path", "backslash"]);
}

#[test]
fn path_with_a_nul() {
    listed(&[TRANSFORMER, ("Pooling", "1_Pooling\0")])
        .refused(Config, &[LIST, "[1].path", "control character"]);
}

#[test]
fn path_with_a_trailing_slash_loads() {
    listed(&[TRANSFORMER, ("Pooling", "./1_Pooling/")]).loads();
}

#[test]
fn path_absent() {
    listed(&[TRANSFORMER, ("Pooling", "7_Pooling")])
        .refused(File, &["7_Pooling/config.json", "missing", LIST]);
}

#[test]
fn transformer_in_its_own_directory_loads() {
    let mut model = listed(&[("Transformer", "0_Transformer"), POOLING]);
    for name in [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "sentence_bert_config.json",
    ] {
        let contents = model.files.remove(name).unwrap();
        model.files.insert(format!("0_Transformer/{name}"), contents);
    }
    model.loads();
}

#[test]
fn transformer_twice() {
    listed(&[TRANSFORMER, TRANSFORMER, POOLING]).refused(Config, &[LIST, "second Transformer"]);
}

#[test]
fn transformer_not_first() {
    listed(&[POOLING, TRANSFORMER]).refused(Unsupported, &[LIST, "[0].type", "Pooling"]);
}

#[test]
fn pooling_missing() {
    listed(&[TRANSFORMER, ("Normalize", "2_Normalize")]).refused(Config, &[LIST, "no Pooling"]);
}

#[test]
fn pooling_twice() {
    listed(&[TRANSFORMER, POOLING, POOLING]).refused(Config, &[LIST, "2 Pooling"]);
}

#[test]
fn name_twice() {
    Model::good()
        .edit(LIST, |list| list[2]["name"] = json!("1"))
        .refused(Config, &[LIST, "[2].name", "earlier module"]);
}

#[test]
fn normalize_twice_loads() {
    listed(&[TRANSFORMER, POOLING, ("Normalize", "2_Normalize"), ("Normalize", "3")]).loads();
}

#[test]
fn normalize_without_directory_loads() {
    listed(&[TRANSFORMER, POOLING, ("Normalize", "nowhere")]).loads();
}

#[test]
fn a_hundred_thousand_modules() {
    let modules: Vec<Value> = (0..100_000)
        .map(|i| json!({"name": format!("{i:06}"), "path": "", "type": "sentence_transformers.Dropout"}))
        .collect();
    Model::good()
        .file(LIST, serde_json::to_vec(&modules).unwrap())
        .refused(File, &[LIST, "100000 modules", "at most"]);
}

#[test]
fn two_pooling_modes_are_concatenated() {
    let model = Model::good().file(
        POOL,
        r#"{"word_embedding_dimension": 48, "pooling_mode_cls_token": true,
            "pooling_mode_mean_tokens": true}"#,
    );
    assert_eq!(model.loads().dimension(), 96);
}

#[test]
fn no_pooling_mode_means_mean_pooling_with_a_note() {
    let model = Model::good()
        .file(POOL, r#"{"word_embedding_dimension": 48, "pooling_mode_mean_tokens": false}"#);
    assert!(model.loads().notes().join("\n").contains("mean pooling"));
}

#[test]
fn pooling_mode_unknown() {
    Model::good()
        .set(POOL, "pooling_mode", "median")
        .refused(Unsupported, &[POOL, "pooling_mode", "median", "pooling modes are"]);
}

#[test]
fn pooling_switch_unknown() {
    Model::good()
        .set(POOL, "pooling_mode_attention", true)
        .refused(Unsupported, &[POOL, "pooling_mode_attention"]);
}

#[test]
fn pooling_width_wrong() {
    Model::good().set(POOL, "embedding_dimension", 64).refused(Config, &["64", "48"]);
}

#[test]
fn pooling_width_zero() {
    Model::good()
        .set(POOL, "embedding_dimension", 0)
        .refused(Config, &[POOL, "embedding_dimension", "0"]);
}

#[test]
fn pooling_width_wrong_where_config_has_no_hidden_size() {
    Model::good()
        .unset("config.json", "hidden_size")
        .refused(Config, &["config.json", "hidden_size", "missing"]);
}

/// Returns the fixture that has two Dense modules and a LayerNorm.
fn dense() -> Model {
    Model::fixture("bert_dense")
}

const DENSE: &str = "2_Dense/config.json";

#[test]
fn dense_unchanged_loads() {
    dense().loads();
}

#[test]
fn dense_input_not_the_width_before_it() {
    dense().set(DENSE, "in_features", 33).refused(Config, &[DENSE, "in_features", "33", "32"]);
}

#[test]
fn dense_output_not_the_width_after_it() {
    dense()
        .set(DENSE, "out_features", 41)
        .refused(Config, &["3_Dense/config.json", "in_features", "40", "41"]);
}

#[test]
fn dense_output_not_that_of_its_weights() {
    dense()
        .set("3_Dense/config.json", "out_features", 31)
        .set("4_LayerNorm/config.json", "dimension", 31)
        .refused(Tensor, &["3_Dense/model.safetensors", "linear.weight", "[30, 40]", "[31, 40]"]);
}

#[test]
fn dense_shape_error_names_its_own_config() {
    // The error must name the config of the module, and not that of the transformer.
    dense()
        .set("3_Dense/config.json", "out_features", 31)
        .set("4_LayerNorm/config.json", "dimension", 31)
        .refused(Tensor, &["3_Dense/config.json"]);
}

#[test]
fn dense_config_missing() {
    dense().without(DENSE).refused(File, &[DENSE, "missing"]);
}

#[test]
fn dense_weights_missing() {
    dense()
        .without("2_Dense/model.safetensors")
        .refused(File, &["2_Dense/model.safetensors", "missing"]);
}

#[test]
fn dense_weights_pickled() {
    dense()
        .without("2_Dense/model.safetensors")
        .file("2_Dense/pytorch_model.bin", b"\x80\x02}q\0.")
        .refused(File, &["2_Dense/model.safetensors", "pickle", "safe_serialization"]);
}

#[test]
fn dense_bias_missing() {
    dense()
        .set("3_Dense/config.json", "bias", true)
        .refused(Tensor, &["3_Dense/model.safetensors", "linear.bias", "missing"]);
}

#[test]
fn dense_activation_unknown() {
    dense()
        .set(DENSE, "activation_function", "torch.nn.modules.activation.Mish")
        .refused(Unsupported, &[DENSE, "activation_function", "Mish", "activation functions are"]);
}

#[test]
fn dense_of_tokens() {
    dense()
        .set(DENSE, "module_input_name", "token_embeddings")
        .refused(Unsupported, &[DENSE, "module_input_name", "token_embeddings"]);
}

#[test]
fn dense_before_pooling() {
    dense()
        .edit(LIST, |list| list.as_array_mut().unwrap().swap(1, 2))
        .refused(Config, &[LIST, "between the Transformer and Pooling"]);
}

#[test]
fn dense_of_absurd_width() {
    dense()
        .set("3_Dense/config.json", "out_features", u64::MAX)
        .set("4_LayerNorm/config.json", "dimension", u64::MAX)
        .refused(Config, &["3_Dense/config.json", "out_features", "at most"]);
}

#[test]
fn dense_of_terabytes() {
    // The shape is refused before any memory is allocated.
    dense()
        .set("3_Dense/config.json", "out_features", 1 << 20)
        .set("4_LayerNorm/config.json", "dimension", 1 << 20)
        .refused(Tensor, &["3_Dense/model.safetensors", "[30, 40]", "[1048576, 40]"]);
}

#[test]
fn layer_norm_dimension_wrong() {
    dense()
        .set("4_LayerNorm/config.json", "dimension", 31)
        .refused(Config, &["4_LayerNorm/config.json", "dimension", "31", "30"]);
}
