//! Downloads the files of a model, and resumes interrupted downloads.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt};
use hf_hub::HFError;
use hf_hub::progress::{DownloadEvent, ProgressEvent, ProgressHandler};
use hf_hub::repository::{HFRepository, RepoTreeEntry, RepoTypeModel};
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use super::cache::Cache;
use super::error::{DownloadFault, did_not_answer, explain, status};
use super::wanted::{Listed, is_plain, settings_of, weights_of};
use super::{DownloadProgress, HubOptions, PATIENCE, silence};
use crate::config::module_paths;
use crate::files::ModelFiles;

/// The minimum size in bytes of a file whose download can be resumed. Smaller files are downloaded again from
/// their beginning after an interruption.
const RESUMED_FROM: u64 = if cfg!(test) { 1000 } else { 1 << 20 };
/// The number of consecutive attempts without a transferred byte after which a download fails.
const ATTEMPTS: usize = 3;

pub(super) struct Download<'a> {
    pub repository: HFRepository<RepoTypeModel>,
    pub cache: &'a Cache,
    pub options: &'a HubOptions,
    /// The time limit for the Hub's first answer.
    pub patience: Duration,
}

/// Counts the bytes that arrive, and stores the time of the last arrival.
struct Activity {
    started: Instant,
    /// Milliseconds from `started` to the last arrival of bytes.
    last: AtomicU64,
    /// The number of bytes that arrived in the current call.
    bytes: AtomicU64,
}

