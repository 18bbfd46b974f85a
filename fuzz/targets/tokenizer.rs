//! The target `tokenizer`: loads `tokenizer.json` and `tokenizer_config.json`, and tokenizes texts.

use std::sync::OnceLock;

use arbitrary::{Result, Unstructured};
use serde_json::{Value, json};

use super::edits;
use crate::config::ModelConfig;
use crate::files::ModelFiles;
use crate::tokenize::{Tokenizer, Tokens};

/// The number of rows of the embedding table. Some token ids of the small tokenizers have no row in it.
const ROWS: usize = 40;

/// The number of positions of the model.
const POSITIONS: usize = 24;

/// The longest text that a test input may contain, in bytes.
const MOST_TEXT: usize = 400;

/// Test texts. In one of the small tokenizers, the last text has a token without a row in the embedding table.
const TEXTS: [&str; 5] = [
    "",
    "a b ab[MASK]\u{301}\u{1f469}\u{200d} 1,2",
    "the un##ab a\0b\r\n",
    "日本語 abababababababab",
    "a beyond b",
];

const FIELDS: [&str; 44] = [
    "type",
    "vocab",
    "merges",
    "unk_token",
    "unk_id",
    "byte_fallback",
    "dropout",
    "ignore_merges",
    "continuing_subword_prefix",
    "end_of_word_suffix",
    "fuse_unk",
    "max_input_chars_per_word",
    "normalizers",
    "pretokenizers",
    "processors",
    "decoders",
    "pattern",
    "content",
    "String",
    "Regex",
    "behavior",
    "invert",
    "add_prefix_space",
    "trim_offsets",
    "use_regex",
    "prepend_scheme",
    "replacement",
    "split",
    "individual_digits",
    "precompiled_charsmap",
    "lowercase",
    "strip_accents",
    "single",
    "pair",
    "special_tokens",
    "ids",
    "tokens",
    "SpecialToken",
    "Sequence",
    "type_id",
    "truncation",
    "padding",
    "max_length",
    "stride",
];

/// Returns a small tokenizer of each kind.
fn bases() -> &'static [Value] {
    static BASES: OnceLock<Vec<Value>> = OnceLock::new();
    BASES.get_or_init(|| {
        let files = [
            include_str!("../bases/word_piece.json"),
            include_str!("../bases/bpe.json"),
            include_str!("../bases/byte_bpe.json"),
            include_str!("../bases/unigram.json"),
            include_str!("../bases/word_level.json"),
        ];
        files.map(|file| serde_json::from_str(file).expect("a base is JSON")).into()
    })
}

