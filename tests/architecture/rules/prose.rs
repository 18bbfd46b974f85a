//! Rules about documentation in plain English, as docs/style.md describes it.

use crate::tree::Tree;
use crate::{Violation, catches, holds};

/// Words with which a line must not begin, because they avoid a noun.
const OPENINGS: [&str; 5] = ["What ", "Of ", "That ", "Whose ", "By what "];

/// Words with which a sentence within a line must not begin. "That" is allowed there, because it may refer to the
/// sentence before.
const INNER_OPENINGS: [&str; 4] = ["What ", "Of ", "Whose ", "By what "];

/// The minimum number of words in the documentation of a `pub` item.
const FEWEST_WORDS: usize = 4;

/// Returns the text of a line that is documentation: `///`, `//!`, or `//` in WGSL.
fn documentation<'a>(path: &str, line: &'a str) -> Option<&'a str> {
    let line = line.trim_start();
    let comment = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"));
    let wgsl = || line.strip_prefix("//").filter(|_| path.ends_with(".wgsl"));
    comment.or_else(wgsl).map(str::trim_start)
}

fn clipped_openings(tree: &Tree) -> Vec<Violation> {
    let files = tree.below("src", ".rs").chain(tree.below("shaders", ".wgsl"));
    let mut found = Vec::new();
    for file in files {
        for (at, line) in file.text.lines().enumerate() {
            let Some(comment) = documentation(&file.path, line) else { continue };
            let opens = |text: &str, with: &[&str]| with.iter().any(|open| text.starts_with(open));
            let mut inner = comment.split(". ").skip(1);
            if opens(comment, &OPENINGS) || inner.any(|text| opens(text, &INNER_OPENINGS)) {
                found.push(format!("{}:{}: {comment}", file.path, at + 1));
            }
        }
    }
    found
}

fn short_documentation(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in tree.below("src", ".rs") {
        for docs in &file.rust().docs {
            if docs.text.split_whitespace().count() < FEWEST_WORDS {
                found.push(format!("{}:{}: {}", file.path, docs.line, docs.text.trim()));
            }
        }
    }
    found
}

#[test]
fn sentences_name_their_noun() {
    holds(clipped_openings);
    let rule = clipped_openings;
    let text = "/// What the model takes.\nfn taken() {}";
    catches(rule, |tree| tree.append("src/batch.rs", text), &["src/batch.rs", "What the model"]);
    let text = "// Rows are sums. Of those the largest counts.";
    catches(
        rule,
        |tree| tree.append("shaders/pool.wgsl", text),
        &["shaders/pool.wgsl", "Of those"],
    );
}

#[test]
fn documentation_says_more_than_the_name() {
    holds(short_documentation);
    let text = "/// The kernel.\npub fn kernel() {}";
    let rule = short_documentation;
    catches(rule, |tree| tree.append("src/batch.rs", text), &["src/batch.rs", "The kernel."]);
}
