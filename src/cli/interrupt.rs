//! Ctrl-C: the batch in hand is finished, then the command ends; a second one ends it at once.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::failure::Failure;
use super::say;

/// What the command and the signal handler tell each other.
#[derive(Debug, Default, Clone)]
pub struct Interrupt(Arc<State>);

#[derive(Debug, Default)]
struct State {
    asked: AtomicBool,
    /// A batch is in hand, and its end is near. Otherwise the command may be waiting for input
    /// that never comes, or still loading.
    busy: AtomicBool,
    done: AtomicU64,
    /// What is said of the interruption, where texts are not what counts.
    fate: OnceLock<&'static str>,
    /// A file or directory to remove when the command does not end by itself.
    unfinished: Mutex<Option<PathBuf>>,
}

impl Interrupt {
    /// Watches for Ctrl-C, and on Unix for SIGTERM and SIGHUP. Where one of them is ignored or
    /// handled already, as under `nohup`, all are left as they are.
    pub fn watch() -> Self {
        let interrupt = Interrupt::default();
        let state = interrupt.clone();
        let watching = ctrlc::try_set_handler(move || {
            let again = state.0.asked.swap(true, Ordering::SeqCst);
            if again || !state.0.busy.load(Ordering::SeqCst) {
                let failure = state.failure();
                if let Some(path) = state.unfinished().take() {
                    // The process ends here: what cannot be removed stays as FILE.part or FILE.parts.
                    let _ = match path.is_dir() {
                        true => std::fs::remove_dir_all(path),
                        false => std::fs::remove_file(path),
                    };
                }
                say(format_args!("vectile: {failure}"));
                std::process::exit(1);
            }
        });
        if let Err(problem) = watching {
            tracing::debug!("Ctrl-C is not watched: {problem}");
        }
        interrupt
    }

    /// As [`Interrupt::watch`], for work that is all or nothing: what is said when it is interrupted.
    pub fn watch_saying(fate: &'static str) -> Self {
        let interrupt = Interrupt::watch();
        interrupt.0.fate.get_or_init(|| fate);
        interrupt
    }

    /// Names the file or directory to remove when the command ends at once; `None` when it is to stay.
    pub fn set_unfinished(&self, path: Option<&Path>) {
        *self.unfinished() = path.map(Path::to_owned);
    }

    /// Does work that ends soon by itself; afterwards fails if Ctrl-C was pressed.
    pub fn during<T>(&self, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        let value = self.ending(work)?;
        if self.0.asked.load(Ordering::SeqCst) { Err(self.failure()) } else { Ok(value) }
    }

    /// Does work at whose end the command is done, and which itself asks about Ctrl-C where it takes long.
    pub fn ending<T>(&self, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        self.0.busy.store(true, Ordering::SeqCst);
        let result = work();
        self.0.busy.store(false, Ordering::SeqCst);
        result
    }

    /// Counts texts as done.
    pub fn count(&self, texts: usize) {
        self.0.done.fetch_add(texts as u64, Ordering::SeqCst);
    }

    /// True after the first Ctrl-C.
    pub fn is_asked(&self) -> bool {
        self.0.asked.load(Ordering::SeqCst)
    }

    /// What an interrupted command ends with.
    pub fn failure(&self) -> Failure {
        if let Some(fate) = self.0.fate.get() {
            return Failure::Interrupted((*fate).to_owned());
        }
        let texts = self.0.done.load(Ordering::SeqCst);
        let fate = match self.unfinished().as_ref() {
            Some(_) => "; no file was written",
            None => "",
        };
        Failure::Interrupted(format!("after {texts} texts{fate}"))
    }

    fn unfinished(&self) -> MutexGuard<'_, Option<PathBuf>> {
        self.0.unfinished.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
