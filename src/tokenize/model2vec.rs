//! Applies the rules of model2vec: drops unknown tokens, and truncates texts to a number of characters.

use serde::Deserialize;
use tokenizers::ModelWrapper;

/// The field of a Unigram model that holds the id of the unknown token.
#[derive(Deserialize)]
pub(super) struct Unknown {
    unk_id: Option<u32>,
}

/// The rules of model2vec, with their values for one tokenizer.
#[derive(Debug)]
pub(super) struct Model2vec {
    /// The id of the unknown token, which is removed from all texts.
    pub unknown: Option<u32>,
    /// The maximum number of characters of a text: `max_length` times the median length of a token.
    pub characters: Option<usize>,
}

impl Model2vec {
    pub fn new(
        tokenizer: &tokenizers::Tokenizer,
        model: Option<&Unknown>,
        max_length: Option<usize>,
    ) -> Self {
        let named = |name: &str| tokenizer.token_to_id(name);
        let unknown = match tokenizer.get_model() {
            ModelWrapper::WordPiece(model) => named(&model.unk_token),
            ModelWrapper::WordLevel(model) => named(&model.unk_token),
            ModelWrapper::BPE(model) => model.unk_token.as_deref().and_then(named),
            ModelWrapper::Unigram(_) => model.and_then(|model| model.unk_id),
        };
        let characters = max_length.map(|length| length.saturating_mul(median_length(tokenizer)));
        Model2vec { unknown, characters }
    }

    /// Returns the text truncated to the maximum number of characters.
    pub fn cut<'a>(&self, text: &'a str) -> &'a str {
        let end = self.characters.and_then(|most| text.char_indices().nth(most));
        end.map_or(text, |(end, _)| &text[..end])
    }
}

/// Returns the median length, in characters, of all tokens of the vocabulary. For an even number of tokens, the median
/// is the mean of the two middle lengths, rounded down.
fn median_length(tokenizer: &tokenizers::Tokenizer) -> usize {
    let vocabulary = tokenizer.get_vocab(true);
    let mut lengths: Vec<usize> = vocabulary.keys().map(|token| token.chars().count()).collect();
    lengths.sort_unstable();
    let middle = |at: usize| lengths.get(at).copied().unwrap_or(0);
    let half = lengths.len() / 2;
    match lengths.len() % 2 {
        0 => (middle(half.saturating_sub(1)) + middle(half)) / 2,
        _ => middle(half),
    }
}
