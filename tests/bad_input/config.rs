//! Tests `config.json` with wrong and unusual contents.

use serde_json::json;
use vectile::block_on;

use crate::Kind::{Config, File, Tensor, Unsupported};
use crate::Model;

const CONFIG: &str = "config.json";

fn text(contents: impl AsRef<[u8]>) -> Model {
    Model::good().file(CONFIG, contents)
}

/// Returns the valid `config.json` as text.
fn good() -> String {
    String::from_utf8(Model::good().files[CONFIG].clone()).unwrap()
}

#[test]
fn config_missing() {
    Model::good().without(CONFIG).refused(File, &[CONFIG, "is missing", "give the directory"]);
}

#[test]
fn config_empty() {
    text("").refused(File, &[CONFIG, "is empty", "download"]);
}

#[test]
fn config_only_spaces() {
    text(" \n\t ").refused(File, &[CONFIG, "is empty"]);
}

#[test]
fn config_an_array() {
    text("[]").refused(File, &[CONFIG, "a list", "expected a JSON object"]);
}

#[test]
fn config_null() {
    text("null").refused(File, &[CONFIG, "null"]);
}

#[test]
fn config_cut_short() {
    let half = &good()[..300];
    text(half).refused(File, &[CONFIG, "not valid JSON", "line"]);
}

#[test]
fn config_with_comments() {
    text(good().replacen('{', "{ // BERT\n", 1)).refused(File, &[CONFIG, "not valid JSON"]);
}

#[test]
fn config_with_a_trailing_comma() {
    let comma = good().trim_end().trim_end_matches('}').to_owned() + ",}";
    text(comma).refused(File, &[CONFIG, "trailing comma"]);
}

#[test]
fn config_with_a_nan_literal() {
    let nan = good().replacen('{', "{\"x\": NaN,", 1);
    text(nan).refused(File, &[CONFIG, "NaN and Infinity", "not JSON"]);
}

#[test]
fn config_with_a_number_beyond_f64() {
    text(good().replacen("1e-12", "1e999", 1)).refused(File, &[CONFIG, "number out of range"]);
}

#[test]
fn config_with_a_byte_order_mark_loads() {
    text(format!("\u{feff}{}", good())).loads();
}

#[test]
fn config_in_utf16() {
    let wide: Vec<u8> = good().encode_utf16().flat_map(u16::to_le_bytes).collect();
    text([&[0xff, 0xfe], &wide[..]].concat()).refused(File, &[CONFIG, "not valid JSON"]);
}

#[test]
fn config_with_windows_line_ends_loads() {
    text(good().replace('\n', "\r\n")).loads();
}

#[test]
fn config_with_invalid_utf8() {
    let model = text(good()).bytes(CONFIG, |bytes| {
        let at = bytes.windows(4).position(|w| w == b"gelu").unwrap();
        bytes[at] = 0xff;
    });
    model.refused(File, &[CONFIG, "not valid JSON"]);
}

#[test]
fn config_above_ten_megabytes() {
    text(good() + &" ".repeat(10_000_001)).refused(File, &[CONFIG, "at most 10000000"]);
}

#[test]
fn config_of_nearly_ten_megabytes_loads() {
    text(good() + &" ".repeat(9_900_000)).loads();
}

#[test]
fn config_nested_a_million_deep() {
    text("[".repeat(1_000_000)).refused(File, &[CONFIG, "recursion limit"]);
}

#[test]
fn config_key_twice_last_counts() {
    // If a key occurs twice, Python uses the last value too.
    text(good().replacen('{', "{\"num_attention_heads\": 5,", 1)).loads();
}

#[test]
fn config_a_git_lfs_pointer() {
    text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
        .refused(File, &[CONFIG, "git lfs pull"]);
}

#[test]
fn config_an_html_page() {
    text("<!doctype html><title>404</title>").refused(File, &[CONFIG, "HTML", "download"]);
}

