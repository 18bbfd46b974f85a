//! Small files of a cache directory, which hold what is expensive to find out again. This module reads and
//! writes their bytes; whoever owns a file knows its meaning.

use std::io;
use std::path::Path;

/// The maximum length of a cached file. A longer one is not ours.
const MAX_BYTES: u64 = 256 << 20;

/// The content of a cached file; `None` where there is none, or it is longer than any of ours.
pub(crate) fn read_cached(path: &Path) -> Option<Vec<u8>> {
    let bytes = std::fs::metadata(path).ok()?.len();
    (bytes <= MAX_BYTES).then(|| std::fs::read(path).ok()).flatten()
}

/// Writes a file and its directory, whole or not at all: a reader never sees a part.
///
/// # Errors
/// The error of the file system, and one for content that [`read_cached`] would refuse.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    if content.len() as u64 > MAX_BYTES {
        return Err(io::Error::other(format!("{} bytes are too many to cache", content.len())));
    }
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let mut part = path.as_os_str().to_owned();
    part.push(format!(".{}", std::process::id()));
    std::fs::write(&part, content)?;
    std::fs::rename(&part, path)
}
