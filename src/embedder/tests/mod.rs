//! Tests facts about models that need no device, and effects of a load.

mod cold;
mod dtypes;
mod published;
#[cfg(feature = "lab")]
mod roofline;
mod shapes;
#[path = "../../../tests/support/skip.rs"]
#[expect(dead_code, reason = "only one of the skips is needed here")]
mod skip;

use std::path::{Path, PathBuf};

use crate::dtype::{DtypeOptions, Precision, ShaderF16, resolve};
use crate::embedder::model::Model;

/// The precision of a model under `auto`, on an adapter with f16 in shaders and on one without.
fn auto(model: &Model) -> [Precision; 2] {
    let facts = model.transformer.facts();
    [ShaderF16::Passed, ShaderF16::Absent].map(|shader_f16| {
        resolve(DtypeOptions::default(), model.checkpoint_dtype(), shader_f16, facts.f16, None)
            .unwrap()
    })
}

fn tests(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(path)
}

/// Lists the JSON files and directories in a directory, in order.
fn entries(path: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(tests(path)).unwrap();
    let mut entries: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries
}