impl ProgressHandler for Activity {
    fn on_progress(&self, event: &ProgressEvent) {
        self.last.store(self.started.elapsed().as_millis() as u64, Ordering::Relaxed);
        match event {
            ProgressEvent::Download(DownloadEvent::AggregateProgress {
                bytes_completed, ..
            }) => {
                self.bytes.fetch_max(*bytes_completed, Ordering::Relaxed);
            }
            ProgressEvent::Download(DownloadEvent::Progress { files }) => {
                let most = files.iter().map(|file| file.bytes_completed).max().unwrap_or(0);
                self.bytes.fetch_max(most, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

impl Download<'_> {
    /// Downloads every file that the model needs, and returns the snapshot's directory.
    pub async fn run(&self) -> Result<PathBuf, DownloadFault> {
        let listing = self.list().await?;
        let first = self.snapshot(&settings_of(&listing, ""), 0, 0).await?;
        let files = ModelFiles::from_directory(&first)?;
        let mut wanted = settings_of(&listing, "");
        for directory in module_paths(&files)? {
            if !directory.is_empty() {
                wanted.extend(settings_of(&listing, &directory));
            }
            wanted.extend(weights_of(&listing, &directory));
        }
        let total = wanted.iter().map(|file| file.size).sum();
        let mut done =
            wanted.iter().filter(|file| is_whole(&first, file)).map(|file| file.size).sum();
        self.report(done, total);
        for file in &wanted {
            if file.size >= RESUMED_FROM
                && !is_whole(&first, file)
                && self.resume(file, commit_of(&first), done, total).await?
            {
                done += file.size;
            }
        }
        let snapshot = self.snapshot(&wanted, done.min(total), total).await?;
        if snapshot != first {
            let problem = "changed on the Hub during the download; load the model again";
            return Err(DownloadFault::Other(problem.to_owned()));
        }
        if let Some(file) = wanted.iter().find(|file| !is_whole(&snapshot, file)) {
            let path = snapshot.join(&file.name);
            let real = path.canonicalize().unwrap_or(path);
            return Err(DownloadFault::Other(format!(
                "{} has the wrong size: the Hub lists {} bytes, and {} bytes arrived; delete {} and load the model again",
                file.name,
                file.size,
                std::fs::metadata(&real).map_or(0, |metadata| metadata.len()),
                real.display()
            )));
        }
        self.report(total, total);
        Ok(snapshot)
    }

    fn report(&self, done: u64, total: u64) {
        if let Some(progress) = &self.options.on_progress {
            progress(DownloadProgress { done, total });
        }
    }

    fn fault(&self, error: HFError) -> DownloadFault {
        if did_not_answer(&error) {
            return DownloadFault::Silent(silence(Some(&error), self.patience));
        }
        let problem = explain(&self.cache.revision, &error);
        if status(&error) == 429 {
            DownloadFault::Busy(problem)
        } else {
            DownloadFault::Other(problem)
        }
    }

    /// Returns the files of the revision.
    async fn list(&self) -> Result<Vec<Listed>, DownloadFault> {
        let listing = async {
            let tree =
                self.repository.list_tree().revision(self.cache.revision.clone()).recursive(true);
            tree.send()?.try_collect::<Vec<_>>().await
        };
        let tree = match timeout(self.patience, listing).await {
            Ok(tree) => tree.map_err(|error| self.fault(error))?,
            Err(_) => return Err(DownloadFault::Silent(silence(None, self.patience))),
        };
        let file = |entry| match entry {
            RepoTreeEntry::File { path, size, .. } => Some(Listed { name: path, size }),
            RepoTreeEntry::Directory { .. } => None,
        };
        Ok(tree.into_iter().filter_map(file).filter(|file| is_plain(&file.name)).collect())
    }

    /// Downloads the files that the snapshot lacks, and links them into the snapshot. If an earlier run downloaded a
    /// part of a file, only the missing bytes are downloaded.
    async fn snapshot(
        &self,
        files: &[Listed],
        done: u64,
        total: u64,
    ) -> Result<PathBuf, DownloadFault> {
        let activity = Arc::new(Activity {
            started: Instant::now(),
            last: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        });
        let names: Vec<String> = files.iter().map(|file| file.name.clone()).collect();
        let download = self
            .repository
            .snapshot_download()
            .revision(self.cache.revision.clone())
            .allow_patterns(names)
            .progress(activity.clone());
        let mut download = std::pin::pin!(download.send());
        loop {
            match timeout(Duration::from_millis(250), &mut download).await {
                Ok(snapshot) => return snapshot.map_err(|error| self.fault(error)),
                Err(_) => {
                    let quiet = activity.started.elapsed().as_millis() as u64;
                    let quiet = quiet.saturating_sub(activity.last.load(Ordering::Relaxed));
                    if quiet > PATIENCE.as_millis() as u64 {
                        return Err(DownloadFault::Silent(silence(None, PATIENCE)));
                    }
                    if total > 0 {
                        self.report(
                            (done + activity.bytes.load(Ordering::Relaxed)).min(total),
                            total,
                        );
                    }
                }
            }
        }
    }

    /// Downloads a large file into the `blobs` directory of the cache, from the byte at which an earlier attempt
    /// stopped.
    ///
    /// Returns false for a file in Xet, the Hub's storage by chunks. The Hub's client downloads such a file later, and
    /// caches each chunk that arrives.
    async fn resume(
        &self,
        file: &Listed,
        commit: String,
        done: u64,
        total: u64,
    ) -> Result<bool, DownloadFault> {
        let metadata =
            self.repository.get_file_metadata().filepath(&file.name).revision(&commit).send();
        let metadata = match timeout(PATIENCE, metadata).await {
            Ok(metadata) => metadata.map_err(|error| self.fault(error))?,
            Err(_) => return Err(DownloadFault::Silent(silence(None, PATIENCE))),
        };
        let is_sha256 =
            metadata.etag.len() == 64 && metadata.etag.bytes().all(|b| b.is_ascii_hexdigit());
        if metadata.xet_hash.is_some() || !is_sha256 {
            return Ok(false);
        }
        let blob = self.cache.repository().join("blobs").join(&metadata.etag);
        if blob.exists() {
            return Ok(true);
        }
        let io = |error: std::io::Error| {
            DownloadFault::Other(format!("the Hub's cache cannot be written: {error}"))
        };
        let _lock = self.lock(&metadata.etag)?;
        let part = blob.with_extension("incomplete");
        std::fs::create_dir_all(self.cache.repository().join("blobs")).map_err(io)?;
        // On Windows, a file that is open only for appending cannot be shortened, so this file is opened for writing.
        let opened = OpenOptions::new().create(true).write(true).truncate(false).open(&part);
        let mut output = opened.map_err(io)?;
        let mut have = output.seek(SeekFrom::End(0)).map_err(io)?;
        if have > file.size {
            empty(&mut output).map_err(io)?;
            have = 0;
        }
        let mut failures = 0;
        while have < file.size {
            let before = have;
            let result = self.receive(file, &commit, &mut output, &mut have, (done, total)).await;
            failures = if have > before { 0 } else { failures + 1 };
            match result {
                Err(Some(error)) if !did_not_answer(&error) => return Err(self.fault(error)),
                _ if failures < ATTEMPTS => {}
                result => {
                    let cause = silence(result.err().flatten().as_ref(), PATIENCE);
                    return Err(DownloadFault::Other(format!(
                        "{cause}; the download of {} stopped at {have} of {} bytes; load the model again \
                         to resume it",
                        file.name, file.size
                    )));
                }
            }
        }
        drop(output);
        if sha256(&part).map_err(io)? != metadata.etag.to_ascii_lowercase() {
            std::fs::remove_file(&part).map_err(io)?;
            return Err(DownloadFault::Other(format!(
                "{} arrived damaged: its SHA-256 differs from the one that the Hub lists; load the \
                 model again",
                file.name
            )));
        }
        std::fs::rename(&part, &blob).map_err(io)?;
        Ok(true)
    }

    /// Downloads the missing bytes of a file and appends them to `output`. If the error is `None`, no bytes arrived in
    /// time.
    async fn receive(
        &self,
        file: &Listed,
        commit: &str,
        output: &mut File,
        have: &mut u64,
        (done, total): (u64, u64),
    ) -> Result<(), Option<HFError>> {
        let stream = self.repository.download_file_stream().filename(&file.name).revision(commit);
        let stream = stream.range(*have..file.size).send();
        let (_, mut stream) = timeout(PATIENCE, stream).await.map_err(|_| None)?.map_err(Some)?;
        let start = *have;
        loop {
            let Some(chunk) = timeout(PATIENCE, stream.next()).await.map_err(|_| None)? else {
                return Ok(());
            };
            let chunk = chunk.map_err(Some)?;
            if *have + chunk.len() as u64 > file.size {
                // The server ignored the requested range and sends the whole file, so the bytes on the disk are
                // deleted.
                empty(output).map_err(|error| Some(HFError::Io(error)))?;
                *have = 0;
                if start == 0 {
                    return Err(None);
                }
                return Ok(());
            }
            output.write_all(&chunk).map_err(|error| Some(HFError::Io(error)))?;
            *have += chunk.len() as u64;
            self.report((done + *have).min(total), total);
        }
    }

    /// Locks a blob in the same way as the Hub's client, so that two programs do not write the same file.
    fn lock(&self, etag: &str) -> Result<File, DownloadFault> {
        let path =
            self.cache.root.join(".locks").join(&self.cache.folder).join(format!("{etag}.lock"));
        let problem = |error: HFError| DownloadFault::Other(explain(&self.cache.revision, &error));
        let file = open_lock(&path).map_err(|error| problem(HFError::Io(error)))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(problem(HFError::CacheLockTimeout { path })),
            Err(TryLockError::Error(error)) => Err(problem(HFError::Io(error))),
        }
    }
}

/// Truncates a file to length zero, and moves its position to the beginning.
fn empty(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()
}

fn open_lock(path: &Path) -> std::io::Result<File> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    File::create(path)
}

/// Returns true if the snapshot has the file, and the file's size equals the size that the Hub lists.
fn is_whole(snapshot: &Path, file: &Listed) -> bool {
    std::fs::metadata(snapshot.join(&file.name)).is_ok_and(|metadata| metadata.len() == file.size)
}

/// Returns the commit of a snapshot, which is the name of its directory.
fn commit_of(snapshot: &Path) -> String {
    snapshot.file_name().and_then(|name| name.to_str()).unwrap_or("main").to_owned()
}

fn sha256(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            read => digest.update(&buffer[..read]),
        }
    }
}
