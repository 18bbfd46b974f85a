//! The destination of an output: stdout, a device, or a file that appears when it is complete.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::cli::failure::Failure;
use crate::cli::interrupt::Interrupt;

/// The place to which `--output` writes.
pub enum Destination {
    Stdout,
    /// A device or named pipe, which is written directly.
    Special(PathBuf, File),
    /// A regular file, which may exist already.
    File(PathBuf),
}

impl Destination {
    /// Checks an output path, which may be `-` for stdout. Fails if the output would overwrite one of `inputs`.
    pub fn find(output: &Path, inputs: &[&Path]) -> Result<Self, Failure> {
        if output == Path::new("-") {
            return Ok(Destination::Stdout);
        }
        let failed = |e: io::Error| Failure::file(output, "written", &e);
        // If the path is a symbolic link, the output replaces the file behind the link, and the link stays. Any other
        // path stays as the user wrote it, because messages show it.
        let path = match output.is_symlink().then(|| output.canonicalize()) {
            Some(Ok(path)) => path,
            Some(Err(e)) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
            _ => output.to_owned(),
        };
        if path.is_dir() {
            let name = output.display();
            return Err(Failure::user(format!("{name}: is a directory; give a file")));
        }
        if path.exists() && !path.is_file() {
            let file = File::options().write(true).open(&path).map_err(failed)?;
            return Ok(Destination::Special(path, file));
        }
        let part = beside(&path, "part");
        if inputs.iter().any(|input| same_file(input, &path) || same_file(input, &part)) {
            return Err(Failure::user(format!(
                "{}: is also the input and would be overwritten; give another --output",
                output.display()
            )));
        }
        Ok(Destination::File(path))
    }
}

/// Returns the path with one more extension: `PATH.extension`.
pub fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    PathBuf::from(name)
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// A destination that is open for writing.
pub enum OpenDestination {
    Stdout,
    Special(PathBuf, File),
    File(AtomicFile),
}

impl OpenDestination {
    pub fn open(destination: Destination, interrupt: &Interrupt) -> Result<Self, Failure> {
        Ok(match destination {
            Destination::Stdout => OpenDestination::Stdout,
            Destination::Special(path, file) => OpenDestination::Special(path, file),
            Destination::File(path) => OpenDestination::File(AtomicFile::create(&path, interrupt)?),
        })
    }

    /// Returns a writer that writes bytes to the destination.
    pub fn bytes(&self) -> Result<Box<dyn Write + Send>, Failure> {
        let file = match self {
            OpenDestination::Stdout => return Ok(Box::new(io::stdout())),
            OpenDestination::Special(_, file) | OpenDestination::File(AtomicFile { file, .. }) => {
                file.try_clone()
            }
        };
        Ok(Box::new(file.map_err(|e| self.failed(&e))?))
    }

    /// Returns the failure for an I/O error that occurred while writing to the destination.
    pub fn failed(&self, error: &io::Error) -> Failure {
        match self {
            OpenDestination::Stdout => Failure::stdout(error),
            OpenDestination::Special(path, _) => Failure::file(path, "written", error),
            OpenDestination::File(file) => Failure::file(&file.temporary, "written", error),
        }
    }

    /// Renames the file to its final name. All bytes must have been written.
    pub fn commit(self) -> Result<(), Failure> {
        match self {
            OpenDestination::File(file) => file.commit(),
            OpenDestination::Stdout | OpenDestination::Special(..) => Ok(()),
        }
    }
}

/// A file that is written as `FILE.part` and renamed to `FILE` by [`AtomicFile::commit`]. If this value is dropped
/// before the commit, `FILE.part` is removed.
pub struct AtomicFile {
    temporary: PathBuf,
    path: PathBuf,
    file: File,
    committed: bool,
    interrupt: Interrupt,
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if !self.committed {
            // The error that led to this drop was already reported, so an error of the removal is ignored.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

impl AtomicFile {
    pub fn create(path: &Path, interrupt: &Interrupt) -> Result<Self, Failure> {
        let temporary = beside(path, "part");
        let file =
            File::create(&temporary).map_err(|e| Failure::file(&temporary, "written", &e))?;
        interrupt.set_unfinished(Some(&temporary));
        let (path, interrupt) = (path.to_owned(), interrupt.clone());
        Ok(AtomicFile { temporary, path, file, committed: false, interrupt })
    }

    fn commit(mut self) -> Result<(), Failure> {
        // The file is synced before it is renamed. Otherwise a power cut could leave an empty FILE.
        self.file.sync_all().map_err(|e| Failure::file(&self.temporary, "written", &e))?;
        fs::rename(&self.temporary, &self.path)
            .and_then(|()| sync_directory_of(&self.path))
            .map_err(|e| Failure::file(&self.path, "written", &e))?;
        self.committed = true;
        self.interrupt.set_unfinished(None);
        Ok(())
    }
}

/// Syncs the directory of a file, so that a new name of the file survives a power cut.
pub fn sync_directory_of(path: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    File::open(directory)?.sync_all()
}

/// Creates a temporary file without a name, which disappears when the process ends. Returns the file and its directory.
/// The directory is that of `output`, whose disk needs space for the rows anyway. If `output` is not a regular file,
/// the directory is the system's temporary directory.
pub fn temporary_file(output: &Path) -> Result<(File, PathBuf), Failure> {
    let directory = match output.parent() {
        Some(parent) if output.is_file() || !output.exists() => match parent == Path::new("") {
            true if output == Path::new("-") => std::env::temp_dir(),
            true => PathBuf::from("."),
            false => parent.to_owned(),
        },
        _ => std::env::temp_dir(),
    };
    match tempfile::tempfile_in(&directory) {
        Ok(file) => Ok((file, directory)),
        Err(e) => {
            let name = directory.display();
            Err(Failure::user(format!("{name}: cannot create a temporary file: {e}")))
        }
    }
}
