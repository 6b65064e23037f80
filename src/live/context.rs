//! The surroundings of everything that follows streams: Redis, limits, metrics, background tasks
//! and wake-up queues.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::background::Background;
use crate::live::wake_queue::WakeQueue;
use crate::metrics::Metrics;
use crate::redis::{RedisHealth, Store, StoreError};
use crate::shares::ShareExceeded;

/// Interval at which a join checks whether Redis is reachable.
const LOOK_FOR_REDIS: Duration = Duration::from_millis(20);

/// Number of streams of a single server above which a reader uses tracking instead of XREAD.
const MANY: usize = 16;

/// Limits and intervals for following streams.
#[derive(Clone, Debug)]
pub struct LiveSettings {
    /// Maximum number of readers, each with one blocking Redis connection.
    pub readers: usize,
    /// Number of worker threads that serve followers.
    pub wake_queues: usize,
    /// Maximum number of streams followed at the same time.
    pub max_streams: usize,
    /// Maximum size of the recent pages of one stream in bytes, kept for followers that are
    /// slightly behind.
    pub stream_memory: usize,
    /// Maximum size of the recent pages of all streams, in bytes.
    pub memory: usize,
    /// Maximum size of the entries in a page, in bytes.
    pub page_bytes: usize,
    /// Maximum time that a reader blocks in one XREAD.
    pub block: Duration,
    /// Interval at which an idle stream is checked for resets. A stream stays followed for as long
    /// after its last follower has left, and pages are kept for as long.
    pub look_every: Duration,
    /// Timeout for joining a stream.
    pub join_timeout: Duration,
}

/// The reason why a stream cannot be followed.
#[derive(Debug)]
pub enum JoinError {
    /// The gateway follows the maximum number of streams already.
    TooManyStreams,
    /// The subscription exceeds the maximum number of streams per subscription.
    TooManyForOne,
    /// The caller follows its share of the streams already.
    ShareExceeded(ShareExceeded),
    /// Redis failed, or is unreachable.
    Store(StoreError),
}

impl From<ShareExceeded> for JoinError {
    fn from(exceeded: ShareExceeded) -> Self {
        Self::ShareExceeded(exceeded)
    }
}

impl From<StoreError> for JoinError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// The surroundings of readers and followers.
pub(super) struct LiveContext {
    pub(super) store: Store,
    pub(super) settings: LiveSettings,
    pub(super) metrics: Metrics,
    pub(super) background: Background,
    pub(super) stop: CancellationToken,
    /// The wake-up queues, one per worker thread.
    pub(super) wake_queues: Vec<Arc<WakeQueue>>,
    /// Whether the server did not support or permit tracking.
    pub(super) tracking_refused: AtomicBool,
}

impl LiveContext {
    /// Returns whether a reader of so many streams follows them over tracking connections.
    pub(super) fn tracks(&self, streams: usize) -> bool {
        let refused = || self.tracking_refused.load(Ordering::Relaxed);
        self.store.is_cluster() || (streams > MANY && !refused())
    }

    /// Records that the server does not support or permit tracking.
    pub(super) fn tracking_is_refused(&self) {
        self.tracking_refused.store(true, Ordering::Relaxed);
    }

    /// Waits until `known` turns true, which requires an answer from Redis. Fails if Redis is
    /// unreachable, or after the join timeout.
    pub(super) async fn until(&self, known: &watch::Sender<bool>) -> Result<(), StoreError> {
        if *known.borrow() {
            return Ok(());
        }
        let mut ready = known.subscribe();
        let deadline = Instant::now() + self.settings.join_timeout;
        loop {
            match timeout(LOOK_FOR_REDIS, ready.wait_for(|ready| *ready)).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(_)) => return Err(StoreError::Unreachable("shutting down".to_owned())),
                Err(_) => {}
            }
            if let RedisHealth::Never(Some(why)) | RedisHealth::Down(why) =
                &*self.store.health().borrow()
            {
                return Err(StoreError::Unreachable(why.clone()));
            }
            if Instant::now() > deadline {
                return Err(StoreError::Timeout);
            }
        }
    }
}
