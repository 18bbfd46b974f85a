//! Limits the factor by which a normalizer's replacements can lengthen a text.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::Error;

/// The maximum factor by which a normalizer may lengthen a text. Published normalizers at most triple the length of a
/// text.
const MAX_GROWTH: f64 = 1000.0;

/// Returns an error if a normalizer can lengthen a text by more than `MAX_GROWTH`. Without this check, eight
/// replacements could turn a word into a gigabyte.
pub(super) fn check_growth(file: &str, normalizer: Option<&Value>) -> Result<(), Error> {
    let grows = normalizer.map_or(1.0, growth);
    if grows <= MAX_GROWTH {
        return Ok(());
    }
    let problem = format!(
        "its normalizer can make a text up to {grows:.0} times as long by its replacements; at most \
         {MAX_GROWTH} times is allowed"
    );
    Err(Error::tokenizer(file, problem))
}

/// The maximum number of characters into which the later steps of a normalizer can turn one character.
struct Lengths {
    /// The maximum number for each character that occurs in a pattern or a replacement.
    named: BTreeMap<char, f64>,
    /// The maximum number for every other character.
    other: f64,
}

impl Lengths {
    fn of(&self, character: char) -> f64 {
        self.named.get(&character).copied().unwrap_or(self.other)
    }

    fn of_text(&self, text: &str) -> f64 {
        text.chars().map(|character| self.of(character)).sum()
    }

    fn maximum(&self) -> f64 {
        self.named.values().copied().fold(self.other, f64::max)
    }

    fn set_all(&mut self, change: impl Fn(f64) -> f64) {
        self.named.values_mut().for_each(|length| *length = change(*length));
        self.other = change(self.other);
    }
}

/// Returns an upper bound on the factor by which a normalizer lengthens a text.
///
/// The function goes through the steps from the last to the first. At each step, it computes the maximum length of each
/// character after this step and all later steps. For example, replacing every "." by " . " triples a full stop, and
/// does not lengthen a comma. If two steps both replace "a" by "aa", their factors are multiplied.
pub(super) fn growth(normalizer: &Value) -> f64 {
    let mut steps = Vec::new();
    flatten(normalizer, &mut steps);
    let mut lengths = Lengths { named: BTreeMap::new(), other: 1.0 };
    for step in &steps {
        let texts = [step.get("content"), step.pointer("/pattern/String")];
        for text in texts.into_iter().flatten().filter_map(Value::as_str) {
            lengths.named.extend(text.chars().map(|character| (character, 1.0)));
        }
    }
    for step in steps.iter().rev() {
        let content = step.get("content").and_then(Value::as_str);
        let pattern = |kind: &str| step.get("pattern")?.get(kind)?.as_str();
        match (content, pattern("String"), pattern("Regex")) {
            (Some(content), Some(text), _) if !text.is_empty() => {
                let extra = lengths.of_text(content) - lengths.of_text(text);
                let mut characters: Vec<char> = text.chars().collect();
                let each = extra.max(0.0) / characters.len() as f64;
                if let [only] = characters[..] {
                    let length = lengths.of_text(content);
                    lengths.named.insert(only, length);
                    continue;
                }
                characters.sort_unstable();
                characters.dedup();
                for character in characters {
                    let length = lengths.of(character) + each;
                    lengths.named.insert(character, length);
                }
            }
            (Some(content), _, Some(regex)) => {
                let replaced = lengths.of_text(content);
                let between = if may_match_nothing(regex) { replaced } else { 0.0 };
                lengths.set_all(|length| length.max(replaced) + between);
            }
            (Some(content), ..) => {
                let between = lengths.of_text(content);
                lengths.set_all(|length| length + between);
            }
            // Any other step of the normalizer, such as lowercasing, may turn any character into any other character.
            // The maximum length over all characters is therefore the bound for every character.
            _ => {
                let maximum = lengths.maximum();
                lengths.set_all(|_| maximum);
            }
        }
    }
    lengths.maximum()
}

fn flatten<'a>(normalizer: &'a Value, steps: &mut Vec<&'a Value>) {
    match normalizer.get("normalizers").and_then(Value::as_array) {
        Some(inner) => inner.iter().for_each(|step| flatten(step, steps)),
        None => steps.push(normalizer),
    }
}

