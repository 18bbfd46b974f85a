//! A model directory on disk. This module checks which paths belong to the directory, and reads the files by offset.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Error;

/// A model directory, and the directories into which its symbolic links may point.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    root: PathBuf,
    allowed: Arc<[PathBuf]>,
}

impl Directory {
    pub(super) fn open(root: &Path) -> Result<Self, Error> {
        let canonical = root.canonicalize().map_err(|error| match error.kind() {
            ErrorKind::NotFound => Error::file(root, "there is no such directory"),
            _ => Error::file(root, describe(&error)),
        })?;
        let metadata = fs::metadata(&canonical).map_err(|e| Error::file(root, describe(&e)))?;
        if !metadata.is_dir() {
            return Err(Error::file(
                root,
                "is not a directory; give the directory that holds config.json and tokenizer.json",
            ));
        }
        let mut allowed = vec![canonical.clone()];
        allowed.extend(hub_cache_repository(&canonical));
        Ok(Directory { root: root.to_path_buf(), allowed: allowed.into() })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the sorted names of the files directly below `prefix`.
    pub(super) fn names(&self, prefix: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.root.join(prefix)) else { return Vec::new() };
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| self.root.join(prefix).join(name).is_file())
            .collect();
        names.sort();
        names
    }

    /// Returns the file's real path, or `None` if there is no file with that name.
    ///
    /// The function checks that the path is a regular file before it opens the file. Opening a pipe would block until
    /// another program writes to the pipe.
    pub(super) fn find(&self, name: &str) -> Result<Option<PathBuf>, Error> {
        let path = self.root.join(name);
        let real = match path.canonicalize() {
            Ok(real) => real,
            // Here, a parent of the path is a regular file. For example, `2_Normalize` is a regular file, and the path
            // is `2_Normalize/config.json`.
            Err(error) if error.kind() == ErrorKind::NotADirectory => return Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound => return absent_or_dangling(&path),
            Err(error) => return Err(Error::file(path, describe(&error))),
        };
        let inside = self.allowed.iter().any(|place| real.starts_with(place));
        // In the Hub's cache, the symbolic links of a snapshot may point only into the snapshot's own repository.
        let is_snapshot = self.allowed.len() > 1;
        if !inside && (is_snapshot || !in_store(&real)) {
            let problem = format!(
                "is a link to {}, outside the model's directory; copy the file into the directory",
                real.display()
            );
            return Err(Error::file(path, problem));
        }
        let metadata = fs::metadata(&real).map_err(|e| Error::file(&path, describe(&e)))?;
        check_regular(&path, &metadata)?;
        Ok(Some(real))
    }

    pub(super) fn open_file(&self, name: &str) -> Result<Option<OpenFile>, Error> {
        let Some(real) = self.find(name)? else { return Ok(None) };
        let path = self.root.join(name);
        let file = File::open(&real).map_err(|e| Error::file(&path, describe(&e)))?;
        let metadata = file.metadata().map_err(|e| Error::file(&path, describe(&e)))?;
        check_regular(&path, &metadata)?;
        Ok(Some(OpenFile { file: Mutex::new(file), len: metadata.len() }))
    }
}

/// An open regular file. `len` is the file's length when it was opened.
#[derive(Debug)]
pub(crate) struct OpenFile {
    file: Mutex<File>,
    len: u64,
}

impl OpenFile {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), String> {
        // A poisoned lock is safe to use here: the lock guards only the file's position, and every read first sets the
        // position.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let read = file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(into));
        read.map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => {
                "became shorter while it was read; another program may be writing it. Load the model again"
                    .into()
            }
            _ => describe(&error),
        })
    }
}

/// Returns `…/models--owner--name` if `directory` is `…/models--owner--name/snapshots/<revision>[/…]`.
///
/// In the Hub's cache, the files of a snapshot are links to files in the directory `blobs` of this repository.
fn hub_cache_repository(directory: &Path) -> Option<PathBuf> {
    directory.ancestors().find_map(|snapshots| {
        let repository = snapshots.parent()?;
        let name = repository.file_name()?.to_str()?;
        let is_cache =
            snapshots.file_name() == Some(OsStr::new("snapshots")) && name.starts_with("models--");
        (is_cache && directory != snapshots).then(|| repository.to_path_buf())
    })
}

/// Returns true if the path lies in a store where a tool keeps model files and links to them. The stores are git-annex,
/// DVC, Nix and the Hub's cache. Before version 0.23, huggingface_hub filled a `local_dir` with links to that cache.
fn in_store(real: &Path) -> bool {
    let names: Vec<&str> = real.iter().filter_map(OsStr::to_str).collect();
    names.windows(3).any(|names| match names {
        [_, repository, "blobs"] => repository.starts_with("models--"),
        [".git", "annex", "objects"] | [".dvc", "cache", _] => true,
        _ => false,
    }) || real.starts_with("/nix/store")
}

fn absent_or_dangling(path: &Path) -> Result<Option<PathBuf>, Error> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() => Err(Error::file(
            path,
            "is a link to a file that does not exist; download the model again",
        )),
        _ => Ok(None),
    }
}

fn check_regular(path: &Path, metadata: &Metadata) -> Result<(), Error> {
    if metadata.is_dir() {
        return Err(Error::file(
            path,
            "is a directory, but a file is expected; download the model again",
        ));
    }
    if !metadata.is_file() {
        return Err(Error::file(path, "is not a regular file (a pipe, socket or device?)"));
    }
    Ok(())
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::PermissionDenied => "permission denied; allow this user to read it".into(),
        ErrorKind::NotFound => "disappeared while it was being opened; load the model again".into(),
        // Stable Rust has no ErrorKind for ELOOP (a loop of links), so the message of the operating system is shown.
        _ => format!("cannot be read: {error}"),
    }
}
