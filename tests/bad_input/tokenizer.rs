//! Tests wrong and hostile contents of `tokenizer.json`. They have fields on which the tokenizers crate panics, ids
//! beyond the table, and inputs that are made to take too long.

use serde_json::{Value, json};
use vectile::block_on;

use crate::Kind::{Config, File, Tokenizer};
use crate::{Model, check_error, within};

const FILE: &str = "tokenizer.json";
const SETTINGS: &str = "tokenizer_config.json";

/// Returns the valid model with a changed tokenizer, without the settings that would replace its normalizer.
fn tokenizer(edit: impl FnOnce(&mut Value)) -> Model {
    let model = Model::good().edit(FILE, edit);
    model.set(SETTINGS, "tokenizer_class", "PreTrainedTokenizerFast")
}

fn raw(contents: impl AsRef<[u8]>) -> Model {
    Model::good().file(FILE, contents)
}

fn refused(edit: impl FnOnce(&mut Value), words: &[&str]) {
    tokenizer(edit).refused(Tokenizer, &[&[FILE], words].concat());
}

/// Returns the vocabulary of the valid tokenizer.
fn vocabulary(tokenizer: &mut Value) -> &mut serde_json::Map<String, Value> {
    tokenizer["model"]["vocab"].as_object_mut().unwrap()
}

#[test]
fn tokenizer_missing() {
    Model::good().without(FILE).refused(Tokenizer, &[FILE, "is missing", "download"]);
}

#[test]
fn tokenizer_missing_beside_vocab_txt() {
    Model::good()
        .without(FILE)
        .file("vocab.txt", "[PAD]\n[UNK]\n")
        .refused(Tokenizer, &[FILE, "vocab.txt", "AutoTokenizer", "save_pretrained"]);
}

#[test]
fn tokenizer_empty() {
    raw("").refused(Tokenizer, &[FILE, "is empty"]);
}

#[test]
fn tokenizer_an_array() {
    raw("[]").refused(Tokenizer, &[FILE, "not a tokenizer.json"]);
}

#[test]
fn tokenizer_an_empty_object() {
    raw("{}").refused(Tokenizer, &[FILE]);
}

#[test]
fn tokenizer_cut_short() {
    let good = Model::good();
    for cut in [1, 100, 5000, 11_900] {
        raw(&good.files[FILE][..cut]).refused(Tokenizer, &[FILE, "line"]);
    }
}

#[test]
fn tokenizer_a_git_lfs_pointer() {
    raw("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
        .refused(Tokenizer, &[FILE, "git lfs pull"]);
}

#[test]
fn tokenizer_a_byte_order_mark_loads() {
    let good = String::from_utf8(Model::good().files[FILE].clone()).unwrap();
    raw(format!("\u{feff}{good}")).loads();
}

#[test]
fn tokenizer_nested_deep() {
    raw("[".repeat(1_000_000)).refused(Tokenizer, &[FILE]);
    raw(format!("{{\"normalizer\":{}", "{\"a\":".repeat(100_000))).refused(Tokenizer, &[FILE]);
}

#[test]
fn tokenizer_above_64_megabytes() {
    raw(vec![b' '; 64_000_001]).refused(File, &[FILE, "at most 64000000"]);
}

/// Checks that the model loads. Only a text that uses the token must be refused, by its index.
fn refuses_only_texts_with(model: Model, token: &str, id: u32) {
    let embedder = model.build().unwrap_or_else(|error| panic!("{error}"));
    let notes = embedder.notes().join("\n");
    assert!(notes.contains("512 rows") && notes.contains(&id.to_string()), "{notes}");
    let error = block_on(embedder.embed(&["One text.", token])).unwrap_err();
    check_error(&error, Tokenizer, &[FILE, "text 1", token, &id.to_string(), "512 rows"]);
}

#[test]
fn id_of_the_largest_u32() {
    let model = tokenizer(|t| drop(vocabulary(t).insert("q".into(), json!(u32::MAX))));
    refuses_only_texts_with(model, "q", u32::MAX);
}

#[test]
fn id_beyond_u32() {
    refused(|t| drop(vocabulary(t).insert("##q".into(), json!(4_294_967_296u64))), &["line"]);
}

#[test]
fn id_negative() {
    refused(|t| drop(vocabulary(t).insert("##q".into(), json!(-1))), &[]);
}

#[test]
fn more_tokens_than_the_table_has_rows() {
    let model = tokenizer(|t| {
        (512..600).for_each(|i| drop(vocabulary(t).insert(format!("new{i}"), json!(i))));
    });
    let notes = model.loads().notes().join("\n");
    assert!(notes.contains("88 of 600 tokens"), "{notes}");
    refuses_only_texts_with(model, "new599", 599);
}

#[test]
fn fewer_tokens_than_the_table_has_rows_loads() {
    let model = tokenizer(|t| vocabulary(t).retain(|_, id| id.as_u64() < Some(400)));
    assert_eq!(block_on(model.loads().inspect()).vocabulary, [400, 512]);
}

#[test]
fn vocabulary_empty() {
    tokenizer(|t| {
        vocabulary(t).clear();
        t["added_tokens"] = json!([]);
    })
    .refused(Tokenizer, &[FILE]);
}

fn added(id: u32, content: &str) -> Value {
    json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
           "normalized": false, "special": true})
}

