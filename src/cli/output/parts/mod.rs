//! Stores rows in parts, so that a run can be resumed even if it was killed.
//!
//! `OUTPUT.parts` holds a manifest of the run's settings, the parts, and a journal of the complete parts:
//!
//! 1. A part is written as `part.tmp`, synced and renamed. A part ends after a fixed number of rows or bytes of input.
//!    The end of a part depends only on the input, and a row does not depend on its neighbours. If a part is written
//!    again, it is therefore byte-identical to the first version.
//! 2. Before the first part is added to the journal, the manifest is written to the same directory, synced and renamed.
//! 3. A part is complete once its line in the journal is synced. An incomplete last line of the journal is ignored.
//! 4. At the end the parts are joined into `OUTPUT.part`, which is synced and renamed to `OUTPUT`. Then the manifest is
//!    removed, and after it the parts.
//!
//! A run that is killed between any two of these steps loses the rows of at most one part. An input that fits into
//! one part gets no manifest, since there is nothing to resume.

pub mod directory;

use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::block::Block;
use super::destination::{AtomicFile, OpenDestination, sync_directory_of};
use super::formats::PartWriter;
use super::join;
use super::layout::{Layout, PART_BYTES};
use super::row_format::WriteError;
use crate::cli::failure::Failure;
use crate::cli::interrupt::Interrupt;

const MANIFEST: &str = "manifest.json";
const JOURNAL: &str = "journal.jsonl";
const LOCK_FILE: &str = "lock";
const UNFINISHED_PART: &str = "part.tmp";

/// The maximum number of rows in one write. A write also ends once the input of its rows has [`BATCH_BYTES`] bytes.
/// Both limits are fixed, because in some formats the bytes of the same rows depend on how the rows are divided into
/// writes.
const BATCH_ROWS: usize = 1024;
const BATCH_BYTES: usize = 4 << 20;

/// The settings of a run, as its manifest holds them. A resumed run must have the same settings.
pub struct RunSettings<'a> {
    /// All settings except the digest of the model.
    pub known: Map<String, Value>,
    /// Computes the digest of the model, which takes a while.
    pub model_digest: Box<dyn Fn() -> Result<String, Failure> + Send + 'a>,
}

/// The numbers of rows that were written, truncated, run again with f32 activations, and without a vector.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowCounts {
    pub rows: u64,
    pub truncated: u64,
    pub retried: u64,
    pub failed: u64,
}

impl std::ops::AddAssign for RowCounts {
    fn add_assign(&mut self, more: RowCounts) {
        self.rows += more.rows;
        self.truncated += more.truncated;
        self.retried += more.retried;
        self.failed += more.failed;
    }
}

/// A line of the journal, which describes a complete part.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct JournalEntry {
    part: u64,
    bytes: u64,
    #[serde(flatten)]
    counts: RowCounts,
}

/// A part that is being written.
struct OpenPart {
    writer: PartWriter,
    file: File,
    counts: RowCounts,
    /// The total size of the part's rows in the input, in bytes.
    weight: usize,
    /// The rows of the part that are not written yet.
    waiting: Option<Block>,
    waiting_bytes: usize,
}

/// An output that is written in parts.
pub struct Parts<'a> {
    directory: PathBuf,
    path: PathBuf,
    layout: Layout,
    settings: RunSettings<'a>,
    complete: Vec<JournalEntry>,
    journal: Option<File>,
    open: Option<OpenPart>,
    interrupt: Interrupt,
    /// The lock of the directory, which is held until this value is dropped.
    lock: Option<File>,
}

impl Drop for Parts<'_> {
    fn drop(&mut self) {
        if self.complete.is_empty() {
            (self.open, self.journal) = (None, None);
            remove(&self.directory, self.lock.take());
        }
    }
}

fn part_path(directory: &Path, part: u64) -> PathBuf {
    directory.join(format!("{part:08}.part"))
}

