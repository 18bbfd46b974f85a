//! Rules about pages: their links and their length.

use crate::modules::joined;
use crate::page::PAGE;
use crate::tree::Tree;
use crate::{Violation, catches, holds};

const README_LINES: usize = 150;
const PAGE_WORDS: usize = 900;

/// A link of a page to a file, relative to the page.
struct Link {
    line: usize,
    target: String,
}

/// Returns the links of a Markdown text to files of the repository. Links inside code are left out.
fn links(text: &str) -> Vec<Link> {
    let mut links = Vec::new();
    let mut in_code = false;
    for (at, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        // Splitting at backticks puts code into every second part, which is left out.
        let outside: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        for rest in outside.split("](").skip(1) {
            let target = rest.split(')').next().unwrap_or_default().trim();
            let is_web = target.contains("://") || target.starts_with("mailto:");
            if !target.is_empty() && !is_web {
                links.push(Link { line: at + 1, target: target.to_owned() });
            }
        }
    }
    links
}

/// Returns the anchor of a heading: in lower case, without punctuation, and with hyphens for spaces.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

fn broken_links(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for page in tree.paths().filter(|path| path.ends_with(".md")) {
        let directory = page.rsplit_once('/').map_or("", |(directory, _)| directory);
        for Link { line, target } in links(tree.text(page)) {
            let (path, fragment) = match target.split_once('#') {
                Some((path, fragment)) => (path, Some(fragment)),
                None => (target.as_str(), None),
            };
            let path = if path.is_empty() { page.to_owned() } else { joined(directory, path) };
            if !tree.has(&path) {
                found.push(format!("{page}:{line}: there is no {target}"));
                continue;
            }
            let headings = tree.text(&path).lines().filter(|line| line.starts_with('#'));
            let mut anchors = headings.map(|heading| anchor(heading.trim_start_matches('#')));
            if path.ends_with(".md")
                && let Some(fragment) = fragment
                && !anchors.any(|anchor| anchor == fragment)
            {
                found.push(format!("{page}:{line}: {path} has no heading for #{fragment}"));
            }
        }
    }
    found
}

fn long_pages(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    let lines = tree.text("README.md").lines().count();
    if lines > README_LINES {
        found.push(format!("README.md: {lines} lines, at most {README_LINES} are allowed"));
    }
    let words = tree.text(PAGE).split_whitespace().count();
    if words > PAGE_WORDS {
        found.push(format!("{PAGE}: {words} words, at most {PAGE_WORDS} are allowed"));
    }
    found
}

/// Finds files that the reading path names but that do not exist.
fn missing_reading_path(tree: &Tree) -> Vec<Violation> {
    let lines = tree.text(PAGE).lines().enumerate();
    let section = lines
        .skip_while(|(_, line)| *line != "## The reading path")
        .skip(1)
        .take_while(|(_, line)| !line.starts_with("## "));
    let steps = section.filter(|(_, line)| line.starts_with(|c: char| c.is_ascii_digit()));
    let files: Vec<(usize, &str)> =
        steps.filter_map(|(at, line)| Some((at + 1, line.split('`').nth(1)?))).collect();
    let mut found: Vec<Violation> = files
        .iter()
        .filter(|(_, path)| !tree.has(path))
        .map(|(line, path)| format!("{PAGE}:{line}: there is no {path}"))
        .collect();
    if files.len() > 12 || files.len() < 6 {
        found.push(format!("{PAGE}: the reading path has {} files, at most 12 fit", files.len()));
    }
    found
}

#[test]
fn every_link_leads_to_a_file() {
    holds(broken_links);
    let plant = |link: &'static str| move |tree: &mut Tree| tree.append("README.md", link);
    catches(broken_links, plant("[more](docs/none.md)"), &["README.md", "docs/none.md"]);
    catches(broken_links, plant("[more](#none)"), &["README.md", "#none"]);
    let plant = |tree: &mut Tree| tree.append("tests/README.md", "[up](../NONE.md)");
    catches(broken_links, plant, &["tests/README.md", "../NONE.md"]);
}

#[test]
fn pages_are_short() {
    holds(long_pages);
    let plant = |tree: &mut Tree| tree.append("README.md", &"line\n".repeat(README_LINES));
    catches(long_pages, plant, &["README.md", "lines"]);
    let plant = |tree: &mut Tree| tree.append(PAGE, &"word ".repeat(PAGE_WORDS));
    catches(long_pages, plant, &[PAGE, "words"]);
}

#[test]
fn the_reading_path_exists() {
    holds(missing_reading_path);
    let plant = |tree: &mut Tree| tree.remove("src/batch.rs");
    catches(missing_reading_path, plant, &["src/batch.rs"]);
}
