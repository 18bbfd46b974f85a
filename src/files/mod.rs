//! A directory on disk or files held in memory, behind one small reading interface.
//!
//! Names come from the model itself (`modules.json`, `model.safetensors.index.json`), so they are
//! not trusted: a name may not leave the model, and a file may not be a pipe or a device.

mod directory;
mod names;
mod sniff;
mod verdicts;

// Pipes, links and permissions as Unix has them.
#[cfg(all(test, unix))]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::error::Error;
use directory::Directory;
pub(crate) use directory::OpenFile;
pub(crate) use names::normalise;
pub(crate) use sniff::sniff;
pub(crate) use verdicts::{
    F16Record, read_f16_record, read_pipelines, read_tuned, read_verdict, write_pipelines,
    write_verdict,
};
#[cfg(feature = "lab")]
pub(crate) use verdicts::{f16_record_path, write_f16_record, write_tuned};

/// Where a model's files are: a directory, a snapshot of a Hugging Face Hub repository, or bytes.
///
/// Cheap to clone. Nothing is read until a model is built from it, and then only the files that
/// model needs; `*.bin` and other pickled weights are never opened. File names inside the model may
/// not leave it: links out of the directory are refused, except into the blobs of the Hugging Face
/// cache that the directory itself is part of.
///
/// ```no_run
/// let files = vectile::ModelFiles::from_directory("models/all-MiniLM-L6-v2")?;
/// # Ok::<(), vectile::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ModelFiles {
    place: Place,
    label: String,
}

#[derive(Clone)]
enum Place {
    Directory(Directory),
    Bytes(Arc<BTreeMap<String, Arc<Vec<u8>>>>),
}

/// Lists the names of files in memory and never their contents.
impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Directory(directory) => directory.fmt(f),
            Place::Bytes(files) => f.debug_set().entries(files.keys()).finish(),
        }
    }
}

impl ModelFiles {
    /// Returns the files of a model in a directory, as saved by `save_pretrained` or found in the
    /// Hugging Face cache (`models--owner--name/snapshots/<revision>`).
    ///
    /// The directory must exist and be readable; what is in it is looked at when the model is built.
    ///
    /// ```no_run
    /// let files = vectile::ModelFiles::from_directory("models/all-MiniLM-L6-v2")?;
    /// # Ok::<(), vectile::Error>(())
    /// ```
    pub fn from_directory(path: impl AsRef<Path>) -> Result<Self, Error> {
        let directory = Directory::open(path.as_ref())?;
        let label = directory.root().display().to_string();
        Ok(ModelFiles { place: Place::Directory(directory), label })
    }

