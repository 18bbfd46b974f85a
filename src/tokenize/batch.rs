//! Tokenizes many texts in parallel, on all of the machine's threads.

use super::{Tokenizer, Tokens};
use crate::error::Error;
use crate::threads;

/// The minimum number of bytes of text for each thread. For less text, starting a thread costs more time than it saves.
const WORTH_A_THREAD: usize = 8 * 1024;

impl Tokenizer {
    /// Encodes each text like [`Tokenizer::encode`], truncated to `limit` tokens. The results are in the order of the
    /// texts.
    pub fn encode_batch_within(
        &self,
        prompt: Option<&str>,
        texts: &[&str],
        limit: Option<usize>,
    ) -> Vec<Result<Tokens, Error>> {
        let prompt = prompt.unwrap_or_default();
        let prompt_len = match self.prompt_len(prompt) {
            Ok(prompt_len) => prompt_len,
            Err(error) => return texts.iter().map(|_| Err(error.clone())).collect(),
        };
        self.encode_all(
            texts,
            |text| text.len(),
            |text| self.encode_after(prompt, prompt_len, text, limit),
        )
    }

    pub(super) fn encode_all<T: Sync>(
        &self,
        texts: &[T],
        bytes: impl Fn(&T) -> usize,
        encode: impl Fn(&T) -> Result<Tokens, Error> + Sync,
    ) -> Vec<Result<Tokens, Error>> {
        let bytes: usize = texts.iter().map(bytes).sum();
        threads::each(texts, bytes / WORTH_A_THREAD, encode)
    }
}