#[test]
fn heads_zero() {
    Model::good()
        .config("num_attention_heads", 0)
        .refused(Config, &[CONFIG, "num_attention_heads", "0"]);
}

#[test]
fn heads_that_do_not_divide() {
    Model::good()
        .config("num_attention_heads", 5)
        .refused(Config, &[CONFIG, "num_attention_heads", "5", "48"]);
}

#[test]
fn heads_missing() {
    Model::good()
        .unset(CONFIG, "num_attention_heads")
        .refused(Config, &[CONFIG, "num_attention_heads", "missing"]);
}

#[test]
fn heads_wider_than_the_kernels() {
    Model::good()
        .config("hidden_size", 4096)
        .config("num_attention_heads", 1)
        .set("1_Pooling/config.json", "embedding_dimension", 4096)
        .refused(Config, &[CONFIG, "num_attention_heads", "4096"]);
}

#[test]
fn layers_zero() {
    Model::good()
        .config("num_hidden_layers", 0)
        .refused(Config, &[CONFIG, "num_hidden_layers", "0", "at least 1"]);
}

#[test]
fn layers_negative() {
    Model::good()
        .config("num_hidden_layers", -1)
        .refused(Config, &[CONFIG, "num_hidden_layers", "-1", "whole number"]);
}

#[test]
fn layers_a_fraction() {
    Model::good()
        .config("num_hidden_layers", 1.5)
        .refused(Config, &[CONFIG, "num_hidden_layers", "1.5", "whole number"]);
}

#[test]
fn layers_a_string() {
    Model::good()
        .config("num_hidden_layers", "12")
        .refused(Config, &[CONFIG, "num_hidden_layers", "\"12\"", "whole number"]);
}

#[test]
fn layers_a_million() {
    Model::good()
        .config("num_hidden_layers", 1_000_000)
        .refused(Config, &[CONFIG, "num_hidden_layers", "1000000", "at most"]);
}

#[test]
fn layers_beyond_64_bits() {
    Model::good()
        .config("num_hidden_layers", 1e30)
        .refused(Config, &[CONFIG, "num_hidden_layers", "1e+30"]);
}

#[test]
fn more_layers_than_the_weights_have() {
    Model::good()
        .config("num_hidden_layers", 3)
        .refused(Tensor, &["model.safetensors", "encoder.layer.2.", "is missing"]);
}

#[test]
fn fewer_layers_than_the_weights_have_loads() {
    let embedder = Model::good().config("num_hidden_layers", 1).loads();
    let unused = |t: &&vectile::TensorSummary| !t.used && t.name.contains("layer.1.");
    assert_eq!(block_on(embedder.inspect()).tensors.iter().filter(unused).count(), 16);
}

#[test]
fn intermediate_zero() {
    Model::good()
        .config("intermediate_size", 0)
        .refused(Config, &[CONFIG, "intermediate_size", "0"]);
}

#[test]
fn intermediate_not_that_of_the_weights() {
    Model::good().config("intermediate_size", 100).refused(
        Tensor,
        &["model.safetensors", "intermediate.dense.weight", "[96, 48]", "[100, 48]"],
    );
}

#[test]
fn intermediate_absurd() {
    Model::good()
        .config("intermediate_size", 1u64 << 40)
        .refused(Config, &[CONFIG, "intermediate_size", "at most"]);
}

#[test]
fn eps_zero() {
    Model::good().config("layer_norm_eps", 0.0).refused(Config, &[CONFIG, "layer_norm_eps", "0"]);
}

#[test]
fn eps_negative() {
    Model::good()
        .config("layer_norm_eps", -1e-12)
        .refused(Config, &[CONFIG, "layer_norm_eps", "-0.000000000001"]);
}

#[test]
fn eps_a_string() {
    Model::good()
        .config("layer_norm_eps", "1e-12")
        .refused(Config, &[CONFIG, "layer_norm_eps", "\"1e-12\"", "a number"]);
}

