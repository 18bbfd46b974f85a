//! Handles Ctrl-C. The first Ctrl-C ends the command after the current batch, or immediately if the command may be
//! loading or waiting for input. A second Ctrl-C ends the command immediately.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::failure::Failure;
use super::leave::leave_at_once;
use super::message;

/// State shared between a command and the signal handler.
#[derive(Debug, Default, Clone)]
pub struct Interrupt(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// Is true if Ctrl-C was pressed.
    requested: AtomicBool,
    /// Is true if the command will soon notice a Ctrl-C by itself. If not, the command may be loading a model, or
    /// waiting for input that never comes.
    busy: AtomicBool,
    /// The number of finished texts.
    done: AtomicU64,
    /// The message about an interruption, for commands that do not count texts.
    outcome: OnceLock<&'static str>,
    /// A file or directory to remove if a Ctrl-C ends the process immediately.
    unfinished: Mutex<Option<PathBuf>>,
}

impl Interrupt {
    /// Watches for Ctrl-C, and on Unix for SIGTERM and SIGHUP. If the process already ignores or handles one of these
    /// signals, as under `nohup`, this function installs no handler.
    pub fn watch() -> Self {
        let interrupt = Interrupt::default();
        let state = interrupt.clone();
        let watching = ctrlc::try_set_handler(move || {
            let again = state.0.requested.swap(true, Ordering::SeqCst);
            if again || !state.0.busy.load(Ordering::SeqCst) {
                let failure = state.failure();
                if let Some(path) = state.unfinished().take() {
                    // The process ends after this statement, so an error of the removal cannot be handled. After such
                    // an error, the temporary file or directory stays on the disk.
                    let _ = match path.is_dir() {
                        true => std::fs::remove_dir_all(path),
                        false => std::fs::remove_file(path),
                    };
                }
                message::error(format_args!("{failure}"));
                leave_at_once(failure.exit_code());
            }
        });
        if let Err(problem) = watching {
            tracing::debug!("the handler of Ctrl-C cannot be installed: {problem}");
        }
        interrupt
    }

    /// Watches for Ctrl-C like [`Interrupt::watch`], in a command that does not count texts. `outcome` is the
    /// message about an interruption.
    pub fn watch_with_outcome(outcome: &'static str) -> Self {
        let interrupt = Interrupt::watch();
        interrupt.0.outcome.get_or_init(|| outcome);
        interrupt
    }

    /// Sets the file or directory to remove if a Ctrl-C ends the process immediately, or `None` to remove nothing.
    pub fn set_unfinished(&self, path: Option<&Path>) {
        *self.unfinished() = path.map(Path::to_owned);
    }

    /// Runs `work`, which must check for Ctrl-C itself and return soon after Ctrl-C is pressed. Returns a failure if
    /// Ctrl-C was pressed while `work` ran.
    pub fn during<T>(&self, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        let value = self.during_last_step(work)?;
        if self.0.requested.load(Ordering::SeqCst) { Err(self.failure()) } else { Ok(value) }
    }

    /// Runs the last step of a command, like [`Interrupt::during`], but returns its result even if Ctrl-C was pressed.
    /// A step that takes long must check for Ctrl-C itself.
    pub fn during_last_step<T>(
        &self,
        work: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.0.busy.store(true, Ordering::SeqCst);
        let result = work();
        self.0.busy.store(false, Ordering::SeqCst);
        result
    }

    /// Adds to the number of finished texts.
    pub fn count(&self, texts: usize) {
        self.0.done.fetch_add(texts as u64, Ordering::SeqCst);
    }

    /// Returns true if Ctrl-C was pressed.
    pub fn is_requested(&self) -> bool {
        self.0.requested.load(Ordering::SeqCst)
    }

    /// Returns the failure for a command that was interrupted.
    pub fn failure(&self) -> Failure {
        if let Some(outcome) = self.0.outcome.get() {
            return Failure::Interrupted((*outcome).to_owned());
        }
        let texts = self.0.done.load(Ordering::SeqCst);
        let outcome = match self.unfinished().as_ref() {
            Some(_) => "; no file was written",
            None => "",
        };
        Failure::Interrupted(format!("interrupted after {texts} texts{outcome}"))
    }

    fn unfinished(&self) -> MutexGuard<'_, Option<PathBuf>> {
        self.0.unfinished.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
