//! The directory of parts, and what an earlier run left there.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{Entry, JOURNAL, LOCK, MANIFEST, Parts, Settings, part_path, remove, remove_files};
use crate::cli::failure::Failure;
use crate::cli::interrupt::Interrupt;
use crate::cli::output::Layout;
use crate::cli::output::destination::beside;

/// The directory of the parts of an output, made and locked before the model is loaded.
pub struct Place {
    directory: PathBuf,
    path: PathBuf,
    /// Taken by the parts.
    lock: Option<File>,
    /// What an earlier run left was understood.
    known: bool,
    complete: Vec<Entry>,
    /// Of an earlier run.
    manifest: Option<Map<String, Value>>,
    interrupt: Interrupt,
}

impl Place {
    /// The parts of `path`: those of an earlier run where `resume`, else none.
    pub fn open(path: &Path, resume: bool, interrupt: &Interrupt) -> Result<Self, Failure> {
        let directory = beside(path, "parts");
        let failed = |e: io::Error| Failure::file(&directory, "written", &e);
        match fs::create_dir(&directory) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => {}
            // Ours alone until a part counts.
            made => made.map(|()| interrupt.set_unfinished(Some(&directory))).map_err(failed)?,
        }
        let lock = File::create(directory.join(LOCK)).map_err(failed)?;
        if let Err(error) = lock.try_lock() {
            let name = directory.display();
            return Err(Failure::user(match error {
                fs::TryLockError::WouldBlock => {
                    format!("{name}: another vectile is writing there; wait for it or end it")
                }
                fs::TryLockError::Error(error) => format!("{name}: cannot be locked: {error}"),
            }));
        }
        let mut place = Place {
            directory,
            path: path.to_owned(),
            lock: Some(lock),
            known: false,
            complete: Vec::new(),
            manifest: None,
            interrupt: interrupt.clone(),
        };
        place.read()?;
        place.known = true;
        let rows: u64 = place.complete.iter().map(|entry| entry.counts.rows).sum();
        if !resume && rows > 0 {
            return Err(Failure::user(format!(
                "{}: holds {rows} rows of an interrupted run; go on with it by --resume, or remove \
                 the directory to begin anew",
                place.directory.display()
            )));
        }
        Ok(place)
    }

    /// Reads manifest and journal, if there are any.
    fn read(&mut self) -> Result<(), Failure> {
        let manifest = self.directory.join(MANIFEST);
        let bytes = match fs::read(&manifest) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(Failure::file(&manifest, "read", &e)),
        };
        let not_ours = |problem: String| {
            let name = self.directory.display();
            Failure::user(format!("{name}: {problem}; remove the directory to begin anew"))
        };
        let found: Map<String, Value> = serde_json::from_slice(&bytes)
            .map_err(|e| not_ours(format!("{MANIFEST} is not Vectile's: {e}")))?;
        let journal = self.directory.join(JOURNAL);
        let lines = match fs::read_to_string(&journal) {
            Ok(lines) => lines,
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(Failure::file(&journal, "read", &e)),
        };
        let mut complete = Vec::new();
        for line in lines.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let entry: Entry = serde_json::from_str(line)
                .map_err(|e| not_ours(format!("{JOURNAL} is not Vectile's: {e}")))?;
            if entry.part != complete.len() as u64 {
                return Err(not_ours(format!("{JOURNAL} lacks part {}", complete.len())));
            }
            let part = part_path(&self.directory, entry.part);
            let bytes = fs::metadata(&part).map_err(|e| Failure::file(&part, "read", &e))?.len();
            if bytes != entry.bytes {
                return Err(not_ours(format!(
                    "part {} has {bytes} bytes instead of {}",
                    entry.part, entry.bytes
                )));
            }
            complete.push(entry);
        }
        self.complete = complete;
        self.manifest = Some(found);
        Ok(())
    }

    /// The parts, with those of an earlier run under the same settings.
    pub fn begin<'a>(
        mut self,
        layout: Layout,
        settings: Settings<'a>,
    ) -> Result<Parts<'a>, Failure> {
        let mut manifest = self.manifest.take().filter(|_| !self.complete.is_empty());
        if let Some(manifest) = &mut manifest {
            // What the rows say, and not what was asked for: the run may have been gone on with otherwise.
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
            // From here on the parts see to the directory.
            _lock: self.lock.take(),
        };
        match manifest {
            None => remove_files(&parts.directory).map_err(|e| parts.failed(&e))?,
            Some(_) => parts.open_journal().map_err(|e| parts.failed(&e))?,
        }
        Ok(parts)
    }

    fn compare(&self, found: &Map<String, Value>, settings: &Settings) -> Result<(), Failure> {
        let mut differing = Vec::new();
        let mut wanted = settings.known.clone();
        if wanted.iter().all(|(name, value)| same(name, found.get(name), value)) {
            wanted.insert("model_sha256".to_owned(), (settings.model)()?.into());
        }
        for (name, value) in &wanted {
            if !same(name, found.get(name), value) {
                let was = found.get(name).unwrap_or(&Value::Null);
                differing.push(format!("{name} was {} and is {}", shown(was), shown(value)));
            }
        }
        if differing.is_empty() {
            return Ok(());
        }
        Err(Failure::user(format!(
            "--resume: {} was begun with other settings: {}; give the same ones, or remove the \
             directory to begin anew",
            self.directory.display(),
            differing.join("; ")
        )))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.lock.is_some() && self.known && self.complete.is_empty() {
            remove(&self.directory);
        }
    }
}

/// A run in which no row failed can be gone on with as one in which rows may.
fn same(name: &str, was: Option<&Value>, is: &Value) -> bool {
    was == Some(is) || (name == "on_error" && was == Some(&"fail".into()) && is == "null")
}

fn shown(value: &Value) -> String {
    const MOST: usize = 300;
    let text = value.to_string();
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
