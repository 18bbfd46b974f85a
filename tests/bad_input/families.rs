//! Tests wrong fields of `config.json` that only some architectures read.

use crate::Kind::{Config, Tensor, Unsupported};
use crate::Model;

const CONFIG: &str = "config.json";

fn family(name: &str) -> Model {
    Model::fixture(&format!("families/{name}"))
}

#[test]
fn padding_after_which_no_position_is_left() {
    for padding in [81, 5000] {
        family("roberta")
            .config("pad_token_id", padding)
            .refused(Config, &[CONFIG, "pad_token_id"]);
    }
}

#[test]
fn padding_absent_is_one() {
    let embedder = family("roberta").unset(CONFIG, "pad_token_id").loads();
    assert_eq!(embedder.max_seq_length(), Some(80));
}

#[test]
fn positions_are_fewer_by_those_that_padding_takes() {
    let embedder = family("roberta")
        .set("tokenizer_config.json", "model_max_length", 1e30)
        .config("max_position_embeddings", 60)
        .loads();
    assert_eq!(embedder.max_seq_length(), Some(58));
}

#[test]
fn an_embedding_of_another_width_than_the_table() {
    for name in ["electra", "albert"] {
        family(name)
            .config("embedding_size", 32)
            .refused(Tensor, &["embeddings.word_embeddings.weight", "[rows, 32]"]);
    }
}

#[test]
fn more_groups_than_layers() {
    family("albert").config("num_hidden_groups", 4).refused(Config, &[CONFIG, "num_hidden_groups"]);
}

#[test]
fn inner_layers_that_the_weights_lack() {
    family("albert").config("inner_group_num", 2).refused(Tensor, &["albert_layers.1", "missing"]);
}

#[test]
fn relative_positions() {
    for name in ["roberta", "electra", "albert"] {
        family(name)
            .config("position_embedding_type", "relative_key")
            .refused(Unsupported, &[CONFIG, "position_embedding_type", "relative_key"]);
    }
}

#[test]
fn heads_of_a_fraction() {
    family("distilbert").config("n_heads", 5).refused(Config, &[CONFIG, "n_heads", "dim"]);
}
