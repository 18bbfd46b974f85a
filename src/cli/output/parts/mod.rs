//! Rows in parts, so that a run that ends early, however it ends, can be gone on with.
//!
//! `OUTPUT.parts` holds a manifest of what is being made, the parts and a journal of those that are complete:
//!
//! 1. A part is written as `part.tmp`, synced and given its name. Parts end after a fixed number of rows, or of
//!    bytes of input: where depends on the input alone, and rows do not depend on their neighbours, so a part
//!    that is made again is the same to the bit.
//! 2. Before the first part counts, the manifest is written beside it, synced and given its name.
//! 3. A line in the journal, synced, makes the part count. Half a line at its end is none.
//! 4. At the end parts are joined into `OUTPUT.part`, which is synced and becomes `OUTPUT`; only then the parts go,
//!    the manifest first.
//!
//! What is killed between any two of these has lost the rows of one part at most. An input of one part has nothing
//! to go on with, and no manifest.

mod place;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::destination::{Out, Whole, sync_directory_of};
use super::{Block, Layout, PART_BYTES, PartWriter, WriteError, join};
use crate::cli::failure::Failure;
use crate::cli::interrupt::Interrupt;

pub use place::Place;

const MANIFEST: &str = "manifest.json";
const JOURNAL: &str = "journal.jsonl";
const LOCK: &str = "lock";
const UNFINISHED: &str = "part.tmp";

/// Rows, or about so many bytes of input, that are written at once: what a format makes of rows may depend on
/// how many it is given.
const BATCH_ROWS: usize = 1024;
const BATCH_BYTES: usize = 4 << 20;

/// What the manifest says of a run. Every entry must be the same when it is gone on with.
pub struct Settings<'a> {
    /// Known from the start.
    pub known: Map<String, Value>,
    /// The digest of the model, which takes a while.
    pub model: Box<dyn Fn() -> Result<String, Failure> + Send + 'a>,
}

/// What happened to rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub rows: u64,
    pub truncated: u64,
    pub retried: u64,
    pub failed: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, more: Counts) {
        self.rows += more.rows;
        self.truncated += more.truncated;
        self.retried += more.retried;
        self.failed += more.failed;
    }
}

/// A line of the journal.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Entry {
    part: u64,
    bytes: u64,
    #[serde(flatten)]
    counts: Counts,
}

/// The part that is being written.
struct Open {
    writer: PartWriter,
    file: File,
    counts: Counts,
    /// Bytes of input.
    weight: usize,
    /// Rows that are not written yet.
    waiting: Option<Block>,
    waiting_bytes: usize,
}

/// The parts of an output.
pub struct Parts<'a> {
    directory: PathBuf,
    path: PathBuf,
    layout: Layout,
    settings: Settings<'a>,
    complete: Vec<Entry>,
    journal: Option<File>,
    open: Option<Open>,
    interrupt: Interrupt,
    /// Held as long as this is.
    _lock: Option<File>,
}

impl Drop for Parts<'_> {
    fn drop(&mut self) {
        if self.complete.is_empty() {
            remove(&self.directory);
        }
    }
}

fn part_path(directory: &Path, part: u64) -> PathBuf {
    directory.join(format!("{part:08}.part"))
}

