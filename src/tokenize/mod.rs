//! Tokenizes texts with their prompts, and truncates them. No other module truncates texts.

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

/// The size in bytes of the pieces in which long texts are tokenized, if the tokenizer allows texts to be split between
/// words. The token ids are the same as without pieces, and less memory is needed.
const PIECE: usize = 64 * 1024;

/// The tokenizer of a model. The tokenizer truncates texts to [`Tokenizer::limit`] and does not pad them.
///
/// As in transformers, truncation and padding in `tokenizer.json` are ignored, because they come from the tokenizer's
/// training.
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
    /// The number of positions of the transformer; `None` if there is no limit.
    positions: Option<usize>,
    /// The ids of tokens with a role, such as the mask token. The keys are the names of the roles' fields in
    /// `tokenizer_config.json`.
    roles: BTreeMap<String, u32>,
    /// True if padding is added at the start of a text.
    pads_left: bool,
    /// The rules of model2vec, if the model is a model2vec model.
    model2vec: Option<Model2vec>,
    /// The ids of the special tokens. If a prompt ends with a special token, this token does not count as part of the
    /// prompt.
    special_ids: HashSet<u32>,
    /// The number of rows of the embedding table. Every token id must be below this number.
    table_rows: usize,
    /// True if a text may be split between words without changing its tokens.
    cuts_at_spaces: bool,
    /// True if the token types of pairs come from the post-processor. If false, all token types are 0.
    gives_types: bool,
    /// The chat template that renders pairs, if there is one. The post-processor then adds no tokens.
    chat: Option<Chat>,
    /// The id of a token whose repetitions at the end of a pair are removed; `None` if no token is removed.
    passed_over: Option<u32>,
    /// Notes for the user about assumptions and limits of the tokenizer.
    notes: Vec<String>,
    /// The name of the tokenizer's file, for messages.
    file: String,
}

/// The tokens of one text. `ids` is empty only if the text has no tokens and the tokenizer adds no special tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub ids: Vec<u32>,
    pub type_ids: Vec<u32>,
    /// The number of prompt tokens, which pooling leaves out if `include_prompt` is false. A special token at the start
    /// of the prompt is counted, but a special token at its end is not. The number may exceed `ids.len()`, because the
    /// prompt's tokens are counted without the text.
    pub prompt_len: usize,
    /// The number of tokens before truncation, special tokens included.
    pub untruncated: usize,
    /// The number of tokens that can be attended to, counted from the text's beginning. No token attends to a token
    /// after these.
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

    /// Returns the text of a token in the vocabulary; `None` if there is no such token.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Returns the ids of the tokens whose logits give a language model's score for a pair.
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

    /// Returns the tokens of `prompt` followed directly by `text`.
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

    /// Returns the prompt's number of tokens by the rule of sentence-transformers: the number of tokens of the prompt
    /// alone, minus one if the last token is special.
    fn prompt_len(&self, prompt: &str) -> Result<usize, Error> {
        if prompt.is_empty() {
            return Ok(0);
        }
        let ids = self.encode_whole(prompt, 0, self.limit)?.ids;
        let trailing = ids.last().is_some_and(|id| self.special_ids.contains(id));
        Ok(ids.len() - usize::from(trailing))
    }

    /// Returns notes for the user about assumptions and limits.
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

    /// Returns the tokens of a text, without checking that their ids have rows in the embedding table.
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

    /// Returns the tokens of a text without special tokens. Because no special tokens are added, the text itself may
    /// use the whole limit.
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

    /// Returns the ids without the unknown tokens that model2vec drops.
    fn known<'a>(&self, ids: &'a [u32]) -> Cow<'a, [u32]> {
        match self.model2vec.as_ref().and_then(|rules| rules.unknown) {
            Some(unknown) => ids.iter().copied().filter(|id| *id != unknown).collect(),
            None => Cow::Borrowed(ids),
        }
    }

    /// Returns the token ids of the text itself, without special tokens and without truncation.
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

    /// Splits a long text before a space, into its first piece and the remaining text. Returns `None` if the text is
    /// short or must not be split.
    fn cut<'a>(&self, text: &'a str) -> Option<(&'a str, &'a str)> {
        if !self.cuts_at_spaces || text.len() <= PIECE {
            return None;
        }
        let is_space = |byte: &u8| matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
        // An ASCII byte is always a whole character, so `at` is a character boundary.
        let at = PIECE + text.as_bytes()[PIECE..].iter().position(is_space)?;
        Some(text.split_at(at))
    }

    /// Returns the encoding of `ids` with special tokens added. The token strings and offsets of this encoding are
    /// empty, because they are not needed.
    fn add_special_tokens(&self, ids: &[u32]) -> tokenizers::Result<Encoding> {
        let tokens = ids.iter().map(|&id| Token::new(id, String::new(), (0, 0))).collect();
        let encoding = Encoding::from_tokens(tokens, 0);
        match &self.post_processor {
            Some(processor) => processor.process(encoding, None, true),
            None => Ok(encoding),
        }
    }

    /// Checks that every id has a row in the embedding table. For an id without a row, a GPU would read a wrong row
    /// without an error.
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

    /// Returns an error if the post-processor added a different number of tokens than it declares.
    fn check_count(&self, tokens: &Tokens, expected: usize) -> Result<(), Error> {
        if tokens.ids.len() != expected {
            let problem = "its post-processor drops the text, or adds another number of special tokens than it declares; use the tokenizer.json the model was published with";
            return Err(Error::tokenizer(&self.file, problem));
        }
        Ok(())
    }

    fn check(&self, tokens: &Tokens, expected: usize) -> Result<(), Error> {
        self.check_rows(&tokens.ids)?;
        self.check_count(tokens, expected)
    }

    /// Runs code of the tokenizers crate and converts a panic to an error, because some files make that crate panic.
    /// The program's panic hook still runs. If the program was built with `panic = "abort"`, a panic still ends the
    /// program.
    fn guard<T>(&self, run: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, Error> {
        guard(&self.file, "could not tokenize the text", run)
    }
}

fn guard<T>(
    file: &str,
    what: &str,
    run: impl FnOnce() -> tokenizers::Result<T>,
) -> Result<T, Error> {
    // Catching a panic is safe here. After the panic, only caches of the tokenizers crate can be in an inconsistent
    // state, and the crate ignores poisoned caches.
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
