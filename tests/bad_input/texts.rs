//! Tests unusual texts and options, on a real adapter if there is one.

use std::sync::{Arc, OnceLock};

use vectile::{AdapterChoice, EmbedOptions, Embedder, Embeddings, Error, OnTooLong, block_on};

use crate::Kind::Option as OptionKind;
use crate::support::{REQUIRE_ADAPTER, build, model_files, skip};
use crate::{check_error, within};

/// Returns one embedder for all tests. Without an adapter, returns `None` and says loudly that tests are skipped.
fn embedder() -> Option<Arc<Embedder>> {
    static SHARED: OnceLock<Option<Arc<Embedder>>> = OnceLock::new();
    let shared = SHARED.get_or_init(|| real("bert_mean_norm").map(Arc::new));
    if shared.is_none() {
        skip(REQUIRE_ADAPTER, "there is no GPU adapter");
    }
    shared.clone()
}

fn real(name: &str) -> Option<Embedder> {
    build(Embedder::builder(model_files(name)).adapter(AdapterChoice::Best))
}

fn embed_with(
    embedder: &Arc<Embedder>,
    texts: Vec<String>,
    options: EmbedOptions,
) -> Result<Embeddings, Error> {
    let (embedder, count) = (embedder.clone(), texts.len());
    let got = within(120, move || block_on(embedder.embed_with(&texts, &options)))?;
    assert_eq!(got.len(), count);
    for row in got.rows() {
        assert!(row.iter().all(|value| value.is_finite()));
        let length: f64 = row.iter().map(|v| f64::from(*v).powi(2)).sum();
        assert!(got.dim < 48 || (length - 1.0).abs() < 1e-4, "length {length}");
    }
    Ok(got)
}

/// Embeds the text between two others. All rows must be finite, and the text must not change its neighbours.
fn sound(text: &str) -> Option<Embeddings> {
    let embedder = embedder()?;
    let texts = ["First.", text, "Last."].map(str::to_owned).to_vec();
    let got = embed_with(&embedder, texts, EmbedOptions::default()).unwrap();
    let neighbours = vec!["First.".to_owned(), "Last.".to_owned()];
    let alone = embed_with(&embedder, neighbours, EmbedOptions::default()).unwrap();
    assert_eq!([got.row(0), got.row(2)], [alone.row(0), alone.row(1)]);
    Some(got)
}

/// Checks that two texts give bit-identical rows.
fn alike(texts: [&str; 2]) {
    let Some(embedder) = embedder() else { return };
    let got = embed_with(&embedder, texts.map(str::to_owned).into(), EmbedOptions::default());
    let got = got.unwrap();
    assert_eq!(got.row(0), got.row(1));
}

#[test]
fn text_empty() {
    sound("");
}

#[test]
fn text_of_spaces_is_as_the_empty_text() {
    sound(" \t\r\n\u{a0}\u{3000} ");
    alike(["", " \t\r\n\u{a0}\u{3000} "]);
}

#[test]
fn text_of_control_characters() {
    sound("\0\u{1}\u{7f}\u{9b}\u{200b}\u{200d}\u{2028}");
}

#[test]
fn nul_is_dropped() {
    alike(["one two", "one\0 two\0"]);
}

#[test]
fn replacement_characters_are_dropped() {
    alike(["one two", "one\u{fffd} two"]);
}

#[test]
fn byte_order_mark() {
    sound("\u{feff}one two");
}

#[test]
fn line_ends_of_windows_are_spaces() {
    alike(["one two three", "one\r\ntwo\r\n\r\nthree"]);
}

#[test]
fn ten_megabytes_in_one_line() {
    let got = sound(&"lorem ipsum dolor sit amet ".repeat(400_000));
    assert!(got.is_none_or(|got| got.truncated == [1]));
}

#[test]
fn ten_megabytes_without_a_space() {
    sound(&"abcdefghij".repeat(1_000_000));
}

#[test]
fn a_million_newlines() {
    sound(&"\n".repeat(1_000_000));
}

#[test]
fn one_character_a_million_times() {
    for character in ["a", "我", "🦀", "\u{301}", "[", "\u{200d}"] {
        sound(&character.repeat(1_000_000));
    }
}

#[test]
fn a_thousand_combining_marks() {
    sound(&format!("e{}", "\u{301}\u{323}".repeat(500)));
}

#[test]
fn special_tokens_in_the_text() {
    sound("[CLS] [SEP] [MASK] [PAD] [UNK] [PAD][PAD] [cls]");
    sound(&"[PAD]".repeat(1000));
    sound("[PAD]");
}

#[test]
fn nothing_known() {
    sound("ꙮ 𓀀 ☃ \u{e000} \u{10ffff}");
}

#[test]
fn right_to_left_and_joined() {
    sound("שלום עליכם مرحبا بالعالم 👩‍👩‍👧‍👦 🇫🇷 ﷽");
}

#[test]
fn composed_and_decomposed_are_alike_without_accents() {
    alike(["naïve café", "nai\u{308}ve cafe\u{301}"]);
}

#[test]
fn turkish_letters() {
    sound("İstanbul ıspanak IĞDIR ß ẞ ﬁ");
}

#[test]
fn base64() {
    sound(&"QWxhZGRpbjpvcGVuIHNlc2FtZQ".repeat(400));
}