fn push_added(tokenizer: &mut Value, token: Value) {
    tokenizer["added_tokens"].as_array_mut().unwrap().push(token);
}

#[test]
fn added_token_beyond_the_rows() {
    // See huggingface/sentence-transformers#1150. The table was not resized for an added token.
    refuses_only_texts_with(tokenizer(|t| push_added(t, added(512, "<new>"))), "<new>", 512);
}

#[test]
fn added_token_far_beyond_the_rows() {
    let model = tokenizer(|t| push_added(t, added(4_000_000_000, "<new>")));
    // The tokenizers crate gives the token the next free id.
    refuses_only_texts_with(model, "<new>", 512);
}

#[test]
fn added_token_twice_loads() {
    tokenizer(|t| push_added(t, added(4, "[MASK]"))).loads();
}

#[test]
fn added_token_empty() {
    // The tokenizers crate decides whether an empty token is valid. It must not hang or panic.
    if let Ok(embedder) = tokenizer(|t| push_added(t, added(4, ""))).build() {
        crate::embeds(embedder);
    }
}

#[test]
fn a_hundred_thousand_added_tokens() {
    refused(
        |t| {
            let many = (0..100_001).map(|i| added(i, &format!("<{i}>"))).collect();
            t["added_tokens"] = Value::Array(many);
        },
        &["100001 added tokens", "at most"],
    );
}

fn byte_pairs(merges: Value) -> Value {
    json!({"type": "BPE", "vocab": {"a": 5, "b": 6, "ab": 7}, "merges": merges, "unk_token": null,
           "dropout": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
           "fuse_unk": false, "byte_fallback": false, "ignore_merges": false})
}

#[test]
fn merges_longer_than_any_token() {
    refused(|t| t["model"] = byte_pairs(json!(["ab abababab"])), &["cannot be loaded"]);
}

#[test]
fn merges_that_make_no_token() {
    refused(|t| t["model"] = byte_pairs(json!(["b a"])), &["cannot be loaded"]);
}

#[test]
fn merges_without_a_space() {
    refused(|t| t["model"] = byte_pairs(json!(["ab"])), &["cannot be loaded"]);
}

#[test]
fn merges_overrun_by_the_subword_prefix() {
    refused(
        |t| {
            t["model"] = byte_pairs(json!(["a b"]));
            t["model"]["continuing_subword_prefix"] = json!("##########");
        },
        &["cannot be loaded"],
    );
}

#[test]
fn precompiled_map_of_garbage() {
    let map = json!({"type": "Precompiled", "precompiled_charsmap": "AAECAwQFBgcICQ=="});
    refused(|t| t["normalizer"] = map, &["cannot be loaded"]);
}

#[test]
fn pieces_of_length_zero() {
    refused(|t| t["pre_tokenizer"] = json!({"type": "FixedLength", "length": 0}), &[]);
}

#[test]
fn template_with_an_unknown_token() {
    refused(
        |t| t["post_processor"]["single"][0]["SpecialToken"]["id"] = json!("[NOPE]"),
        &["contradict each other", "published"],
    );
}

#[test]
fn template_with_an_id_beyond_the_table() {
    refused(
        |t| t["post_processor"]["special_tokens"]["[CLS]"]["ids"] = json!([99_999]),
        &["99999", "512 rows"],
    );
}

#[test]
fn template_that_adds_a_million_tokens() {
    refused(
        |t| t["post_processor"]["special_tokens"]["[CLS]"]["ids"] = json!(vec![2; 1_000_000]),
        &["1000001 special tokens", "truncated to 130"],
    );
}

#[test]
fn template_without_the_text() {
    let model =
        tokenizer(|t| drop(t["post_processor"]["single"].as_array_mut().unwrap().remove(1)));
    model.refused(Tokenizer, &[FILE]);
}

#[test]
fn template_with_an_unknown_token_type() {
    // The text itself has type 7, but the model has only the types 0 and 1.
    refused(|t| t["post_processor"]["single"][1]["Sequence"]["type_id"] = json!(7), &["7", "2"]);
}

