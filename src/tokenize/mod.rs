//! Turns a prompt and a text into token ids. No other module truncates texts.

mod batch;
mod chat;
#[cfg(feature = "server")]
mod describe;
mod growth;
mod load;
mod missing;
mod model2vec;
mod outline;
mod pair;
mod query_document;
mod roles;
mod transformers;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use tokenizers::{Encoding, PostProcessor, PostProcessorWrapper, Token, TruncationDirection};

use crate::config::Answers;
use crate::error::Error;
use chat::Chat;
#[cfg(feature = "server")]
pub(crate) use describe::Piece;
use model2vec::Model2vec;
pub(crate) use query_document::QueryPadding;
pub use transformers::TransformersVersion;

/// If the tokenizer allows it, texts of more bytes than this are tokenized in pieces, cut between words. The ids stay
/// the same, and the length of a piece limits the memory.
const PIECE: usize = 64 * 1024;

/// The tokenizer of a model. It truncates to [`Tokenizer::limit`] and never pads.
///
/// Like transformers, it ignores the truncation and padding that `tokenizer.json` contains, because they come from
/// the tokenizer's training.
#[derive(Debug)]
pub(crate) struct Tokenizer {
    /// The tokenizer without post-processor, truncation and padding.
    inner: tokenizers::Tokenizer,
    /// The post-processor, which adds the special tokens after truncation.
    post_processor: Option<PostProcessorWrapper>,
    /// The number of special tokens that `post_processor` adds to one text.
    added: usize,
    limit: Option<usize>,
    side: TruncationDirection,
    /// The number of positions of the transformer.
    positions: Option<usize>,
    /// Ids of tokens by role. The keys are the roles' fields in `tokenizer_config.json`.
    roles: BTreeMap<String, u32>,
    /// True if padding is added at the start of a text.
    pads_left: bool,
    /// The rules of model2vec, if the model is a model2vec model.
    model2vec: Option<Model2vec>,
    /// Tokens that count as special at the end of a prompt.
    special_ids: HashSet<u32>,
    /// The number of rows of the embedding table. Every id must be below it.
    table_rows: usize,
    /// True if a text may be cut between words without a change of its tokens.
    cuts_at_spaces: bool,
    /// True if the token types of pairs come from the post-processor. Otherwise all types are 0.
    gives_types: bool,
    /// The chat template that renders pairs, if there is one. With it, the post-processor adds nothing.
    chat: Option<Chat>,
    /// A token that is removed from the end of pairs, if there is one.
    passed_over: Option<u32>,
    /// Assumptions and limits to be shown at load.
    notes: Vec<String>,
    /// The name of the tokenizer's file, for messages.
    file: String,
}

/// The tokens of one text. `ids` is empty only if the text has no tokens and the tokenizer adds no special tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub ids: Vec<u32>,
    pub type_ids: Vec<u32>,
    /// The number of prompt tokens that pooling leaves out if `include_prompt` is false. A special token at the start
    /// is counted, but one at the end is not. The number may exceed `ids.len()`.
    pub prompt_len: usize,
    /// The exact length before truncation, special tokens included.
    pub untruncated: usize,
    /// The number of leading tokens to which the other tokens attend.
    pub seen: usize,
}

impl Tokenizer {
    /// Returns the maximum number of tokens of a text, special tokens included.
    pub fn limit(&self) -> Option<usize> {
        self.limit
    }

    /// Returns the size of the vocabulary, added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Returns a token's text in the vocabulary.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Returns the ids of the tokens with which a language model answers a pair.
    pub fn answers(&self, answers: Answers) -> Result<Vec<usize>, Error> {
        let word = |word: &str| match self.inner.token_to_id(word) {
            Some(id) => Ok(id as usize),
            None => {
                let problem = format!(
                    "has no token `{word}`, and a language model without modules is scored by the logits of `yes` and `no`; give the model a modules.json with a LogitScore that names its tokens"
                );
                Err(Error::tokenizer(&self.file, problem))
            }
        };
        Ok(match answers {
            Answers::YesNo => vec![word("yes")?, word("no")?],
            Answers::Ids(ids) => ids.to_vec(),
            Answers::Id(id) => vec![id],
        })
    }

