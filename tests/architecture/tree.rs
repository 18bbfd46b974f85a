//! The files of the repository, by path.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use crate::rust::RustFile;

/// Directories that are not part of the source.
const IGNORED: [&str; 3] = ["target", "node_modules", "__pycache__"];

/// The endings of files whose text is read.
const TEXTS: [&str; 5] = [".rs", ".wgsl", ".md", ".toml", "justfile"];

/// All files by path, such as `src/batch.rs`. Only files with one of the endings in [`TEXTS`] have a text.
#[derive(Clone)]
pub struct Tree {
    files: BTreeMap<String, Arc<SourceFile>>,
}

/// A file, which is parsed when it is first needed.
pub struct SourceFile {
    pub path: String,
    pub text: String,
    rust: OnceLock<RustFile>,
}

impl SourceFile {
    /// The parsed Rust source.
    pub fn rust(&self) -> &RustFile {
        self.rust.get_or_init(|| RustFile::parse(&self.path, &self.text))
    }
}

impl Tree {
    /// Returns the files of the repository, which are read once.
    pub fn repository() -> &'static Tree {
        static TREE: OnceLock<Tree> = OnceLock::new();
        TREE.get_or_init(|| {
            let mut tree = Tree { files: BTreeMap::new() };
            tree.read(Path::new(env!("CARGO_MANIFEST_DIR")), "");
            assert!(tree.files.len() > 300, "only {} files were found", tree.files.len());
            tree
        })
    }

    fn read(&mut self, directory: &Path, prefix: &str) {
        for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            if name.starts_with('.') && name != ".github" {
                continue;
            }
            let path = format!("{prefix}{name}");
            let is_directory = entry.path().is_dir();
            // Directories count as files too, so that links to them can be checked.
            let is_text = !is_directory && TEXTS.iter().any(|ending| name.ends_with(ending));
            let text = if is_text {
                std::fs::read_to_string(entry.path()).unwrap()
            } else {
                String::new()
            };
            self.set(&path, text);
            if is_directory && !IGNORED.contains(&name.as_str()) {
                self.read(&entry.path(), &format!("{path}/"));
            }
        }
    }

    /// Adds or replaces a file.
    pub fn set(&mut self, path: &str, text: impl Into<String>) {
        let (path, text) = (path.to_owned(), text.into());
        let file = SourceFile { path: path.clone(), text, rust: OnceLock::new() };
        self.files.insert(path, Arc::new(file));
    }

    /// Adds text at the end of a file.
    pub fn append(&mut self, path: &str, text: &str) {
        let whole = format!("{}\n{text}\n", self.text(path));
        self.set(path, whole);
    }

    /// Replaces the first occurrence of a text in a file. Fails if the file does not contain the text.
    pub fn replace(&mut self, path: &str, from: &str, to: &str) {
        let text = self.text(path);
        assert!(text.contains(from), "{path} has no {from:?}");
        self.set(path, text.replacen(from, to, 1));
    }

    /// Removes a file.
    pub fn remove(&mut self, path: &str) {
        assert!(self.files.remove(path).is_some(), "there is no {path}");
    }

    pub fn has(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    pub fn file(&self, path: &str) -> &SourceFile {
        self.files.get(path).unwrap_or_else(|| panic!("there is no {path}"))
    }

    pub fn text(&self, path: &str) -> &str {
        &self.file(path).text
    }

    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Returns the files in a directory and below it whose names end with, for example, `.rs`.
    pub fn below<'a>(
        &'a self,
        directory: &'a str,
        ending: &'a str,
    ) -> impl Iterator<Item = &'a SourceFile> {
        let inside =
            move |path: &str| path.strip_prefix(directory).is_some_and(|p| p.starts_with('/'));
        self.files
            .values()
            .map(Arc::as_ref)
            .filter(move |file| inside(&file.path) && file.path.ends_with(ending))
    }
}