/// The target `tokenizer`. If the first byte is even, the bytes after the second are `tokenizer.json`. Otherwise the
/// second byte chooses a small tokenizer, and the other bytes choose mistakes in it and a text. If the second byte is
/// at least 128, texts have a prompt.
pub fn tokenizer(data: &[u8]) {
    let Some((&[mode, base], data)) = data.split_first_chunk() else { return };
    let (file, settings, text) = match mode % 2 {
        0 => (data.to_vec(), json!({}), String::new()),
        _ => {
            let base = &bases()[usize::from(base) % bases().len()];
            edited(&mut Unstructured::new(data), base)
                .unwrap_or_else(|_| (base.to_string().into_bytes(), json!({}), String::new()))
        }
    };
    let files = ModelFiles::from_bytes([
        ("config.json".to_owned(), br#"{"model_type": "bert", "hidden_size": 8}"#.to_vec()),
        ("tokenizer.json".to_owned(), file),
        ("tokenizer_config.json".to_owned(), settings.to_string().into_bytes()),
    ]);
    let files = files.expect("the names are valid");
    let Ok(config) = ModelConfig::load(&files) else { return };
    let Ok(tokenizer) = Tokenizer::load(&files, &config, ROWS, Some(POSITIONS), None) else {
        return;
    };
    let limit = tokenizer.limit().expect("the model has positions");
    assert!(limit <= POSITIONS, "texts of {limit} tokens have no positions");
    let texts: Vec<&str> = TEXTS.iter().copied().chain([&*text]).collect();
    let prompt = (base >= 128).then_some("a: ");
    let together = tokenizer.encode_batch_within(prompt, &texts, tokenizer.limit());
    let pairs = tokenizer.check_pairs().is_ok();
    for (text, again) in texts.iter().zip(&together) {
        let tokens = tokenizer.encode(prompt, text);
        check(&tokens, limit, text);
        assert_eq!(tokens.ok().as_ref(), again.as_ref().ok(), "{text:?} in a batch");
        check(&tokenizer.encode_bare(text), limit, text);
        if pairs {
            check(&tokenizer.encode_pair("", text, "a b"), limit, text);
        }
    }
}

/// Checks that each token of a text has a row in the embedding table, and that the text fits into the positions.
fn check(tokens: &std::result::Result<Tokens, crate::Error>, limit: usize, text: &str) {
    let tokens = match tokens {
        Ok(tokens) => tokens,
        Err(error) => {
            let message = error.to_string();
            assert!(message.contains("tokenizer.json"), "{message} names no file");
            assert!(!message.contains(char::is_control), "control characters in {message:?}");
            return;
        }
    };
    let length = tokens.ids.len();
    assert!(length <= limit, "{text:?} has {length} tokens, and the limit is {limit}");
    assert!(tokens.ids.iter().all(|id| (*id as usize) < ROWS), "{text:?}: {:?}", tokens.ids);
    assert_eq!(tokens.type_ids.len(), length, "{text:?}");
    assert!(tokens.untruncated >= length, "{text:?}: {tokens:?}");
    assert!(tokens.seen <= length, "{text:?}: {tokens:?}");
}

fn edited(u: &mut Unstructured, base: &Value) -> Result<(Vec<u8>, Value, String)> {
    let mut value = base.clone();
    if u.ratio(1, 4)? {
        // A part of another tokenizer.
        let part =
            *u.choose(&["normalizer", "pre_tokenizer", "post_processor", "model", "truncation"])?;
        value[part] = u.choose(bases())?[part].clone();
    }
    edits::edit(u, &mut value, &FIELDS)?;
    if let Some(vocabulary) = value.pointer_mut("/model/vocab").and_then(Value::as_object_mut)
        && u.ratio(1, 4)?
    {
        // The id of a token of the test texts.
        vocabulary.insert((*u.choose(&["a", "b", "ab", "the"])?).to_owned(), edits::hostile(u)?);
    }
    let mut settings = json!({});
    if u.ratio(1, 4)? {
        settings = json!({"tokenizer_class": "BertTokenizer", "model_max_length": 512,
            "do_lower_case": true, "mask_token": "[MASK]", "truncation_side": "left", "add_eos_token": true});
        edits::edit(
            u,
            &mut settings,
            &["pad_token", "tokenize_chinese_chars", "legacy", "padding_side"],
        )?;
    }
    let file = edits::text(u, &value)?;
    let text = String::from_utf8_lossy(u.bytes(u.len())?).into_owned();
    let end = text.floor_char_boundary(MOST_TEXT);
    Ok((file, settings, text[..end].to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tokenizers_that_the_target_changes_are_accepted() {
        for base in bases() {
            let files = ModelFiles::from_bytes([
                ("config.json".to_owned(), br#"{"model_type": "bert", "hidden_size": 8}"#.to_vec()),
                ("tokenizer.json".to_owned(), base.to_string().into_bytes()),
            ])
            .unwrap();
            let config = ModelConfig::load(&files).unwrap();
            let tokenizer = Tokenizer::load(&files, &config, ROWS, Some(POSITIONS), None);
            let tokens = tokenizer.unwrap().encode(None, "ab a").unwrap();
            assert!(tokens.ids.len() > 2, "{tokens:?}");
        }
    }
}
