//! Starts the program `vectile`, or another build of it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::adapter::ADAPTER;

/// Returns a command that runs the program with a cache directory of its own, no log, and an empty standard input.
///
/// The environment variable `VECTILE_PROGRAM` can name another program to test, for example a script that starts the
/// Windows program under Wine.
pub fn vectile() -> Command {
    let other = std::env::var_os("VECTILE_PROGRAM");
    let program = other.unwrap_or_else(|| OsString::from(env!("CARGO_BIN_EXE_vectile")));
    let mut command = Command::new(program);
    command.env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR")).env_remove("VECTILE_LOG");
    // Without this variable, the program would compute on the CPU if the machine has only a software driver.
    command.env(ADAPTER, std::env::var_os(ADAPTER).unwrap_or_else(|| "gpu".into()));
    command.stdin(Stdio::null());
    command
}

/// Returns true if [`vectile`] starts the Windows program: on Windows, or if `VECTILE_PROGRAM_UNDER_WINE` is set.
pub fn is_windows_program() -> bool {
    cfg!(windows) || std::env::var_os("VECTILE_PROGRAM_UNDER_WINE").is_some()
}

/// Returns an absolute path with a drive and backslashes, as Windows users write it. In Wine, the root directory of
/// this machine is the drive `Z:`.
pub fn windows_path(path: &Path) -> PathBuf {
    if cfg!(windows) {
        return path.to_owned();
    }
    let path = path.to_str().expect("paths of tests are UTF-8");
    PathBuf::from(format!("Z:{}", path.replace('/', "\\")))
}
