//! Reads and writes small files in a cache directory. The files store results that are expensive to compute. This
//! module handles bytes only. The module that stores a file also interprets its content.

use std::io;
use std::path::Path;

/// The maximum length of a cached file in bytes. Vectile never writes a longer file.
const MAX_BYTES: u64 = 256 << 20;

/// Returns the content of a cached file. Returns `None` if the file does not exist, cannot be read, or is longer than
/// any file that Vectile writes.
pub(crate) fn read_cached(path: &Path) -> Option<Vec<u8>> {
    let bytes = std::fs::metadata(path).ok()?.len();
    (bytes <= MAX_BYTES).then(|| std::fs::read(path).ok()).flatten()
}

/// Creates the directory of a file and writes the file atomically, so that a reader never sees a partial file.
///
/// # Errors
/// Returns errors of the file system, and an error if the content is too long for [`read_cached`].
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    if content.len() as u64 > MAX_BYTES {
        return Err(io::Error::other(format!(
            "the content has {} bytes, but the maximum for the cache is {MAX_BYTES} bytes",
            content.len()
        )));
    }
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let mut part = path.as_os_str().to_owned();
    part.push(format!(".{}", std::process::id()));
    std::fs::write(&part, content)?;
    std::fs::rename(&part, path)
}
