//! Where bytes go: stdout, a device, or a file that appears when it is whole.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::cli::failure::Failure;
use crate::cli::interrupt::Interrupt;

/// What an `--output` is.
pub enum Destination {
    Stdout,
    /// A device or a named pipe, which is written as it is.
    Special(PathBuf, File),
    /// A file, there already or not.
    File(PathBuf),
}

impl Destination {
    /// What an output is; `-` is stdout. `inputs` are what must not be overwritten.
    pub fn find(output: &Path, inputs: &[&Path]) -> Result<Self, Failure> {
        if output == Path::new("-") {
            return Ok(Destination::Stdout);
        }
        let failed = |e: io::Error| Failure::file(output, "written", &e);
        // A link stays a link: the file it names is replaced.
        let path = match output.canonicalize() {
            Ok(path) => path,
            Err(e) if e.kind() == io::ErrorKind::NotFound => output.to_owned(),
            Err(e) => return Err(failed(e)),
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
                "{}: is the input, which would be overwritten; give another --output",
                output.display()
            )));
        }
        Ok(Destination::File(path))
    }
}

/// `PATH.extension`.
pub fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    PathBuf::from(name)
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// A destination that is open.
pub enum Out {
    Stdout,
    Special(PathBuf, File),
    Whole(Whole),
}

impl Out {
    pub fn open(destination: Destination, interrupt: &Interrupt) -> Result<Self, Failure> {
        Ok(match destination {
            Destination::Stdout => Out::Stdout,
            Destination::Special(path, file) => Out::Special(path, file),
            Destination::File(path) => Out::Whole(Whole::create(&path, interrupt)?),
        })
    }

    /// What its bytes are written to.
    pub fn bytes(&self) -> Result<Box<dyn Write + Send>, Failure> {
        let file = match self {
            Out::Stdout => return Ok(Box::new(io::stdout())),
            Out::Special(_, file) | Out::Whole(Whole { file, .. }) => file.try_clone(),
        };
        Ok(Box::new(file.map_err(|e| self.failed(&e))?))
    }

    /// What a failed write means.
    pub fn failed(&self, error: &io::Error) -> Failure {
        match self {
            Out::Stdout => Failure::stdout(error),
            Out::Special(path, _) => Failure::file(path, "written", error),
            Out::Whole(whole) => Failure::file(&whole.part, "written", error),
        }
    }

    /// Gives a file its name, when all has been written.
    pub fn keep(self) -> Result<(), Failure> {
        match self {
            Out::Whole(whole) => whole.keep(),
            Out::Stdout | Out::Special(..) => Ok(()),
        }
    }
}

/// `FILE.part`, which becomes `FILE`. Dropped before it is kept, it is removed.
pub struct Whole {
    part: PathBuf,
    path: PathBuf,
    file: File,
    kept: bool,
    interrupt: Interrupt,
}

impl Drop for Whole {
    fn drop(&mut self) {
        if !self.kept {
            // Nobody is left to tell, and the name says what it is.
            let _ = fs::remove_file(&self.part);
        }
    }
}

impl Whole {
    pub fn create(path: &Path, interrupt: &Interrupt) -> Result<Self, Failure> {
        let part = beside(path, "part");
        let file = File::create(&part).map_err(|e| Failure::file(&part, "written", &e))?;
        interrupt.set_unfinished(Some(&part));
        Ok(Whole { part, path: path.to_owned(), file, kept: false, interrupt: interrupt.clone() })
    }

    fn keep(mut self) -> Result<(), Failure> {
        // On the disk before it has its name, or a power cut could leave an empty FILE.
        self.file.sync_all().map_err(|e| Failure::file(&self.part, "written", &e))?;
        fs::rename(&self.part, &self.path)
            .and_then(|()| sync_directory_of(&self.path))
            .map_err(|e| Failure::file(&self.path, "written", &e))?;
        self.kept = true;
        self.interrupt.set_unfinished(None);
        Ok(())
    }
}

/// A name is on the disk when its directory is.
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

/// A temporary file that has no name and goes with the process, and the directory it takes space
/// in: that of `output`, which has room for the rows, or the system's.
pub fn temporary(output: &Path) -> Result<(File, PathBuf), Failure> {
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
            Err(Failure::user(format!("{name}: a temporary file cannot be made there: {e}")))
        }
    }
}
