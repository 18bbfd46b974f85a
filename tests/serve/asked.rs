//! Runs client scripts in other languages against the server, and the program on the same texts.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::program::Program;
use crate::support::{chromium, fixture, on_path, root, skip, vectile};

/// The model that clients and pages use: the name of its directory.
pub const MODEL: &str = "bert_mean_norm";

/// The base address of a program's server.
pub fn url(program: &Program) -> String {
    format!("http://{}", program.address())
}

/// The directory of the client scripts.
fn scripts() -> PathBuf {
    root().join("tests/serve/clients")
}

/// Where the clients are installed: by `scripts/test.sh`, or as `VECTILE_CLIENTS` says.
fn installed() -> PathBuf {
    let named = std::env::var_os("VECTILE_CLIENTS").map(PathBuf::from);
    named.unwrap_or_else(|| root().join(".vectile/clients"))
}

/// Something that is installed, or `None` with a loud skip.
fn needed(what: &str, found: Option<PathBuf>) -> Option<PathBuf> {
    if found.is_none() {
        skip("VECTILE_REQUIRE_CLIENTS", &format!("there is no {what} on this machine"));
    }
    found
}

/// Python with the client packages.
pub fn python() -> Option<Command> {
    let python = installed().join("python/bin/python");
    let found = python.is_file().then_some(python);
    needed("Python with the clients of the server", found).map(Command::new)
}

/// Node with the client packages.
pub fn node() -> Option<Command> {
    let packages = installed().join("node");
    let found = on_path(&["node"]).filter(|_| packages.join("node_modules").is_dir());
    needed("Node with the clients of the server", found).map(|node| {
        let mut command = Command::new(node);
        command.env("VECTILE_CLIENTS", packages);
        command
    })
}

/// Node with the client packages and a browser to drive.
pub fn browser() -> Option<Command> {
    let mut command = node()?;
    command.env("VECTILE_CHROMIUM", chromium()?);
    Some(command)
}

/// Runs a script, which must succeed, and reads the JSON that it prints.
pub fn run(mut command: Command, script: &str, args: &[&str]) -> Value {
    command.arg(scripts().join(script)).args(args).stdin(Stdio::null());
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    // Clients must reach the local server directly, not through a proxy.
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"]
    {
        command.env_remove(name);
    }
    let Output { status, stdout, stderr } = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{script}: {status}\n{stderr}");
    serde_json::from_slice(&stdout).unwrap_or_else(|error| panic!("{script}: {error}\n{stderr}"))
}

/// The program's output for the fixture model.
pub fn program_says(verb: &str, args: &[&str]) -> String {
    let mut command = vectile();
    command.arg(verb).arg("--model").arg(fixture(MODEL)).args(args);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The program's vectors with these options.
pub fn program_vectors(texts: &[&str], options: &[&str]) -> Vec<Vec<f32>> {
    let said = program_says("embed", &[options, &["--"], texts].concat());
    said.lines()
        .map(|line| row(&serde_json::from_str::<Value>(line).unwrap()["embedding"]))
        .collect()
}

/// A list of numbers as f32, each rounded to nearest.
pub fn row(list: &Value) -> Vec<f32> {
    list.as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect()
}

/// Lists of numbers as f32.
pub fn rows(lists: &Value) -> Vec<Vec<f32>> {
    lists.as_array().unwrap().iter().map(row).collect()
}
