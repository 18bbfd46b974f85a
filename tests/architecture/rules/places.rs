//! Rules about things that may occur only in the places that ARCHITECTURE.md names.

use crate::modules::Rooms;
use crate::page::{PAGE, places};
use crate::rust::PathUse;
use crate::tree::{SourceFile, Tree};
use crate::wgsl::{has_word, without_comments};
use crate::{Violation, catches, holds};

/// Functions of `std::env` that read or write environment variables.
const ENVIRONMENT: [&str; 7] =
    ["var", "var_os", "vars", "vars_os", "set_var", "remove_var", "temp_dir"];

/// Methods of `Path` that query the file system.
const PATH_METHODS: [&str; 8] = [
    "exists",
    "try_exists",
    "is_file",
    "is_dir",
    "canonicalize",
    "read_dir",
    "read_link",
    "symlink_metadata",
];

/// Types of `std::net`, `tokio::net` and `std::os::unix::net` that open sockets.
const SOCKETS: [&str; 6] =
    ["TcpListener", "TcpStream", "UdpSocket", "UnixListener", "UnixStream", "UnixDatagram"];

/// Methods of wgpu that talk to a driver. Only `src/gpu/calls.rs` calls them, where tests make each of them fail. A
/// pipeline is made of several objects in one call, by `src/gpu/pipeline.rs`.
const DRIVER_CALLS: [&str; 14] = [
    "request_device",
    "create_buffer",
    "create_bind_group",
    "create_bind_group_layout",
    "create_compute_pipeline",
    "create_pipeline_layout",
    "create_shader_module_trusted",
    "create_pipeline_cache",
    "create_query_set",
    "create_command_encoder",
    "write_buffer",
    "map_async",
    "get_mapped_range",
    "unmap",
];

/// Returns the files outside the rooms that ARCHITECTURE.md names for a thing.
fn files_outside<'a>(tree: &'a Tree, thing: &str) -> Vec<&'a SourceFile> {
    let allowed = places(tree, thing);
    let rooms = Rooms::of(tree);
    let outside = rooms.files().filter(|(_, module)| !allowed.contains(&module[0]));
    outside.map(|(file, _)| tree.file(file)).collect()
}

/// Reports the matching paths in files outside the rooms of a thing.
fn paths_outside(tree: &Tree, thing: &str, matches: fn(&PathUse) -> bool) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in files_outside(tree, thing) {
        for used in file.rust().paths.iter().filter(|used| matches(used)) {
            let (path, line, name) = (&file.path, used.line, used.segments.join("::"));
            found.push(format!("{path}:{line}: `{name}`: {PAGE} does not allow {thing} here"));
        }
    }
    found
}

fn environment(tree: &Tree) -> Vec<Violation> {
    paths_outside(tree, "environment variables", |used| {
        used.segments
            .windows(2)
            .any(|pair| pair[0] == "env" && ENVIRONMENT.contains(&pair[1].as_str()))
    })
}

fn files(tree: &Tree) -> Vec<Violation> {
    let mut found = paths_outside(tree, "files", |used| {
        let segments: Vec<&str> = used.segments.iter().map(String::as_str).collect();
        matches!(
            segments[..],
            ["fs", ..] | ["std" | "tokio", "fs", ..] | ["tempfile", ..] | ["OpenOptions", ..]
        ) || matches!(segments[..], [.., "File", "open" | "create" | "create_new" | "options"])
    });
    for file in files_outside(tree, "files") {
        let methods = file.rust().methods.iter();
        for call in methods.filter(|call| PATH_METHODS.contains(&call.text.as_str())) {
            let (path, line, name) = (&file.path, call.line, &call.text);
            found.push(format!("{path}:{line}: `.{name}()`: {PAGE} does not allow files here"));
        }
    }
    found
}

fn sockets(tree: &Tree) -> Vec<Violation> {
    paths_outside(tree, "sockets", |used| {
        used.segments.iter().any(|segment| SOCKETS.contains(&segment.as_str()))
    })
}

fn network_crate(tree: &Tree) -> Vec<Violation> {
    let rooms = Rooms::of(tree);
    let outside = rooms.files().filter(|(_, module)| module[0] != "hub");
    let mut found = Vec::new();
    for file in outside.map(|(file, _)| tree.file(file)) {
        for used in file.rust().paths.iter().filter(|used| used.segments[0] == "hf_hub") {
            found.push(format!("{}:{}: hf_hub belongs into `hub`", file.path, used.line));
        }
    }
    found
}

fn wgpu(tree: &Tree) -> Vec<Violation> {
    paths_outside(tree, "`wgpu`", |used| used.segments[0] == "wgpu")
}

fn driver_calls(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in tree.below("src/gpu", ".rs") {
        if matches!(file.path.as_str(), "src/gpu/calls.rs" | "src/gpu/pipeline.rs") {
            continue;
        }
        let methods = file.rust().methods.iter();
        for call in methods.filter(|call| DRIVER_CALLS.contains(&call.text.as_str())) {
            let (path, line, name) = (&file.path, call.line, &call.text);
            found.push(format!("{path}:{line}: `.{name}()` belongs into src/gpu/calls.rs"));
        }
    }
    found
}

fn exits(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in tree.below("src", ".rs").filter(|file| file.path != "src/cli/leave.rs") {
        let exit = |used: &&PathUse| used.segments.ends_with(&["process".into(), "exit".into()]);
        for used in file.rust().paths.iter().filter(exit) {
            found.push(format!(
                "{}:{}: the exit belongs into src/cli/leave.rs",
                file.path, used.line
            ));
        }
    }
    found
}

