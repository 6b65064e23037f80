//! The hub: the entry point for everything that follows streams or waits for entries.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::background::Background;
use crate::live::context::{JoinError, LiveContext, LiveSettings};
use crate::live::group::fair_queue::FairQueues;
use crate::live::group::policy_cache::PolicyCache;
use crate::live::group::wake_subscriber::GroupWakes;
use crate::live::page_memory::Memory;
use crate::live::prefix_watch::{PrefixFollower, PrefixWatches};
use crate::live::reader::LiveReader;
use crate::live::reader_handle::ReaderHandle;
use crate::live::registry::{Assigned, Registry};
use crate::live::tail::{Awaited, Following, TailState};
use crate::live::wake_queue::{RegisteredWakeHandle, WakeHandle};
use crate::metrics::Metrics;
use crate::model::history::StreamCounters;
use crate::model::name::StreamName;
use crate::model::view::EventView;
use crate::redis::Store;
use crate::shares::{self, Account};

/// Maximum number of recent pages kept for one stream, whatever their size.
const MAX_PAGES: usize = 1024;

/// A handle to the hub, with the index of the worker thread of its followers and the account that
/// they are charged to, if it is not that of the request in progress. Cheap to clone.
#[derive(Clone)]
pub struct Hub(pub(super) Arc<HubState>, usize, Option<Arc<Account>>);

pub(super) struct HubState {
    pub(super) context: Arc<LiveContext>,
    registry: Arc<Registry>,
    pub(super) fair_queues: FairQueues,
    pub(super) prefix_watches: Arc<PrefixWatches>,
    /// Views in use. Followers with equal views share one.
    views: Mutex<HashMap<EventView, Weak<EventView>>>,
    pub(super) wakes: Arc<GroupWakes>,
    pub(super) policy_cache: PolicyCache,
}

impl Hub {
    /// Returns a hub that follows nothing yet, and starts its background jobs. `stop` ends them and
    /// the readers.
    #[must_use]
    pub fn new(
        store: Store,
        settings: LiveSettings,
        metrics: Metrics,
        background: Background,
        stop: CancellationToken,
    ) -> Self {
        let (of_one, of_all) = (settings.stream_memory, settings.memory);
        let memory = Memory::new(of_one, MAX_PAGES, of_all, metrics.live_bytes.clone());
        let wake_queues = (0..settings.wake_queues.max(1))
            .map(|_| Arc::default())
            .collect();
        let context = Arc::new(LiveContext {
            store,
            settings,
            metrics,
            background,
            stop,
            wake_queues,
            tracking_refused: AtomicBool::new(false),
        });
        let inner = HubState {
            registry: Arc::new(Registry::new(context.clone(), memory)),
            fair_queues: FairQueues::default(),
            wakes: Arc::new(GroupWakes::new(context.clone())),
            policy_cache: PolicyCache::default(),
            prefix_watches: Arc::new(PrefixWatches::new(context.clone())),
            views: Mutex::default(),
            context,
        };
        Self(Arc::new(inner), 0, None)
    }

    /// Returns a handle to the same hub for followers on worker thread `worker`.
    #[must_use]
    pub fn on_worker(&self, worker: usize) -> Self {
        let worker = worker % self.0.context.wake_queues.len();
        Self(self.0.clone(), worker, self.2.clone())
    }

    /// Returns a handle whose followers are charged to the current account, also later.
    #[must_use]
    pub(super) fn for_current_account(&self) -> Self {
        Self(self.0.clone(), self.1, shares::current())
    }

    /// Returns the account that followers are charged to.
    pub(super) fn account(&self) -> Option<Arc<Account>> {
        self.2.clone().or_else(shares::current)
    }

    /// Wakes the followers of this worker thread. Must run on that thread as long as any of them
    /// exists.
    pub async fn serve_wake_queue(self) {
        let post = &self.0.context.wake_queues[self.1];
        let at_shutdown = async {
            self.0.context.stop.cancelled().await;
            // Each follower checks for the shutdown itself.
            post.call_all();
        };
        tokio::join!(post.serve(self.1), at_shutdown);
    }

    /// Wakes all followers, so that each checks whether its credential is still valid.
    pub fn wake_all(&self) {
        self.0
            .context
            .wake_queues
            .iter()
            .for_each(|post| post.call_all());
    }

