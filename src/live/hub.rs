//! The hub: the registry of followed streams and of the readers that feed them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::background::Background;
use crate::live::group::fair_queue::FairQueues;
use crate::live::group::policy_cache::PolicyCache;
use crate::live::group::wake_subscriber::GroupWakes;
use crate::live::page_memory::Memory;
use crate::live::prefix_watch::PrefixWatches;
use crate::live::reader::Reader;
use crate::live::tail::{Awaited, Following, Tail};
use crate::live::wake_queue::{RegisteredWakeHandle, WakeHandle, WakeQueue};
use crate::metrics::Metrics;
use crate::model::name::StreamName;
use crate::model::view::EventView;
use crate::redis::{RedisHealth, Store, StoreError};

/// Limits and intervals for following streams.
#[derive(Clone, Debug)]
pub struct LiveSettings {
    /// Maximum number of readers, each with one blocking Redis connection.
    pub readers: usize,
    /// Number of worker threads that serve followers.
    pub posts: usize,
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

/// Maximum number of recent pages kept for one stream, whatever their size.
const MAX_PAGES: usize = 1024;

/// The reason why a stream cannot be followed.
#[derive(Debug)]
pub enum JoinError {
    /// The gateway follows the maximum number of streams already.
    TooManyStreams,
    /// The subscription exceeds the maximum number of streams per subscription.
    TooManyForOne,
    /// Redis failed, or is unreachable.
    Store(StoreError),
}

impl From<StoreError> for JoinError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// A handle to the hub, with the index of the worker thread of its followers. Cheap to clone.
#[derive(Clone)]
pub struct Hub(pub(super) Arc<Inner>, usize);

pub(super) struct Inner {
    pub(super) store: Store,
    pub(super) settings: LiveSettings,
    pub(super) metrics: Metrics,
    pub(super) background: Background,
    pub(super) stop: CancellationToken,
    pub(super) turns: FairQueues,
    pub(super) matchers: PrefixWatches,
    /// The wake-up queues, one per worker thread.
    pub(super) posts: Vec<Arc<WakeQueue>>,
    memory: Arc<Memory>,
    /// Views in use. Followers with equal views share one.
    views: Mutex<HashMap<EventView, Weak<EventView>>>,
    pub(super) wakes: GroupWakes,
    pub(super) policy_cache: PolicyCache,
    /// Followed streams. `join` inserts a tail and its reader removes it, both under this lock, so
    /// that no follower joins a tail that is being dropped.
    tails: Mutex<HashMap<StreamName, Arc<Tail>>>,
    /// Running readers. A reader removes itself under this lock when it has no streams left.
    readers: Mutex<Vec<Arc<Reader>>>,
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
        let posts = (0..settings.posts.max(1)).map(|_| Arc::default()).collect();
        let inner = Inner {
            store,
            settings,
            metrics,
            background,
            stop,
            turns: FairQueues::default(),
            wakes: GroupWakes::default(),
            policy_cache: PolicyCache::default(),
            matchers: PrefixWatches::default(),
            posts,
            memory: Arc::new(memory),
            views: Mutex::default(),
            tails: Mutex::default(),
            readers: Mutex::default(),
        };
        Self(Arc::new(inner), 0)
    }

    /// Returns a handle to the same hub for followers on worker thread `worker`.
    #[must_use]
    pub fn on_worker(&self, worker: usize) -> Self {
        Self(self.0.clone(), worker % self.0.posts.len())
    }

    /// Wakes the followers of this worker thread. Must run on that thread as long as any of them
    /// exists.
    pub async fn serve_post(self) {
        let post = &self.0.posts[self.1];
        tokio::select! {
            () = post.serve(self.1) => {}
            () = self.0.stop.cancelled() => {
                // Each follower checks for the shutdown itself.
                post.call_all();
                post.serve(self.1).await;
            }
        }
    }

    /// Wakes all followers, so that each checks whether its credential is still valid.
    pub fn call_all(&self) {
        self.0.posts.iter().for_each(|post| post.call_all());
    }

    /// Returns a wake-up handle for a follower on this worker thread.
    pub(super) fn bell(&self) -> RegisteredWakeHandle {
        self.0.posts[self.1].bell()
    }

