//! What a reranker's files may say that is not computed, or wrong.

use serde_json::json;
use vectile::Reranker;

use crate::Kind::{self, Tensor, Tokenizer, Unsupported};
use crate::{Model, refused_as};

const CONFIG: &str = "config.json";
const OPTIONS: &str = "config_sentence_transformers.json";

fn good(name: &str) -> Model {
    Model::fixture(&format!("rerankers/{name}"))
}

fn refused(model: Model, expected: Kind, words: &[&str]) {
    refused_as(Reranker::builder, model, expected, words);
}

#[test]
fn models_without_a_head() {
    refused(Model::good(), Unsupported, &[CONFIG, "architectures", "BertModel"]);
    refused(good("bert").unset(CONFIG, "architectures"), Unsupported, &[CONFIG, "architectures"]);
    // The config says so and the weights have none.
    let architectures = json!(["BertForSequenceClassification"]);
    refused(Model::good().config("architectures", architectures), Tensor, &["pooler.dense"]);
}

#[test]
fn heads_of_other_sizes() {
    let three = json!({"0": "a", "1": "b", "2": "c"});
    refused(good("bert").config("id2label", three), Tensor, &["classifier.weight", "[3, 32]"]);
    let labels = good("bert_labels").unset(CONFIG, "id2label");
    refused(labels, Tensor, &["classifier.weight", "[2, 32]"]);
    refused(good("bert").config("id2label", json!([])), Kind::Config, &[CONFIG, "id2label"]);
}

#[test]
fn activations_that_are_not_computed() {
    for class in ["my_code.Activation", "torch.nn.modules.activation.Softmax", ""] {
        let model = good("bert").set(OPTIONS, "activation_fn", class);
        refused(model, Unsupported, &[OPTIONS, "activation_fn", class]);
        let old = "sbert_ce_default_activation_function";
        refused(good("bert_bare").config(old, class), Unsupported, &[CONFIG, old]);
        let nested = json!({"activation_fn": class});
        let model = good("bert_bare").config("sentence_transformers", nested);
        refused(model, Unsupported, &[CONFIG, "sentence_transformers.activation_fn"]);
    }
}

#[test]
fn code_of_its_own() {
    let map = json!({"AutoModelForSequenceClassification": "modeling.Head"});
    let words = [CONFIG, "auto_map.AutoModelForSequenceClassification", "modeling.Head"];
    refused(good("bert_bare").config("auto_map", map), Unsupported, &words);
}

#[test]
fn modules_beside_the_transformer() {
    let module = json!({
        "idx": 1,
        "name": "1",
        "path": "1_LogitScore",
        "type": "sentence_transformers.cross_encoder.modules.LogitScore"
    });
    let more = |file: &mut serde_json::Value| file.as_array_mut().unwrap().push(module);
    let words = ["modules.json", "[1].type", "LogitScore"];
    refused(good("bert").edit("modules.json", more), Unsupported, &words);
    let settings = "sentence_bert_config.json";
    let model = good("bert").set(settings, "transformer_task", "text-generation");
    refused(model, Unsupported, &[settings, "transformer_task", "sequence-classification"]);
}

#[test]
fn a_length_that_special_tokens_fill() {
    let model = good("bert").set("tokenizer_config.json", "model_max_length", 3);
    refused(model, Tokenizer, &["3 special tokens", "3 tokens"]);
}