#[test]
fn lengths_around_the_limit() {
    let Some(embedder) = embedder() else { return };
    let limit = embedder.max_seq_length().unwrap();
    // Each word is one token. Two special tokens are added to each text.
    let texts: Vec<String> = (limit - 4..limit + 2).map(|words| "a ".repeat(words)).collect();
    let got = embed_with(&embedder, texts, EmbedOptions::default()).unwrap();
    assert_eq!(got.truncated, [3, 4, 5]);
    assert_ne!(got.row(1), got.row(2));
    assert_eq!(got.row(2), got.row(5));
}

#[test]
fn duplicates_are_bit_identical() {
    let Some(embedder) = embedder() else { return };
    let mut texts = Vec::new();
    for i in 0..300 {
        texts.push("the same text again".to_owned());
        texts.push(format!("another text {}", "word ".repeat(i % 90)));
    }
    let got = embed_with(&embedder, texts, EmbedOptions::default()).unwrap();
    for i in 0..300 {
        assert_eq!(got.row(2 * i), got.row(0), "{i}");
    }
}

#[test]
fn no_texts() {
    let Some(embedder) = embedder() else { return };
    let got = embed_with(&embedder, vec![], EmbedOptions::default()).unwrap();
    assert!(got.is_empty() && got.truncated.is_empty());
    assert_eq!(got.dim, 48);
}

#[test]
fn prompt_longer_than_the_model_takes() {
    let Some(embedder) = embedder() else { return };
    let prompt = Some("word ".repeat(500));
    let options = EmbedOptions { prompt, ..EmbedOptions::default() };
    let texts = vec!["one".to_owned(), "two".to_owned()];
    let got = embed_with(&embedder, texts, options).unwrap();
    assert_eq!(got.truncated, [0, 1]);
    assert_eq!(got.row(0), got.row(1));
}

#[test]
fn prompt_left_out_of_pooling_and_longer_than_the_model_takes() {
    let Some(embedder) = real("bert_prompts") else { return };
    let options = EmbedOptions { prompt: Some("word ".repeat(500)), ..EmbedOptions::default() };
    let got = block_on(embedder.embed_with(&["one", ""], &options)).unwrap();
    assert!(got.values.iter().all(|value| value.is_finite()));
    assert_eq!(got.truncated, [0, 1]);
}

#[test]
fn prompt_and_no_text() {
    let Some(embedder) = real("bert_prompts") else { return };
    for prompt in ["query: ", " ", "[CLS]", "\0"] {
        let options = EmbedOptions { prompt: Some(prompt.to_owned()), ..EmbedOptions::default() };
        let got = block_on(embedder.embed_with(&["", "one"], &options)).unwrap();
        assert!(got.values.iter().all(|value| value.is_finite()), "{prompt:?}");
    }
}

fn refused(options: EmbedOptions, words: &[&str]) {
    let Some(embedder) = embedder() else { return };
    let error = embed_with(&embedder, vec!["one".to_owned()], options).unwrap_err();
    check_error(&error, OptionKind, words);
}

#[test]
fn prompt_name_unknown() {
    let prompt_name = Some("passage".to_owned());
    let options = EmbedOptions { prompt_name, ..EmbedOptions::default() };
    refused(options, &["prompt_name", "passage", "document, query"]);
}

#[test]
fn prompt_and_prompt_name() {
    let (prompt, prompt_name) = (Some("q: ".to_owned()), Some("query".to_owned()));
    let options = EmbedOptions { prompt, prompt_name, ..EmbedOptions::default() };
    refused(options, &["prompt_name", "give only one"]);
}

#[test]
fn truncate_dim_zero() {
    let options = EmbedOptions { truncate_dim: Some(0), ..EmbedOptions::default() };
    refused(options, &["truncate_dim", "0", "48"]);
}

#[test]
fn truncate_dim_beyond_the_vector() {
    let options = EmbedOptions { truncate_dim: Some(49), ..EmbedOptions::default() };
    refused(options, &["truncate_dim", "49", "48"]);
}

#[test]
fn truncate_dim_one() {
    let Some(embedder) = embedder() else { return };
    let options =
        EmbedOptions { truncate_dim: Some(1), normalize: true, ..EmbedOptions::default() };
    let got = embed_with(&embedder, vec!["one".to_owned()], options).unwrap();
    assert!((got.row(0)[0].abs() - 1.0).abs() < 1e-6);
}

#[test]
fn a_text_that_is_too_long_is_refused_by_its_index() {
    let Some(embedder) = embedder() else { return };
    let options = EmbedOptions { on_too_long: OnTooLong::Error, ..EmbedOptions::default() };
    let mut texts = vec!["short".to_owned(); 1500];
    texts[1234] = "a ".repeat(200);
    match embed_with(&embedder, texts, options) {
        Err(Error::TooLong { text: 1234, tokens: 202, limit: 130 }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_embedder_is_shared_between_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    fn sent<T: Send>(_: T) {}
    let Some(embedder) = embedder() else { return };
    shared(&*embedder);
    sent(embedder.embed(&["one"]));
    let alone = block_on(embedder.embed(&["one"])).unwrap();
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let embedder = embedder.clone();
            std::thread::spawn(move || block_on(embedder.embed(&["one", "two"])).unwrap())
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap().row(0), alone.row(0));
    }
}
