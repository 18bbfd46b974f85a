//! Tokenizes two texts as one sequence, for cross-encoders.

use tokenizers::{Encoding, PostProcessor, Token, TruncationDirection};

use super::chat::Chat;
use super::{Tokenizer, Tokens};
use crate::error::Error;

impl Tokenizer {
    /// Returns the tokens of a pair of texts. If there is a chat template, it renders the prompt and the two texts.
    /// Otherwise the post-processor joins `prompt` + `first` with `second`. Both texts are truncated as with the
    /// strategy `longest_first` of transformers.
    pub fn encode_pair(&self, prompt: &str, first: &str, second: &str) -> Result<Tokens, Error> {
        self.encode_pair_within(prompt, [first, second], self.limit)
    }

    fn encode_pair_within(
        &self,
        prompt: &str,
        pair: [&str; 2],
        limit: Option<usize>,
    ) -> Result<Tokens, Error> {
        let mut tokens = match &self.chat {
            Some(chat) => self.encode_chat(chat, prompt, pair, limit)?,
            None => self.encode_joined(prompt, pair, limit)?,
        };
        while tokens.ids.len() > 1 && tokens.ids.last().copied() == self.passed_over {
            tokens.ids.pop();
            tokens.type_ids.pop();
            tokens.untruncated -= 1;
            tokens.seen = tokens.ids.len();
        }
        Ok(tokens)
    }

    /// Sets the id of the token whose repetitions at the end of a pair are removed.
    pub fn pass_over(&mut self, id: Option<u32>) {
        self.passed_over = id;
    }

    fn encode_joined(
        &self,
        prompt: &str,
        [first, second]: [&str; 2],
        limit: Option<usize>,
    ) -> Result<Tokens, Error> {
        let prompted;
        let first = match prompt {
            "" => first,
            prompt => {
                prompted = format!("{prompt}{first}");
                &prompted
            }
        };
        let [a, b] = [self.guard(|| self.content(first))?, self.guard(|| self.content(second))?];
        self.join(&a, &b, limit)
    }

    /// Encodes each pair like [`Tokenizer::encode_pair`], truncated to `limit` tokens. The results are in the order of
    /// the pairs.
    pub fn encode_pairs_within(
        &self,
        prompt: &str,
        pairs: &[(&str, &str)],
        limit: Option<usize>,
    ) -> Vec<Result<Tokens, Error>> {
        let bytes = |pair: &(&str, &str)| pair.0.len() + pair.1.len();
        self.encode_all(pairs, bytes, |(first, second)| {
            self.encode_pair_within(prompt, [first, second], limit)
        })
    }

    /// Returns an error if special tokens alone reach the maximum length. Also tokenizes two pairs, and returns an
    /// error if the tokenizer fails on them.
    pub fn check_pairs(&self) -> Result<(), Error> {
        let (added, what) = match &self.chat {
            Some(chat) => (self.rendered(chat, "", ["", ""])?.len(), "tokens of a chat template"),
            None => (self.added_to_pair(), "special tokens"),
        };
        if let Some(limit) = self.limit.filter(|limit| *limit <= added) {
            let problem = format!(
                "adds {added} {what} to every pair, but pairs are truncated to {limit} tokens, \
                 which leaves no room for the texts; raise model_max_length"
            );
            return Err(Error::tokenizer(&self.file, problem));
        }
        self.encode_pair("", "a", "").and_then(|_| self.encode_pair("", "a", "b c")).map(|_| ())
    }

    /// Returns the number of special tokens that are added to every pair.
    pub fn added_to_pair(&self) -> usize {
        self.post_processor.as_ref().map_or(0, |processor| processor.added_tokens(true))
    }

    /// Returns the tokens of a pair that the chat template renders, as in sentence-transformers. The rendered text is
    /// truncated, and the template's ending then replaces the last tokens.
    fn encode_chat(
        &self,
        chat: &Chat,
        prompt: &str,
        pair: [&str; 2],
        limit: Option<usize>,
    ) -> Result<Tokens, Error> {
        let mut ids = self.rendered(chat, prompt, pair)?;
        let untruncated = ids.len();
        if let Some(limit) = limit.filter(|limit| *limit <= untruncated) {
            match self.side {
                TruncationDirection::Right => ids.truncate(limit),
                TruncationDirection::Left => drop(ids.drain(..untruncated - limit)),
            }
            if chat.restores_end {
                let end = self.end_of_chat(chat, prompt)?;
                let kept = end.len().min(limit);
                ids[limit - kept..].copy_from_slice(&end[end.len() - kept..]);
            }
        }
        let (type_ids, seen) = (vec![0; ids.len()], ids.len());
        let tokens = Tokens { ids, type_ids, prompt_len: 0, untruncated, seen };
        self.check(&tokens, tokens.ids.len())?;
        Ok(tokens)
    }

