//! Tests that the documents name only things that exist. The paths in documents must lead to files, and the commands
//! must have the options that documents name. The tests in `architecture` check their links.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::path::PathBuf;

use support::root;

/// Directories whose files the documents name by paths from the repository's root.
const ROOMS: [&str; 9] = [
    "src/",
    "tests/",
    "shaders/",
    "scripts/",
    "docs/",
    "examples/",
    "benches/",
    "data/",
    ".github/",
];

/// Returns every Markdown file at the root, in `docs/` and beside code, with its text.
fn documents() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for directory in ["", "docs", "examples", "shaders", "tests", "benches"] {
        for entry in std::fs::read_dir(root().join(directory)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(found.len() >= 20, "{}", found.len());
    found
}

/// Returns the paths in backticks that lead to no file. A path may hold `*`, or a name in capitals that stands for
/// others.
fn dead_paths(text: &str) -> Vec<String> {
    let prose: String = text.split("```").step_by(2).collect();
    let is_path = |word: &&str| {
        ROOMS.iter().any(|room| word.starts_with(room))
            && !word.contains([' ', '*', '<', '{', '…'])
            && !word.contains("NAME")
    };
    let quoted: Vec<&str> = prose.split('`').skip(1).step_by(2).collect();
    let paths = quoted.into_iter().filter(is_path);
    paths.filter(|path| !root().join(path).exists()).map(str::to_owned).collect()
}

/// Returns the options in a document's blocks of code, as pairs of the program's command and `--option`.
#[cfg(feature = "cli")]
fn options(text: &str) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for line in text.split("```").skip(1).step_by(2).flat_map(str::lines) {
        let Some(command) = line.trim_start_matches("$ ").strip_prefix("vectile ") else {
            continue;
        };
        let command = command.split(" #").next().unwrap_or_default();
        let mut words = command.split_whitespace();
        let name = words.next().unwrap_or_default();
        for option in words.filter(|word| word.starts_with("--")) {
            found.insert((name.to_owned(), option.to_owned()));
        }
    }
    found
}

#[test]
fn every_path_leads_to_a_file() {
    for (document, text) in documents() {
        let paths = dead_paths(&text);
        assert!(paths.is_empty(), "{}: {paths:?}", document.display());
    }
}

#[test]
fn a_dead_path_is_found() {
    assert_eq!(dead_paths("`src/none.rs`, `src/lib.rs`, `src/*.rs`"), ["src/none.rs"]);
}

#[cfg(feature = "cli")]
#[test]
fn every_option_in_a_document_is_in_the_help() {
    let all: BTreeSet<_> = documents().iter().flat_map(|(_, text)| options(text)).collect();
    assert!(all.len() >= 15, "{all:?}");
    for (command, option) in all {
        let help = support::vectile().args([&command, "--help"]).output().unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        let exists =
            help.split(|c: char| !c.is_alphanumeric() && c != '-').any(|word| word == option);
        assert!(exists, "vectile {command} has no {option}");
    }
}
