//! Packs tokenized texts into batches. A batch holds the token ids of all texts one after another, without padding or a
//! mask, and the span of each text.

use crate::tokenize::Tokens;

/// The range of a text's tokens in a packed batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextSpan {
    /// The index of the text's first token in the batch.
    pub first: u32,
    /// The number of the text's tokens.
    pub tokens: u32,
    /// The number of tokens at the text's beginning that serve as attention keys. All tokens of the text attend to
    /// these tokens only. The number is less than `tokens` if no token attends to the last tokens. An example is the
    /// mask tokens with which ColBERT pads queries.
    pub keys: u32,
}

impl TextSpan {
    /// Returns the span of a text whose tokens all serve as attention keys.
    pub const fn whole(first: u32, tokens: u32) -> Self {
        TextSpan { first, tokens, keys: tokens }
    }

    /// Returns the range of the indices of the text's tokens in the batch.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.first as usize..(self.first + self.tokens) as usize
    }
}

/// The tokens of several texts, packed one after another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PackedBatch {
    /// The token ids of all texts, one text after another.
    pub ids: Vec<u32>,
    /// The token types of all texts, one text after another.
    pub type_ids: Vec<u32>,
    /// For each text, the range of its tokens.
    pub texts: Vec<TextSpan>,
    /// For each text, the number of leading tokens that pooling skips.
    pub skipped: Vec<u32>,
}

impl PackedBatch {
    /// Packs texts in the given order. If `skip_prompt` is true, pooling skips the prompt's tokens. Pooling never skips
    /// all tokens of a text, even if the text was truncated within its prompt.
    pub fn pack<'a>(texts: impl IntoIterator<Item = &'a Tokens>, skip_prompt: bool) -> Self {
        let mut batch = PackedBatch::default();
        for tokens in texts {
            let length = tokens.ids.len() as u32;
            let (first, keys) = (batch.ids.len() as u32, tokens.seen as u32);
            batch.texts.push(TextSpan { first, tokens: length, keys });
            batch.ids.extend_from_slice(&tokens.ids);
            batch.type_ids.extend_from_slice(&tokens.type_ids);
            let skipped = if skip_prompt { tokens.prompt_len as u32 } else { 0 };
            batch.skipped.push(skipped.min(length.saturating_sub(1)));
        }
        batch
    }

    /// Returns a batch of `texts` texts that each have `length` arbitrary tokens. The batch is used to estimate memory.
    pub fn uniform(length: usize, texts: usize) -> Self {
        let text = Tokens {
            ids: vec![0; length],
            type_ids: vec![0; length],
            prompt_len: 0,
            untruncated: length,
            seen: length,
        };
        PackedBatch::pack(std::iter::repeat_n(&text, texts), false)
    }

    /// Returns the number of tokens of the longest text.
    pub fn longest(&self) -> usize {
        self.texts.iter().map(|text| text.tokens as usize).max().unwrap_or(0)
    }

    /// Returns one entry per text for the pooling kernel: the index of the first token, the number of tokens, the
    /// number of leading tokens to skip, and a zero.
    pub fn spans(&self) -> Vec<[u32; 4]> {
        self.texts
            .iter()
            .zip(&self.skipped)
            .map(|(text, skipped)| [text.first, text.tokens, *skipped, 0])
            .collect()
    }
}

/// Returns how many texts, taken in order, go into the next batch of at most `budget` tokens and `max_texts` texts. A
/// text with more than `budget` tokens makes a batch by itself. The result is 0 if there are no texts.
pub(crate) fn next_batch(
    lengths: impl IntoIterator<Item = usize>,
    budget: usize,
    max_texts: usize,
) -> usize {
    let mut tokens = 0;
    let mut texts = 0;
    for length in lengths {
        if texts > 0 && (tokens + length > budget || texts >= max_texts) {
            break;
        }
        tokens += length;
        texts += 1;
    }
    texts
}

/// Splits texts, in the given order, into batches. [`next_batch`] decides the size of each batch.
#[cfg(any(test, feature = "lab"))]
pub(crate) fn plan(
    lengths: &[usize],
    budget: usize,
    max_texts: usize,
) -> Vec<std::ops::Range<usize>> {
    let mut batches = Vec::new();
    let mut start = 0;
    while start < lengths.len() {
        let end = start + next_batch(lengths[start..].iter().copied(), budget, max_texts);
        batches.push(start..end);
        start = end;
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(ids: &[u32], prompt_len: usize) -> Tokens {
        Tokens {
            ids: ids.to_vec(),
            type_ids: vec![0; ids.len()],
            prompt_len,
            untruncated: ids.len(),
            seen: ids.len(),
        }
    }

    #[test]
    fn batches_respect_the_budget_and_the_order() {
        // Each row holds the lengths of the texts, the token budget, and for each expected batch the index of the text
        // after its last text.
        let table: [(&[usize], usize, &[usize]); 7] = [
            (&[], 8, &[]),
            (&[3], 8, &[1]),
            (&[4, 4, 1], 8, &[2, 3]),
            (&[9, 1, 1], 8, &[1, 3]),
            (&[1, 9, 1], 8, &[1, 2, 3]),
            (&[2, 2, 2], 1, &[1, 2, 3]),
            (&[8, 8], 16, &[2]),
        ];
        for (lengths, budget, ends) in table {
            let batches = plan(lengths, budget, usize::MAX);
            let starts: Vec<usize> = batches.iter().map(|batch| batch.start).collect();
            let expected: Vec<usize> = [0].iter().chain(ends).copied().take(ends.len()).collect();
            assert_eq!(starts, expected, "{lengths:?} in {budget}");
            assert_eq!(batches.iter().map(|batch| batch.end).collect::<Vec<_>>(), ends);
        }
    }

    #[test]
    fn batches_respect_the_maximum_number_of_texts() {
        assert_eq!(plan(&[1, 1, 1, 9, 1], 8, 2), [0..2, 2..3, 3..4, 4..5]);
        assert_eq!(plan(&[1, 1, 1], 8, 1), [0..1, 1..2, 2..3]);
    }

    #[test]
    fn texts_are_packed_without_gaps() {
        let texts = [tokens(&[5, 6, 7], 2), tokens(&[8], 4), tokens(&[9, 10], 0)];
        let batch = PackedBatch::pack(&texts, true);
        assert_eq!(batch.ids, [5, 6, 7, 8, 9, 10]);
        let spans = [(0, 3), (3, 1), (4, 2)];
        let spans = spans.map(|(first, tokens)| TextSpan::whole(first, tokens));
        assert_eq!(batch.texts, spans);
        assert_eq!(batch.spans(), [[0, 3, 2, 0], [3, 1, 0, 0], [4, 2, 0, 0]]);
        assert_eq!(PackedBatch::pack(&texts, false).skipped, [0, 0, 0]);
    }
}
