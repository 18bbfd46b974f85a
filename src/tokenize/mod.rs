//! Text, with a prompt before it, to token ids. Truncation happens here and nowhere else.

mod batch;
mod chat;
#[cfg(feature = "server")]
mod describe;
mod load;
mod model2vec;
mod pair;
mod roles;
mod sides;

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
pub(crate) use sides::Filling;

/// Longer texts are cut between words, where the tokenizer allows it, and tokenized piece by piece:
/// the ids are the same and the memory is bounded by the piece.
const PIECE: usize = 64 * 1024;

/// The tokenizer of a model. Never pads; truncates to [`Tokenizer::limit`].
///
/// Truncation and padding written in `tokenizer.json` are not used, as in transformers: they are
/// left over from the tokenizer's training.
#[derive(Debug)]
pub(crate) struct Tokenizer {
    /// Without post-processor, truncation and padding.
    inner: tokenizers::Tokenizer,
    /// Adds the special tokens, after truncation.
    post_processor: Option<PostProcessorWrapper>,
    /// Special tokens that `post_processor` adds to one text.
    added: usize,
    limit: Option<usize>,
    side: TruncationDirection,
    /// The most tokens the transformer has positions for.
    positions: Option<usize>,
    /// Ids of the tokens that have a role, by the name of its field in `tokenizer_config.json`.
    roles: BTreeMap<String, u32>,
    /// Texts that are padded are padded at the left.
    pads_left: bool,
    /// Under model2vec's rules.
    model2vec: Option<Model2vec>,
    /// What counts as a special token at the end of a prompt.
    special_ids: HashSet<u32>,
    /// Rows of the embedding table; every id is below.
    table_rows: usize,
    /// Cutting a text between words cannot change its tokens.
    cuts_at_spaces: bool,
    /// The token types of pairs are the post-processor's, and not 0.
    gives_types: bool,
    /// Pairs are written by a chat template, and the post-processor adds nothing.
    chat: Option<Chat>,
    /// Left out at the end of pairs.
    passed_over: Option<u32>,
    /// The file, for messages.
    file: String,
}

/// The tokens of one text.
///
/// `ids` is empty only for a text without tokens under a tokenizer that adds no special tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub ids: Vec<u32>,
    pub type_ids: Vec<u32>,
    /// Tokens that pooling leaves out under `include_prompt = false`: those of the prompt alone,
    /// its leading special token included and a trailing one not. May pass `ids.len()`.
    pub prompt_len: usize,
    /// Length before truncation, special tokens included. Exact, however long the text.
    pub untruncated: usize,
    /// How many of them, from the first on, the others see.
    pub seen: usize,
}

impl Tokenizer {
    /// Tokens, special ones included, after which a text is truncated.
    pub fn limit(&self) -> Option<usize> {
        self.limit
    }

    /// Number of tokens it knows, the added ones included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// A token as the vocabulary writes it.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The ids of the tokens that a language model answers a pair with.
    pub fn answers(&self, answers: Answers) -> Result<Vec<usize>, Error> {
        let word = |word: &str| match self.inner.token_to_id(word) {
            Some(id) => Ok(id as usize),
            None => {
                let problem = format!(
                    "has no token `{word}`, and the score of a language model without modules is that of `yes` over `no`; give the model a modules.json with a LogitScore that names its tokens"
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

    /// The tokens of `prompt` and `text` joined without anything between them.
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

    /// sentence-transformers' rule: the tokens of the prompt alone, one less if the last of them is
    /// a special token.
    fn prompt_len(&self, prompt: &str) -> Result<usize, Error> {
        if prompt.is_empty() {
            return Ok(0);
        }
        let ids = self.encode_whole(prompt, 0, self.limit)?.ids;
        let trailing = ids.last().is_some_and(|id| self.special_ids.contains(id));
        Ok(ids.len() - usize::from(trailing))
    }

    fn encode_whole(
        &self,
        text: &str,
        prompt_len: usize,
        limit: Option<usize>,
    ) -> Result<Tokens, Error> {
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
            prompt_len,
            untruncated: kept.len() + self.added + lost,
            seen: encoding.len(),
        };
        self.check(&tokens, kept.len() + self.added)?;
        Ok(tokens)
    }

    /// The tokens of a text without the special tokens, of which none is left out for them.
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

    /// Without those that model2vec leaves out.
    fn known<'a>(&self, ids: &'a [u32]) -> Cow<'a, [u32]> {
        match self.model2vec.as_ref().and_then(|rules| rules.unknown) {
            Some(unknown) => ids.iter().copied().filter(|id| *id != unknown).collect(),
            None => Cow::Borrowed(ids),
        }
    }

    /// Ids of the text itself, all of them, without special tokens added.
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

    /// The first piece of a long text, cut before a space, and what follows it.
    fn cut<'a>(&self, text: &'a str) -> Option<(&'a str, &'a str)> {
        if !self.cuts_at_spaces || text.len() <= PIECE {
            return None;
        }
        let is_space = |byte: &u8| matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
        // An ASCII byte is always a character of its own.
        let at = PIECE + text.as_bytes()[PIECE..].iter().position(is_space)?;
        Some(text.split_at(at))
    }

    /// Ids do not depend on token strings or offsets from here on, so they are left empty.
    fn add_special_tokens(&self, ids: &[u32]) -> tokenizers::Result<Encoding> {
        let tokens = ids.iter().map(|&id| Token::new(id, String::new(), (0, 0))).collect();
        let encoding = Encoding::from_tokens(tokens, 0);
        match &self.post_processor {
            Some(processor) => processor.process(encoding, None, true),
            None => Ok(encoding),
        }
    }

    /// A GPU turns an id beyond the table into a wrong row in silence.
    fn check(&self, tokens: &Tokens, expected: usize) -> Result<(), Error> {
        if let Some(id) = tokens.ids.iter().find(|&&id| id as usize >= self.table_rows) {
            let problem =
                format!("gave token id {id}, and the embedding table has {} rows", self.table_rows);
            return Err(Error::tokenizer(&self.file, problem));
        }
        if tokens.ids.len() != expected {
            let problem = "its post-processor drops the text or adds other tokens than it says; use the tokenizer.json the model was published with";
            return Err(Error::tokenizer(&self.file, problem));
        }
        Ok(())
    }

    /// Runs code of the tokenizers crate, which panics on some files instead of refusing them. The
    /// panic's own message goes to the program's panic hook; where panics abort, this cannot help.
    fn guard<T>(&self, run: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, Error> {
        guard(&self.file, "could not tokenize the text", run)
    }
}

fn guard<T>(
    file: &str,
    what: &str,
    run: impl FnOnce() -> tokenizers::Result<T>,
) -> Result<T, Error> {
    // Nothing but caches, which tokenizers abandons when they are poisoned, outlives a panic.
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
