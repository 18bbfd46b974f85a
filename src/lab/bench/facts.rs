//! What a report says of the machine and of the model.

use crate::embedder::Embedder;
use crate::error::Error;
use crate::files::ModelFiles;
use crate::lab::report::{Host, ModelFacts};

pub(super) fn host() -> Host {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?.to_owned();
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    Host {
        os: std::env::consts::OS.to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        cpu,
        threads: std::thread::available_parallelism().map_or(1, |n| n.get()),
        debug_build: cfg!(debug_assertions),
    }
}

pub(super) async fn facts(files: &ModelFiles, embedder: &Embedder) -> Result<ModelFacts, Error> {
    let inspection = embedder.inspect().await;
    Ok(ModelFacts {
        name: name(&files.label()),
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

/// What a model is called in reports: they travel, and directories are nobody's business.
fn name(label: &str) -> String {
    let path = std::path::Path::new(label);
    match path.file_name().filter(|_| path.is_dir()) {
        Some(name) => name.to_string_lossy().into_owned(),
        None => label.to_owned(),
    }
}
