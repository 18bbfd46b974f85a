//! Refuses calls after `fork`. A forked process has a copy of the driver's memory but none of its threads, so calls
//! would hang.

use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::prelude::*;

use crate::error::named;

/// The id of the process that first opened a driver, or 0 if no process has opened one.
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

/// Returns true in a process that was forked from the process that opened a driver.
pub fn forked() -> bool {
    let first = FIRST.load(Ordering::Relaxed);
    first != 0 && first != process::id()
}
