//! Limits the number of connections to what the system's limit on open files allows, because each connection is an open
//! file.

/// Number of files that the process may open besides the connections: the listener, model files, GPU devices, and
/// connections that are being refused.
#[cfg(unix)]
const OTHERS: usize = 256;

/// Returns the number of connections that the process can have open: `wanted`, or fewer if the system allows fewer
/// files. Raises the soft limit of the process as far as needed and allowed.
///
/// A connection that exceeds this number gets the error 503. A connection that exceeds the system's limit would get no
/// answer at all.
#[cfg(unix)]
pub(super) fn fit(wanted: usize) -> usize {
    let needed = u64::try_from(wanted.saturating_add(OTHERS)).unwrap_or(u64::MAX);
    let allowed = rlimit::Resource::NOFILE.get_soft().unwrap_or(0);
    let allowed = match allowed < needed {
        true => rlimit::increase_nofile_limit(needed).unwrap_or(allowed),
        false => allowed,
    };
    let fitting = fitting(wanted, usize::try_from(allowed).unwrap_or(usize::MAX));
    if fitting < wanted {
        tracing::warn!(
            "the system allows this process {allowed} open files, so the server keeps at most {fitting} connections \
             open instead of {wanted}; raise the limit with `ulimit -n`"
        );
    }
    fitting
}

/// Returns `wanted`, because only Unix counts sockets as open files.
#[cfg(not(unix))]
pub(super) fn fit(wanted: usize) -> usize {
    wanted
}

/// Returns the number of connections for a process that may open `allowed` files. If `allowed` is small, half of the
/// files are left for other uses.
#[cfg(unix)]
fn fitting(wanted: usize, allowed: usize) -> usize {
    wanted.min(allowed - OTHERS.min(allowed / 2)).max(1)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_other_uses() {
        assert_eq!(fitting(1024, 20_000), 1024);
        assert_eq!(fitting(1024, 1024), 768);
        assert_eq!(fitting(1024, 64), 32);
        assert_eq!([fitting(1024, 1), fitting(1024, 0)], [1, 1]);
        assert_eq!(fitting(usize::MAX, usize::MAX), usize::MAX - OTHERS);
    }
}
