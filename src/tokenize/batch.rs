//! Many texts at once, on the threads the machine has.

use super::{Tokenizer, Tokens};
use crate::error::Error;

/// Below this many bytes of text a thread costs more than it saves.
#[cfg(not(target_arch = "wasm32"))]
const WORTH_A_THREAD: usize = 64 * 1024;

impl Tokenizer {
    /// As [`Tokenizer::encode`] for every text, in their order.
    pub fn encode_batch(&self, prompt: Option<&str>, texts: &[&str]) -> Vec<Result<Tokens, Error>> {
        let prompt = prompt.unwrap_or_default();
        let prompt_len = match self.prompt_len(prompt) {
            Ok(prompt_len) => prompt_len,
            Err(error) => return texts.iter().map(|_| Err(error.clone())).collect(),
        };
        self.encode_all(
            texts,
            |text| text.len(),
            |text| self.encode_after(prompt, prompt_len, text),
        )
    }

    #[cfg(target_arch = "wasm32")]
    pub(super) fn encode_all<T: Sync>(
        &self,
        texts: &[T],
        _bytes: impl Fn(&T) -> usize,
        encode: impl Fn(&T) -> Result<Tokens, Error> + Sync,
    ) -> Vec<Result<Tokens, Error>> {
        texts.iter().map(encode).collect()
    }

    /// Texts are dealt out one by one, since their lengths differ widely.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn encode_all<T: Sync>(
        &self,
        texts: &[T],
        bytes: impl Fn(&T) -> usize,
        encode: impl Fn(&T) -> Result<Tokens, Error> + Sync,
    ) -> Vec<Result<Tokens, Error>> {
        use std::sync::atomic::{AtomicUsize, Ordering};

        let bytes: usize = texts.iter().map(bytes).sum();
        let available = std::thread::available_parallelism().map_or(1, |threads| threads.get());
        let threads = available.min(texts.len()).min(bytes / WORTH_A_THREAD);
        if threads < 2 {
            return texts.iter().map(encode).collect();
        }
        let next = AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(text) = texts.get(index) else { return done };
                done.push((index, encode(text)));
            }
        };
        let mut rows: Vec<_> = std::thread::scope(|scope| {
            let workers: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut rows = work();
            for worker in workers {
                match worker.join() {
                    Ok(done) => rows.extend(done),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            rows
        });
        rows.sort_unstable_by_key(|(index, _)| *index);
        rows.into_iter().map(|(_, tokens)| tokens).collect()
    }
}
