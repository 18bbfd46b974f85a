//! Finds a revision of a repository in the Hub's cache.

use std::path::{Path, PathBuf};

use crate::config::{JsonFile, module_paths};
use crate::error::Error;
use crate::files::ModelFiles;

/// The maximum size of a weights index in bytes. The indexes of published models stay below 10 MB.
const MAX_INDEX: u64 = 64_000_000;

/// The directory `models--owner--name` of a repository in the cache, and a revision of the repository.
#[derive(Debug)]
pub(super) struct Cache {
    /// The directory of the whole cache.
    pub root: PathBuf,
    /// The repository's directory name.
    pub folder: String,
    pub revision: String,
}

/// The state of a revision in the cache.
#[derive(Debug)]
pub(super) enum Cached {
    /// The cache has a snapshot with every file that the model needs.
    Complete(PathBuf),
    /// The cache has a snapshot that lacks this file.
    Incomplete(String),
    Absent,
}

impl Cache {
    pub fn new(root: &Path, repo: &str, revision: &str) -> Self {
        let folder = format!("models--{}", repo.replace('/', "--"));
        Cache { root: root.to_path_buf(), folder, revision: revision.to_owned() }
    }

    pub fn repository(&self) -> PathBuf {
        self.root.join(&self.folder)
    }

    /// Returns the state of the revision in the cache.
    pub fn find(&self) -> Cached {
        let repository = self.repository();
        let commit = match is_commit(&self.revision) {
            true => self.revision.clone(),
            false => match std::fs::read_to_string(repository.join("refs").join(&self.revision)) {
                Ok(commit) => commit.trim().to_owned(),
                Err(_) => return Cached::Absent,
            },
        };
        let snapshot = repository.join("snapshots").join(commit);
        if !snapshot.is_dir() {
            return Cached::Absent;
        }
        match missing(&snapshot) {
            Ok(None) => Cached::Complete(snapshot),
            Ok(Some(file)) => Cached::Incomplete(file),
            // If a file cannot be read, the snapshot is treated as complete. Loading the model then reports the error.
            Err(_) => Cached::Complete(snapshot),
        }
    }
}

/// Returns true if the revision is the full hash of a commit.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Returns the name of a needed file that a snapshot lacks; `None` if the snapshot is complete.
fn missing(snapshot: &Path) -> Result<Option<String>, Error> {
    let files = ModelFiles::from_directory(snapshot)?;
    let mut has_weights = false;
    for directory in module_paths(&files)? {
        let name = |file: &str| match directory.as_str() {
            "" => file.to_owned(),
            directory => format!("{directory}/{file}"),
        };
        let index = name("model.safetensors.index.json");
        if files.exists(&name("model.safetensors"))? {
            has_weights = true;
        } else if let Some(index) = JsonFile::load_large(&files, &index, MAX_INDEX)? {
            has_weights = true;
            let shards = index.object("weight_map")?.map(|map| map.map).unwrap_or_default();
            for shard in shards.values().filter_map(|shard| shard.as_str()) {
                if !files.exists(&name(shard))? {
                    return Ok(Some(name(shard)));
                }
            }
        }
    }
    Ok((!has_weights).then(|| "model.safetensors".to_owned()))
}
