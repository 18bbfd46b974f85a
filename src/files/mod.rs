//! Reads a model's files from a directory or from memory.
//!
//! File names come from the model itself (`modules.json`, `model.safetensors.index.json`), so they are not trusted. A
//! name cannot refer to a file outside the model, and pipes and devices are refused.

mod cache;
mod directory;
mod formats;
mod names;
mod sniff;
mod source;

// The tests create pipes, links and permissions, which only Unix has in this form.
#[cfg(all(test, unix))]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::error::Error;
pub(crate) use cache::{read_cached, write_whole};
use directory::Directory;
pub(crate) use directory::OpenFile;
pub(crate) use names::normalise;
pub(crate) use sniff::sniff;
pub use source::ReadAt;

/// A model's files: a directory, a snapshot of a Hugging Face Hub repository, or bytes in memory.
///
/// Cloning is cheap. Files are read when a model is built, and only the files that the model needs. Pickled weights
/// (`*.bin`, `*.pt`) are never opened. A symbolic link out of the directory is refused, unless it points into the store
/// of a tool: the Hugging Face cache, git-annex, DVC or Nix.
///
/// ```no_run
/// let files = vectile::ModelFiles::from_directory("models/all-MiniLM-L6-v2")?;
/// # Ok::<(), vectile::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ModelFiles {
    backing: Backing,
    label: String,
}

#[derive(Clone)]
enum Backing {
    Directory(Directory),
    Sources(Arc<BTreeMap<String, Arc<dyn ReadAt>>>),
}

/// For files that the caller provides, prints the names only, because the contents would be too long.
impl std::fmt::Debug for Backing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Backing::Directory(directory) => directory.fmt(f),
            Backing::Sources(files) => f.debug_set().entries(files.keys()).finish(),
        }
    }
}

impl ModelFiles {
    /// Returns the files of a model in a directory. `save_pretrained` writes such a directory, and the Hugging Face
    /// cache has one for each snapshot (`models--owner--name/snapshots/<revision>`).
    ///
    /// The directory must exist and be readable. The contents of the directory are checked when the model is built.
    ///
    /// ```no_run
    /// let files = vectile::ModelFiles::from_directory("models/all-MiniLM-L6-v2")?;
    /// # Ok::<(), vectile::Error>(())
    /// ```
    pub fn from_directory(path: impl AsRef<Path>) -> Result<Self, Error> {
        let directory = Directory::open(path.as_ref())?;
        let label = directory.root().display().to_string();
        Ok(ModelFiles { backing: Backing::Directory(directory), label })
    }

