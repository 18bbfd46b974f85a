//! Describes the tokens of a text: their names in the vocabulary and their positions in the text.

use tokenizers::{Encoding, PostProcessor, Token, TruncationDirection};

use super::Tokenizer;
use crate::error::Error;

/// A token of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub id: u32,
    /// The token's text in the vocabulary.
    pub token: String,
    /// True if the post-processor added the token.
    pub special: bool,
    /// The token's byte range in the text, as start and end.
    pub bytes: (usize, usize),
}

impl Tokenizer {
    /// Returns the number of rows of the embedding table.
    pub fn rows(&self) -> usize {
        self.table_rows
    }

    /// Returns true if texts are truncated at their beginning, and false if they are truncated at their end.
    pub fn truncates_left(&self) -> bool {
        self.side == TruncationDirection::Left
    }

    /// Returns true if a chat template renders pairs, so that a single text cannot be tokenized for the model.
    pub fn has_chat_template(&self) -> bool {
        self.chat.is_some()
    }

    /// Returns the text that token ids stand for.
    ///
    /// # Errors
    /// Returns [`Error::Tokenizer`] if the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String, Error> {
        self.guard(|| self.inner.decode(ids, skip_special_tokens))
    }

    /// Returns all tokens of a text, without truncation. `text` includes the prompt. If `special` is true, the result
    /// includes the special tokens that the post-processor adds.
    pub fn describe(&self, text: &str, special: bool) -> Result<Vec<Piece>, Error> {
        let whole = self.model2vec.as_ref().map_or(text, |rules| rules.cut(text));
        let unknown = self.model2vec.as_ref().and_then(|rules| rules.unknown);
        let mut tokens = Vec::new();
        let mut add = |piece: &str, first: usize| {
            let encoding = self.guard(|| self.inner.encode(piece, false))?;
            let each = encoding.get_ids().iter().zip(encoding.get_tokens());
            for ((id, token), (start, end)) in each.zip(encoding.get_offsets()) {
                if Some(*id) != unknown {
                    tokens.push(Token::new(*id, token.clone(), (first + start, first + end)));
                }
            }
            Ok::<(), Error>(())
        };
        let mut rest = whole;
        while let Some((piece, after)) = self.cut(rest) {
            add(piece, whole.len() - rest.len())?;
            rest = after;
        }
        add(rest, whole.len() - rest.len())?;
        let encoding = Encoding::from_tokens(tokens, 0);
        let encoding = match &self.post_processor {
            Some(processor) if special => self.guard(|| processor.process(encoding, None, true))?,
            _ => encoding,
        };
        let (ids, names) = (encoding.get_ids(), encoding.get_tokens());
        let (special, bytes) = (encoding.get_special_tokens_mask(), encoding.get_offsets());
        let pieces = (0..ids.len()).map(|at| Piece {
            id: ids[at],
            token: names[at].clone(),
            special: special[at] == 1,
            bytes: bytes[at],
        });
        Ok(pieces.collect())
    }
}