fn f16_in_wgsl(tree: &Tree) -> Vec<Violation> {
    let allowed = places(tree, "`f16` in WGSL");
    let mut found = Vec::new();
    for file in tree.below("shaders", ".wgsl") {
        if allowed.iter().any(|pattern| matches_glob(pattern, &file.path)) {
            continue;
        }
        for (at, line) in without_comments(&file.text).enumerate() {
            if has_word(line, "f16") {
                found.push(format!("{}:{}: f16 in WGSL", file.path, at + 1));
            }
        }
    }
    found
}

/// Whether a path matches a pattern with at most one `*`, which stands for a part of a file name.
fn matches_glob(pattern: &str, path: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == path,
        Some((start, end)) => path
            .strip_prefix(start)
            .and_then(|rest| rest.strip_suffix(end))
            .is_some_and(|middle| !middle.contains('/')),
    }
}

/// Returns the `model_type`s in the table of `src/models/mod.rs`.
fn model_types(tree: &Tree) -> Vec<String> {
    let text = tree.text("src/models/mod.rs");
    let table = text.split_once("const TABLE: ").and_then(|(_, rest)| rest.split_once("\n];"));
    let (table, _) = table.expect("src/models/mod.rs has a const TABLE");
    let types: Vec<String> = table.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    assert!(types.len() >= 20, "only {types:?} were found in the table of src/models/mod.rs");
    types
}

fn model_type_strings(tree: &Tree) -> Vec<Violation> {
    let types = model_types(tree);
    strings_outside(tree, "`model_type` strings", |text| types.iter().any(|own| own == text))
}

fn model2vec_strings(tree: &Tree) -> Vec<Violation> {
    strings_outside(tree, "the string `model2vec`", |text| text == "model2vec")
}

fn strings_outside(tree: &Tree, thing: &str, matches: impl Fn(&str) -> bool) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in files_outside(tree, thing) {
        for literal in file.rust().strings.iter().filter(|literal| matches(&literal.text)) {
            let (path, line, text) = (&file.path, literal.line, &literal.text);
            found.push(format!("{path}:{line}: {text:?}: {PAGE} does not allow {thing} here"));
        }
    }
    found
}

#[test]
fn only_named_rooms_read_environment_variables() {
    holds(environment);
    let read = "fn read() { std::env::var_os(\"HOME\"); }";
    catches(environment, |tree| tree.append("src/batch.rs", read), &["src/batch.rs", "var_os"]);
    let read = "use std::env; fn read() { dbg!(env::var(\"HOME\")); }";
    catches(
        environment,
        |tree| tree.append("src/gpu/mod.rs", read),
        &["src/gpu/mod.rs", "env::var"],
    );
}

#[test]
fn only_named_rooms_touch_files() {
    holds(files);
    for read in [
        "fn read() { std::fs::read(\"a\"); }",
        "use std::fs;",
        "use std::fs::File;",
        "fn read(path: &std::path::Path) { path.is_dir(); }",
        "fn read() { std::fs::File::open(\"a\"); }",
        "use tempfile::tempdir;",
    ] {
        catches(files, |tree| tree.append("src/lab/mod.rs", read), &["src/lab/mod.rs"]);
    }
}

#[test]
fn only_named_rooms_open_sockets() {
    holds(sockets);
    let open = "fn open() { std::net::TcpStream::connect(\"a\"); }";
    catches(sockets, |tree| tree.append("src/hub/mod.rs", open), &["src/hub/mod.rs", "TcpStream"]);
}

#[test]
fn only_the_hub_uses_its_crate() {
    holds(network_crate);
    let import = "use hf_hub::api;";
    catches(network_crate, |tree| tree.append("src/files/mod.rs", import), &["src/files/mod.rs"]);
}

#[test]
fn only_named_rooms_use_wgpu() {
    holds(wgpu);
    for import in
        ["use wgpu::Device;", "use wgpu as graphics;", "fn f() { ::wgpu::Limits::default(); }"]
    {
        catches(wgpu, |tree| tree.append("src/kernels/mod.rs", import), &["src/kernels/mod.rs"]);
    }
}

#[test]
fn only_one_file_calls_the_driver() {
    holds(driver_calls);
    let call = "fn f(buffer: &wgpu::Buffer) { buffer.unmap(); }";
    catches(driver_calls, |tree| tree.append("src/gpu/trace.rs", call), &["src/gpu/trace.rs"]);
}

#[test]
fn only_one_file_ends_the_process() {
    holds(exits);
    let exit = "fn f() { std::process::exit(1); }";
    catches(exits, |tree| tree.append("src/cli/embed/mod.rs", exit), &["src/cli/embed/mod.rs"]);
}

#[test]
fn only_named_shaders_use_f16() {
    holds(f16_in_wgsl);
    let line = "var x: vec4<f16>;";
    catches(f16_in_wgsl, |tree| tree.append("shaders/pool.wgsl", line), &["shaders/pool.wgsl"]);
    let comment = |tree: &mut Tree| tree.append("shaders/pool.wgsl", "// f16 is stored elsewhere");
    let mut tree = Tree::repository().clone();
    comment(&mut tree);
    assert_eq!(f16_in_wgsl(&tree), f16_in_wgsl(Tree::repository()));
}

#[test]
fn only_named_rooms_know_model_types() {
    holds(model_type_strings);
    holds(model2vec_strings);
    let compare = "fn is(name: &str) -> bool { name == \"modernbert\" }";
    let rule = model_type_strings;
    catches(
        rule,
        |tree| tree.append("src/config/mod.rs", compare),
        &["src/config/mod.rs", "modernbert"],
    );
    let compare = "fn is(name: &str) -> bool { matches!(name, \"model2vec\") }";
    let rule = model2vec_strings;
    catches(
        rule,
        |tree| tree.append("src/files/mod.rs", compare),
        &["src/files/mod.rs", "model2vec"],
    );
}
