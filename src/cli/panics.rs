//! Prevents the standard library from printing a report when a panic occurs.
//!
//! The library recovers from some panics in the libraries that it uses, such as a tokenizer, and reports
//! them as errors. Without this module, the standard library would first print its own report of the panic,
//! which asks the user for a backtrace.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use super::failure::Failure;
use super::message;

/// The message of a panic, which includes the place in the code.
struct PanicReport {
    message: String,
    /// The backtrace, which is captured only if RUST_BACKTRACE is set.
    backtrace: Backtrace,
}

static LAST_PANIC: Mutex<Option<PanicReport>> = Mutex::new(None);

/// Installs a panic hook that records the panic and prints nothing. With VECTILE_LOG=debug, the hook also logs the
/// panic.
pub fn record() {
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.to_string().replace('\n', " ");
        tracing::debug!("{message}");
        let report = PanicReport { message, backtrace: Backtrace::capture() };
        *LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
    }));
}

/// Runs a command. If the command panics, an internal error is returned.
pub fn catch<T>(run: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
        let report = LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(PanicReport { message, backtrace }) = report else {
            return Err(Failure::internal("a panic without a message"));
        };
        if backtrace.status() == BacktraceStatus::Captured {
            message::note(format_args!("backtrace:\n{backtrace}"));
        }
        Err(Failure::internal(message))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_internal_error_with_its_message() {
        record();
        let failed = catch(|| -> Result<(), Failure> { panic!("the reason") });
        let _ = std::panic::take_hook();
        let failure = failed.unwrap_err();
        assert_eq!(failure.exit_code(), 1);
        assert!(failure.to_string().contains("the reason"), "{failure}");
        assert!(failure.to_string().contains("please report it"), "{failure}");
        assert!(matches!(catch(|| Ok(7)), Ok(7)));
    }
}