    /// Returns a model made of `(name, contents)` pairs, for programs that carry a model inside
    /// themselves or have no file system (a browser).
    ///
    /// Names are relative with forward slashes, as in the repository: `config.json`,
    /// `1_Pooling/config.json`. A name given twice, or one that would leave the model, is an error.
    ///
    /// ```
    /// let files = vectile::ModelFiles::from_bytes([("config.json".to_string(), b"{}".to_vec())])?;
    /// assert_eq!(files.label(), "bytes");
    /// # Ok::<(), vectile::Error>(())
    /// ```
    pub fn from_bytes(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Result<Self, Error> {
        let mut held = BTreeMap::new();
        for (name, contents) in files {
            let name = normalise(&name)?;
            if held.contains_key(&name) {
                return Err(Error::file(name, "is given twice"));
            }
            held.insert(name, Arc::new(contents));
        }
        Ok(ModelFiles { place: Place::Bytes(Arc::new(held)), label: "bytes".into() })
    }

    /// Returns the model of a Hugging Face Hub repository, `owner/name` or `name`, downloading what
    /// is missing into the Hub's own cache.
    ///
    /// Only configuration, tokenizer and safetensors files are fetched. `revision` is a branch, tag
    /// or commit; `None` is `main`. When the network does not answer, a revision that is in the
    /// cache is used as it is. Cache directory, endpoint and access token are those of the Hub's own
    /// tools (`HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN`, `hf auth login`).
    ///
    /// ```no_run
    /// let files = vectile::ModelFiles::from_hub("sentence-transformers/all-MiniLM-L6-v2", None)?;
    /// # Ok::<(), vectile::Error>(())
    /// ```
    #[cfg(feature = "hub")]
    pub fn from_hub(repo: &str, revision: Option<&str>) -> Result<Self, Error> {
        let snapshot = crate::hub::fetch(repo, revision, &crate::hub::Place::default())?;
        Ok(ModelFiles { label: repo.to_string(), ..Self::from_directory(snapshot)? })
    }

    /// Returns how messages call this model: the directory, the repository, or `bytes`.
    ///
    /// ```
    /// let files = vectile::ModelFiles::from_bytes([])?;
    /// assert_eq!(files.label(), "bytes");
    /// # Ok::<(), vectile::Error>(())
    /// ```
    pub fn label(&self) -> String {
        self.label.clone()
    }

    /// The directory that holds the model, `None` for files in memory.
    #[cfg(feature = "lab")]
    pub(crate) fn directory(&self) -> Option<&Path> {
        match &self.place {
            Place::Directory(directory) => Some(directory.root()),
            Place::Bytes(_) => None,
        }
    }

    /// Whether the model has this regular file. A link that leads nowhere or out of the model is an
    /// error rather than an absence.
    pub(crate) fn exists(&self, name: &str) -> Result<bool, Error> {
        let name = normalise(name)?;
        match &self.place {
            Place::Directory(directory) => Ok(directory.find(&name)?.is_some()),
            Place::Bytes(files) => Ok(files.contains_key(&name)),
        }
    }

    /// The whole of a file of at most `limit` bytes, or `None` if the model does not have it.
    pub(crate) fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let Some(source) = self.open(name)? else { return Ok(None) };
        if source.len() > limit {
            let problem = format!("has {} bytes; at most {limit} are read", source.len());
            return Err(Error::file(source.name(), problem));
        }
        // At most `limit`, which callers keep far below the address space.
        let mut contents = vec![0; source.len() as usize];
        source.read_at(0, &mut contents)?;
        Ok(Some(contents))
    }

    /// The file, opened once for reading by offset, or `None` if the model does not have it.
    pub(crate) fn open(&self, name: &str) -> Result<Option<Source>, Error> {
        let name = normalise(name)?;
        let contents = match &self.place {
            Place::Directory(directory) => directory.open_file(&name)?.map(Contents::File),
            Place::Bytes(files) => files.get(&name).cloned().map(Contents::Bytes),
        };
        Ok(contents.map(|contents| Source { name, contents }))
    }
}

/// One file of a model, read by offset.
#[derive(Debug)]
pub(crate) struct Source {
    name: String,
    contents: Contents,
}

#[derive(Debug)]
enum Contents {
    File(OpenFile),
    Bytes(Arc<Vec<u8>>),
}

impl Source {
    /// Its length in bytes when it was opened.
    pub fn len(&self) -> u64 {
        match &self.contents {
            Contents::File(file) => file.len(),
            Contents::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// Its name, relative to the model.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Fills `into` from `offset`, or fails: never a part.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        let end = offset.checked_add(into.len() as u64);
        if end.is_none_or(|end| end > self.len()) {
            let problem = format!(
                "{} bytes wanted at offset {offset}, and the file has {}; it is cut short or its header is wrong",
                into.len(),
                self.len()
            );
            return Err(Error::file(&self.name, problem));
        }
        match &self.contents {
            Contents::File(file) => {
                file.read_at(offset, into).map_err(|problem| Error::file(&self.name, problem))
            }
            Contents::Bytes(bytes) => {
                // In range: checked above against the same length.
                let start = offset as usize;
                into.copy_from_slice(&bytes[start..start + into.len()]);
                Ok(())
            }
        }
    }
}
