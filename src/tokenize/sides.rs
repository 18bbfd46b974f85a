//! Queries and documents of multi-vector encoders: marks before them, lengths of their own, and masks that
//! fill a query up.

use tokenizers::AddedToken;

use super::{Tokenizer, Tokens};
use crate::error::Error;

/// Tokens that are put behind shorter queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Filling {
    pub token: u32,
    /// Queries have at least so many tokens then.
    pub length: usize,
    /// The others see them.
    pub seen: bool,
}

impl Tokens {
    /// The tokens, filled up where there are fewer.
    pub fn filled(mut self, filling: Filling) -> Self {
        let missing = filling.length.saturating_sub(self.ids.len());
        self.ids.resize(self.ids.len() + missing, filling.token);
        self.type_ids.resize(self.ids.len(), 0);
        self.untruncated += missing;
        if filling.seen {
            self.seen = self.ids.len();
        }
        self
    }
}

impl Tokenizer {
    /// Makes one token of each prefix, or of its first word, that the vocabulary has and the tokenizer
    /// would take apart: `[unused0]`. Which tokens there are does not change.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] where the tokenizer fails.
    pub fn mark(&mut self, prefixes: &[String]) -> Result<(), Error> {
        let mut marks = Vec::new();
        for prefix in prefixes {
            let first = prefix.split_whitespace().next().unwrap_or_default();
            let names = [prefix.as_str(), first];
            let known = names.into_iter().find(|name| self.inner.token_to_id(name).is_some());
            // Of nothing but spaces it is no mark.
            let Some(name) = known.filter(|_| !first.is_empty()) else { continue };
            if self.guard(|| self.content(name))?
                != self.inner.token_to_id(name).into_iter().collect::<Vec<_>>()
            {
                marks.push(AddedToken::from(name, true));
            }
        }
        let inner = &mut self.inner;
        super::guard(&self.file, "cannot take the prefixes as tokens", || {
            inner.add_special_tokens(marks).map(|_| ())
        })
    }

    /// The id of a token as the vocabulary writes it.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The limit of texts that have one of their own, which the positions bound.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] where special tokens leave no room; `place` says where the length is from.
    pub fn limit_of(&self, own: Option<(usize, &str)>) -> Result<Option<usize>, Error> {
        let Some((length, place)) = own else { return Ok(self.limit) };
        if length <= self.added {
            let problem = format!(
                "adds {} special tokens to every text, and {place} is {length}: nothing of the text is left",
                self.added
            );
            return Err(Error::tokenizer(&self.file, problem));
        }
        Ok([Some(length), self.positions].into_iter().flatten().min())
    }

    /// True where texts that are padded are padded at the left.
    pub fn pads_left(&self) -> bool {
        self.pads_left
    }

    /// The most tokens the transformer has positions for.
    pub fn positions(&self) -> Option<usize> {
        self.positions
    }
}
