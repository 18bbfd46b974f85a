//! Tests static models whose tables, mappings and weights do not fit together, and modules that they cannot have.

use serde_json::json;

use crate::Kind::{Config, Tensor, Tokenizer, Unsupported};
use crate::Model;
use crate::tensors::{FILE, Tensors};

const LIST: &str = "modules.json";

fn changed(fixture: &str, edit: impl FnOnce(&mut Tensors)) -> Model {
    let model = Model::fixture(&format!("families/{fixture}"));
    let mut tensors = Tensors::read(&model.files[FILE]);
    edit(&mut tensors);
    model.file(FILE, tensors.write())
}

#[test]
fn unchanged_static_models_load() {
    for fixture in ["static", "static_dense", "static_model2vec", "model2vec_int8"] {
        Model::fixture(&format!("families/{fixture}")).loads();
    }
}

#[test]
fn no_table() {
    changed("static", |tensors| tensors.get("embedding.weight").name = "other".into())
        .refused(Tensor, &[FILE, "embeddings", "missing"]);
}

#[test]
fn a_table_of_three_axes() {
    changed("static", |tensors| tensors.get("embedding.weight").shape = vec![512, 15, 2])
        .refused(Tensor, &[FILE, "embedding.weight", "[512, 15, 2]"]);
}

#[test]
fn a_mapping_beyond_the_table() {
    for wrong in [120i64, -1] {
        changed("static_model2vec", |tensors| {
            tensors.get("mapping").data[8..16].copy_from_slice(&wrong.to_le_bytes());
        })
        .refused(Tensor, &[FILE, "mapping", &wrong.to_string(), "120 rows"]);
    }
}

#[test]
fn a_mapping_of_floats() {
    changed("static_model2vec", |tensors| tensors.get("mapping").dtype = "F64".into())
        .refused(Tensor, &[FILE, "mapping", "F64"]);
}

#[test]
fn a_mapping_shorter_than_the_vocabulary() {
    let model = changed("static_model2vec", |tensors| {
        for name in ["mapping", "weights"] {
            let entry = tensors.get(name);
            entry.shape = vec![100];
            entry.data.truncate(800);
        }
    });
    let embedder = model.build().unwrap();
    assert!(embedder.notes().join("\n").contains("100 rows"), "{:?}", embedder.notes());
    let error = vectile::block_on(embedder.embed(&["the longest of words"])).unwrap_err();
    crate::check_error(&error, Tokenizer, &["tokenizer.json", "text 0", "100 rows"]);
}

#[test]
fn weights_of_fewer_tokens_than_the_mapping() {
    changed("static_model2vec", |tensors| {
        let entry = tensors.get("weights");
        entry.shape = vec![511];
        entry.data.truncate(511 * 8);
    })
    .refused(Tensor, &[FILE, "weights", "[512]"]);
}

#[test]
fn weights_that_are_not_numbers() {
    changed("static_model2vec", |tensors| {
        tensors.get("weights").data[..8].copy_from_slice(&f64::NAN.to_le_bytes());
    })
    .refused(Tensor, &[FILE, "embeddings", "infinite or not a number"]);
}

/// Returns a model with a `modules.json` beside a table of 8-bit integers, as model2vec writes it
/// (MinishLab/model2vec, `quantize_to`).
fn bytes_beside_modules() -> Model {
    let list = json!([{"idx": 0, "name": "0", "path": ".", "type": "sentence_transformers.models.StaticEmbedding"}]);
    Model::fixture("families/model2vec_int8").file(LIST, list.to_string())
}

#[test]
fn bytes_beside_modules_are_read_as_model2vec_reads_them() {
    let embedder = bytes_beside_modules().loads();
    let notes = embedder.notes().join("\n");
    assert!(notes.contains("8-bit integers") && notes.contains("model2vec"), "{notes}");
    let alone = Model::fixture("families/model2vec_int8").loads();
    assert_eq!(embedder.max_seq_length(), alone.max_seq_length());
    let texts = ["A cat.", "An unknown ☃ token"];
    let ids =
        |embedder: &vectile::Embedder| embedder.tokenize(&texts, &Default::default()).unwrap();
    assert_eq!(ids(&embedder), ids(&alone));
}

#[test]
fn bytes_that_sentence_transformers_does_not_load() {
    bytes_beside_modules()
        .config("model_type", "other")
        .config("architectures", json!(["Other"]))
        .refused(Tensor, &[FILE, "embeddings", "I8", LIST]);
}

#[test]
fn a_static_embedding_without_config_loads() {
    // The published static-retrieval-mrl-en-v1 has no config.json.
    let model = Model::fixture("families/static");
    let model =
        if model.files.contains_key("config.json") { model.without("config.json") } else { model };
    model.loads();
}

#[test]
fn a_pooling_after_a_static_embedding() {
    Model::fixture("families/static")
        .edit(LIST, |list| {
            list[1] = json!({"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"});
        })
        .file("1_Pooling/config.json", r#"{"embedding_dimension": 30, "pooling_mode": "mean"}"#)
        .refused(Config, &[LIST, "Pooling after a StaticEmbedding"]);
}

#[test]
fn a_dense_of_another_width_than_the_table() {
    Model::fixture("families/static_dense")
        .set("1_Dense/config.json", "in_features", 31)
        .refused(Config, &["1_Dense/config.json", "in_features", "31", "32"]);
}

#[test]
fn a_static_embedding_after_a_transformer() {
    Model::good()
        .edit(LIST, |list| {
            list[1]["type"] = json!("sentence_transformers.models.StaticEmbedding");
        })
        .refused(Config, &[LIST, "[1].type", "StaticEmbedding"]);
}

#[test]
fn model2vec_lengths_that_are_not_lengths() {
    for wrong in [json!(0), json!(-1), json!("20"), json!(2.5)] {
        Model::fixture("families/model2vec_int8")
            .config("max_length", wrong)
            .refused(Config, &["config.json", "max_length"]);
    }
}

#[test]
fn a_model_type_of_a_directory_with_modules_is_still_an_architecture() {
    Model::good().config("model_type", "model2vec").refused(Unsupported, &["model_type"]);
}