    /// Returns the files of a model as `(name, contents)` pairs in memory. Use this function in programs that contain a
    /// model, or that have no file system, such as a browser.
    ///
    /// Names are relative and have forward slashes, as in the repository: `config.json`, `1_Pooling/config.json`. The
    /// call fails if a name is given twice, or if it refers to a file outside the model.
    ///
    /// ```
    /// let files = vectile::ModelFiles::from_bytes([("config.json".to_string(), b"{}".to_vec())])?;
    /// assert_eq!(files.label(), "bytes");
    /// # Ok::<(), vectile::Error>(())
    /// ```
    pub fn from_bytes(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Result<Self, Error> {
        let source = |(name, contents)| (name, Arc::new(contents) as Arc<dyn ReadAt>);
        Self::from_sources("bytes", files.into_iter().map(source))
    }

    /// Returns a model made of `(name, file)` pairs whose files the caller reads, piece by piece. Only the pieces that
    /// are being converted are in memory. `label` is the name that messages use for the model.
    ///
    /// Names are those of [`ModelFiles::from_bytes`].
    ///
    /// ```
    /// use std::sync::Arc;
    /// use vectile::{ModelFiles, ReadAt};
    ///
    /// let config: Arc<dyn ReadAt> = Arc::new(b"{}".to_vec());
    /// let files = ModelFiles::from_sources("an archive", [("config.json".to_string(), config)])?;
    /// assert_eq!(files.label(), "an archive");
    /// # Ok::<(), vectile::Error>(())
    /// ```
    pub fn from_sources(
        label: impl Into<String>,
        files: impl IntoIterator<Item = (String, Arc<dyn ReadAt>)>,
    ) -> Result<Self, Error> {
        let mut held = BTreeMap::new();
        for (name, source) in files {
            let name = normalise(&name)?;
            if held.contains_key(&name) {
                return Err(Error::file(name, "is given twice"));
            }
            held.insert(name, source);
        }
        Ok(ModelFiles { backing: Backing::Sources(Arc::new(held)), label: label.into() })
    }

    /// Replaces the name that messages use for this model.
    #[cfg(feature = "hub")]
    pub(crate) fn with_label(self, label: impl Into<String>) -> Self {
        ModelFiles { label: label.into(), ..self }
    }

    /// Returns the name that messages use for this model: the directory, the repository, or `bytes`.
    ///
    /// ```
    /// let files = vectile::ModelFiles::from_bytes([])?;
    /// assert_eq!(files.label(), "bytes");
    /// # Ok::<(), vectile::Error>(())
    /// ```
    pub fn label(&self) -> String {
        self.label.clone()
    }

    /// Returns the directory that holds the model, or `None` for files in memory.
    #[cfg(feature = "lab")]
    pub(crate) fn directory(&self) -> Option<&Path> {
        match &self.backing {
            Backing::Directory(directory) => Some(directory.root()),
            Backing::Sources(_) => None,
        }
    }

    /// Returns true if the model has a regular file with this name. Fails if the name is a broken link, or a link that
    /// points outside the model.
    pub(crate) fn exists(&self, name: &str) -> Result<bool, Error> {
        let name = normalise(name)?;
        match &self.backing {
            Backing::Directory(directory) => Ok(directory.find(&name)?.is_some()),
            Backing::Sources(files) => Ok(files.contains_key(&name)),
        }
    }

    /// Returns the sorted names of the files directly below `prefix`, for messages. If a directory cannot be read, its
    /// names are left out.
    pub(crate) fn names(&self, prefix: &str) -> Vec<String> {
        match &self.backing {
            Backing::Directory(directory) => directory.names(prefix),
            Backing::Sources(files) => {
                let below = files.keys().filter_map(|name| name.strip_prefix(prefix));
                below.filter(|name| !name.contains('/')).map(str::to_owned).collect()
            }
        }
    }

    /// Returns the content of a file of at most `limit` bytes. Returns `None` if the model does not have this file.
    pub(crate) fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let Some(source) = self.open(name)? else { return Ok(None) };
        if source.len() > limit {
            let problem = format!("has {} bytes; at most {limit} are allowed", source.len());
            return Err(Error::file(source.name(), problem));
        }
        // The cast is lossless, because the length is at most `limit`, and callers pass limits below 4 GiB.
        let mut contents = vec![0; source.len() as usize];
        source.read_at(0, &mut contents)?;
        Ok(Some(contents))
    }

    /// Opens a file for reading by offset. Returns `None` if the model does not have this file.
    pub(crate) fn open(&self, name: &str) -> Result<Option<ModelFile>, Error> {
        let name = normalise(name)?;
        let contents = match &self.backing {
            Backing::Directory(directory) => directory.open_file(&name)?.map(Contents::File),
            Backing::Sources(files) => files.get(&name).cloned().map(Contents::Source),
        };
        Ok(contents.map(|contents| ModelFile { name, contents }))
    }
}

/// One file of a model, whose content is read by offset.
#[derive(Debug)]
pub(crate) struct ModelFile {
    name: String,
    contents: Contents,
}

enum Contents {
    File(OpenFile),
    Source(Arc<dyn ReadAt>),
}

/// Prints only the size of a file that the caller reads, because the caller's type need not implement `Debug`.
impl std::fmt::Debug for Contents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Contents::File(file) => file.fmt(f),
            Contents::Source(source) => write!(f, "{} bytes", source.size()),
        }
    }
}

impl ModelFile {
    /// Returns the file's length in bytes when it was opened.
    pub fn len(&self) -> u64 {
        match &self.contents {
            Contents::File(file) => file.len(),
            Contents::Source(source) => source.size(),
        }
    }

    /// Returns the file's name relative to the model.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Fills `into` with the bytes of the file from `offset` on. Fails if the file has fewer bytes.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        let end = offset.checked_add(into.len() as u64);
        if end.is_none_or(|end| end > self.len()) {
            let problem = format!(
                "cannot read {} bytes at offset {offset}: the file has {} bytes; the file is cut \
                 short, or its header is wrong; download the file again",
                into.len(),
                self.len()
            );
            return Err(Error::file(&self.name, problem));
        }
        let read = match &self.contents {
            Contents::File(file) => file.read_at(offset, into),
            Contents::Source(source) => source.read_at(offset, into),
        };
        read.map_err(|problem| Error::file(&self.name, problem))
    }
}