#[test]
fn truncation_with_a_stride_beyond_its_length_is_overridden() {
    let truncation = json!({"max_length": 4, "stride": 9, "strategy": "LongestFirst",
                            "direction": "Right"});
    let embedder = tokenizer(|t| t["truncation"] = truncation).loads();
    let ids = embedder.tokenize(&["a b c d e f g h"], &Default::default()).unwrap();
    assert!(ids[0].len() > 8, "{ids:?}");
}

#[test]
fn padding_to_twenty_million_is_overridden() {
    let padding = json!({"strategy": {"Fixed": 20_000_000}, "direction": "Right", "pad_id": 0,
                         "pad_to_multiple_of": null, "pad_type_id": 0, "pad_token": "[PAD]"});
    let embedder = tokenizer(|t| t["padding"] = padding).loads();
    let ids = embedder.tokenize(&["a b"], &Default::default()).unwrap();
    assert!(ids[0].len() < 10, "{ids:?}");
}

/// Patterns on which a backtracking engine takes exponential time for the text `aaaa…!`.
const BOMBS: [&str; 3] = ["(a+)+$", "(a|aa)+\\1$", "(?=(a+)+$)(a*)*b"];

#[test]
fn normalizer_with_a_regex_bomb() {
    for pattern in BOMBS {
        let bomb = json!({"type": "Replace", "pattern": {"Regex": pattern}, "content": "x"});
        hostile_text(&tokenizer(|t| t["normalizer"] = bomb));
    }
}

#[test]
fn pre_tokenizer_with_a_regex_bomb() {
    for pattern in BOMBS {
        let bomb = json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated",
                          "invert": false});
        hostile_text(&tokenizer(|t| t["pre_tokenizer"] = bomb));
    }
}

/// Checks that the model is refused, or that the text gives an error or a result in time.
fn hostile_text(model: &Model) {
    match model.build() {
        Err(error) => check_error(&error, Tokenizer, &[FILE]),
        Ok(embedder) => within(20, move || {
            for text in ["a".repeat(60) + "!", "a".repeat(5000) + "!"] {
                if let Err(error) = block_on(embedder.embed(&[text])) {
                    check_error(&error, Tokenizer, &[FILE]);
                }
            }
        }),
    }
}

#[test]
fn regex_that_does_not_parse() {
    let broken = json!({"type": "Replace", "pattern": {"Regex": "(a"}, "content": "x"});
    refused(|t| t["normalizer"] = broken, &[]);
}

#[test]
fn replacement_that_multiplies_the_text() {
    // Seven steps that each write eight letters for one make two million letters from one letter.
    let step = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aaaaaaaa"});
    let steps = json!({"type": "Sequence", "normalizers": vec![step; 7]});
    refused(|t| t["normalizer"] = steps, &["normalizer", "2097152 times"]);
}

#[test]
fn unknown_token_that_does_not_exist() {
    refused(|t| t["model"]["unk_token"] = json!("[NOPE]"), &["UNK"]);
}

#[test]
fn model_unknown() {
    refused(|t| t["model"]["type"] = json!("Magic"), &["cannot be loaded"]);
}

#[test]
fn unigram_with_an_unknown_id_beyond_its_pieces() {
    refused(
        |t| t["model"] = json!({"type": "Unigram", "unk_id": 9, "vocab": [["a", -1.0]]}),
        &["cannot be loaded"],
    );
}

#[test]
fn unigram_without_an_unknown_piece() {
    refused(
        |t| t["model"] = json!({"type": "Unigram", "unk_id": null, "vocab": [["a", -1.0]]}),
        &[],
    );
}

#[test]
fn words_of_length_zero_load() {
    tokenizer(|t| t["model"]["max_input_chars_per_word"] = json!(0)).loads();
}

#[test]
fn no_post_processor_refuses_the_empty_text_by_its_index() {
    let embedder = tokenizer(|t| t["post_processor"] = Value::Null).build().unwrap();
    let error = block_on(embedder.embed(&["a", ""])).unwrap_err();
    check_error(&error, crate::Kind::Option, &["text 1", "no tokens"]);
}

#[test]
fn truncation_side_unknown() {
    Model::good()
        .set(SETTINGS, "truncation_side", "up")
        .refused(crate::Kind::Unsupported, &[SETTINGS, "truncation_side", "up", "left and right"]);
}

#[test]
fn lower_case_a_string() {
    Model::good()
        .set(SETTINGS, "do_lower_case", "yes")
        .refused(Config, &[SETTINGS, "do_lower_case", "true or false"]);
}

#[test]
fn pad_token_that_does_not_exist_loads() {
    Model::good().set(SETTINGS, "pad_token", "[NOPE]").loads();
}

#[test]
fn settings_empty() {
    Model::good().file(SETTINGS, "").refused(File, &[SETTINGS, "is empty"]);
}
