//! Counts of discarded settings. Settings of a stream or group are discarded when another client
//! has deleted or replaced that stream or group.

use std::sync::atomic::{AtomicU64, Ordering};

/// Discarded settings since the last [`Discarded::take`]. Updated by the callers of the scripts
/// that discard settings.
#[derive(Default)]
pub(super) struct Discarded {
    policies: AtomicU64,
    retentions: AtomicU64,
    keys: AtomicU64,
}

impl Discarded {
    /// Counts a discarded policy of a group.
    pub(super) fn policy(&self) {
        self.policies.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a discarded retention of a stream.
    pub(super) fn retention(&self) {
        self.retentions.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the discarded idempotency keys of a stream.
    pub(super) fn keys(&self) {
        self.keys.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the counts by kind and resets them to 0.
    pub(super) fn take(&self) -> [(&'static str, u64); 3] {
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        [
            ("policy", take(&self.policies)),
            ("retention", take(&self.retentions)),
            ("idempotency-keys", take(&self.keys)),
        ]
    }
}
