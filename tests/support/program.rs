//! The `vectile` program.

use std::ffi::OsString;
use std::process::{Command, Stdio};

/// The program with a cache directory of its own, no log and nothing on its standard input.
///
/// The environment variable `VECTILE_PROGRAM` names another build to test, such as a script that starts the Windows
/// program under Wine.
pub fn vectile() -> Command {
    let other = std::env::var_os("VECTILE_PROGRAM");
    let program = other.unwrap_or_else(|| OsString::from(env!("CARGO_BIN_EXE_vectile")));
    let mut command = Command::new(program);
    command.env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR")).env_remove("VECTILE_LOG");
    command.stdin(Stdio::null());
    command
}
