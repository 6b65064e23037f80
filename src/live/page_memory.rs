//! The memory budget of recent pages, which are kept for followers that are slightly behind.

use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus_client::metrics::gauge::Gauge;

/// The memory used by the recent pages of all streams, and its limits.
pub(super) struct Memory {
    /// Maximum size of the pages of one stream, in bytes.
    of_one: usize,
    /// Maximum number of pages of one stream.
    pages: usize,
    /// Maximum size of the pages of all streams, in bytes.
    of_all: usize,
    /// The current size of all pages in bytes. Each tail updates it for its own pages.
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

    /// Returns whether a stream with pages of this size and number must drop some: either the
    /// stream or all streams together exceed a limit.
    pub(super) fn is_too_much(&self, bytes: usize, pages: usize) -> bool {
        bytes > self.of_one
            || pages > self.pages
            || self.taken.load(Ordering::Relaxed) > self.of_all
    }
}
