//! Tests with configs of published models and variations of them. A test has only those tensors whose shapes are read
//! together with a config. Whole models are tested in `embedder/tests/published.rs`.

use serde_json::{Value, json};

use crate::config::JsonFile;
use crate::error::Error;
use crate::files::ModelFiles;
use crate::models::{Transformer, read};
use crate::weights::WeightFiles;

/// The description of the sizes that a config gives, or the error that refuses it.
fn outcome(config: &Value, tensors: &[&str]) -> String {
    let tensors: Vec<(&str, usize)> = tensors.iter().map(|name| (*name, 1)).collect();
    outcome_of(config, &tensors)
}

/// Like [`outcome`], with the number of rows of each tensor.
fn outcome_of(config: &Value, tensors: &[(&str, usize)]) -> String {
    match transformer(config, tensors) {
        Ok(transformer) => transformer.describe(),
        Err(error) => error.to_string(),
    }
}

fn transformer(config: &Value, tensors: &[(&str, usize)]) -> Result<Box<dyn Transformer>, Error> {
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, rows) in tensors {
        let start = end;
        end += 4 * rows;
        let entry = json!({"dtype": "F32", "shape": [rows, 1], "data_offsets": [start, end]});
        header.insert((*name).to_owned(), entry);
    }
    let header = Value::Object(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + end, 0);
    let files = ModelFiles::from_bytes([("model.safetensors".to_owned(), bytes)]).unwrap();
    let weights = WeightFiles::open(&files, "").unwrap();
    read(&JsonFile::new("config.json", config.as_object().unwrap().clone()), &weights, None)
}

/// The `config.json` in a file of `tests/published`.
macro_rules! published {
    ($name:literal) => {
        $crate::models::tests::published::config_of(include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/published/",
            $name,
            ".json"
        )))
    };
}

fn config_of(published: &str) -> Value {
    serde_json::from_str::<Value>(published).unwrap()["files"]["config.json"].clone()
}

mod relative;

const WORDS: &str = "embeddings.word_embeddings.weight";
const TYPES: &str = "embeddings.token_type_embeddings.weight";

fn with(config: &Value, changes: &Value) -> Value {
    let mut config = config.clone();
    for (field, value) in changes.as_object().unwrap() {
        config[field] = value.clone();
    }
    config
}

fn refused(config: &Value, tensors: &[&str], words: &[&str]) {
    let message = outcome(config, tensors);
    for word in words {
        assert!(message.contains(word), "{message:?} does not say {word:?}");
    }
}

#[test]
fn modernbert_embed_base() {
    let config = published!("nomic-ai--modernbert-embed-base");
    let words = &["embeddings.tok_embeddings.weight"];
    let expected = "22 layers, 14 of them with a window of 64 tokens to each side, hidden 768, 12 \
                    heads, gated intermediate 1152, rotary bases 160000 and 10000, Gelu";
    assert_eq!(outcome(&config, words), expected);
    let kinds = ["full_attention", "sliding_attention", "sliding_attention"];
    let types: Vec<&str> = kinds.into_iter().cycle().take(22).collect();
    let newer = with(
        &config,
        &json!({
            "global_rope_theta": null, "local_rope_theta": null, "sliding_window": 64,
            "rope_parameters": {
                "full_attention": {"rope_type": "default", "rope_theta": 160000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}
            },
            "layer_types": types
        }),
    );
    assert_eq!(outcome(&newer, words), expected);
    for (change, said) in [
        (json!({"rope_scaling": {"type": "linear", "factor": 2.0}}), "rope_scaling"),
        (json!({"layer_types": ["full_attention"]}), "layer_types"),
        (json!({"layer_types": vec!["chunked_attention"; 22]}), "chunked_attention"),
        (json!({"hidden_activation": "mish"}), "hidden_activation"),
        (json!({"num_attention_heads": 256}), "num_attention_heads"),
        (
            json!({"rope_parameters": {"full_attention": {"rope_type": "proportional"}}}),
            "rope_parameters.full_attention.rope_type",
        ),
    ] {
        refused(&with(&config, &change), words, &["config.json", said]);
    }
}

#[test]
fn nomic_embed_text_v2_moe() {
    let config = published!("nomic-ai--nomic-embed-text-v2-moe");
    let tables = &[WORDS, TYPES];
    let expected = "12 layers, hidden 768, 12 heads, intermediate 3072, rotary base 10000, scaling \
                    None, Gelu, 2 of 8 experts in every 2 layers";
    assert_eq!(outcome(&config, tables), expected);
    for (change, said) in [
        (json!({"num_experts": 0}), "num_experts"),
        (json!({"num_experts": 33}), "num_experts"),
        (json!({"num_experts": null}), "num_experts"),
        (json!({"moe_top_k": 9}), "moe_top_k"),
        (json!({"moe_top_k": null}), "moe_top_k"),
        (json!({"num_shared_experts": 1}), "num_shared_experts"),
        (json!({"expert_choice_router": true}), "expert_choice_router"),
        (json!({"moe_normalize_expert_weights": true}), "moe_normalize_expert_weights"),
        (json!({"ffn_div": 2}), "ffn_div"),
        (json!({"activation_function": "gelu_new"}), "activation_function"),
    ] {
        refused(&with(&config, &change), tables, &["config.json", said]);
    }
}

