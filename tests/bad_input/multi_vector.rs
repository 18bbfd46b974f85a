//! Tests wrong and unsupported files of multi-vector encoders.

use serde_json::{Value, json};
use vectile::{EmbedTask, ModelFiles, MultiVectorEncoder, SparseEncoder, block_on};

use crate::Kind::{self, Config, File, Tensor, Tokenizer, Unsupported};
use crate::{Model, noop, refused_as, within};

const CONFIG: &str = "config.json";
const OPTIONS: &str = "config_sentence_transformers.json";
const SETTINGS: &str = "sentence_bert_config.json";
const MASK: &str = "2_MultiVectorMask/config.json";
const METADATA: &str = "artifact.metadata";

fn good(name: &str) -> Model {
    Model::fixture(&format!("multi_vector/{name}"))
}

fn refused(model: Model, expected: Kind, words: &[&str]) {
    refused_as(MultiVectorEncoder::builder, model, expected, words);
}

/// Checks that the model loads and encodes queries and documents.
fn loads(model: Model) -> MultiVectorEncoder {
    within(20, move || {
        let files = ModelFiles::from_bytes(model.files).unwrap();
        let encoder = block_on(MultiVectorEncoder::builder(files).adapter(noop()).build());
        let encoder = encoder.unwrap_or_else(|error| panic!("{error}"));
        let texts = ["One text.", "", "And another one!"];
        for side in
            [block_on(encoder.encode_query(&texts)), block_on(encoder.encode_document(&texts))]
        {
            assert_eq!(side.unwrap().vectors.len(), 3);
        }
        encoder
    })
}

#[test]
fn models_of_other_kinds() {
    refused(Model::good(), Unsupported, &[OPTIONS, "model_type", "MultiVectorEncoder", "PyLate"]);
    refused(Model::fixture("bert_bare"), Unsupported, &[CONFIG, "architectures", "HF_ColBERT"]);
    let other = good("bert").set(OPTIONS, "model_type", "SparseEncoder");
    refused(other, Unsupported, &[OPTIONS, "model_type", "SparseEncoder"]);
    // A multi-vector model must also be refused when it is loaded as an embedder.
    good("bert").refused(Unsupported, &[SETTINGS, "document_length", "multi-vector"]);
}

#[test]
fn unsupported_modules_are_refused() {
    let of = |at: usize, kind: &str| {
        let kind =
            Value::from(format!("sentence_transformers.multi_vector_encoder.modules.{kind}"));
        good("bert").edit("modules.json", |file| file[at]["type"] = kind)
    };
    let words = ["modules.json", "[2].type", "HierarchicalTokenPooling"];
    refused(of(2, "HierarchicalTokenPooling"), Unsupported, &words);
    refused(of(0, "Router"), Unsupported, &["modules.json", "[0].type", "Router"]);
    let code = good("bert").edit("modules.json", |file| file[1]["type"] = "custom.Dense".into());
    refused(code, Unsupported, &["modules.json", "[1].type", "Python code"]);
    for module in ["1_Dense", "3_Normalize"] {
        let file = format!("{module}/config.json");
        let other = good("bert").set(&file, "module_input_name", "sentence_embedding");
        refused(other, Unsupported, &[&file, "module_input_name", "token_embeddings"]);
    }
    let without = good("modernbert").edit("modules.json", |file| {
        file.as_array_mut().unwrap().truncate(1);
    });
    refused(without, Config, &["modules.json", "no Dense"]);
    refused(good("modernbert").without("modules.json"), File, &["modules.json", "is missing"]);
}

#[test]
fn unsupported_masks_are_refused() {
    let images = good("bert").set(MASK, "keep_only_token_ids", json!([7]));
    refused(images, Unsupported, &[MASK, "keep_only_token_ids"]);
    let wrong = good("bert").set(MASK, "skiplist_words", "abc");
    refused(wrong, Config, &[MASK, "skiplist_words", "a list of strings"]);
    // Words of the skiplist that are not tokens are ignored.
    loads(good("bert").set(MASK, "skiplist_words", json!(["no such token", ""])));
    loads(good("bert").set(MASK, "skiplist_tasks", "query"));
}

