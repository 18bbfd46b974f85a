//! Two texts as one sequence, as a cross-encoder reads them.

use tokenizers::{Encoding, PostProcessor, Token, TruncationDirection};

use super::{Tokenizer, Tokens};
use crate::error::Error;

impl Tokenizer {
    /// The tokens of a pair: what the post-processor makes of `prompt` and `first` joined, and
    /// `second`. Truncated as transformers' `longest_first` does.
    pub fn encode_pair(&self, prompt: &str, first: &str, second: &str) -> Result<Tokens, Error> {
        let prompted;
        let first = match prompt {
            "" => first,
            prompt => {
                prompted = format!("{prompt}{first}");
                &prompted
            }
        };
        let [a, b] = [self.guard(|| self.content(first))?, self.guard(|| self.content(second))?];
        self.join(&a, &b)
    }

    /// As [`Tokenizer::encode_pair`] for every pair, in their order.
    pub fn encode_pairs(&self, prompt: &str, pairs: &[(&str, &str)]) -> Vec<Result<Tokens, Error>> {
        let bytes = |pair: &(&str, &str)| pair.0.len() + pair.1.len();
        self.encode_all(pairs, bytes, |(first, second)| self.encode_pair(prompt, first, second))
    }

    /// Refuses a length that leaves nothing of a pair, and tries a pair.
    pub fn check_pairs(&self) -> Result<(), Error> {
        let added = self.added_to_pair();
        if let Some(limit) = self.limit.filter(|limit| *limit <= added) {
            let problem = format!(
                "adds {added} special tokens to every pair, and pairs are cut to {limit} tokens: nothing of them is left; raise model_max_length"
            );
            return Err(Error::tokenizer(&self.file, problem));
        }
        self.encode_pair("", "a", "").and_then(|_| self.encode_pair("", "a", "b c")).map(|_| ())
    }

    fn added_to_pair(&self) -> usize {
        self.post_processor.as_ref().map_or(0, |processor| processor.added_tokens(true))
    }

    fn join(&self, a: &[u32], b: &[u32]) -> Result<Tokens, Error> {
        let added = self.added_to_pair();
        let room = self.limit.map_or(usize::MAX, |limit| limit.saturating_sub(added));
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

/// Lengths of which together `room` are left: the longer is cut to what the shorter leaves, and where
/// both are longer than half, each is, the longer keeping an odd one.
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
    // The longer side never grows.
    let (first, second) = (first.min(short), second.min(long));
    if a > b { [second, first] } else { [first, second] }
}

#[cfg(test)]
mod tests {
    use tokenizers::{TruncationParams, TruncationStrategy, truncate_encodings};

    use super::*;

    #[test]
    fn lengths_are_those_of_the_tokenizers_crate() {
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
