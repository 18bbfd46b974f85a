//! Ends the process.

use std::io::Write;

/// Ends the process with an exit code, after it has written the buffered lines to stdout.
///
/// Unlike `std::process::exit` and a return from `main`, this function runs no exit handlers on Unix. Another thread
/// may still compute, for example after a second Ctrl-C. The exit handlers of a Vulkan driver free memory that such a
/// thread uses, so the process could crash instead of ending with the exit code.
pub fn leave(code: u8) -> ! {
    // The process ends after this statement, so nobody could handle an error.
    let _ = std::io::stdout().flush();
    leave_at_once(code)
}

/// Ends the process like [`leave`], but does not write the buffered lines to stdout. A signal handler calls this
/// function, because a command that is blocked in a write to stdout would block [`leave`] too.
#[cfg(unix)]
pub fn leave_at_once(code: u8) -> ! {
    signal_hook::low_level::exit(code.into())
}

/// Ends the process like [`leave`], but does not write the buffered lines to stdout. Windows ends all other threads
/// before it runs exit handlers.
#[cfg(not(unix))]
pub fn leave_at_once(code: u8) -> ! {
    std::process::exit(code.into())
}
