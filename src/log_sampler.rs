//! How many refusals the log tells one by one: they cost whoever causes them next to nothing, and a
//! disk more.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::metrics::Metrics;
use crate::rate_limit::{Bucket, Quota};

/// Those that are told, and those that are not.
#[derive(Debug)]
pub struct Refusals {
    bucket: Bucket,
    /// Not told since the last one that was.
    untold: AtomicU64,
}

impl Refusals {
    /// So many in so much time are told.
    #[must_use]
    pub fn new(quota: Quota) -> Self {
        Self {
            bucket: Bucket::new(quota),
            untold: AtomicU64::new(0),
        }
    }

    /// Whether this one is told; says how many were not, before it.
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
                "further refusals were not logged one by one"
            );
        }
        true
    }
}
