//! Reads WGSL source for the rules.

/// Returns the lines of a source, without their `//` comments.
pub fn without_comments(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(|line| line.split("//").next().unwrap_or_default())
}

/// Whether a text contains a word that is not a part of another word.
pub fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word)
}