/// Removes the files of an earlier run from a directory of parts, except the lock.
fn remove_files(directory: &Path) -> io::Result<()> {
    // The manifest is removed first, because a later run ignores the other files if there is no manifest.
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

/// Removes a directory of parts. Later runs ignore files that cannot be removed, because the manifest is gone.
fn remove(directory: &Path, mut lock: Option<File>) {
    let removed = remove_files(directory);
    if cfg!(windows) {
        // On Windows, some file systems remove a directory only after its files are closed, so the lock file is closed
        // here. On other systems, the lock is held until the directory is gone.
        lock = None;
    }
    let _ = fs::remove_file(directory.join(LOCK_FILE));
    if let Err(error) = removed.and_then(|()| fs::remove_dir(directory)) {
        tracing::debug!(%error, "the directory with the parts of the output could not be removed");
    }
    drop(lock);
}

impl Parts<'_> {
    fn failed(&self, error: &io::Error) -> Failure {
        Failure::file(&self.directory, "written", error)
    }

    /// Returns the sum of the counts of all complete parts.
    pub fn counts(&self) -> RowCounts {
        let mut counts = RowCounts::default();
        self.complete.iter().for_each(|entry| counts += entry.counts);
        counts
    }

    /// Returns the number of rows that a run with `--resume` will not embed again, and the directory of these rows.
    pub fn resumable(&self) -> Option<(u64, &Path)> {
        let rows = self.counts().rows;
        (rows > 0).then_some((rows, self.directory.as_path()))
    }

    /// Appends the rows of a block.
    pub fn write(&mut self, block: &Block) -> Result<(), Failure> {
        let first = block.first;
        self.append(block).map_err(|e| e.into_failure(first, |e| self.failed(e)))
    }

    fn append(&mut self, block: &Block) -> Result<(), WriteError> {
        let mut at = 0;
        while at < block.len() {
            if self.open.is_none() {
                self.open = Some(self.open_part(block.first + at as u64)?);
            }
            let Some(open) = &mut self.open else { continue };
            let waiting = open.waiting.as_ref().map_or(0, Block::len);
            let room = (self.layout.part_rows - open.counts.rows) as usize;
            let maximum = room.min(BATCH_ROWS - waiting).min(block.len() - at);
            let mut rows = 0;
            while rows < maximum && open.waiting_bytes < BATCH_BYTES && open.weight < PART_BYTES {
                let bytes = block.weights[at + rows];
                open.weight += bytes;
                open.waiting_bytes += bytes;
                rows += 1;
            }
            let piece = block.slice(at..at + rows);
            at += rows;
            open.counts.rows += rows as u64;
            match &mut open.waiting {
                Some(waiting) => waiting.append(piece)?,
                None => open.waiting = Some(piece),
            }
            let full = open.counts.rows == self.layout.part_rows || open.weight >= PART_BYTES;
            let waiting = open.waiting.as_ref().map_or(0, Block::len);
            if full || waiting == BATCH_ROWS || open.waiting_bytes >= BATCH_BYTES {
                open.write_waiting(&self.layout)?;
            }
            if full {
                self.commit()?;
            }
        }
        Ok(())
    }

    fn open_part(&self, first: u64) -> Result<OpenPart, WriteError> {
        let file = File::create(self.directory.join(UNFINISHED_PART))?;
        let writer = PartWriter::new(&file, &self.layout, first)?;
        let counts = RowCounts::default();
        Ok(OpenPart { writer, file, counts, weight: 0, waiting: None, waiting_bytes: 0 })
    }

    /// Completes the open part and adds it to the journal.
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
        tracing::info!(part = entry.part, rows, "part complete");
        Ok(())
    }

    /// Completes the open part and renames its file.
    fn close_part(&mut self) -> Result<Option<JournalEntry>, WriteError> {
        let Some(mut open) = self.open.take() else { return Ok(None) };
        open.write_waiting(&self.layout)?;
        open.writer.finish()?;
        open.file.sync_all()?;
        let part = self.complete.len() as u64;
        let path = part_path(&self.directory, part);
        fs::rename(self.directory.join(UNFINISHED_PART), &path)?;
        sync_directory_of(&path)?;
        let bytes = open.file.metadata()?.len();
        Ok(Some(JournalEntry { part, bytes, counts: open.counts }))
    }

    fn write_manifest(&self) -> Result<(), WriteError> {
        let mut manifest = self.settings.known.clone();
        manifest.insert("model_sha256".to_owned(), (self.settings.model_digest)()?.into());
        let path = self.directory.join(MANIFEST);
        let temporary = self.directory.join("manifest.tmp");
        let mut file = File::create(&temporary)?;
        let mut bytes = serde_json::to_vec_pretty(&manifest).map_err(io::Error::from)?;
        bytes.push(b'\n');
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        Ok(sync_directory_of(&path)?)
    }

    /// Opens the journal to append lines, and removes an incomplete last line.
    fn open_journal(&mut self) -> io::Result<()> {
        let path = self.directory.join(JOURNAL);
        let mut lines = Vec::new();
        for entry in &self.complete {
            lines.extend(serde_json::to_vec(entry)?);
            lines.push(b'\n');
        }
        // Windows cannot shorten a file that was opened to append, so the journal is opened to write.
        let mut file = File::options().create(true).write(true).truncate(false).open(&path)?;
        // `lines` holds all complete lines of the journal, so `set_len` cuts off only an unfinished line after them.
        file.set_len(lines.len() as u64)?;
        file.seek(io::SeekFrom::End(0))?;
        file.sync_all()?;
        sync_directory_of(&path)?;
        self.journal = Some(file);
        Ok(())
    }

    /// Joins the parts into the output.
    pub fn finish(mut self: Box<Self>, interrupt: &Interrupt) -> Result<(), Failure> {
        let ended = self.end_last_part();
        let parts = ended.map_err(|e| e.into_failure(0, |e| self.failed(e)))?;
        let rows: u64 = parts.iter().map(|entry| entry.counts.rows).sum();
        let out = OpenDestination::File(AtomicFile::create(&self.path, interrupt)?);
        let directory = self.directory.clone();
        let files = || {
            parts.iter().map(|entry| {
                let path = part_path(&directory, entry.part);
                File::open(&path).map_err(|e| Failure::file(&path, "read", &e).into())
            })
        };
        join::join(files, rows, &out, &self.layout, interrupt)?;
        out.commit()?;
        // All rows are in the output, so dropping `self` may remove the parts.
        self.complete.clear();
        Ok(())
    }

    /// Completes the last part and returns all parts.
    fn end_last_part(&mut self) -> Result<Vec<JournalEntry>, WriteError> {
        if self.complete.is_empty() {
            // If one part holds all rows, this part becomes the output without being joined, so it needs no journal.
            if self.open.is_none() {
                self.open = Some(self.open_part(0)?);
            }
            return Ok(self.close_part()?.into_iter().collect());
        }
        self.commit()?;
        Ok(self.complete.clone())
    }
}

impl OpenPart {
    /// Writes the rows of the open part that are not written yet, even if they do not fill a write.
    fn write_waiting(&mut self, layout: &Layout) -> Result<(), WriteError> {
        self.waiting_bytes = 0;
        let Some(block) = self.waiting.take() else { return Ok(()) };
        let counted = |flags: &[bool], which: bool| flags.iter().filter(|f| **f == which).count();
        self.counts.truncated += counted(&block.truncated, true) as u64;
        self.counts.failed += counted(&block.valid, false) as u64;
        self.counts.retried += block.retried as u64;
        // `counts.rows` is not updated here, because `append` has already counted the rows of this block.
        self.writer.write(&block, layout).map_err(|e| e.in_block(block.first))
    }
}
