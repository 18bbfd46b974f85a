//! Rules about the module tree, the form of modules, and the length of files.

use std::collections::BTreeSet;

use crate::modules::{Modules, joined};
use crate::rust::ModuleDeclaration;
use crate::tree::Tree;
use crate::{Violation, catches, holds};

/// The maximum number of lines in a source file.
const MOST_LINES: usize = 480;

/// The directories that contain Rust source.
const RUST: [&str; 4] = ["src", "tests", "benches", "examples"];

/// Returns the files that cargo compiles as the root of a crate.
fn roots(tree: &Tree) -> Vec<String> {
    let mut roots: Vec<String> = Vec::new();
    for path in tree.paths().filter(|path| path.ends_with(".rs")) {
        let parts: Vec<&str> = path.split('/').collect();
        match parts[..] {
            ["src", "lib.rs" | "main.rs"] | ["build.rs"] => roots.push(path.to_owned()),
            ["tests" | "benches" | "examples", _] => roots.push(path.to_owned()),
            ["tests" | "benches" | "examples", _, "main.rs"] => roots.push(path.to_owned()),
            _ => {}
        }
    }
    // Some targets have a path of their own, in this package and in nested packages.
    for manifest in tree.paths().filter(|path| path.ends_with("Cargo.toml")) {
        let directory = manifest.rsplit_once('/').map_or("", |(directory, _)| directory);
        let named = tree.text(manifest).lines().filter_map(|line| line.strip_prefix("path = \""));
        roots.extend(named.filter_map(|path| path.split('"').next().map(|p| joined(directory, p))));
        if !directory.is_empty() {
            roots.push(format!("{directory}/src/main.rs"));
        }
    }
    roots.retain(|root| tree.has(root));
    roots
}

/// Returns the files that another file includes by its relative path.
fn included(tree: &Tree) -> BTreeSet<String> {
    let mut included = BTreeSet::new();
    for file in RUST.iter().flat_map(|directory| tree.below(directory, ".rs")) {
        let directory = file.path.rsplit_once('/').map_or("", |(directory, _)| directory);
        for literal in &file.rust().strings {
            included.insert(joined(directory, &literal.text));
        }
    }
    included
}

fn files_outside_the_module_tree(tree: &Tree) -> Vec<Violation> {
    let mut known = BTreeSet::new();
    let mut found = Vec::new();
    for root in roots(tree) {
        let modules = Modules::from_root(tree, &root);
        known.extend(modules.of_file.into_keys());
        found.extend(modules.missing);
    }
    let included = included(tree);
    let reached = |path: &str| known.contains(path) || included.contains(path);
    for directory in RUST {
        for file in tree.below(directory, ".rs").filter(|file| !reached(&file.path)) {
            found.push(format!("{}: no `mod` leads to this file", file.path));
        }
    }
    // The library includes pages, scripts and styles.
    let parts = tree.below("src", "").filter(|file| file.path.contains("."));
    for file in parts.filter(|file| !file.path.ends_with(".rs") && !reached(&file.path)) {
        found.push(format!("{}: no source includes this file", file.path));
    }
    found
}

/// Finds a file `x.rs` beside a directory `x`. The module should be `x/mod.rs`.
fn two_forms_of_modules(tree: &Tree) -> Vec<Violation> {
    let files = RUST.iter().flat_map(|directory| tree.below(directory, ".rs"));
    let has_modules = |directory: &str| tree.below(directory, ".rs").next().is_some();
    let both = files.filter(|file| has_modules(file.path.trim_end_matches(".rs")));
    both.map(|file| {
        let directory = file.path.trim_end_matches(".rs");
        format!("{}: move it to {directory}/mod.rs", file.path)
    })
    .collect()
}

/// Finds unit tests in other places than `mod tests` at the end of a file, or a file of their own.
fn scattered_unit_tests(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in tree.below("src", ".rs") {
        let rust = file.rust();
        let of_tests = |module: &&ModuleDeclaration| module.is_test && !module.is_for_fuzzing;
        for module in rust.modules.iter().filter(of_tests) {
            let (path, line, name) = (&file.path, module.line, &module.name);
            if name != "tests" {
                found.push(format!(
                    "{path}:{line}: unit tests in `mod {name}`, expected `mod tests`"
                ));
            }
        }
        for early in &rust.early_tests {
            found.push(format!("{}:{}: items follow `mod {}`", file.path, early.line, early.text));
        }
    }
    found
}

fn long_files(tree: &Tree) -> Vec<Violation> {
    let sources = ["src", "shaders", "tests", "benches", "examples"];
    let files = sources.iter().flat_map(|directory| tree.below(directory, ""));
    files
        .filter(|file| file.path.ends_with(".rs") || file.path.ends_with(".wgsl"))
        .filter_map(|file| {
            let lines = file.text.lines().count();
            (lines > MOST_LINES)
                .then(|| format!("{}: {lines} lines, at most {MOST_LINES} are allowed", file.path))
        })
        .collect()
}

#[test]
fn every_file_is_in_the_module_tree() {
    holds(files_outside_the_module_tree);
}

#[test]
fn a_file_without_a_mod_and_a_mod_without_a_file_are_reported() {
    let rule = files_outside_the_module_tree;
    catches(rule, |tree| tree.set("src/models/forgotten.rs", ""), &["src/models/forgotten.rs"]);
    catches(rule, |tree| tree.set("tests/golden/forgotten.rs", ""), &["tests/golden/forgotten.rs"]);
    catches(rule, |tree| tree.set("src/server/page/old.css", ""), &["src/server/page/old.css"]);
    catches(rule, |tree| tree.append("src/batch.rs", "mod nowhere;"), &["src/batch.rs", "nowhere"]);
}

#[test]
fn modules_with_parts_have_one_form() {
    holds(two_forms_of_modules);
}

#[test]
fn a_module_file_beside_its_directory_is_reported() {
    catches(
        two_forms_of_modules,
        |tree| tree.set("src/gpu.rs", ""),
        &["src/gpu.rs", "src/gpu/mod.rs"],
    );
}

#[test]
fn unit_tests_have_one_place() {
    holds(scattered_unit_tests);
}

#[test]
fn unit_tests_elsewhere_are_reported() {
    let rule = scattered_unit_tests;
    let text = "#[cfg(test)] mod checks {}";
    catches(rule, |tree| tree.append("src/threads.rs", text), &["src/threads.rs", "mod checks"]);
    let text = "#[cfg(test)] mod tests {}\nfn after() {}";
    catches(rule, |tree| tree.set("src/threads.rs", text), &["src/threads.rs:1", "items follow"]);
}

#[test]
fn source_files_are_short() {
    holds(long_files);
}

#[test]
fn a_long_file_is_reported() {
    let long = "// line\n".repeat(MOST_LINES + 1);
    for path in ["src/long.rs", "shaders/long.wgsl", "tests/long/main.rs", "benches/long.rs"] {
        catches(long_files, |tree| tree.set(path, long.clone()), &[path, "481 lines"]);
    }
}
