//! Provides the texts of a bench: built-in passages, and texts of a given length that are made of a corpus's words.

use crate::embedder::{EmbedOptions, Embedder};
use crate::error::Error;

/// Short passages on everyday topics, one per line.
const BUILT_IN: &str = include_str!("../../../examples/collection.txt");

/// Returns the built-in texts, which are used if the user gives no texts.
pub(super) fn built_in() -> Vec<String> {
    BUILT_IN.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
}

/// Returns `count` texts of `tokens` tokens each, including special tokens. Texts consist of whole words, so a text may
/// have slightly fewer tokens. Each text consists of consecutive words of `corpus`, and the texts start at different
/// words.
pub(super) fn of_length(
    embedder: &Embedder,
    corpus: &[String],
    tokens: usize,
    count: usize,
) -> Result<Vec<String>, Error> {
    let words: Vec<&str> = corpus.iter().flat_map(|text| text.split_whitespace()).collect();
    if words.is_empty() {
        return Err(Error::option(
            "texts",
            "the texts have no words; give texts with at least one word",
        ));
    }
    // The stride 7919 is prime, so texts start at different words until a text has started at each word. The exception
    // is a number of words that is a multiple of 7919.
    let start = |text: usize| text * 7919 % words.len();
    let run = |start: usize, n: usize| {
        let run: Vec<&str> = words.iter().cycle().skip(start).take(n).copied().collect();
        run.join(" ")
    };
    // At most 256 texts are distinct, because making a text takes time. Further texts are copies of these texts.
    let distinct = count.min(words.len()).min(256);
    let mut texts = Vec::with_capacity(count);
    for text in 0..distinct {
        let start = start(text);
        // This bisection finds the maximum number of words that fit. At most `tokens` words fit, because each word has
        // at least one token.
        let (mut fits, mut too_many) = (1, tokens + 1);
        while too_many - fits > 1 {
            let middle = (fits + too_many) / 2;
            match length(embedder, &run(start, middle))? <= tokens {
                true => fits = middle,
                false => too_many = middle,
            }
        }
        texts.push(run(start, fits));
    }
    for text in distinct..count {
        texts.push(texts[text % distinct].clone());
    }
    Ok(texts)
}

/// Returns the number of tokens of a text before truncation. With this number, the bench avoids texts that the model
/// would truncate.
fn length(embedder: &Embedder, text: &str) -> Result<usize, Error> {
    embedder.untruncated_length(text, &EmbedOptions::default())
}