    /// Encodes `prompt` followed directly by `text`.
    pub fn encode(&self, prompt: Option<&str>, text: &str) -> Result<Tokens, Error> {
        let prompt = prompt.unwrap_or_default();
        self.encode_after(prompt, self.prompt_len(prompt)?, text, self.limit)
    }

    fn encode_after(
        &self,
        prompt: &str,
        prompt_len: usize,
        text: &str,
        limit: Option<usize>,
    ) -> Result<Tokens, Error> {
        if prompt.is_empty() {
            return self.encode_whole(text, prompt_len, limit);
        }
        self.encode_whole(&format!("{prompt}{text}"), prompt_len, limit)
    }

    /// Returns the prompt's length by sentence-transformers' rule. It is the number of tokens of the prompt alone,
    /// minus one if the last of them is special.
    fn prompt_len(&self, prompt: &str) -> Result<usize, Error> {
        if prompt.is_empty() {
            return Ok(0);
        }
        let ids = self.encode_whole(prompt, 0, self.limit)?.ids;
        let trailing = ids.last().is_some_and(|id| self.special_ids.contains(id));
        Ok(ids.len() - usize::from(trailing))
    }

    /// Returns assumptions and limits to be shown at load.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    fn encode_whole(
        &self,
        text: &str,
        prompt_len: usize,
        limit: Option<usize>,
    ) -> Result<Tokens, Error> {
        let tokens = Tokens { prompt_len, ..self.encode_unchecked(text, limit)? };
        self.check_rows(&tokens.ids)?;
        Ok(tokens)
    }

    /// Encodes a text without checking that its ids are rows of the table.
    fn encode_unchecked(&self, text: &str, limit: Option<usize>) -> Result<Tokens, Error> {
        let whole = self.guard(|| self.content(text))?;
        let content = match self.model2vec.as_ref().map(|rules| rules.cut(text)) {
            Some(cut) if cut.len() < text.len() => &self.guard(|| self.content(cut))?,
            _ => &whole,
        };
        let room = limit.map_or(usize::MAX, |limit| limit.saturating_sub(self.added));
        let over = content.len().saturating_sub(room);
        let kept = match self.side {
            TruncationDirection::Right => &content[..content.len() - over],
            TruncationDirection::Left => &content[over..],
        };
        let lost = whole.len().saturating_sub(kept.len());
        let kept = self.known(kept);
        let encoding = self.guard(|| self.add_special_tokens(&kept))?;
        let tokens = Tokens {
            ids: encoding.get_ids().to_vec(),
            type_ids: encoding.get_type_ids().to_vec(),
            prompt_len: 0,
            untruncated: kept.len() + self.added + lost,
            seen: encoding.len(),
        };
        self.check_count(&tokens, kept.len() + self.added)?;
        Ok(tokens)
    }

    /// Encodes a text without adding special tokens, and without leaving room for them.
    pub fn encode_bare(&self, text: &str) -> Result<Tokens, Error> {
        let content = self.guard(|| self.content(text))?;
        let over = content.len().saturating_sub(self.limit.unwrap_or(usize::MAX));
        let ids = match self.side {
            TruncationDirection::Right => content[..content.len() - over].to_vec(),
            TruncationDirection::Left => content[over..].to_vec(),
        };
        let (type_ids, seen) = (vec![0; ids.len()], ids.len());
        let tokens = Tokens { ids, type_ids, prompt_len: 0, untruncated: content.len(), seen };
        self.check(&tokens, seen)?;
        Ok(tokens)
    }

    /// Removes the tokens that model2vec drops.
    fn known<'a>(&self, ids: &'a [u32]) -> Cow<'a, [u32]> {
        match self.model2vec.as_ref().and_then(|rules| rules.unknown) {
            Some(unknown) => ids.iter().copied().filter(|id| *id != unknown).collect(),
            None => Cow::Borrowed(ids),
        }
    }

    /// Returns all ids of the text itself, without special tokens and without truncation.
    fn content(&self, text: &str) -> tokenizers::Result<Vec<u32>> {
        let mut ids = Vec::new();
        let mut rest = text;
        while let Some((piece, after)) = self.cut(rest) {
            ids.extend_from_slice(self.inner.encode_fast(piece, false)?.get_ids());
            rest = after;
        }
        ids.extend_from_slice(self.inner.encode_fast(rest, false)?.get_ids());
        Ok(ids)
    }

    /// Splits a long text into its first piece and the rest. The cut is before a space.
    fn cut<'a>(&self, text: &'a str) -> Option<(&'a str, &'a str)> {
        if !self.cuts_at_spaces || text.len() <= PIECE {
            return None;
        }
        let is_space = |byte: &u8| matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
        // Every byte of ASCII is a whole character, so `at` is a character boundary.
        let at = PIECE + text.as_bytes()[PIECE..].iter().position(is_space)?;
        Some(text.split_at(at))
    }

    /// Adds special tokens to ids. Token strings and offsets are not needed, so they are left empty.
    fn add_special_tokens(&self, ids: &[u32]) -> tokenizers::Result<Encoding> {
        let tokens = ids.iter().map(|&id| Token::new(id, String::new(), (0, 0))).collect();
        let encoding = Encoding::from_tokens(tokens, 0);
        match &self.post_processor {
            Some(processor) => processor.process(encoding, None, true),
            None => Ok(encoding),
        }
    }

    /// Refuses ids beyond the table, because a GPU would read a wrong row for them without an error.
    fn check_rows(&self, ids: &[u32]) -> Result<(), Error> {
        let Some(id) = ids.iter().find(|&&id| id as usize >= self.table_rows) else {
            return Ok(());
        };
        let token = self.token(*id).unwrap_or_default();
        let token: String = token.chars().take(60).collect();
        let problem = format!(
            "the text has the token {token:?} with id {id}, but the embedding table has {} rows; leave that token out of the text, or use the tokenizer and the weights of one model",
            self.table_rows
        );
        Err(Error::tokenizer(&self.file, problem))
    }

    /// Refuses a post-processor that adds another number of tokens than it declares.
    fn check_count(&self, tokens: &Tokens, expected: usize) -> Result<(), Error> {
        if tokens.ids.len() != expected {
            let problem = "its post-processor drops the text, or adds a number of tokens that differs from what it declares; use the tokenizer.json the model was published with";
            return Err(Error::tokenizer(&self.file, problem));
        }
        Ok(())
    }

    fn check(&self, tokens: &Tokens, expected: usize) -> Result<(), Error> {
        self.check_rows(&tokens.ids)?;
        self.check_count(tokens, expected)
    }

    /// Runs code of the tokenizers crate and turns a panic into an error, because some files make that crate panic.
    /// The program's panic hook still runs. If panics abort the program, this function cannot prevent it.
    fn guard<T>(&self, run: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, Error> {
        guard(&self.file, "could not tokenize the text", run)
    }
}

fn guard<T>(
    file: &str,
    what: &str,
    run: impl FnOnce() -> tokenizers::Result<T>,
) -> Result<T, Error> {
    // Catching a panic is safe here, because only caches stay in use after the panic, and the tokenizers crate ignores
    // poisoned caches.
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result.map_err(|error| Error::tokenizer(file, format!("{what}: {error}"))),
        Err(panic) => {
            let message = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            let problem = format!(
                "{what}: the file holds settings that contradict each other ({message}); use the tokenizer.json the model was published with"
            );
            Err(Error::tokenizer(file, problem))
        }
    }
}