    /// Returns a wake-up handle for a follower on this worker thread.
    pub(super) fn wake_handle(&self) -> RegisteredWakeHandle {
        self.0.context.wake_queues[self.1].wake_handle()
    }

    /// Returns the shared instance of a view.
    pub(super) fn share_view(&self, view: EventView) -> Arc<EventView> {
        let mut views = self.0.views.lock();
        if let Some(known) = views.get(&view).and_then(Weak::upgrade) {
            return known;
        }
        views.retain(|_, known| known.strong_count() > 0);
        let shared = Arc::new(view.clone());
        views.insert(view, Arc::downgrade(&shared));
        shared
    }

    /// Starts to follow a stream. The follower receives every entry appended after this returns.
    ///
    /// # Errors
    /// [`JoinError`], within the join timeout.
    /// # Cancel safety
    /// Safe: a stream without followers is dropped again.
    pub(super) async fn join(&self, stream: &StreamName) -> Result<Awaited, JoinError> {
        let wake_handle = self.wake_handle();
        let following = self.join_as(stream, wake_handle.clone(), 0).await?;
        Ok(Awaited {
            following,
            wake_handle,
        })
    }

    /// Like [`Hub::join`], for a follower with a wake-up handle. `number` identifies the stream in
    /// its notifications.
    ///
    /// # Errors
    /// Same as [`Hub::join`].
    /// # Cancel safety
    /// Same as [`Hub::join`].
    pub(super) async fn join_as(
        &self,
        stream: &StreamName,
        wake_handle: Arc<WakeHandle>,
        number: u32,
    ) -> Result<Following, JoinError> {
        let inner = &self.0;
        let (mut following, assigned) =
            inner
                .registry
                .follow(stream, (self.1, wake_handle, number), self.account())?;
        match assigned {
            Assigned::Before => {}
            Assigned::ToRunning(reader) => inner.begin_to_wake(reader),
            Assigned::ToNew(handle) => {
                let reader = LiveReader {
                    context: inner.context.clone(),
                    registry: inner.registry.clone(),
                    handle,
                };
                // On the thread of its first follower, which then needs no wake-up from another
                // thread.
                inner.context.background.spawn_here(reader.run());
            }
        }
        inner.context.until(&following.tail().ready).await?;
        following.mark_seen();
        Ok(following)
    }

    /// Compares the counters of a stream with the state of its tail before they were read. See
    /// [`Following::compare`].
    pub(super) fn compare(&self, following: &Following, known: TailState, facts: &StreamCounters) {
        let inner = &self.0;
        if following.compare(known, facts, &inner.context.wake_queues)
            && let Some(reader) = inner.registry.reader(following.stream())
        {
            reader.recheck(following.stream());
            inner.begin_to_wake(reader);
        }
    }

    /// Watches for streams with a name prefix. See [`PrefixWatches::follow`].
    ///
    /// # Errors
    /// Same as [`PrefixWatches::follow`].
    /// # Cancel safety
    /// Safe.
    pub(super) async fn watch_prefix(
        &self,
        prefix: &str,
        wake_handle: Arc<WakeHandle>,
    ) -> Result<PrefixFollower, JoinError> {
        self.0
            .prefix_watches
            .follow(prefix, self.1, wake_handle, self.account())
            .await
    }

    /// Notifies prefix followers that a stream exists. Must be called after an append.
    pub fn appended(&self, stream: &StreamName) {
        self.0.prefix_watches.appended(stream);
    }
}

impl HubState {
    fn begin_to_wake(&self, reader: Arc<ReaderHandle>) {
        if reader.begins_to_be_woken() {
            let context = self.context.clone();
            self.context.background.spawn(wake(context, reader));
        }
    }
}

/// Unblocks a reader, which can be blocked on other streams, until it has taken all requests.
async fn wake(context: Arc<LiveContext>, reader: Arc<ReaderHandle>) {
    let mut patience = Duration::from_millis(1);
    while !reader.is_awake() {
        if context.stop.is_cancelled() {
            return;
        }
        if let Some(client) = reader.client()
            && let Err(error) = context.store.unblock(client).await
        {
            tracing::debug!(%error, "cannot unblock a stream reader");
        }
        tokio::time::sleep(patience).await;
        patience = (patience * 2).min(Duration::from_millis(50));
    }
}
