//! Keeps panics from printing a report of their own.
//!
//! The library recovers from some panics of the libraries it uses, such as those of a tokenizer, and reports them as
//! errors. The report of the standard library would come before that error, and ask the user for a backtrace.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use super::failure::Failure;

/// The last panic, with its place in the code.
static LAST_PANIC: Mutex<Option<String>> = Mutex::new(None);

/// Records panics instead of printing them. VECTILE_LOG=debug shows them, and RUST_BACKTRACE keeps the report of the
/// standard library.
pub fn record() {
    if std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0") {
        return;
    }
    std::panic::set_hook(Box::new(|panic| {
        let report = panic.to_string().replace('\n', " ");
        tracing::debug!("{report}");
        *LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
    }));
}

/// Runs a command. A panic that nothing recovers from becomes an internal error.
pub fn catch<T>(run: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
        let report = LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner).take();
        Err(Failure::internal(report.as_deref().unwrap_or("a panic")))
    })
}
