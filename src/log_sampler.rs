//! Sampling of the log lines for refused requests. A refusal costs its client almost nothing, but a
//! log line costs disk space, so their rate is limited.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::metrics::Metrics;
use crate::rate_limit::{Bucket, Quota};

/// The sampler of refusal log lines.
#[derive(Debug)]
pub struct LogSampler {
    bucket: Bucket,
    /// Refusals not logged since the last logged one.
    untold: AtomicU64,
}

impl LogSampler {
    /// Returns a sampler that logs refusals up to the rate of `quota`.
    #[must_use]
    pub fn new(quota: Quota) -> Self {
        Self {
            bucket: Bucket::new(quota),
            untold: AtomicU64::new(0),
        }
    }

    /// Returns whether to log this refusal. If so, first logs the number of refusals skipped since
    /// the last logged one; if not, counts the refusal.
    #[must_use]
    pub fn is_told(&self, metrics: &Metrics) -> bool {
        if self.bucket.take().is_err() {
            metrics.untold.inc();
            self.untold.fetch_add(1, Relaxed);
            return false;
        }
        let untold = self.untold.swap(0, Relaxed);
        if untold > 0 {
            tracing::info!(
                unlogged = untold,
                "some refused requests were not logged individually"
            );
        }
        true
    }
}
