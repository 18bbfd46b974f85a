//! [`Failure`]: the reason why a command failed, and the exit code for that reason.

use std::fmt;
use std::io;
use std::path::Path;

use vectile::Error;

/// The reason why a command ended early. Each `String` is a whole sentence for the user.
#[derive(Debug)]
pub enum Failure {
    /// An error of the library.
    Library(Error),
    /// An error that the user can correct.
    User(String),
    /// An internal error of Vectile.
    Internal(String),
    /// A check that the user requested has failed.
    CheckFailed(String),
    /// The program that reads stdout has closed the pipe. This is not an error: `vectile … | head` ends quietly.
    ClosedPipe,
    /// Ctrl-C or a signal ended the command. The message says how much work was done until then.
    Interrupted(String),
}

impl Failure {
    pub fn user(sentence: impl Into<String>) -> Self {
        Failure::User(sentence.into())
    }

    /// Returns an internal error, whose message asks the user to report it.
    pub fn internal(problem: impl fmt::Display) -> Self {
        Failure::Internal(format!("internal error (please report it): {problem}"))
    }

    /// Returns the failure for a file that could not be read or written. `action` is "read" or "written".
    pub fn file(path: &Path, action: &str, error: &io::Error) -> Self {
        Failure::User(format!("{}: cannot be {action}: {error}", path.display()))
    }

    /// Returns the failure for a file that only a program with the feature `bulk` can read or write. This program was
    /// built without it.
    #[cfg(not(feature = "bulk"))]
    pub fn without_bulk(path: &Path, files: &str) -> Self {
        Failure::User(format!(
            "{}: this vectile was built without the feature `bulk`, which {files} need; build \
             vectile with the default features: `cargo build --release`",
            path.display()
        ))
    }

    /// Returns the failure for a write to stdout. The failure is [`Failure::ClosedPipe`] if the reader has closed the
    /// pipe.
    pub fn stdout(error: &io::Error) -> Self {
        // Windows reports this error for a named pipe without a reader. The standard library has no `ErrorKind` for it.
        const ERROR_PIPE_NOT_CONNECTED: i32 = 233;
        let is_unconnected =
            cfg!(windows) && error.raw_os_error() == Some(ERROR_PIPE_NOT_CONNECTED);
        if error.kind() == io::ErrorKind::BrokenPipe || is_unconnected {
            Failure::ClosedPipe
        } else {
            Failure::User(format!("stdout: cannot be written: {error}"))
        }
    }

    /// Returns the exit code of the process: 0 for a closed pipe, 2 for a user error, and 1 for any other failure.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::ClosedPipe => 0,
            Failure::User(_) => 2,
            Failure::Library(error) if error.is_user_error() => 2,
            Failure::Library(_)
            | Failure::Internal(_)
            | Failure::CheckFailed(_)
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
            Failure::User(sentence)
            | Failure::Internal(sentence)
            | Failure::CheckFailed(sentence)
            | Failure::Interrupted(sentence) => f.write_str(sentence),
            Failure::ClosedPipe => f.write_str("stdout was closed"),
        }
    }
}
