//! The shared part of a reader: its requests, its load and its connection.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::live::tail::Tail;
use crate::model::name::StreamName;

/// The shared part of a reader.
pub(super) struct ReaderHandle {
    inbox: Mutex<Inbox>,
    /// Number of tails assigned and followed. Raised by the hub, lowered by the reader.
    load: AtomicUsize,
    /// The Redis client id of the connection, or 0 without a connection. Written by the reader.
    client: AtomicI64,
    /// Whether a task is already waking the reader.
    woken: AtomicBool,
    /// Notified after a request.
    requested: Notify,
}

/// Requests that the reader has not handled yet.
#[derive(Default)]
pub(super) struct Inbox {
    /// Streams to follow, assigned by the hub.
    pub(super) given: Vec<Arc<Tail>>,
    /// Streams to check, because a follower found a state that differs from the reader's.
    pub(super) recheck: HashSet<StreamName>,
}

impl ReaderHandle {
    pub(super) fn new(first: Arc<Tail>) -> Self {
        let inbox = Inbox {
            given: vec![first],
            recheck: HashSet::new(),
        };
        Self {
            inbox: Mutex::new(inbox),
            load: AtomicUsize::new(1),
            client: AtomicI64::new(0),
            woken: AtomicBool::new(false),
            requested: Notify::new(),
        }
    }

    pub(super) fn give(&self, tail: Arc<Tail>) {
        self.load.fetch_add(1, Ordering::Relaxed);
        self.inbox().given.push(tail);
    }

    /// Requests a check of a stream. The caller must wake the reader afterwards.
    pub(super) fn recheck(&self, stream: &StreamName) {
        self.inbox().recheck.insert(stream.clone());
    }

    pub(super) fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    pub(super) fn is_empty_handed(&self) -> bool {
        self.inbox().given.is_empty()
    }

    /// Returns true to the caller that must wake the reader. Call after adding a request. Later
    /// callers get false until [`ReaderHandle::is_awake`] returns true.
    pub(super) fn begins_to_be_woken(&self) -> bool {
        self.requested.notify_one();
        !self.woken.swap(true, Ordering::AcqRel)
    }

    /// Waits for a request, without a blocked connection.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn requested(&self) {
        self.requested.notified().await;
    }

    /// Returns whether the reader has taken all requests, so that its waker can stop.
    pub(super) fn is_awake(&self) -> bool {
        let inbox = self.inbox();
        // Cleared under the lock: the next request wakes the reader again.
        inbox.given.is_empty()
            && inbox.recheck.is_empty()
            && self.woken.swap(false, Ordering::AcqRel)
    }

    pub(super) fn client(&self) -> Option<i64> {
        Some(self.client.load(Ordering::Relaxed)).filter(|client| *client != 0)
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock()
    }

    /// Takes all requests.
    pub(super) fn requests(&self) -> Inbox {
        std::mem::take(&mut *self.inbox())
    }

    /// Sets the Redis client id of the connection, or 0 without a connection.
    pub(super) fn set_client(&self, client: i64) {
        self.client.store(client, Ordering::Relaxed);
    }

    /// Subtracts streams that are followed no longer.
    pub(super) fn dropped(&self, streams: usize) {
        self.load.fetch_sub(streams, Ordering::Relaxed);
    }
}
