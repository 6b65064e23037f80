//! How much of what was read is kept for followers who are a little behind.

use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus_client::metrics::gauge::Gauge;

/// Bytes of pages, over all streams.
pub(super) struct Memory {
    /// Of one stream, at most.
    of_one: usize,
    /// Pages of one stream, at most.
    pages: usize,
    /// Of all, at most.
    of_all: usize,
    /// Kept now. Written by the tails, each for its own pages.
    taken: AtomicUsize,
    shown: Gauge,
}

impl Memory {
    pub(super) fn new(of_one: usize, pages: usize, of_all: usize, shown: Gauge) -> Self {
        Self {
            of_one,
            pages,
            of_all,
            taken: AtomicUsize::new(0),
            shown,
        }
    }

    pub(super) fn take(&self, bytes: usize) {
        self.taken.fetch_add(bytes, Ordering::Relaxed);
        self.shown.inc_by(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
        self.shown.dec_by(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Whether a stream that keeps so much is to let go of something: it has more than its share,
    /// or all together have.
    pub(super) fn is_too_much(&self, bytes: usize, pages: usize) -> bool {
        bytes > self.of_one
            || pages > self.pages
            || self.taken.load(Ordering::Relaxed) > self.of_all
    }
}
