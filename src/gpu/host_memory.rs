//! The memory of the host, in which software adapters place their buffers.

/// Returns the bytes that programs can still allocate without swapping, within the limits of the control group (of a
/// container). Returns `None` if the system does not report this number.
pub(crate) fn available() -> Option<u64> {
    #[cfg(target_arch = "wasm32")]
    return None;
    #[cfg(not(target_arch = "wasm32"))]
    {
        if !sysinfo::IS_SUPPORTED_SYSTEM {
            return None;
        }
        let mut system = sysinfo::System::new();
        system.refresh_memory();
        let of_machine = system.available_memory();
        // The free memory of a cgroup is its limit minus its resident memory. The cgroup's own figure for free memory
        // excludes the page cache, although the kernel drops cached pages when programs need memory.
        let of_group =
            system.cgroup_limits().map(|group| group.total_memory.saturating_sub(group.rss));
        Some(of_group.map_or(of_machine, |of_group| of_group.min(of_machine)))
    }
}

/// Returns memory that the program has freed to the operating system. Only glibc needs this: it gives threads separate
/// heaps, and keeps freed memory in them. A software driver allocates on many threads, so a closed device leaves much
/// free memory in these heaps.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn give_back() {
    // SAFETY: `malloc_trim` only returns pages without allocations. It may be called on any thread at any time.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #[test]
    fn some_memory_is_available() {
        let available = super::available().unwrap();
        assert!((1 << 20..1 << 50).contains(&available), "{available}");
    }
}
