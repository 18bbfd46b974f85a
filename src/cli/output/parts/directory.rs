//! The directory of parts, and the parts that an earlier run left in it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{
    JOURNAL, JournalEntry, LOCK_FILE, MANIFEST, Parts, RunSettings, part_path, remove, remove_files,
};
use crate::cli::failure::Failure;
use crate::cli::interrupt::Interrupt;
use crate::cli::output::destination::beside;
use crate::cli::output::layout::Layout;

/// The directory that holds the parts of an output. The directory is created and locked before the model is loaded.
pub struct PartsDirectory {
    directory: PathBuf,
    /// The output file, into which the parts are joined at the end.
    path: PathBuf,
    /// The lock on the directory. The lock moves to [`Parts`] when the run begins.
    lock: Option<File>,
    /// Is true if the files of an earlier run were read without errors.
    is_readable: bool,
    complete: Vec<JournalEntry>,
    /// The manifest of an earlier run.
    manifest: Option<Map<String, Value>>,
    interrupt: Interrupt,
}

impl PartsDirectory {
    /// Opens the directory `path.parts`. Fails if the directory holds parts of an earlier run and `resume` is not set.
    pub fn open(path: &Path, resume: bool, interrupt: &Interrupt) -> Result<Self, Failure> {
        let directory = beside(path, "parts");
        let failed = |e: io::Error| Failure::file(&directory, "written", &e);
        match fs::create_dir(&directory) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => {}
            // If Ctrl-C is pressed before the first part is complete, the directory is removed.
            made => made.map(|()| interrupt.set_unfinished(Some(&directory))).map_err(failed)?,
        }
        let lock = File::create(directory.join(LOCK_FILE)).map_err(failed)?;
        if let Err(error) = lock.try_lock() {
            let name = directory.display();
            return Err(Failure::user(match error {
                fs::TryLockError::WouldBlock => {
                    format!(
                        "{name}: another vectile process is writing to this directory; wait until that \
                         process ends, or stop it"
                    )
                }
                fs::TryLockError::Error(error) => format!("{name}: cannot be locked: {error}"),
            }));
        }
        let mut opened = PartsDirectory {
            directory,
            path: path.to_owned(),
            lock: Some(lock),
            is_readable: false,
            complete: Vec::new(),
            manifest: None,
            interrupt: interrupt.clone(),
        };
        opened.read()?;
        opened.is_readable = true;
        let rows: u64 = opened.complete.iter().map(|entry| entry.counts.rows).sum();
        if !resume && rows > 0 {
            return Err(Failure::user(format!(
                "{}: holds {rows} rows of an interrupted run; resume the run with --resume, or \
                 remove the directory to start again",
                opened.directory.display()
            )));
        }
        Ok(opened)
    }

    /// Reads the manifest and the journal, if they exist.
    fn read(&mut self) -> Result<(), Failure> {
        let manifest = self.directory.join(MANIFEST);
        let bytes = match fs::read(&manifest) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(Failure::file(&manifest, "read", &e)),
        };
        let unusable = |problem: String| {
            let name = self.directory.display();
            Failure::user(format!("{name}: {problem}; remove the directory to start again"))
        };
        let found: Map<String, Value> = serde_json::from_slice(&bytes)
            .map_err(|e| unusable(format!("{MANIFEST} cannot be read: {e}")))?;
        let journal = self.directory.join(JOURNAL);
        let lines = match fs::read_to_string(&journal) {
            Ok(lines) => lines,
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(Failure::file(&journal, "read", &e)),
        };
        let mut complete = Vec::new();
        for line in lines.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let entry: JournalEntry = serde_json::from_str(line)
                .map_err(|e| unusable(format!("{JOURNAL} cannot be read: {e}")))?;
            if entry.part != complete.len() as u64 {
                return Err(unusable(format!(
                    "{JOURNAL} has no entry for part {} of the output",
                    complete.len()
                )));
            }
            let part = part_path(&self.directory, entry.part);
            let bytes = fs::metadata(&part).map_err(|e| Failure::file(&part, "read", &e))?.len();
            if bytes != entry.bytes {
                return Err(unusable(format!(
                    "part {} of the output has {bytes} bytes instead of {}",
                    entry.part, entry.bytes
                )));
            }
            complete.push(entry);
        }
        self.complete = complete;
        self.manifest = Some(found);
        Ok(())
    }

    /// Begins the run. If an earlier run had the same settings, this run continues after its complete parts.
    pub fn begin<'a>(
        mut self,
        layout: Layout,
        settings: RunSettings<'a>,
    ) -> Result<Parts<'a>, Failure> {
        let mut manifest = self.manifest.take().filter(|_| !self.complete.is_empty());
        if let Some(manifest) = &mut manifest {
            // The value of `on_error` in the manifest may be outdated, because the latest run may have resumed with
            // another `--on-error`. The value is therefore computed from the counts of failed rows.
            let failed = self.complete.iter().any(|entry| entry.counts.failed > 0);
            manifest.insert("on_error".into(), if failed { "null" } else { "fail" }.into());
            self.compare(manifest, &settings)?;
        }
        let complete = std::mem::take(&mut self.complete);
        let mut parts = Parts {
            directory: self.directory.clone(),
            path: self.path.clone(),
            layout,
            settings,
            complete,
            journal: None,
            open: None,
            interrupt: self.interrupt.clone(),
            // From here on, `Parts` holds the lock, and its drop removes the directory when needed.
            lock: self.lock.take(),
        };
        match manifest {
            None => remove_files(&parts.directory).map_err(|e| parts.failed(&e))?,
            Some(_) => parts.open_journal().map_err(|e| parts.failed(&e))?,
        }
        Ok(parts)
    }

    /// Checks that an earlier run had the same settings. The digest of the model is computed only if all other settings
    /// are equal.
    fn compare(&self, found: &Map<String, Value>, settings: &RunSettings) -> Result<(), Failure> {
        let mut differing = Vec::new();
        let mut current = settings.known.clone();
        if current.iter().all(|(name, value)| same(name, found.get(name), value)) {
            current.insert("model_sha256".to_owned(), (settings.model_digest)()?.into());
        }
        for (name, value) in &current {
            if !same(name, found.get(name), value) {
                let was = found.get(name).unwrap_or(&Value::Null);
                differing.push(format!("{name} was {} and is now {}", shown(was), shown(value)));
            }
        }
        if differing.is_empty() {
            return Ok(());
        }
        Err(Failure::user(format!(
            "--resume: {} was written with other settings: {}; use the same settings, or remove the directory \
             to start again",
            self.directory.display(),
            differing.join("; ")
        )))
    }
}

impl Drop for PartsDirectory {
    fn drop(&mut self) {
        if self.lock.is_some() && self.is_readable && self.complete.is_empty() {
            remove(&self.directory, self.lock.take());
        }
    }
}

/// Returns true if a run can be resumed although a setting changed from `was` to `is`. The only allowed change is from
/// `--on-error fail` to `--on-error null`, if no row has failed so far.
fn same(name: &str, was: Option<&Value>, is: &Value) -> bool {
    was == Some(is) || (name == "on_error" && was == Some(&"fail".into()) && is == "null")
}

/// Returns the value of a setting, shortened for messages.
fn shown(value: &Value) -> String {
    const MAXIMUM_CHARS: usize = 300;
    let text = value.to_string();
    match text.char_indices().nth(MAXIMUM_CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
