//! The limit on open files. Each connection uses one file descriptor.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// File descriptors reserved for Redis connections, listeners and files.
const OTHERS: u64 = 128;
/// A soft limit that systems accept if they have a limit but do not report it.
const ANYWHERE: u64 = 10_240;

/// Raises the soft limit on open files as far as the process may. Returns the new limit and the
/// required number if the limit is too low for this many client connections.
///
/// Most systems start a process with a soft limit of 1024, which it may raise by itself.
#[must_use]
pub fn allow(connections: usize) -> Option<(u64, u64)> {
    let limit = getrlimit(Resource::Nofile);
    for most in [
        limit.maximum,
        Some(ANYWHERE.min(limit.maximum.unwrap_or(ANYWHERE))),
    ] {
        let more = most.is_none_or(|most| limit.current.is_some_and(|now| now < most));
        if !more
            || setrlimit(
                Resource::Nofile,
                Rlimit {
                    current: most,
                    ..limit
                },
            )
            .is_ok()
        {
            break;
        }
    }
    let needed = OTHERS + connections as u64;
    let may = getrlimit(Resource::Nofile)
        .current
        .filter(|may| *may < needed)?;
    Some((may, needed))
}
