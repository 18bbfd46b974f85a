//! Checks the rules of ARCHITECTURE.md and docs/style.md on the source itself.
//!
//! Each rule is a function from a [`Tree`](tree::Tree) of paths and texts to the places that break the rule. The first
//! test of each rule runs the rule on the repository. The second test puts a violation into a copy in memory, and
//! expects that the rule reports it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod modules;
mod page;
mod rules;
mod rust;
mod tree;
mod wgsl;

use tree::Tree;

/// A place that breaks a rule, as `path:line: problem`.
pub type Violation = String;

/// A function that finds the places that break one rule.
pub type Rule = fn(&Tree) -> Vec<Violation>;

/// Fails with a list of all places in the repository that break a rule.
#[track_caller]
pub fn holds(rule: Rule) {
    let found = rule(Tree::repository());
    assert!(found.is_empty(), "{} places:\n{}", found.len(), found.join("\n"));
}

/// Fails unless a rule reports a planted violation. One report must contain all of these words.
#[track_caller]
pub fn catches(rule: Rule, plant: impl FnOnce(&mut Tree), words: &[&str]) {
    let before = rule(Tree::repository());
    let mut planted = Tree::repository().clone();
    plant(&mut planted);
    let found: Vec<Violation> =
        rule(&planted).into_iter().filter(|place| !before.contains(place)).collect();
    let named = |place: &Violation| words.iter().all(|word| place.contains(word));
    assert!(found.iter().any(named), "no report with {words:?} among {found:#?}");
}
