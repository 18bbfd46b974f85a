//! Lines for the user on stderr.

use std::fmt;
use std::io::Write;

/// Prints a line on stderr. A closed stderr is ignored: it is no reason to fail.
pub fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
