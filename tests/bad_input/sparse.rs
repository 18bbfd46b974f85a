//! Tests wrong and unsupported files of sparse encoders.

use serde_json::json;
use vectile::SparseEncoder;

use crate::Kind::{self, Config, File, Tensor, Unsupported};
use crate::{Model, refused_as};

const CONFIG: &str = "config.json";
const POOLING: &str = "1_SpladePooling/config.json";

fn good(name: &str) -> Model {
    Model::fixture(&format!("sparse/{name}"))
}

fn refused(model: Model, expected: Kind, words: &[&str]) {
    refused_as(SparseEncoder::builder, model, expected, words);
}

#[test]
fn models_without_a_head() {
    refused(Model::good(), Unsupported, &[CONFIG, "architectures", "BertModel"]);
    let architectures = json!(["BertForMaskedLM"]);
    refused(Model::good().config("architectures", architectures), Tensor, &["bert.embeddings"]);
}

#[test]
fn unsupported_poolings_are_refused() {
    let sum = good("bert").set(POOLING, "pooling_strategy", "sum");
    refused(sum, Unsupported, &[POOLING, "pooling_strategy", "sum"]);
    let other = good("bert").set(POOLING, "activation_function", "gelu");
    refused(other, Unsupported, &[POOLING, "activation_function", "gelu"]);
}

#[test]
fn unsupported_modules_are_refused() {
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

#[test]
fn unsupported_routers_are_refused() {
    const ROUTER: &str = "router_config.json";
    let good = || good("opensearch");
    let table = "query_0_SparseStaticEmbedding";
    let class = "sentence_transformers.sparse_encoder.modules.SpladePooling";
    let other = good().edit(ROUTER, |file| file["types"][table] = class.into());
    refused(other, Unsupported, &[ROUTER, "structure.query", "SpladePooling"]);
    let code = good().edit(ROUTER, |file| file["types"][table] = "custom.Table".into());
    refused(code, Unsupported, &[ROUTER, "types", "custom.Table"]);
    let third = good().edit(ROUTER, |file| file["structure"]["image"] = json!([]));
    refused(third, Unsupported, &[ROUTER, "structure", "image"]);
    let none = good().edit(ROUTER, |file| file["structure"]["query"] = json!([]));
    refused(none, Config, &[ROUTER, "structure.query", "0 modules"]);
    let mappings = json!({"('query', 'text')": "query"});
    let mapped = good().edit(ROUTER, |file| file["parameters"]["route_mappings"] = mappings);
    refused(mapped, Unsupported, &[ROUTER, "parameters.route_mappings"]);
    refused(good().without(ROUTER), File, &[ROUTER, "is missing"]);
    let out = good().edit(ROUTER, |file| {
        file["structure"]["query"] = json!(["../elsewhere"]);
        file["types"]["../elsewhere"] = class.into();
    });
    refused(out, Config, &[ROUTER, "../elsewhere"]);
    let config = format!("{table}/config.json");
    refused(good().set(&config, "path", "idf.json"), Unsupported, &[&config, "path", "idf.json"]);
    let weights = format!("{table}/model.safetensors");
    let other = good().files["document_0_Transformer/model.safetensors"].clone();
    refused(good().file(&weights, other), Tensor, &[&weights, "weight", "is missing"]);
    let cut = good().bytes(&weights, |bytes| {
        let at = bytes.len() - 4;
        bytes[at..].copy_from_slice(&(-1f32).to_le_bytes());
    });
    refused(cut, Tensor, &[&weights, "weight", "-1"]);
}
