//! Rules about kernels. Each must have its WGSL, its descriptor in `ALL`, a plain-Rust reference, a test and a known
//! answer.

use crate::tree::Tree;
use crate::wgsl::has_word;
use crate::{Violation, catches, holds};

const REFERENCES: &str = "src/kernels/reference.rs";

/// References that a test may call instead of the kernel's own. `attend` is `attention` with separate queries, keys
/// and values.
const GENERAL: [(&str, &str); 1] = [("attention", "attend")];

/// Returns the kernels. Each has a file in `shaders/`, and files in `shaders/shared/` are no kernels.
fn kernels(tree: &Tree) -> Vec<String> {
    let files = tree.below("shaders", ".wgsl").filter_map(|file| {
        let name = file.path.strip_prefix("shaders/")?.strip_suffix(".wgsl")?;
        (!name.contains('/')).then(|| name.to_owned())
    });
    let kernels: Vec<String> = files.collect();
    assert!(kernels.len() >= 16, "only {kernels:?} were found");
    kernels
}

/// Returns the functions of the reference module, but not the modules around them.
fn references(tree: &Tree) -> Vec<String> {
    let functions = tree.text(REFERENCES).lines().filter_map(|line| line.strip_prefix("pub fn "));
    functions.filter_map(|line| line.split(['(', '<']).next()).map(str::to_owned).collect()
}

/// Returns the text of a static in `src/kernels`, from its name to the `;` at the end.
fn list(tree: &Tree, name: &str) -> String {
    let start = format!("pub static {name}: ");
    let texts = tree.below("src/kernels", ".rs");
    let list = texts.filter_map(|file| file.text.split_once(&start)).map(|(_, rest)| rest).next();
    let list = list.unwrap_or_else(|| panic!("src/kernels has no static {name}"));
    list.split("\n];").next().unwrap_or_default().to_owned()
}

fn incomplete_kernels(tree: &Tree) -> Vec<Violation> {
    let (all, answers, references) = (list(tree, "ALL"), list(tree, "ANSWERS"), references(tree));
    let mut found = Vec::new();
    for kernel in kernels(tree) {
        let (wgsl, name) = (format!("shaders/{kernel}.wgsl"), kernel.to_uppercase());
        let mut lacks = |what: String| found.push(format!("{wgsl}: the kernel {what}"));
        let mut rust = tree.below("src/kernels", ".rs");
        if !rust.any(|file| file.text.contains(&format!("{wgsl}\")"))) {
            lacks("has no descriptor in src/kernels".to_owned());
        }
        if !has_word(&all, &name) {
            lacks(format!("is not in ALL: `{name}`"));
        }
        if !has_word(&answers, &name) {
            lacks(format!("has no known answer in ANSWERS: `{name}`"));
        }
        // Variants such as `matmul_tile` share the reference of `matmul`.
        let own = references.iter().filter(|reference| kernel.starts_with(*reference));
        let Some(reference) = own.max_by_key(|reference| reference.len()) else {
            lacks(format!("has no reference in {REFERENCES}"));
            continue;
        };
        let general = GENERAL.iter().find(|(own, _)| own == reference).map(|(_, other)| *other);
        let called = |name: &str| {
            let call = format!("reference::{name}(");
            tree.below("tests/kernels", ".rs").any(|file| file.text.contains(&call))
        };
        if !called(reference) && !general.is_some_and(called) {
            lacks(format!("has no test in tests/kernels that calls reference::{reference}"));
        }
    }
    found
}

/// Finds shared WGSL that no shader imports.
fn unused_shared_shaders(tree: &Tree) -> Vec<Violation> {
    let listed: Vec<&str> = tree.below("src/gpu", ".rs").map(|file| file.text.as_str()).collect();
    tree.below("shaders/shared", ".wgsl")
        .filter(|file| !listed.iter().any(|text| text.contains(&format!("{}\")", file.path))))
        .map(|file| format!("{}: src/gpu does not list it", file.path))
        .collect()
}

#[test]
fn every_kernel_has_all_its_parts() {
    holds(incomplete_kernels);
}

#[test]
fn a_kernel_that_lacks_a_part_is_reported() {
    let rule = incomplete_kernels;
    let shader = "shaders/layer_norm.wgsl";
    catches(rule, |tree| tree.set("shaders/new.wgsl", ""), &["shaders/new.wgsl", "no descriptor"]);
    catches(rule, |tree| tree.set("shaders/new.wgsl", ""), &["shaders/new.wgsl", "no reference"]);
    let plant =
        |tree: &mut Tree| tree.replace("src/kernels/mod.rs", "    &layer_norm::LAYER_NORM,", "");
    catches(rule, plant, &[shader, "not in ALL"]);
    let path = "src/kernels/answers/mod.rs";
    let plant = |tree: &mut Tree| {
        tree.replace(path, "kernel: &layer_norm::LAYER_NORM", "kernel: &pool::POOL")
    };
    catches(rule, plant, &[shader, "no known answer"]);
    let plant = |tree: &mut Tree| tree.replace(REFERENCES, "pub fn layer_norm(", "fn norm(");
    catches(rule, plant, &[shader, "no reference"]);
    catches(rule, |tree| tree.set("tests/kernels/layer_norm.rs", ""), &[shader, "no test"]);
}

#[test]
fn every_shared_shader_is_listed() {
    holds(unused_shared_shaders);
    let path = "shaders/shared/old.wgsl";
    catches(unused_shared_shaders, |tree| tree.set(path, ""), &[path]);
}
