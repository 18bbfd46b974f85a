//! Tests tokenizers and models that users reported as wrong, in this program or in others. Each test names the
//! report.

use serde_json::{Value, json};
use vectile::{Embedder, ModelFiles, TransformersVersion, block_on};

use crate::Kind::Tokenizer;
use crate::tensors::Tensors;
use crate::{Model, check_error, noop};

const FILE: &str = "tokenizer.json";
const SETTINGS: &str = "tokenizer_config.json";
const OPTIONS: &str = "config_sentence_transformers.json";
const WEIGHTS: &str = "model.safetensors";

fn ids(embedder: &Embedder, text: &str) -> Vec<u32> {
    embedder.tokenize(&[text], &Default::default()).unwrap().remove(0)
}

/// Returns the valid model with one more row in its embedding table.
fn with_a_new_row() -> Model {
    let model = Model::good();
    let mut tensors = Tensors::read(&model.files[WEIGHTS]);
    let table = tensors.get("embeddings.word_embeddings.weight");
    let row = table.data[..table.data.len() / 512].to_vec();
    table.data.extend(row);
    table.shape[0] = 513;
    model.file(WEIGHTS, tensors.write())
}

fn added(content: &str) -> Value {
    json!({"content": content, "lstrip": false, "normalized": false, "rstrip": false, "single_word": false, "special": true})
}

