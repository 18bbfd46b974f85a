#![allow(clippy::unwrap_used, clippy::type_complexity)]

use serde_json::{Value, json};

use super::*;
use crate::config::ModelConfig;
use crate::files::ModelFiles;

/// Returns a BERT tokenizer of a few words. Its settings of truncation and padding are those that a training script
/// would leave in the file.
fn bert() -> Value {
    let words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c", "d", "query", ":", "##a", "é"];
    let vocab: serde_json::Map<_, _> =
        words.iter().enumerate().map(|(id, word)| (word.to_string(), json!(id))).collect();
    let special = |id: usize| json!({"id": id, "content": words[id], "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true});
    json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 20_000_000}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"},
        "added_tokens": [special(0), special(1), special(2), special(3)],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": false, "lowercase": false},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]}, "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}}},
        "decoder": null,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocab}
    })
}

fn load_with(
    tokenizer: &[u8],
    extra: &[(&str, &str)],
    rows: usize,
    positions: Option<usize>,
) -> Result<Tokenizer, Error> {
    let mut files = vec![("tokenizer.json".to_string(), tokenizer.to_vec())];
    files.push(("config.json".into(), br#"{"hidden_size": 8}"#.to_vec()));
    files.extend(extra.iter().map(|(name, text)| (name.to_string(), text.as_bytes().to_vec())));
    if tokenizer.is_empty() {
        files.remove(0);
    }
    let files = ModelFiles::from_bytes(files)?;
    let config = ModelConfig::load(&files)?;
    Tokenizer::load(&files, &config, rows, positions, None)
}

fn load(tokenizer: &Value, positions: Option<usize>) -> Result<Tokenizer, Error> {
    load_with(tokenizer.to_string().as_bytes(), &[], 12, positions)
}

fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    tokenizer.encode(None, text).unwrap().ids
}

#[test]
fn truncation_and_padding_of_the_file_are_ignored() {
    let tokenizer = load(&bert(), None).unwrap();
    assert_eq!(tokenizer.limit(), None);
    assert_eq!(ids(&tokenizer, "a b c d"), [2, 4, 5, 6, 7, 3]);
    assert_eq!(ids(&tokenizer, ""), [2, 3]);
    assert_eq!(tokenizer.vocab_size(), 12);
}

#[test]
fn truncation_keeps_the_special_tokens() {
    let tokenizer = load(&bert(), Some(4)).unwrap();
    let tokens = tokenizer.encode(None, "a b c d").unwrap();
    assert_eq!((tokens.ids, tokens.untruncated), (vec![2, 4, 5, 3], 6));
    let left = ("tokenizer_config.json", r#"{"truncation_side": "left"}"#);
    let tokenizer = load_with(bert().to_string().as_bytes(), &[left], 12, Some(4)).unwrap();
    assert_eq!(ids(&tokenizer, "a b c d"), [2, 6, 7, 3]);
    let mut from_file = bert();
    from_file["truncation"]["direction"] = json!("Left");
    assert_eq!(ids(&load(&from_file, Some(4)).unwrap(), "a b c d"), [2, 6, 7, 3]);
}

#[test]
fn the_prompt_counts_its_leading_special_token_and_not_the_trailing_one() {
    let tokenizer = load(&bert(), None).unwrap();
    let tokens = tokenizer.encode(Some("query: "), "a b").unwrap();
    assert_eq!((tokens.ids, tokens.prompt_len), (vec![2, 8, 9, 4, 5, 3], 3));
    assert_eq!(tokenizer.encode(Some(""), "a").unwrap().prompt_len, 0);
    assert_eq!(tokenizer.encode(None, "a").unwrap().prompt_len, 0);
    let mut bare = bert();
    bare["post_processor"] = Value::Null;
    let tokenizer = load(&bare, None).unwrap();
    let tokens = tokenizer.encode(Some("query: "), "a b").unwrap();
    assert_eq!((tokens.ids, tokens.prompt_len), (vec![8, 9, 4, 5], 2));
    assert!(ids(&tokenizer, "").is_empty());
}

#[test]
fn lowercasing_comes_before_the_tokenizers_own_steps() {
    let modules = r#"[{"path": "", "type": "sentence_transformers.models.Transformer"}, {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]"#;
    let extra = |lower: &'static str| {
        [
            ("modules.json", modules),
            ("1_Pooling/config.json", r#"{"embedding_dimension": 8}"#),
            ("tokenizer_config.json", r#"{"do_lower_case": false, "strip_accents": false}"#),
            ("sentence_bert_config.json", lower),
        ]
    };
    let file = bert().to_string();
    let kept = load_with(file.as_bytes(), &extra(r#"{"do_lower_case": false}"#), 12, None).unwrap();
    let lowered =
        load_with(file.as_bytes(), &extra(r#"{"do_lower_case": true}"#), 12, None).unwrap();
    assert_eq!(ids(&kept, "A É"), [2, 1, 1, 3]);
    assert_eq!(ids(&lowered, "A É"), [2, 4, 11, 3]);
}

#[test]
fn long_texts_have_the_same_tokens_in_pieces() {
    let mut tokenizer = load(&bert(), None).unwrap();
    assert!(tokenizer.cuts_at_spaces);
    let text: String =
        (0..60_000).map(|i| ["a", "ba", " ", "é ", "\n", "[SEP]", "\u{301}"][i * 31 % 7]).collect();
    let pieces = tokenizer.encode(None, &text).unwrap();
    tokenizer.cuts_at_spaces = false;
    assert_eq!(tokenizer.encode(None, &text).unwrap(), pieces);
    tokenizer.cuts_at_spaces = true;
    let one_word = "a".repeat(3 * PIECE);
    assert_eq!(ids(&tokenizer, &one_word), [2, 1, 3]);
}

#[test]
fn an_added_token_with_a_space_forbids_pieces() {
    let mut spaced = bert();
    spaced["added_tokens"][0]["content"] = json!("a b");
    spaced["added_tokens"][0]["id"] = json!(11);
    assert!(!load(&spaced, None).is_ok_and(|tokenizer| tokenizer.cuts_at_spaces));
}

#[test]
fn a_batch_is_its_texts_in_order() {
    let tokenizer = load(&bert(), Some(64)).unwrap();
    let texts: Vec<String> = (0..200).map(|i| "a b ".repeat(i * 7 % 1000)).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let batch = tokenizer.encode_batch_within(Some("query: "), &texts, tokenizer.limit());
    assert_eq!(batch.len(), texts.len());
    for (text, tokens) in texts.iter().zip(batch) {
        assert_eq!(tokens.unwrap(), tokenizer.encode(Some("query: "), text).unwrap());
    }
    assert!(tokenizer.encode_batch_within(None, &[], None).is_empty());
}

/// Returns the error message for a tokenizer that `change` makes invalid.
fn refused(change: impl FnOnce(&mut Value)) -> String {
    let mut tokenizer = bert();
    change(&mut tokenizer);
    load(&tokenizer, Some(64)).unwrap_err().to_string()
}

#[test]
fn bad_tokenizers_are_refused_at_load() {
    let table: [(&str, fn(&mut Value), &str); 10] = [
        ("id 2^32", |t| t["model"]["vocab"]["d"] = json!(4294967296u64), "tokenizer.json"),
        ("id -1", |t| t["model"]["vocab"]["d"] = json!(-1), "tokenizer.json"),
        (
            "template id beyond the table",
            |t| t["post_processor"]["special_tokens"]["[CLS]"]["ids"] = json!([99]),
            "99",
        ),
        (
            "template token unknown",
            |t| t["post_processor"]["special_tokens"] = json!({}),
            "tokenizer.json",
        ),
        (
            "unknown word without [UNK]",
            |t| t["model"]["unk_token"] = json!("[NONE]"),
            "tokenizer.json",
        ),
        (
            "fixed length 0",
            |t| t["pre_tokenizer"] = json!({"type": "FixedLength", "length": 0}),
            "tokenizer.json",
        ),
        (
            "bad regular expression",
            |t| {
                t["normalizer"] =
                    json!({"type": "Replace", "pattern": {"Regex": "("}, "content": ""})
            },
            "tokenizer.json",
        ),
        (
            "charsmap garbage",
            |t| t["normalizer"] = json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
            "tokenizer.json",
        ),
        ("model unknown", |t| t["model"]["type"] = json!("Neural"), "tokenizer.json"),
        ("vocabulary empty", |t| t["model"]["vocab"] = json!({}), "tokenizer.json"),
    ];
    for (name, change, words) in table {
        let message = refused(change);
        assert!(message.contains(words), "{name}: {message}");
    }
    let message = refused(|t| {
        let token = t["added_tokens"][0].clone();
        t["added_tokens"] = json!(vec![token; 100_001]);
    });
    assert!(message.contains("100001 added tokens"), "{message}");
}

#[test]
fn a_token_beyond_the_table_refuses_only_texts_that_use_it() {
    for id in [12u32, u32::MAX] {
        let mut beyond = bert();
        beyond["model"]["vocab"]["d"] = json!(id);
        let tokenizer = load(&beyond, Some(64)).unwrap();
        assert_eq!(ids(&tokenizer, "a b"), [2, 4, 5, 3]);
        let note = &tokenizer.notes()[0];
        assert!(
            note.contains(&format!("\"d\" with id {id}")) && note.contains("12 rows"),
            "{note}"
        );
        let message = tokenizer.encode(None, "a d").unwrap_err().to_string();
        assert!(message.contains("token \"d\"") && message.contains(&id.to_string()), "{message}");
        let pair = tokenizer.encode_pair("", "a", "d").unwrap_err().to_string();
        assert!(pair.contains("token \"d\""), "{pair}");
    }
}

#[test]
fn a_merge_longer_than_any_token_is_refused() {
    let bpe = json!({"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["a bbbbbbbb", "aaaaaaaa b"]}});
    assert!(load(&bpe, None).unwrap_err().to_string().contains("tokenizer.json"));
}

#[test]
fn files_that_are_not_tokenizers_are_refused() {
    let table: [(&[u8], &[(&str, &str)], &str); 6] = [
        (b" ", &[], "is empty"),
        (b"[]", &[], "not a tokenizer.json"),
        (b"{\"version\": \"1.0\"", &[], "not a tokenizer.json"),
        (b"version https://git-lfs.github.com/spec/v1\n", &[], "git lfs pull"),
        (b"", &[], "download the model again"),
        (b"", &[("vocab.txt", "a")], "AutoTokenizer"),
    ];
    for (file, extra, words) in table {
        let message = load_with(file, extra, 12, None).unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
    }
    let side = [("tokenizer_config.json", r#"{"truncation_side": "middle"}"#)];
    let message =
        load_with(bert().to_string().as_bytes(), &side, 12, None).unwrap_err().to_string();
    assert!(message.contains("truncation_side"), "{message}");
    let message = load(&bert(), Some(2)).unwrap_err().to_string();
    assert!(message.contains("leaves no room for the text"), "{message}");
}

#[test]
fn invalid_truncation_settings_of_the_file_are_ignored() {
    let mut stride = bert();
    stride["truncation"]["stride"] = json!(5000);
    stride["truncation"]["max_length"] = json!(0);
    assert_eq!(ids(&load(&stride, Some(4)).unwrap(), "a b c d"), [2, 4, 5, 3]);
}
