//! The `vectile` program.

use std::process::{Command, Stdio};

/// The program with a cache directory of its own, no log and nothing on its standard input.
pub fn vectile() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vectile"));
    command.env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR")).env_remove("VECTILE_LOG");
    command.stdin(Stdio::null());
    command
}