#[test]
fn nomic_embed_text() {
    let config = published!("nomic-ai--nomic-embed-text-v1.5");
    let tables = &[WORDS, TYPES];
    let expected = "12 layers, hidden 768, 12 heads, gated intermediate 3072, rotary base 1000, \
                    scaling None, Silu";
    assert_eq!(outcome(&config, tables), expected);
    let longer = with(&config, &json!({"rotary_scaling_factor": 2}));
    let scaling = "Dynamic { factor: 2.0, trained: 2048 }";
    assert_eq!(outcome(&longer, tables), expected.replace("None", scaling));
    refused(
        &with(&config, &json!({"moe_every_n_layers": 2, "num_experts": 8, "moe_top_k": 2})),
        tables,
        &["config.json", "activation_function", "swiglu", "experts"],
    );
    for (change, said) in [
        (json!({"prenorm": true}), "prenorm"),
        (json!({"activation_function": "gelu_new"}), "activation_function"),
        (json!({"rotary_emb_fraction": 0.0}), "rotary_emb_fraction"),
        (json!({"rotary_emb_scale_base": 512}), "rotary_emb_scale_base"),
        (json!({"num_heads_kv": 4}), "num_heads_kv"),
        (json!({"rotary_scaling_factor": -1}), "rotary_scaling_factor"),
    ] {
        refused(&with(&config, &change), tables, &["config.json", said]);
    }
}

#[test]
fn gte_v1_5_and_its_descendants() {
    let large = published!("Alibaba-NLP--gte-large-en-v1.5");
    let tables = &[WORDS, TYPES];
    assert_eq!(
        outcome(&large, tables),
        "24 layers, hidden 1024, 16 heads, gated intermediate 4096, rotary base 160000, scaling \
         Ntk { factor: 2.0, mixed_b: None }, Gelu"
    );
    // Snowflake's model has a copy of the code, but the model_type of transformers.
    let snowflake = with(
        &large,
        &json!({
            "model_type": "gte", "hidden_size": 768, "num_attention_heads": 12,
            "num_hidden_layers": 12, "intermediate_size": 3072, "rope_scaling": null,
            "type_vocab_size": 1, "vocab_size": 250048,
            "auto_map": {
                "AutoConfig": "configuration_hf_alibaba_nlp_gte.GteConfig",
                "AutoModel": "modeling_hf_alibaba_nlp_gte.GteModel"
            }
        }),
    );
    assert_eq!(
        outcome(&snowflake, tables),
        "12 layers, hidden 768, 12 heads, gated intermediate 3072, rotary base 160000, scaling \
         None, Gelu"
    );
    for (change, said) in [
        (json!({"position_embedding_type": "absolute"}), "position_embedding_type"),
        (json!({"layer_norm_type": "rms_norm"}), "layer_norm_type"),
        (json!({"logn_attention_scale": true}), "logn_attention_scale"),
        (json!({"rope_scaling": {"type": "su", "factor": 2.0}}), "rope_scaling.type"),
        (json!({"rope_scaling": {"type": "ntk"}}), "rope_scaling.factor"),
        (json!({"rope_theta": 0}), "rope_theta"),
        (json!({"auto_map": {"AutoModel": "someone/fork--modeling.NewModel"}}), "someone/fork"),
    ] {
        refused(&with(&large, &change), tables, &["config.json", said]);
    }
}

#[test]
fn jina_embeddings_v2() {
    let map = |code: &str| {
        json!({
            "AutoConfig": format!("{code}--configuration_bert.JinaBertConfig"),
            "AutoModelForMaskedLM": format!("{code}--modeling_bert.JinaBertForMaskedLM"),
            "AutoModel": format!("{code}--modeling_bert.JinaBertModel"),
            "AutoModelForSequenceClassification":
                format!("{code}--modeling_bert.JinaBertForSequenceClassification")
        })
    };
    let config = published!("jinaai--jina-embeddings-v2-base-en");
    let tables = &[WORDS, TYPES];
    let expected = "12 layers, hidden 768, 12 heads, gated intermediate 3072, ALiBi, Gelu";
    assert_eq!(outcome(&config, tables), expected);
    let code = with(&config, &json!({"auto_map": map("jinaai/jina-bert-v2-qk-post-norm")}));
    assert_eq!(outcome(&code, tables), expected);
    for (change, said) in [
        (json!({"feed_forward_type": "original"}), "feed_forward_type"),
        (json!({"position_embedding_type": "absolute"}), "position_embedding_type"),
        (json!({"auto_map": map("someone/fork")}), "someone/fork"),
        // Without the name of the code, the config is read as BERT, which has no such positions.
        (json!({"auto_map": null}), "position_embedding_type"),
    ] {
        refused(&with(&config, &change), tables, &["config.json", said]);
    }
}

#[test]
fn jina_embeddings_v3() {
    let config = published!("jinaai--jina-embeddings-v3");
    let expected = "24 layers, hidden 1024, 16 heads, intermediate 4096, rotary base 20000, \
                    scaling None, Gelu";
    let tables = &[WORDS, TYPES, "emb_ln.weight"];
    assert_eq!(outcome(&config, tables), expected);
    refused(
        &with(&config, &json!({"position_embedding_type": "absolute"})),
        tables,
        &["config.json", "position_embedding_type"],
    );
}
