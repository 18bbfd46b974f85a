//! Texts tokenized and checked by the host, before anything is packed or run.

use crate::config::Input;
use crate::embedder::{EmbedOptions, Embedder, OnTooLong};
use crate::error::Error;
use crate::kernels::MAX_BATCH_TOKENS;
use crate::tokenize::Tokens;

/// A text, or a pair, tokenized and checked for its model: ready to be packed with others.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    pub(super) tokens: Tokens,
    /// Its index in the caller's list, for messages.
    pub(super) text: usize,
}

impl Prepared {
    /// A text of so many tokens, for tests of what does not run it.
    #[cfg(test)]
    pub fn of_tokens(count: usize) -> Self {
        let (ids, type_ids) = (vec![0; count], vec![0; count]);
        let tokens = Tokens { ids, type_ids, prompt_len: 0, untruncated: count, seen: count };
        Prepared { tokens, text: 0 }
    }

    /// Tokens that will be run.
    pub fn tokens(&self) -> usize {
        self.tokens.ids.len()
    }

    /// True where the text was cut.
    pub fn truncated(&self) -> bool {
        self.tokens.untruncated > self.tokens()
    }
}

/// Texts by the batch: as many at a time as make about one.
pub(super) struct Chunks<'a, T> {
    texts: &'a [T],
    done: usize,
    bytes: usize,
}

impl<'a, T> Chunks<'a, T> {
    /// Texts for batches of `batch_tokens` tokens, of some four bytes each.
    pub fn new(texts: &'a [T], batch_tokens: usize) -> Self {
        Chunks { texts, done: 0, bytes: batch_tokens.saturating_mul(4) }
    }

    /// The next texts and the index of the first of them.
    pub fn next(&mut self, bytes: impl Fn(&T) -> usize) -> Option<(usize, &'a [T])> {
        let first = self.done;
        let mut taken = 0;
        while let Some(text) = self.texts.get(self.done) {
            taken += bytes(text).max(1);
            self.done += 1;
            if taken >= self.bytes {
                break;
            }
        }
        (self.done > first).then(|| (first, &self.texts[first..self.done]))
    }
}

impl Embedder {
    /// Most tokens of a batch.
    pub(crate) fn batch_tokens(&self) -> usize {
        self.batch_tokens
    }

    /// The tokens of each text under `options`, or what is wrong with that text. Nothing but the host is
    /// used, and any thread may call it.
    ///
    /// # Errors
    /// [`Error::Option`] for an unknown prompt or an impossible dimension.
    pub(crate) fn prepare<T: AsRef<str>>(
        &self,
        texts: &[T],
        options: &EmbedOptions,
    ) -> Result<Vec<Result<Prepared, Error>>, Error> {
        self.output_dimension(options)?;
        self.prepare_from(0, texts, options)
    }

    /// As [`Embedder::prepare`]; `first` is the index of the first text in the caller's list.
    pub(super) fn prepare_from<T: AsRef<str>>(
        &self,
        first: usize,
        texts: &[T],
        options: &EmbedOptions,
    ) -> Result<Vec<Result<Prepared, Error>>, Error> {
        let prompt = self.prompt(options)?;
        let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
        let encoded = self.model.tokenizer.encode_batch(prompt, &texts);
        Ok(self.checked(first, encoded, options.on_too_long))
    }

    /// Tokens that the model can take, each for itself.
    pub(super) fn checked(
        &self,
        first: usize,
        encoded: Vec<Result<Tokens, Error>>,
        on_too_long: OnTooLong,
    ) -> Vec<Result<Prepared, Error>> {
        let texts = encoded.into_iter().enumerate();
        texts.map(|(i, tokens)| self.check_tokens(first + i, tokens?, on_too_long)).collect()
    }

    fn check_tokens(
        &self,
        text: usize,
        tokens: Tokens,
        on_too_long: OnTooLong,
    ) -> Result<Prepared, Error> {
        // A static model has zeros for it.
        if tokens.ids.is_empty() && self.model.config.input == Input::Transformer {
            let problem = "has no tokens: it is empty, and this tokenizer adds no special tokens";
            return Err(Error::option(format!("text {text}"), problem));
        }
        self.model.check_types(&tokens)?;
        let too_long = |limit| Error::TooLong { text, tokens: tokens.untruncated, limit };
        if tokens.ids.len() > MAX_BATCH_TOKENS {
            return Err(too_long(MAX_BATCH_TOKENS));
        }
        if tokens.untruncated > tokens.ids.len() && on_too_long == OnTooLong::Error {
            return Err(too_long(tokens.ids.len()));
        }
        Ok(Prepared { tokens, text })
    }

    /// A row of the model as `options` want it: cut, then scaled to length one.
    ///
    /// # Errors
    /// [`Error::Option`] for an impossible dimension.
    pub(crate) fn finish(
        &self,
        mut row: Vec<f32>,
        options: &EmbedOptions,
    ) -> Result<Vec<f32>, Error> {
        let dim = self.output_dimension(options)?;
        row.truncate(dim);
        self.scale(&mut row, dim, options);
        Ok(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_hold_about_a_batch_and_every_text_once() {
        let texts = ["a".repeat(100), String::new(), "b".repeat(5), "c".repeat(9), "d".into()];
        let lengths = |batch_tokens: usize| {
            let mut chunks = Chunks::new(&texts, batch_tokens);
            let mut firsts = Vec::new();
            while let Some((first, texts)) = chunks.next(String::len) {
                firsts.push((first, texts.len()));
            }
            firsts
        };
        assert_eq!(lengths(1), [(0, 1), (1, 2), (3, 1), (4, 1)]);
        assert_eq!(lengths(3), [(0, 1), (1, 3), (4, 1)]);
        assert_eq!(lengths(1000), [(0, 5)]);
        assert_eq!(Chunks::new(&[] as &[String], 1).next(String::len), None);
    }
}
