//! Refuses use after `fork`. A forked process has the memory of a driver but not its threads, so that calls would hang.

use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::prelude::*;

use crate::error::named;

/// The process that first opened a driver; 0 if none did.
static FIRST: AtomicU32 = AtomicU32::new(0);

/// Checks that no parent of this process has opened a driver.
///
/// # Errors
/// `ForkError`, which says what to do.
pub fn check(py: Python<'_>) -> PyResult<()> {
    let here = process::id();
    match FIRST.compare_exchange(0, here, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => Ok(()),
        Err(first) if first == here => Ok(()),
        Err(first) => Err(named(
            py,
            "ForkError",
            format!(
                "the GPU's driver was opened in process {first}, and process {here} was forked from it, which drivers \
                 do not support; start worker processes with multiprocessing.get_context(\"spawn\"), or load the \
                 first model after the fork"
            ),
        )),
    }
}

/// True in a process that was forked from the one that opened the driver.
pub fn forked() -> bool {
    let first = FIRST.load(Ordering::Relaxed);
    first != 0 && first != process::id()
}