#[test]
fn eps_below_f32() {
    Model::good().config("layer_norm_eps", 1e-300).refused(Config, &[CONFIG, "layer_norm_eps"]);
}

#[test]
fn eps_absent_loads() {
    Model::good().unset(CONFIG, "layer_norm_eps").loads();
}

#[test]
fn hidden_act_unknown() {
    Model::good()
        .config("hidden_act", "mish")
        .refused(Unsupported, &[CONFIG, "hidden_act", "mish", "supported: gelu"]);
}

#[test]
fn hidden_act_a_number() {
    Model::good().config("hidden_act", 3).refused(Config, &[CONFIG, "hidden_act", "a string"]);
}

#[test]
fn hidden_act_absent_loads() {
    Model::good().unset(CONFIG, "hidden_act").loads();
}

#[test]
fn model_type_unknown() {
    Model::good()
        .config("model_type", "mamba")
        .refused(Unsupported, &[CONFIG, "model_type", "mamba", "bert"]);
}

#[test]
fn model_type_absent() {
    Model::good()
        .unset(CONFIG, "model_type")
        .refused(Config, &[CONFIG, "model_type", "missing", "bert"]);
}

#[test]
fn model_type_a_list() {
    Model::good()
        .config("model_type", json!(["bert"]))
        .refused(Config, &[CONFIG, "model_type", "a string"]);
}

#[test]
fn model_type_with_control_characters() {
    Model::good()
        .config("model_type", "b\u{1b}[31mert\n")
        .refused(Unsupported, &[CONFIG, "model_type"]);
}

#[test]
fn model_type_of_a_megabyte() {
    Model::good()
        .config("model_type", "x".repeat(1_000_000))
        .refused(Unsupported, &[CONFIG, "model_type"]);
}

#[test]
fn relative_positions() {
    Model::good()
        .config("position_embedding_type", "relative_key")
        .refused(Unsupported, &[CONFIG, "position_embedding_type", "relative_key", "absolute"]);
}

#[test]
fn a_decoder() {
    Model::good().config("is_decoder", true).refused(Unsupported, &[CONFIG, "is_decoder"]);
}

#[test]
fn custom_code() {
    Model::good()
        .config("auto_map", json!({"AutoModel": "modeling.Model"}))
        .refused(Unsupported, &[CONFIG, "auto_map.AutoModel", "modeling.Model", "Python code"]);
}

#[test]
fn empty_auto_map_loads() {
    Model::good().config("auto_map", json!({})).loads();
}

#[test]
fn vocab_size_below_the_rows_loads() {
    Model::good().config("vocab_size", 500).loads();
}

#[test]
fn vocab_size_above_the_rows_loads() {
    Model::good().config("vocab_size", 30_528).loads();
}

#[test]
fn positions_zero() {
    Model::good()
        .config("max_position_embeddings", 0)
        .refused(Config, &[CONFIG, "max_position_embeddings", "0"]);
}

#[test]
fn positions_absurd() {
    Model::good()
        .config("max_position_embeddings", 1u64 << 31)
        .refused(Config, &[CONFIG, "max_position_embeddings", "at most"]);
}

#[test]
fn more_positions_than_the_table_has_are_cut_to_it() {
    let model = Model::good().config("max_position_embeddings", 4000).set(
        "tokenizer_config.json",
        "model_max_length",
        4000,
    );
    assert_eq!(model.loads().max_seq_length(), Some(130));
}

#[test]
fn hidden_size_not_that_of_the_pooling() {
    Model::good().config("hidden_size", 52).refused(Config, &["modules.json", "48", "52"]);
}

#[test]
fn hidden_size_not_that_of_the_weights() {
    Model::good()
        .config("hidden_size", 52)
        .set("1_Pooling/config.json", "embedding_dimension", 52)
        .refused(Tensor, &["model.safetensors", "word_embeddings", "[512, 48]", "52"]);
}