/// See huggingface/sentence-transformers#1150. Only the files beside `tokenizer.json` have the token.
#[test]
fn a_token_beside_tokenizer_json_is_one_token() {
    let text = "a [WORLD]x";
    let decoder =
        with_a_new_row().set(SETTINGS, "added_tokens_decoder", json!({"512": added("[WORLD]")}));
    // See huggingface/transformers#12763. Only added_tokens.json has the tokens.
    let file = with_a_new_row().file("added_tokens.json", r#"{"[WORLD]": 512}"#);
    // See huggingface/sentence-transformers#744. Special tokens were added before training.
    let special = with_a_new_row().set(SETTINGS, "additional_special_tokens", json!(["[WORLD]"]));
    let map = json!({"additional_special_tokens": ["[WORLD]"]});
    let mapped = with_a_new_row().file("special_tokens_map.json", map.to_string());
    for model in [decoder, file, special, mapped] {
        let embedder = model.loads();
        let got = ids(&embedder, text);
        assert!(got.contains(&512), "{got:?}");
        let parts = [ids(&embedder, "a"), vec![512], ids(&embedder, "x")];
        let inner: Vec<u32> =
            parts.iter().flatten().copied().filter(|id| ![2, 3].contains(id)).collect();
        assert_eq!(got[1..got.len() - 1], inner[..]);
    }
}

/// Returns a last-token model whose settings request an end token that `tokenizer.json` does not add.
fn without_end(published: &str) -> Model {
    let post = json!({"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}});
    let settings = json!({"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<|pad|>",
        "tokenizer_class": "LlamaTokenizer", "add_bos_token": true, "add_eos_token": true, "model_max_length": 80});
    Model::fixture("families/mistral")
        .edit(FILE, |file| file["post_processor"] = post)
        .file(SETTINGS, settings.to_string())
        .config("transformers_version", published)
        .edit(OPTIONS, |file| file["__version__"] = json!({"transformers": published}))
}

/// See embeddings-benchmark/mteb#5237 and sgl-project/sglang#21913. e5-mistral lost its end token under transformers
/// 5.
#[test]
fn an_end_token_follows_the_version_the_model_was_published_for() {
    let (old, new) =
        (without_end("4.34.0").build().unwrap(), without_end("5.23.0").build().unwrap());
    // transformers 4.57.6 and 5.24.0 return these ids for this tokenizer.
    assert_eq!(ids(&old, "hello world"), [1, 261, 292, 309, 297, 328, 0]);
    assert_eq!(ids(&new, "hello world"), [1, 261, 292, 309, 297, 328]);
    for (embedder, version, other, file) in
        [(&old, "4", "5", "config.json"), (&new, "5", "4", "config.json")]
    {
        let notes = embedder.notes().join("\n");
        for words in [
            format!("transformers {version} ("),
            format!("transformers {other} gives"),
            file.into(),
        ] {
            assert!(notes.contains(&words), "{notes:?} does not say {words:?}");
        }
    }
    // If the files name different versions, the older version counts.
    let mixed = without_end("5.23.0").config("transformers_version", "4.34.0");
    assert_eq!(ids(&mixed.build().unwrap(), "hello world").last(), Some(&0));
    let mixed = without_end("5.23.0")
        .edit(OPTIONS, |file| file["__version__"] = json!({"transformers": "4.40.1"}));
    let embedder = mixed.build().unwrap();
    assert_eq!(ids(&embedder, "hello world").last(), Some(&0));
    assert!(embedder.notes().join("\n").contains(OPTIONS), "{:?}", embedder.notes());
    // The caller can choose the version.
    let files = ModelFiles::from_bytes(without_end("5.23.0").files).unwrap();
    let builder =
        Embedder::builder(files).adapter(noop()).transformers_version(TransformersVersion::V4);
    assert_eq!(ids(&block_on(builder.build()).unwrap(), "hello world").last(), Some(&0));
}

/// See huggingface/sentence-transformers#2591. The tokenizer's arguments request the end token.
#[test]
fn an_end_token_that_arguments_ask_for_is_added_under_both_versions() {
    for (published, bos) in [("4.40.1", true), ("5.23.0", false)] {
        let arguments = json!({"max_seq_length": 80, "tokenizer_args": {"add_eos_token": true}});
        let model = without_end(published)
            .unset(SETTINGS, "add_eos_token")
            .unset(SETTINGS, "add_bos_token")
            .file("sentence_bert_config.json", arguments.to_string());
        let got = ids(&model.build().unwrap(), "hello world");
        assert_eq!((got[0] == 1, got.last()), (bos, Some(&0)), "{published}: {got:?}");
    }
}

/// A token may have an id that equals the number of rows in the table. Examples are `<image_soft_token>` of
/// embeddinggemma (MemPalace/mempalace#2114) and `<mask>` of longformer (allenai/longformer#160). Tokens that were
/// added without resizing the table are another example (EuroEval/EuroEval#52).
#[test]
fn a_token_one_past_the_table_refuses_only_its_texts() {
    for token in ["<image_soft_token>", "<mask>", "<new>"] {
        let entry = json!({"512": added(token)});
        let embedder = Model::good().set(SETTINGS, "added_tokens_decoder", entry).build().unwrap();
        assert!(embedder.notes().join("\n").contains("512 rows"), "{:?}", embedder.notes());
        assert_eq!(block_on(embedder.embed(&["one", "two"])).unwrap().len(), 2);
        let error = block_on(embedder.embed(&["one", token])).unwrap_err();
        check_error(&error, Tokenizer, &[FILE, "text 1", token, "512"]);
    }
}

/// Some tokenizers have no fast version, so Python cannot write a `tokenizer.json` for them. See
/// huggingface/text-embeddings-inference#122 and #169 (ruri) and huggingface/transformers#12381 (Japanese BERT). See
/// also VinAIResearch/PhoBERT#40 and #25 (PhoBERT, also under its `Fast` name) and huggingface/transformers#5965
/// (BERTweet).
#[test]
fn tokenizers_that_exist_only_in_python_are_named() {
    for (class, vocabulary) in [
        ("BertJapaneseTokenizer", "vocab.txt"),
        ("PhobertTokenizer", "vocab.txt"),
        ("PhobertTokenizerFast", "vocab.txt"),
        ("BertweetTokenizer", "vocab.txt"),
    ] {
        let model = Model::good().without(FILE).file(vocabulary, "[PAD]\n[UNK]\n").set(
            SETTINGS,
            "tokenizer_class",
            class,
        );
        let named = class.strip_suffix("Fast").unwrap_or(class);
        model.refused(
            Tokenizer,
            &[FILE, named, "no fast version", "Use a model with a tokenizer.json"],
        );
        let message = model.build().map(|_| ()).unwrap_err().to_string();
        assert!(!message.contains("save_pretrained"), "the advice leads back here: {message}");
    }
    let code = json!({"AutoTokenizer": ["tokenization_x.XTokenizer", null]});
    Model::good()
        .without(FILE)
        .set(SETTINGS, "auto_map", code)
        .refused(Tokenizer, &[FILE, "Python code", "tokenization_x.XTokenizer", "does not run"]);
}

/// When model2vec distils a tokenizer, it writes a normalizer that puts spaces around each punctuation mark.
#[test]
fn the_normalizer_of_model2vec_loads() {
    let mut steps: Vec<Value> = ["!", ",", ".", "?", ";", ":"]
        .iter()
        .map(|mark| json!({"type": "Replace", "pattern": {"String": mark}, "content": format!(" {mark} ")}))
        .collect();
    steps.push(json!({"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "}));
    steps.push(json!({"type": "Strip", "strip_left": false, "strip_right": true}));
    let embedder = Model::fixture("families/model2vec_int8")
        .edit(FILE, |file| file["normalizer"] = json!({"type": "Sequence", "normalizers": steps}))
        .loads();
    assert!(!ids(&embedder, "one, two.").is_empty());
}