#[test]
fn impossible_expansions_are_refused() {
    let expansion = |value: Value| good("bert").set(SETTINGS, "query_expansion", value);
    let field = "query_expansion.";
    for (value, kind, words) in [
        (json!({"length": 8}), Unsupported, ["strategy", "fixed and min"]),
        (json!({"strategy": "max", "length": 8}), Unsupported, ["strategy", "max"]),
        (json!({"strategy": "min"}), Config, ["length", "is missing"]),
        (json!({"strategy": "min", "length": 0}), Config, ["length", "is 0"]),
        (json!({"strategy": "min", "length": 8, "attend": 1}), Config, ["attend", "true or false"]),
        (json!({"strategy": "min", "length": 8, "more": 1}), Unsupported, ["more", "strategy"]),
        (json!({"strategy": "min", "length": 8, "token": "xyz"}), Config, ["xyz", "not a token"]),
        (json!({"strategy": "min", "length": 100}), Config, ["length", "at most 82 tokens"]),
    ] {
        refused(expansion(value), kind, &[&[SETTINGS, field][..], &words].concat());
    }
    let short = expansion(json!({"strategy": "min", "length": 8})).set(SETTINGS, "query_length", 7);
    refused(short, Config, &[SETTINGS, "query_expansion.length", "query_length", "7 tokens"]);
    let nothing = expansion(json!({"strategy": "fixed", "length": 2}));
    refused(nothing, Tokenizer, &["tokenizer.json", "query_expansion.length", "is 2"]);
    let huge = expansion(json!({"strategy": "fixed", "length": u64::MAX}));
    refused(huge, Config, &[SETTINGS, "query_expansion.length"]);
    // The value null disables the expansion.
    let encoder = loads(expansion(Value::Null));
    assert_eq!(encoder.max_seq_length(EmbedTask::Query), Some(80));
}

#[test]
fn masks_beyond_a_window() {
    let wide = good("modernbert").set(OPTIONS, "query_length", 18);
    refused(wide, Config, &[OPTIONS, "query_length", "is 18", "16 positions"]);
    loads(good("modernbert").set(OPTIONS, "query_length", 17));
    // If the other tokens attend to appended tokens, the appended tokens also attend to each other.
    let seen = good("modernbert").set(OPTIONS, "query_length", 18);
    loads(seen.set(OPTIONS, "attend_to_expansion_tokens", true));
}

#[test]
fn padding_at_the_left() {
    let left = good("bert").set("tokenizer_config.json", "padding_side", "left");
    refused(left.clone(), Unsupported, &["tokenizer_config.json", "padding_side", "left"]);
    // Without query expansion, queries are not padded.
    loads(left.set(SETTINGS, "query_expansion", Value::Null));
}

#[test]
fn checkpoints_of_stanford() {
    let without = good("stanford_bert").without(METADATA);
    let encoder = loads(without);
    assert_eq!(encoder.max_seq_length(EmbedTask::Query), Some(32));
    assert!(encoder.notes().iter().any(|note| note.contains(METADATA)), "{:?}", encoder.notes());
    let wrong = good("stanford_bert").set(METADATA, "query_maxlen", "long");
    refused(wrong, Config, &[METADATA, "query_maxlen", "a whole number"]);
    let other = Model::fixture("bert_bare").config("architectures", json!(["HF_ColBERT"]));
    refused(other, Tensor, &["model.safetensors", "linear.weight", "is missing"]);
}

#[test]
fn heads_of_bge_m3() {
    for (name, load) in [
        ("colbert_linear", refused as fn(Model, Kind, &[&str])),
        ("sparse_linear", |model, kind, words| {
            refused_as(SparseEncoder::builder, model, kind, words);
        }),
    ] {
        let [file, pickle] = ["safetensors", "pt"].map(|end| format!("{name}.{end}"));
        let pickled = good("bge_m3").without(&file).file(&pickle, b"\x80\x02pickle");
        load(pickled, File, &[&file, &pickle, "pickle", "weights_only=True", "save_file"]);
        let cut = good("bge_m3").bytes(&file, |bytes| bytes.truncate(20));
        load(cut, File, &[&file]);
        let other = good("bge_m3").files["model.safetensors"].clone();
        load(good("bge_m3").file(&file, other), Tensor, &[&file, "weight", "linear layer"]);
        let swapped = ["colbert_linear", "sparse_linear"].into_iter().find(|other| *other != name);
        let swapped = good("bge_m3").files[&format!("{}.safetensors", swapped.unwrap())].clone();
        if name == "sparse_linear" {
            load(good("bge_m3").file(&file, swapped), Tensor, &[&file, "weight", "[1, 32]"]);
        }
    }
}