/// Removes what is Vectile's of a directory of parts, but the lock.
fn remove_files(directory: &Path) -> io::Result<()> {
    // Without it the rest means nothing.
    match fs::remove_file(directory.join(MANIFEST)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".part") || name.ends_with(".tmp") || name == JOURNAL {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Removes a directory of parts. What cannot be removed is, without its manifest, not taken for a run.
fn remove(directory: &Path) {
    let removed = remove_files(directory);
    let _ = fs::remove_file(directory.join(LOCK));
    if let Err(error) = removed.and_then(|()| fs::remove_dir(directory)) {
        tracing::debug!(%error, "the directory of parts stays");
    }
}

impl Parts<'_> {
    fn failed(&self, error: &io::Error) -> Failure {
        Failure::file(&self.directory, "written", error)
    }

    /// What was taken so far by complete parts.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        self.complete.iter().for_each(|entry| counts += entry.counts);
        counts
    }

    /// How many rows an interrupted run can be gone on with, and where they are.
    pub fn kept(&self) -> Option<(u64, &Path)> {
        let rows = self.counts().rows;
        (rows > 0).then_some((rows, self.directory.as_path()))
    }

    pub fn write(&mut self, block: &Block) -> Result<(), Failure> {
        let first = block.first;
        self.take(block).map_err(|e| e.at(first, |e| self.failed(e)))
    }

    fn take(&mut self, block: &Block) -> Result<(), WriteError> {
        let mut at = 0;
        while at < block.len() {
            if self.open.is_none() {
                self.open = Some(self.open_part(block.first + at as u64)?);
            }
            let Some(open) = &mut self.open else { continue };
            let waiting = open.waiting.as_ref().map_or(0, Block::len);
            let room = (self.layout.part_rows - open.counts.rows) as usize;
            let most = room.min(BATCH_ROWS - waiting).min(block.len() - at);
            let mut now = 0;
            while now < most && open.waiting_bytes < BATCH_BYTES && open.weight < PART_BYTES {
                let bytes = block.weights[at + now];
                open.weight += bytes;
                open.waiting_bytes += bytes;
                now += 1;
            }
            let rows = block.slice(at..at + now);
            at += now;
            open.counts.rows += now as u64;
            match &mut open.waiting {
                Some(waiting) => waiting.append(rows)?,
                None => open.waiting = Some(rows),
            }
            let full = open.counts.rows == self.layout.part_rows || open.weight >= PART_BYTES;
            let waiting = open.waiting.as_ref().map_or(0, Block::len);
            if full || waiting == BATCH_ROWS || open.waiting_bytes >= BATCH_BYTES {
                open.put(&self.layout)?;
            }
            if full {
                self.commit()?;
            }
        }
        Ok(())
    }

    fn open_part(&self, first: u64) -> Result<Open, WriteError> {
        let file = File::create(self.directory.join(UNFINISHED))?;
        let writer = PartWriter::new(&file, &self.layout, first)?;
        let counts = Counts::default();
        Ok(Open { writer, file, counts, weight: 0, waiting: None, waiting_bytes: 0 })
    }

    /// Makes the part that is written count.
    fn commit(&mut self) -> Result<(), WriteError> {
        let Some(entry) = self.close_part()? else { return Ok(()) };
        if self.complete.is_empty() {
            self.write_manifest()?;
            self.open_journal()?;
        }
        if let Some(journal) = &mut self.journal {
            let mut line = serde_json::to_vec(&entry).map_err(io::Error::from)?;
            line.push(b'\n');
            journal.write_all(&line)?;
            journal.sync_data()?;
        }
        self.complete.push(entry);
        self.interrupt.set_unfinished(None);
        let rows = self.counts().rows;
        tracing::info!(part = entry.part, rows, "a part is complete");
        Ok(())
    }

    /// Ends the part that is written and gives it its name.
    fn close_part(&mut self) -> Result<Option<Entry>, WriteError> {
        let Some(mut open) = self.open.take() else { return Ok(None) };
        open.put(&self.layout)?;
        open.writer.finish()?;
        open.file.sync_all()?;
        let part = self.complete.len() as u64;
        let path = part_path(&self.directory, part);
        fs::rename(self.directory.join(UNFINISHED), &path)?;
        sync_directory_of(&path)?;
        let bytes = open.file.metadata()?.len();
        Ok(Some(Entry { part, bytes, counts: open.counts }))
    }

    fn write_manifest(&self) -> Result<(), WriteError> {
        let mut manifest = self.settings.known.clone();
        manifest.insert("model_sha256".to_owned(), (self.settings.model)()?.into());
        let path = self.directory.join(MANIFEST);
        let temporary = self.directory.join("manifest.tmp");
        let mut file = File::create(&temporary)?;
        serde_json::to_writer_pretty(&mut file, &manifest).map_err(io::Error::from)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        Ok(sync_directory_of(&path)?)
    }

    /// Opens the journal for more lines, without half a line at its end.
    fn open_journal(&mut self) -> io::Result<()> {
        let path = self.directory.join(JOURNAL);
        let mut lines = Vec::new();
        for entry in &self.complete {
            lines.extend(serde_json::to_vec(entry)?);
            lines.push(b'\n');
        }
        let file = File::options().create(true).append(true).open(&path)?;
        // The lines are those that were read: what else there is was never complete.
        file.set_len(lines.len() as u64)?;
        file.sync_all()?;
        sync_directory_of(&path)?;
        self.journal = Some(file);
        Ok(())
    }

    /// Joins the parts into the output.
    pub fn finish(mut self: Box<Self>, interrupt: &Interrupt) -> Result<(), Failure> {
        let ended = self.end();
        let parts = ended.map_err(|e| e.at(0, |e| self.failed(e)))?;
        let rows: u64 = parts.iter().map(|entry| entry.counts.rows).sum();
        let out = Out::Whole(Whole::create(&self.path, interrupt)?);
        let directory = self.directory.clone();
        let files = || {
            parts.iter().map(|entry| {
                let path = part_path(&directory, entry.part);
                File::open(&path).map_err(|e| Failure::file(&path, "read", &e).into())
            })
        };
        join::join(files, rows, &out, &self.layout, interrupt)?;
        out.keep()?;
        // There is nothing more to go on with.
        self.complete.clear();
        Ok(())
    }

    /// Ends the last part.
    fn end(&mut self) -> Result<Vec<Entry>, WriteError> {
        if self.complete.is_empty() {
            // One part, or none: it is joined at once, and there was nothing to keep.
            if self.open.is_none() {
                self.open = Some(self.open_part(0)?);
            }
            return Ok(self.close_part()?.into_iter().collect());
        }
        self.commit()?;
        Ok(self.complete.clone())
    }
}

impl Open {
    /// Writes the rows that wait.
    fn put(&mut self, layout: &Layout) -> Result<(), WriteError> {
        self.waiting_bytes = 0;
        let Some(block) = self.waiting.take() else { return Ok(()) };
        let counted = |flags: &[bool], which: bool| flags.iter().filter(|f| **f == which).count();
        self.counts.truncated += counted(&block.truncated, true) as u64;
        self.counts.failed += counted(&block.valid, false) as u64;
        self.counts.retried += block.retried as u64;
        // The rows themselves were counted when they came.
        self.writer.write(&block, layout).map_err(|e| e.of_row(block.first))
    }
}
