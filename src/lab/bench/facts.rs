//! Collects the facts about the machine and the model for a report.

use std::path::Path;

use crate::embedder::Embedder;
use crate::error::Error;
use crate::files::ModelFiles;
use crate::lab::report::{Host, ModelFacts};

/// Returns the facts about the machine that has the adapter.
pub(super) fn host() -> Host {
    Host {
        os: std::env::consts::OS.to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        cpu: processor(),
        threads: std::thread::available_parallelism().map_or(1, |n| n.get()),
        debug_build: cfg!(debug_assertions),
    }
}

/// Returns the name of the processor; `None` if the system does not report the name.
#[cfg(not(target_arch = "wasm32"))]
fn processor() -> Option<String> {
    use sysinfo::{CpuRefreshKind, RefreshKind, System};

    let wanted = RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing());
    let system = System::new_with_specifics(wanted);
    let name = system.cpus().first()?.brand().trim().to_owned();
    Some(name).filter(|name| !name.is_empty())
}

#[cfg(target_arch = "wasm32")]
fn processor() -> Option<String> {
    None
}

pub(super) async fn model_facts(
    files: &ModelFiles,
    embedder: &Embedder,
) -> Result<ModelFacts, Error> {
    let inspection = embedder.inspect().await;
    Ok(ModelFacts {
        name: short_name(files.label(), embedder.has_directory()),
        model_type: inspection.model_type,
        modules: inspection
            .modules
            .iter()
            .map(|module| format!("{}: {}", module.kind, module.settings))
            .collect(),
        sha256: embedder.weights_sha256()?,
        dimension: inspection.dimension,
        max_seq_length: inspection.max_seq_length,
    })
}

/// Returns a Hub name unchanged. For a directory, returns only the last part of the path, because a report may be
/// published.
fn short_name(label: String, is_directory: bool) -> String {
    match Path::new(&label).file_name().filter(|_| is_directory) {
        Some(name) => name.to_string_lossy().into_owned(),
        None => label,
    }
}