    /// Returns the tokens that a template writes after any pair. These tokens are the common ending of the rendered
    /// texts of two different pairs.
    fn end_of_chat(&self, chat: &Chat, prompt: &str) -> Result<Vec<u32>, Error> {
        let [mut ids, other] = [
            self.rendered(chat, prompt, ["0", "0"])?,
            self.rendered(chat, prompt, ["1 2 3 4", "1 2 3 4"])?,
        ];
        let alike = ids.iter().rev().zip(other.iter().rev()).take_while(|(a, b)| a == b).count();
        // If all tokens of the shorter list match, the beginning of the common ending is unknown, so no ending is
        // returned.
        let all = alike == ids.len().min(other.len());
        Ok(if all { Vec::new() } else { ids.split_off(ids.len() - alike) })
    }

    fn rendered(&self, chat: &Chat, prompt: &str, pair: [&str; 2]) -> Result<Vec<u32>, Error> {
        let text = chat.render(prompt, pair)?;
        self.guard(|| self.content(&text))
    }

    fn join(&self, a: &[u32], b: &[u32], limit: Option<usize>) -> Result<Tokens, Error> {
        let added = self.added_to_pair();
        let room = limit.map_or(usize::MAX, |limit| limit.saturating_sub(added));
        let [keep_a, keep_b] = longest_first([a.len(), b.len()], room);
        let [kept_a, kept_b] = match self.side {
            TruncationDirection::Right => [&a[..keep_a], &b[..keep_b]],
            TruncationDirection::Left => [&a[a.len() - keep_a..], &b[b.len() - keep_b..]],
        };
        let encoding = |ids: &[u32], which: usize| {
            let tokens = ids.iter().map(|&id| Token::new(id, String::new(), (0, 0))).collect();
            Encoding::from_tokens(tokens, which as u32)
        };
        let joined = self.guard(|| {
            let (a, b) = (encoding(kept_a, 0), encoding(kept_b, 1));
            match &self.post_processor {
                Some(processor) => processor.process(a, Some(b), true),
                None => Ok(Encoding::merge([a, b], false)),
            }
        })?;
        let types = joined.get_type_ids();
        let tokens = Tokens {
            ids: joined.get_ids().to_vec(),
            type_ids: if self.gives_types { types.to_vec() } else { vec![0; types.len()] },
            prompt_len: 0,
            untruncated: a.len() + b.len() + added,
            seen: joined.len(),
        };
        self.check(&tokens, keep_a + keep_b + added)?;
        Ok(tokens)
    }
}

/// Returns the lengths of two texts after truncation to `room` tokens in total. Tokens are removed from the longer text
/// first. If both texts are longer than half of `room`, each gets half of `room`. If `room` is odd, the longer text
/// gets one token more than the other text.
fn longest_first([a, b]: [usize; 2], room: usize) -> [usize; 2] {
    if a.saturating_add(b) <= room {
        return [a, b];
    }
    let (short, long) = (a.min(b), a.max(b));
    let (mut first, mut second) =
        (short, if short > room { short } else { short.max(room - short) });
    if first + second > room {
        first = room / 2;
        second = first + room % 2;
    }
    // A text may be shorter than its part of `room`, so its truncated length is limited to its own length.
    let (first, second) = (first.min(short), second.min(long));
    if a > b { [second, first] } else { [first, second] }
}

#[cfg(test)]
mod tests {
    use tokenizers::{TruncationParams, TruncationStrategy, truncate_encodings};

    use super::*;

    #[test]
    fn lengths_match_the_tokenizers_crate() {
        let encoding = |length: usize| {
            let tokens = (0..length).map(|i| Token::new(i as u32, String::new(), (0, 0)));
            Encoding::from_tokens(tokens.collect(), 0)
        };
        for (a, b, room) in (0..12)
            .flat_map(|a| (0..12).map(move |b| (a, b)))
            .flat_map(|(a, b)| (1..26).map(move |room| (a, b, room)))
        {
            let params = TruncationParams {
                max_length: room,
                strategy: TruncationStrategy::LongestFirst,
                ..TruncationParams::default()
            };
            let cut = truncate_encodings(encoding(a), Some(encoding(b)), &params).unwrap();
            let expected = [cut.0.len(), cut.1.unwrap().len()];
            assert_eq!(longest_first([a, b], room), expected, "{a} and {b} in {room}");
        }
    }
}
