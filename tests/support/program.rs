//! Starts the program `vectile`, or another build of it.

use std::ffi::OsString;
use std::process::{Command, Stdio};

use super::adapter::ADAPTER;

/// Makes a command that runs the program. It has a cache directory of its own, no log, and an empty standard input.
///
/// The environment variable `VECTILE_PROGRAM` can name another build to test. An example is a script that starts the
/// Windows program under Wine.
pub fn vectile() -> Command {
    let other = std::env::var_os("VECTILE_PROGRAM");
    let program = other.unwrap_or_else(|| OsString::from(env!("CARGO_BIN_EXE_vectile")));
    let mut command = Command::new(program);
    command.env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR")).env_remove("VECTILE_LOG");
    // Without this, the program would compute on the CPU where the machine has only a software driver.
    command.env(ADAPTER, std::env::var_os(ADAPTER).unwrap_or_else(|| "gpu".into()));
    command.stdin(Stdio::null());
    command
}