    /// Returns the index of this worker thread.
    pub(super) fn post(&self) -> usize {
        self.1
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
        let bell = self.bell();
        let following = self.join_as(stream, bell.clone(), 0).await?;
        Ok(Awaited { following, bell })
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
        bell: Arc<WakeHandle>,
        number: u32,
    ) -> Result<Following, JoinError> {
        let (inner, post) = (&self.0, self.1);
        let mut following = {
            let mut tails = inner.tails();
            if let Some(tail) = tails.get(stream) {
                tail.follow(post, bell, number)
            } else if tails.len() >= inner.settings.max_streams {
                inner.metrics.refuse("followed_streams");
                return Err(JoinError::TooManyStreams);
            } else {
                let tail = Tail::new(stream.clone(), inner.posts.len(), inner.memory.clone());
                let tail = Arc::new(tail);
                let following = tail.follow(post, bell, number);
                tails.insert(stream.clone(), tail.clone());
                inner.metrics.followed_streams.inc();
                inner.assign(&tail);
                following
            }
        };
        inner.until(&following.tail().ready).await?;
        following.looks();
        Ok(following)
    }
}

impl Inner {
    fn tails(&self) -> MutexGuard<'_, HashMap<StreamName, Arc<Tail>>> {
        self.tails.lock()
    }

    fn readers(&self) -> MutexGuard<'_, Vec<Arc<Reader>>> {
        self.readers.lock()
    }

    /// Assigns a tail to a new reader, or to the least loaded one if the maximum number is running.
    fn assign(self: &Arc<Self>, tail: &Arc<Tail>) {
        let mut readers = self.readers();
        let least = readers.iter().min_by_key(|reader| reader.load());
        let reader = match least {
            Some(least) if readers.len() >= self.settings.readers => {
                least.give(tail.clone());
                least.clone()
            }
            _ => {
                let reader = Arc::new(Reader::new(tail.clone()));
                readers.push(reader.clone());
                // On the thread of its first follower, which then needs no wake-up from another
                // thread.
                self.background.spawn_here(reader.clone().run(self.clone()));
                reader
            }
        };
        drop(readers);
        // Cannot fail: a tail is assigned only once.
        let _ = tail.reader.set(Arc::downgrade(&reader));
        self.begin_to_wake(reader);
    }

    /// Requests an immediate check of a stream by its reader.
    pub(super) fn recheck(self: &Arc<Self>, tail: &Tail) {
        if let Some(reader) = tail.reader.get().and_then(Weak::upgrade) {
            reader.recheck(&tail.stream);
            self.begin_to_wake(reader);
        }
    }

    fn begin_to_wake(self: &Arc<Self>, reader: Arc<Reader>) {
        if reader.begins_to_be_woken() {
            self.background.spawn(self.clone().wake(reader));
        }
    }

    /// Unblocks a reader, which can be blocked on other streams, until it has taken all requests.
    async fn wake(self: Arc<Self>, reader: Arc<Reader>) {
        let mut patience = Duration::from_millis(1);
        while !reader.is_awake() {
            if self.stop.is_cancelled() {
                return;
            }
            if let Some(client) = reader.client()
                && let Err(error) = self.store.unblock(client).await
            {
                tracing::debug!(%error, "cannot unblock a stream reader");
            }
            tokio::time::sleep(patience).await;
            patience = (patience * 2).min(Duration::from_millis(50));
        }
    }

    /// Drops those of `tails` that still have no followers, and returns their names.
    pub(super) fn drop_idle<'a>(
        &self,
        tails: impl Iterator<Item = &'a Arc<Tail>>,
    ) -> HashSet<StreamName> {
        let mut known = self.tails();
        let idle: HashSet<StreamName> = tails
            .filter(|tail| tail.followers() == 0)
            .map(|tail| tail.stream.clone())
            .collect();
        for stream in &idle {
            known.remove(stream);
            self.metrics.followed_streams.dec();
        }
        idle
    }

    /// Removes a reader, unless it was given a stream in the meantime. Returns whether it is
    /// removed.
    pub(super) fn retire(&self, reader: &Arc<Reader>) -> bool {
        let mut readers = self.readers();
        if !reader.is_empty_handed() {
            return false;
        }
        readers.retain(|other| !Arc::ptr_eq(other, reader));
        true
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
                &*self.store.contact().borrow()
            {
                return Err(StoreError::Unreachable(why.clone()));
            }
            if Instant::now() > deadline {
                return Err(StoreError::Timeout);
            }
        }
    }
}

/// Interval at which a join checks whether Redis is reachable.
const LOOK_FOR_REDIS: Duration = Duration::from_millis(20);
