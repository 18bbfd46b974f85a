//! Extends the tokenizer for multi-vector encoders: prefix tokens, separate maximum lengths for queries and documents,
//! and padding of queries.

use tokenizers::AddedToken;

use super::{Tokenizer, Tokens};
use crate::error::Error;

/// The padding of a query with fewer than `length` tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueryPadding {
    pub token: u32,
    /// The number of tokens to which a shorter query is padded.
    pub length: usize,
    /// True if the query's own tokens attend to the padding tokens.
    pub seen: bool,
}

impl Tokens {
    /// Returns the tokens, padded to the length of `padding`. A longer text stays unchanged.
    pub fn padded(mut self, padding: QueryPadding) -> Self {
        let missing = padding.length.saturating_sub(self.ids.len());
        self.ids.resize(self.ids.len() + missing, padding.token);
        self.type_ids.resize(self.ids.len(), 0);
        self.untruncated += missing;
        if padding.seen {
            self.seen = self.ids.len();
        }
        self
    }
}

impl Tokenizer {
    /// Adds each prefix, or its first word, as a single token if the vocabulary has this token but the tokenizer would
    /// split it. An example is `[unused0]`. The vocabulary does not change.
    ///
    /// # Errors
    /// Returns [`Error::Tokenizer`] if the tokenizer fails.
    pub fn add_prefix_tokens(&mut self, prefixes: &[String]) -> Result<(), Error> {
        let mut prefix_tokens = Vec::new();
        for prefix in prefixes {
            let first = prefix.split_whitespace().next().unwrap_or_default();
            let names = [prefix.as_str(), first];
            let known = names.into_iter().find(|name| self.inner.token_to_id(name).is_some());
            // A prefix that consists only of spaces is not a token.
            let Some(name) = known.filter(|_| !first.is_empty()) else { continue };
            if self.guard(|| self.content(name))?
                != self.inner.token_to_id(name).into_iter().collect::<Vec<_>>()
            {
                prefix_tokens.push(AddedToken::from(name, true));
            }
        }
        let inner = &mut self.inner;
        super::guard(
            &self.file,
            "cannot add the prefixes of queries and documents as tokens",
            || inner.add_special_tokens(prefix_tokens).map(|_| ()),
        )
    }

    /// Returns the id of a token of the vocabulary; `None` if the vocabulary does not have the token.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Returns the maximum number of tokens of queries or documents. `own` is a limit, and the name of the field that
    /// sets it, for errors. The result is this limit, but at most the number of positions. If `own` is `None`, the
    /// result is the limit of other texts.
    ///
    /// # Errors
    /// Returns [`Error::Tokenizer`] if special tokens alone reach the limit.
    pub fn limit_of(&self, own: Option<(usize, &str)>) -> Result<Option<usize>, Error> {
        let Some((length, place)) = own else { return Ok(self.limit) };
        if length <= self.added {
            let problem = format!(
                "adds {} special tokens to every text, but {place} is {length}, which leaves no room for \
                 the text; raise the value of that field",
                self.added
            );
            return Err(Error::tokenizer(&self.file, problem));
        }
        Ok([Some(length), self.positions].into_iter().flatten().min())
    }

    /// Returns true if padding is added at the start of a text.
    pub fn pads_left(&self) -> bool {
        self.pads_left
    }

    /// Returns the number of special tokens that are added to every text.
    pub fn added_tokens(&self) -> usize {
        self.added
    }

    /// Returns the transformer's number of positions; `None` if there is no limit.
    pub fn positions(&self) -> Option<usize> {
        self.positions
    }
}
