//! Writes reports to a file, or to stdout if the path is `-`.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::failure::Failure;
use super::stdout;

/// Checks that a report can be written to `path`, so that a command fails before it spends minutes on the report.
///
/// An existing file is not changed, and no new file is left behind.
pub fn check_writable(path: &Path) -> Result<(), Failure> {
    if is_stdout(path) {
        return Ok(());
    }
    let is_new = !path.exists();
    let opened = File::options().append(true).create(true).open(path);
    opened.map_err(|e| Failure::file(path, "written", &e))?;
    if is_new {
        fs::remove_file(path).map_err(|e| Failure::file(path, "written", &e))?;
    }
    Ok(())
}

/// Writes `text` to the file `path`, or prints it if `path` is `-`. An existing file is replaced only after all bytes
/// are written.
pub fn write(path: &Path, text: &str) -> Result<(), Failure> {
    if is_stdout(path) {
        return stdout::print(text);
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".part");
    let temporary = Path::new(&temporary);
    let written = fs::write(temporary, text).and_then(|()| fs::rename(temporary, path));
    if written.is_err() {
        // The error of the write is reported, so an error of the removal is ignored.
        let _ = fs::remove_file(temporary);
    }
    written.map_err(|e: io::Error| Failure::file(path, "written", &e))
}

/// Returns true if the path is `-`.
pub fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}
