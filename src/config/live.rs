//! Settings of background activity: subscriptions, sweeping and retention.

use std::time::Duration;

use crate::config::Reader;
use crate::jobs::JobSettings;
use crate::live::LiveSettings;

/// Reads the settings for `posts` worker threads. A blocking read waits for `block`.
pub(super) fn read(read: &mut Reader<'_>, posts: usize, block: Duration) -> LiveSettings {
    LiveSettings {
        readers: read.count("redis-blocking-connections"),
        max_streams: read.count("max-followed-streams"),
        posts,
        stream_memory: 4 << 20,
        memory: read.size("live-memory"),
        page_bytes: 64 << 10,
        block,
        look_every: block,
        join_timeout: Duration::from_millis(1500),
    }
}

pub(super) fn jobs(read: &mut Reader<'_>) -> JobSettings {
    JobSettings {
        sweep_every: read.duration("sweep-every"),
        expire_every: Duration::from_secs(60),
        sweep_limit: 1000,
        retention_every: read.duration("retention-every"),
    }
}
