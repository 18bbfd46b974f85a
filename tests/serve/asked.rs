//! Runs client scripts in other languages against the server, and runs the program on the same texts.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::program::Program;
use crate::support::{chromium, fixture, on_path, root, skip, vectile};

/// The model that clients and pages use. The value is the name of its directory.
pub const MODEL: &str = "bert_mean_norm";

/// Returns the base address of a program's server.
pub fn url(program: &Program) -> String {
    format!("http://{}", program.address())
}

/// Returns the directory of the client scripts.
fn scripts() -> PathBuf {
    root().join("tests/serve/clients")
}

/// Returns the directory in which `scripts/test.sh` installs the clients, unless `VECTILE_CLIENTS` names another one.
fn installed() -> PathBuf {
    let named = std::env::var_os("VECTILE_CLIENTS").map(PathBuf::from);
    named.unwrap_or_else(|| root().join(".vectile/clients"))
}

/// Returns a thing that must be installed. If it is missing, returns `None` and says loudly that a test is skipped.
fn needed(what: &str, found: Option<PathBuf>) -> Option<PathBuf> {
    if found.is_none() {
        skip("VECTILE_REQUIRE_CLIENTS", &format!("there is no {what} on this machine"));
    }
    found
}

/// Returns Python with the client packages.
pub fn python() -> Option<Command> {
    let python = installed().join("python/bin/python");
    let found = python.is_file().then_some(python);
    needed("Python with the clients of the server", found).map(Command::new)
}

/// Returns Node with the client packages.
pub fn node() -> Option<Command> {
    let packages = installed().join("node");
    let found = on_path(&["node"]).filter(|_| packages.join("node_modules").is_dir());
    needed("Node with the clients of the server", found).map(|node| {
        let mut command = Command::new(node);
        command.env("VECTILE_CLIENTS", packages);
        command
    })
}

/// Returns Node with the client packages, and with a browser that it can drive.
pub fn browser() -> Option<Command> {
    let mut command = node()?;
    command.env("VECTILE_CHROMIUM", chromium()?);
    Some(command)
}

/// Runs a script, which must succeed, and reads the JSON that it prints.
pub fn run(mut command: Command, script: &str, args: &[&str]) -> Value {
    command.arg(scripts().join(script)).args(args).stdin(Stdio::null());
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    // Clients must reach the local server directly, and not through a proxy.
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"]
    {
        command.env_remove(name);
    }
    let Output { status, stdout, stderr } = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{script}: {status}\n{stderr}");
    serde_json::from_slice(&stdout).unwrap_or_else(|error| panic!("{script}: {error}\n{stderr}"))
}

/// Returns the program's output for the fixture model.
pub fn program_says(verb: &str, args: &[&str]) -> String {
    let mut command = vectile();
    command.arg(verb).arg("--model").arg(fixture(MODEL)).args(args);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the vectors that the program computes with these options.
pub fn program_vectors(texts: &[&str], options: &[&str]) -> Vec<Vec<f32>> {
    let said = program_says("embed", &[options, &["--"], texts].concat());
    said.lines()
        .map(|line| row(&serde_json::from_str::<Value>(line).unwrap()["embedding"]))
        .collect()
}

/// Parses a list of numbers as f32, each rounded to nearest.
pub fn row(list: &Value) -> Vec<f32> {
    list.as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect()
}

/// Parses lists of numbers as f32.
pub fn rows(lists: &Value) -> Vec<Vec<f32>> {
    lists.as_array().unwrap().iter().map(row).collect()
}
