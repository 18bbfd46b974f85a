//! Tests models that users reported as wrong, in this program or in others, against sentence-transformers in float64.
//! `scripts/report_fixtures.py` changes the same files of the same fixtures.

use std::collections::BTreeMap;

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};
use vectile::{
    DtypeRequest, Embedder, EmbedderBuilder, ModelFiles, TransformersVersion, block_on,
    semantic_search,
};

use crate::support::{build, contents, distance, fixture, read_json};

const SETTINGS: &str = "tokenizer_config.json";
const OPTIONS: &str = "config_sentence_transformers.json";

/// The maximum difference of a value of a normalized vector from the same value computed in float64.
const MAX_ABS: f64 = 2e-6;

fn reference(report: &str) -> Value {
    read_json::<Value>(&fixture("reports.json"))[report].take()
}

fn list<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

fn edit(files: &mut BTreeMap<String, Vec<u8>>, name: &str, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&files[name]).unwrap();
    change(&mut value);
    files.insert(name.to_owned(), value.to_string().into_bytes());
}

fn builder(files: BTreeMap<String, Vec<u8>>) -> EmbedderBuilder {
    Embedder::builder(ModelFiles::from_bytes(files).unwrap()).dtype(DtypeRequest::Float32)
}

/// Compares the token ids and vectors of texts with the expected ones.
fn check(embedder: &Embedder, texts: &[String], expected: &Value) {
    let ids: Vec<Vec<u32>> = list(&expected["ids"]);
    assert_eq!(embedder.tokenize(texts, &Default::default()).unwrap(), ids);
    let rows: Vec<Vec<f64>> = list(&expected["embeddings"]);
    let got = block_on(embedder.embed(texts)).unwrap();
    assert_eq!((got.len(), got.dim), (rows.len(), rows[0].len()));
    let found = distance(&got.values, &rows.concat(), got.dim);
    assert!(found.max_abs <= MAX_ABS, "{found:?}");
}

/// See embeddings-benchmark/mteb#1731 and facebookresearch/ReasonIR#15. The model names the dot product, which ranks
/// these texts in another order than the cosine. In huggingface/sentence-transformers#1649, `semantic_search` needs the
/// function as an argument.
#[test]
fn a_model_that_names_the_dot_product_ranks_by_it() {
    let expected = reference("similarity_dot");
    let mut files = contents("bert_max");
    edit(&mut files, OPTIONS, |options| options["similarity_fn_name"] = "dot".into());
    let Some(embedder) = build(builder(files)) else { return };
    let texts: Vec<String> = list(&expected["texts"]);
    let query = block_on(embedder.embed(&[expected["query"].as_str().unwrap()])).unwrap();
    let corpus = block_on(embedder.embed(&texts)).unwrap();
    let scores: Vec<f64> = list(&expected["scores"]);
    let got = embedder.similarity(&query, &corpus).unwrap();
    for (got, expected) in got.values.iter().zip(&scores) {
        let difference = (f64::from(*got) - expected).abs();
        assert!(difference <= MAX_ABS * expected.abs(), "{got} {expected}");
    }
    let ranks: Vec<usize> = list(&expected["ranks"]);
    let function = embedder.similarity_function();
    let on_the_adapter = block_on(embedder.semantic_search(&query, &corpus, &Default::default()));
    let on_the_host = semantic_search(&query, &corpus, texts.len(), function);
    for hits in [on_the_adapter, on_the_host] {
        let found: Vec<usize> = hits.unwrap()[0].iter().map(|hit| hit.index).collect();
        assert_eq!(found, ranks);
    }
    assert_ne!(ranks, list::<Vec<usize>>(&expected["ranks_by_cosine"]));
}

/// See huggingface/sentence-transformers#1150. Only the files beside `tokenizer.json` have the token.
#[test]
fn a_token_beside_tokenizer_json_gives_the_vector_of_its_own_row() {
    let expected = reference("added_tokens_decoder_only");
    let mut files = contents("bert_mean_norm");
    let token = json!({"content": "[WORLD]", "lstrip": false, "normalized": false, "rstrip": false,
        "single_word": false, "special": true});
    edit(&mut files, SETTINGS, |settings| {
        settings["added_tokens_decoder"] = json!({ "512": token });
        settings["additional_special_tokens"] = json!(["[WORLD]"]);
    });
    files.insert("added_tokens.json".to_owned(), br#"{"[WORLD]": 512}"#.to_vec());
    edit(&mut files, "config.json", |config| config["vocab_size"] = 513.into());
    let weights = with_a_row(&files["model.safetensors"]);
    files.insert("model.safetensors".to_owned(), weights);
    let Some(embedder) = build(builder(files)) else { return };
    check(&embedder, &list::<Vec<String>>(&expected["texts"]), &expected);
}

/// Returns the checkpoint with one more row in its table of words: row 7 with every sign changed.
fn with_a_row(checkpoint: &[u8]) -> Vec<u8> {
    const WORDS: &str = "embeddings.word_embeddings.weight";
    let tensors = SafeTensors::deserialize(checkpoint).unwrap();
    let words = tensors.tensor(WORDS).unwrap();
    let [rows, width] = words.shape() else { panic!("{:?}", words.shape()) };
    let row = words.data()[7 * width * 4..8 * width * 4].chunks(4);
    let negated =
        row.flat_map(|value| (-f32::from_le_bytes(value.try_into().unwrap())).to_le_bytes());
    let longer: Vec<u8> = words.data().iter().copied().chain(negated).collect();
    let longer = TensorView::new(words.dtype(), vec![rows + 1, *width], &longer).unwrap();
    let mut all: BTreeMap<String, TensorView<'_>> = tensors.tensors().into_iter().collect();
    all.insert(WORDS.to_owned(), longer);
    safetensors::serialize(&all, None).unwrap()
}

/// See embeddings-benchmark/mteb#5237 and sgl-project/sglang#21913. transformers 4 appends the end token that
/// `add_eos_token` requests, so last-token pooling reads its row. transformers 5 does not.
#[test]
fn a_last_token_model_has_the_vectors_of_the_version_it_was_published_for() {
    let expected = reference("e5_mistral_eos");
    let texts: Vec<String> = list(&expected["texts"]);
    let files = |published: &str| {
        let mut files = contents("families/mistral");
        edit(&mut files, "tokenizer.json", |tokenizer| {
            let post = &mut tokenizer["post_processor"];
            post["single"].as_array_mut().unwrap().pop();
            post["special_tokens"].as_object_mut().unwrap().remove("</s>");
        });
        let settings = json!({"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<|pad|>",
            "tokenizer_class": "LlamaTokenizer", "legacy": true, "padding_side": "left",
            "add_bos_token": true, "add_eos_token": true, "model_max_length": 80});
        files.insert(SETTINGS.to_owned(), settings.to_string().into_bytes());
        edit(&mut files, "config.json", |config| config["transformers_version"] = published.into());
        edit(&mut files, OPTIONS, |options| options["__version__"] = json!({}));
        files
    };
    for (published, version) in [("4.34.0", "4"), ("5.23.0", "5")] {
        let Some(embedder) = build(builder(files(published))) else { return };
        check(&embedder, &texts, &expected[version]);
    }
    // The option takes precedence over the files.
    let option = builder(files("5.23.0")).transformers_version(TransformersVersion::V4);
    check(&build(option).unwrap(), &texts, &expected["4"]);
}
