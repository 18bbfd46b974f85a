//! Tests wrong and unusual settings in files beside `config.json`: lengths, prompts and dimensions.

use crate::Kind::{Config, Tokenizer};
use crate::Model;

#[test]
fn max_seq_length_zero() {
    Model::good()
        .file("sentence_bert_config.json", r#"{"max_seq_length": 0}"#)
        .refused(Config, &["sentence_bert_config.json", "max_seq_length", "0"]);
}

#[test]
fn max_seq_length_null_loads() {
    Model::good().file("sentence_bert_config.json", r#"{"max_seq_length": null}"#).loads();
}

#[test]
fn max_seq_length_beyond_the_positions_is_cut_to_them() {
    let model = Model::good().file("sentence_bert_config.json", r#"{"max_seq_length": 100000}"#);
    assert_eq!(model.loads().max_seq_length(), Some(130));
}

#[test]
fn max_seq_length_without_room_for_text() {
    Model::good()
        .file("sentence_bert_config.json", r#"{"max_seq_length": 2}"#)
        .refused(Tokenizer, &["tokenizer.json", "truncated to 2 tokens", "raise max_seq_length"]);
}

#[test]
fn model_max_length_of_1e30_is_none() {
    let model = Model::good().set("tokenizer_config.json", "model_max_length", 1e30);
    assert_eq!(model.loads().max_seq_length(), Some(130));
}

#[test]
fn model_max_length_negative() {
    Model::good()
        .set("tokenizer_config.json", "model_max_length", -1)
        .refused(Config, &["tokenizer_config.json", "model_max_length"]);
}

#[test]
fn default_prompt_unknown() {
    Model::good()
        .set("config_sentence_transformers.json", "default_prompt_name", "passage")
        .refused(
            Config,
            &["config_sentence_transformers.json", "default_prompt_name", "passage", "query"],
        );
}

#[test]
fn similarity_unknown_loads() {
    Model::good().set("config_sentence_transformers.json", "similarity_fn_name", "x").loads();
}

#[test]
fn truncate_dim_beyond_the_model_cuts_nothing() {
    // A larger dimension than the model's cuts nothing, as in sentence-transformers.
    Model::good().set("config_sentence_transformers.json", "truncate_dim", 1000).loads();
}
