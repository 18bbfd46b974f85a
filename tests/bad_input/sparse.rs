//! What a sparse encoder's files may say that is not computed, or wrong.

use serde_json::json;
use vectile::{ModelFiles, SparseEncoder, block_on};

use crate::Kind::{self, Config, Tensor, Unsupported};
use crate::{Model, check_error, noop, within};

const CONFIG: &str = "config.json";
const POOLING: &str = "1_SpladePooling/config.json";

fn good(name: &str) -> Model {
    Model::fixture(&format!("sparse/{name}"))
}

fn refused(model: Model, expected: Kind, words: &[&str]) {
    let built = within(20, move || {
        let files = ModelFiles::from_bytes(model.files)?;
        block_on(SparseEncoder::builder(files).adapter(noop()).build())
    });
    match built {
        Ok(_) => panic!("loaded, and should say {words:?}"),
        Err(error) => check_error(&error, expected, words),
    }
}

#[test]
fn models_without_a_head() {
    refused(Model::good(), Unsupported, &[CONFIG, "architectures", "BertModel"]);
    let architectures = json!(["BertForMaskedLM"]);
    refused(Model::good().config("architectures", architectures), Tensor, &["bert.embeddings"]);
}

#[test]
fn poolings_that_are_not_computed() {
    let sum = good("bert").set(POOLING, "pooling_strategy", "sum");
    refused(sum, Unsupported, &[POOLING, "pooling_strategy", "sum"]);
    let other = good("bert").set(POOLING, "activation_function", "gelu");
    refused(other, Unsupported, &[POOLING, "activation_function", "gelu"]);
}

#[test]
fn modules_that_are_not_computed() {
    let kind = "sentence_transformers.sparse_encoder.modules.SparseAutoEncoder";
    let other = good("bert").edit("modules.json", |file| file[1]["type"] = kind.into());
    refused(other, Unsupported, &["modules.json", "[1].type", "SparseAutoEncoder"]);
    let alone = good("bert").edit("modules.json", |file| {
        file.as_array_mut().unwrap().truncate(1);
    });
    refused(alone, Config, &["modules.json", "SpladePooling"]);
}

#[test]
fn code_of_its_own() {
    let map = json!({"AutoModelForMaskedLM": "modeling.Head"});
    let words = [CONFIG, "auto_map.AutoModelForMaskedLM", "modeling.Head"];
    refused(good("bert_bare").config("auto_map", map), Unsupported, &words);
}
