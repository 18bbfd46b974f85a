//! The texts of a bench: as the user gives them, or of a wanted length, made of real sentences.

use crate::embedder::{EmbedOptions, Embedder};
use crate::error::Error;

/// Short passages on everyday matters, a line each.
const BUILT_IN: &str = include_str!("../../../examples/collection.txt");

/// The texts to measure with where the user gives none.
pub(super) fn built_in() -> Vec<String> {
    BUILT_IN.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
}

/// `count` texts of `tokens` tokens each, special tokens included, or as near below as words allow: runs of the
/// words of `corpus`, each beginning elsewhere.
pub(super) fn of_length(
    embedder: &Embedder,
    corpus: &[String],
    tokens: usize,
    count: usize,
) -> Result<Vec<String>, Error> {
    let words: Vec<&str> = corpus.iter().flat_map(|text| text.split_whitespace()).collect();
    if words.is_empty() {
        return Err(Error::option("texts", "have no words to make texts of"));
    }
    // A stride that meets every word before it comes back, unless the corpus is a multiple of it.
    let start = |text: usize| text * 7919 % words.len();
    let run = |start: usize, n: usize| {
        let run: Vec<&str> = words.iter().cycle().skip(start).take(n).copied().collect();
        run.join(" ")
    };
    // Texts that repeat would only repeat what the tokenizer does.
    let distinct = count.min(words.len()).min(256);
    let mut texts = Vec::with_capacity(count);
    for text in 0..distinct {
        let start = start(text);
        // The most words that fit: each has at least a token, so the answer is within.
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

/// Tokens of a text before it is cut: a bench must not measure texts that were.
fn length(embedder: &Embedder, text: &str) -> Result<usize, Error> {
    embedder.untruncated_length(text, &EmbedOptions::default())
}
