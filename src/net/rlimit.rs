//! The limit of open files, of which each connection takes one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Open files besides the connections from clients: those to Redis, what listens, what is read.
const OTHERS: u64 = 128;
/// What every system takes that has a limit but does not say which.
const ANYWHERE: u64 = 10_240;

/// Raises the limit of this process as far as it may, and answers it if that is less than so many
/// connections from clients need, with what they need. Most systems start a process with 1024, of which it may have as
/// many as it likes for the asking.
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
