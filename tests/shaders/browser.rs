//! Sends every variant that a browser could get to Tint, the compiler of Chrome and Edge, as Dawn for Node has it. The
//! device is Dawn's null device, which checks shaders and pipelines like any other device, and computes nothing. This
//! device has WebGPU's default limits, and only the features that the variant needs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use serde::Serialize;
use vectile::dtype::Storage;
use vectile::gpu::kernel::Access;
use vectile::gpu::shader::{Lanes, resolve_for_browser};
use vectile::kernels::ALL;

use crate::support::{on_path, root, skip};
use crate::variants::variants;

/// A variant, in the format that `browser/compile.mjs` reads.
#[derive(Serialize)]
struct Sent {
    name: String,
    entry: &'static str,
    text: String,
    features: Vec<&'static str>,
    /// Whether the kernel writes each of its storage buffers.
    writes: Vec<bool>,
    overrides: BTreeMap<&'static str, u32>,
}

/// Every variant of every kernel without cooperative matrices, which no browser has.
fn sent() -> Vec<Sent> {
    let mut all = Vec::new();
    for kernel in ALL.iter().filter(|kernel| !kernel.cooperative) {
        for variant in variants(kernel) {
            let f16 = variant.weights == Storage::F16 || variant.activations == Storage::F16;
            let subgroups = variant.lanes != Lanes::Alone;
            let features = [(f16, "shader-f16"), (subgroups, "subgroups")];
            all.push(Sent {
                name: format!("{} {variant:?}", kernel.name),
                entry: kernel.name,
                text: resolve_for_browser(kernel.source, &variant).unwrap(),
                features: features
                    .iter()
                    .filter(|(used, _)| *used)
                    .map(|(_, name)| *name)
                    .collect(),
                writes: kernel.bindings.iter().map(|access| *access == Access::Write).collect(),
                overrides: variant.overrides.iter().copied().collect(),
            });
        }
    }
    all
}

/// The directory in which `scripts/test.sh` installs Dawn for Node.
fn dawn() -> PathBuf {
    let named = std::env::var_os("VECTILE_DAWN").map(PathBuf::from);
    named.unwrap_or_else(|| root().join(".vectile/dawn"))
}

#[test]
fn every_variant_compiles_in_a_browser() {
    let packages = dawn();
    let node = on_path(&["node"]).filter(|_| packages.join("node_modules/webgpu").is_dir());
    let Some(node) = node else {
        return skip("VECTILE_REQUIRE_DAWN", "Node with the package webgpu is not installed");
    };
    let all = sent();
    assert!(all.len() > 500, "only {} variants were walked", all.len());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("variants.json");
    std::fs::write(&file, serde_json::to_vec(&all).unwrap()).unwrap();
    let output = Command::new(node)
        .arg(root().join("tests/shaders/browser/compile.mjs"))
        .args([&packages, &file])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
    // The script also compiles a faulty shader, so a compiler that accepts everything fails the test.
    let expected = format!("{} of {} variants accepted", all.len(), all.len());
    assert!(said.contains(&expected), "{said}\n{errors}");
    eprintln!("{said}");
}

#[test]
fn only_browsers_get_the_line_that_enables_subgroups() {
    let mut with = 0;
    for kernel in ALL.iter().filter(|kernel| !kernel.cooperative) {
        for variant in variants(kernel) {
            let text = resolve_for_browser(kernel.source, &variant).unwrap();
            let naga = vectile::gpu::shader::resolve_imports(kernel.source, &variant).unwrap();
            let lines = text.matches("enable subgroups;").count();
            assert_eq!(lines, usize::from(variant.lanes != Lanes::Alone), "{}", kernel.name);
            assert_eq!(text.replace("enable subgroups;\n", ""), naga, "{}", kernel.name);
            with += lines;
        }
    }
    assert!(with > 100, "only {with} variants use subgroups");
}
