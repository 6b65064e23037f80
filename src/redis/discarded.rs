//! Counts of what was kept beside streams and discarded, because another client had deleted or
//! replaced the stream or the group it was kept for.

use std::sync::atomic::{AtomicU64, Ordering};

/// Discards since they were last asked for. Written by the callers of the scripts that discard.
#[derive(Default)]
pub(super) struct Discarded {
    policies: AtomicU64,
    retentions: AtomicU64,
    keys: AtomicU64,
}

impl Discarded {
    /// Counts the policy of a group.
    pub(super) fn policy(&self) {
        self.policies.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the retention of a stream.
    pub(super) fn retention(&self) {
        self.retentions.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the idempotency keys of a stream.
    pub(super) fn keys(&self) {
        self.keys.fetch_add(1, Ordering::Relaxed);
    }

    /// The counts by kind; they begin at 0 again.
    pub(super) fn take(&self) -> [(&'static str, u64); 3] {
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        [
            ("policy", take(&self.policies)),
            ("retention", take(&self.retentions)),
            ("idempotency-keys", take(&self.keys)),
        ]
    }
}
