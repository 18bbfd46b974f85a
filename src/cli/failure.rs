//! Why a command ended, and the exit code that says so.

use std::fmt;
use std::io;
use std::path::Path;

use vectile::Error;

/// Why a command ended early.
#[derive(Debug)]
pub enum Failure {
    /// What the library said.
    Library(Error),
    /// Something the user can mend; a whole sentence.
    User(String),
    /// A fault of Vectile's own; a whole sentence.
    Ours(String),
    /// A check that the command was asked to make does not hold; a whole sentence.
    NotPassed(String),
    /// Nobody reads stdout any more. Not a failure: `vectile … | head` ends quietly.
    Pipe,
    /// Ctrl-C; what was done until then.
    Interrupted(String),
}

impl Failure {
    pub fn user(sentence: impl Into<String>) -> Self {
        Failure::User(sentence.into())
    }

    /// A file that cannot be read, written or made.
    pub fn file(path: &Path, doing: &str, error: &io::Error) -> Self {
        Failure::User(format!("{}: cannot be {doing}: {error}", path.display()))
    }

    /// A kind of file that only another build of the program reads and writes.
    #[cfg(not(feature = "bulk"))]
    pub fn without_bulk(path: &Path, what: &str) -> Self {
        Failure::User(format!(
            "{}: {what} need the feature `bulk`, which this vectile was built without; build it with \
             `cargo build --release --features bulk`",
            path.display()
        ))
    }

    /// What a failed write to stdout means.
    pub fn stdout(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::Pipe,
            _ => Failure::User(format!("stdout: cannot be written: {error}")),
        }
    }

    /// 2 where the user can mend it, 1 otherwise.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Pipe => 0,
            Failure::User(_) => 2,
            Failure::Library(error) if error.is_user_error() => 2,
            Failure::Library(_)
            | Failure::Ours(_)
            | Failure::NotPassed(_)
            | Failure::Interrupted(_) => 1,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Library(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Library(error) => error.fmt(f),
            Failure::User(sentence) | Failure::Ours(sentence) | Failure::NotPassed(sentence) => {
                f.write_str(sentence)
            }
            Failure::Pipe => f.write_str("stdout was closed"),
            Failure::Interrupted(done) => write!(f, "interrupted {done}"),
        }
    }
}
