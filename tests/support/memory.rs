//! Reads the memory use of processes from Linux's `/proc`, where it exists.

use std::path::Path;

/// Returns the number of bytes that a process has in memory. `process` names a directory of `/proc`: an id, or `self`.
pub fn resident_memory(process: &str) -> Option<u64> {
    status(process, "VmRSS:")
}

/// Returns the maximum number of bytes that this process had in memory at once, since the last call with `reset`.
pub fn peak_memory(reset: bool) -> Option<u64> {
    if reset {
        std::fs::write("/proc/self/clear_refs", "5").ok()?;
    }
    status("self", "VmHWM:")
}

fn status(process: &str, field: &str) -> Option<u64> {
    let text = std::fs::read_to_string(Path::new("/proc").join(process).join("status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}