/// Returns true if the regular expression may match the empty string. Also returns true for an expression that the
/// crate `regex_syntax` cannot parse.
fn may_match_nothing(regex: &str) -> bool {
    let parsed = regex_syntax::parse(regex);
    parsed.ok().and_then(|parsed| parsed.properties().minimum_len()).is_none_or(|len| len == 0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn replace(from: &str, to: &str) -> Value {
        json!({"type": "Replace", "pattern": {"String": from}, "content": to})
    }

    fn regex(from: &str, to: &str) -> Value {
        json!({"type": "Replace", "pattern": {"Regex": from}, "content": to})
    }

    fn of(steps: Vec<Value>) -> f64 {
        growth(&json!({"type": "Sequence", "normalizers": steps}))
    }

    #[test]
    fn replacements_of_different_characters_do_not_multiply() {
        // model2vec's normalizer puts spaces around each of Python's punctuation marks.
        let punctuation = r##"!"#$%&'()*+,-./:;<=>?@[\]^_`{|}~"##;
        let mut steps: Vec<Value> = vec![json!({"type": "BertNormalizer"})];
        steps.extend(punctuation.chars().map(|c| replace(&c.to_string(), &format!(" {c} "))));
        steps.extend([regex(r"\s+", " "), json!({"type": "Strip"})]);
        assert_eq!(of(steps), 3.0);
        assert_eq!(
            of(vec![replace("``", "\""), replace("''", "\""), json!({"type": "NFKD"})]),
            1.0
        );
        assert_eq!(of(vec![replace(" ", "▁")]), 1.0);
        assert_eq!(of(vec![regex(r"\s{2,}|[\n\r\t]", " "); 20]), 1.0);
    }

    #[test]
    fn chains_multiply() {
        assert_eq!(of(vec![replace("a", "aaaaaaaa"); 7]), 2_097_152.0);
        let letters = "abcdefghijklmnop";
        let chain: Vec<Value> = letters
            .chars()
            .zip(letters.chars().skip(1))
            .map(|(from, to)| replace(&from.to_string(), &format!("{to}{to}")))
            .collect();
        assert_eq!(of(chain), 32_768.0);
        assert!(of(vec![regex(".", "ab"); 11]) >= 2048.0);
        assert!(of(vec![regex("x*", "y"); 11]) >= 2048.0);
        assert!(of(vec![regex("(?=a)", "aaa"); 6]) >= 2048.0);
        assert!(of(vec![replace("ab", "abab"); 11]) >= 1000.0);
        assert!(
            of(vec![replace("a", "AAAA"), json!({"type": "Lowercase"}), replace("a", "bbbb")])
                >= 16.0
        );
        assert!(of(vec![replace("", "aaaa"); 5]) >= 1000.0);
    }

    #[test]
    fn the_bound_holds_for_what_the_crate_computes() {
        use tokenizers::{NormalizedString, Normalizer, NormalizerWrapper};
        fastrand::seed(1);
        let texts = ["a", "b", "ab", "ba", "aa", "", "abc", "c"];
        let pick = || texts[fastrand::usize(..texts.len())];
        for _ in 0..3000 {
            let step = |_| match fastrand::u8(..3) {
                0 => regex(["a+", "a*", ".", "(?=b)", "[ab]{2}"][fastrand::usize(..5)], pick()),
                _ => replace(["a", "b", "ab", "c", "aa"][fastrand::usize(..5)], pick()),
            };
            let steps: Vec<Value> = (0..fastrand::usize(1..6)).map(step).collect();
            let sequence = json!({"type": "Sequence", "normalizers": steps});
            let bound = growth(&sequence);
            if bound > MAX_GROWTH {
                continue;
            }
            let normalizer: NormalizerWrapper = serde_json::from_value(sequence.clone()).unwrap();
            for _ in 0..4 {
                let text: String = (0..fastrand::usize(1..12)).map(|_| pick()).collect();
                let mut normalized = NormalizedString::from(text.as_str());
                normalizer.normalize(&mut normalized).unwrap();
                // The bound has `+ 1`, because an expression that matches the empty string also matches at the end of
                // the text.
                let most = bound * (text.chars().count() + 1) as f64;
                let length = normalized.get().chars().count();
                assert!(
                    length as f64 <= most,
                    "{sequence} makes {length} of {text:?}, bound {bound}"
                );
            }
        }
    }
}
