//! The hub: which streams are followed, and by which reader.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::background::Background;
use crate::live::group::fair_queue::Turns;
use crate::live::group::policy_cache::PolicyCache;
use crate::live::group::wake_subscriber::Wakes;
use crate::live::page_memory::Memory;
use crate::live::prefix_watch::Matchers;
use crate::live::reader::Reader;
use crate::live::retained::{self, Known};
use crate::live::scheduled::{self, Clock};
use crate::live::tail::{Awaited, Following, Tail};
use crate::live::wake_queue::{Bell, OwnBell, Post};
use crate::metrics::Metrics;
use crate::model::name::StreamName;
use crate::model::view::EventView;
use crate::redis::{Contact, Store, StoreError};

/// Bounds and rhythms of following.
#[derive(Clone, Debug)]
pub struct LiveSettings {
    /// Readers, each with one blocking Redis connection.
    pub readers: usize,
    /// Threads that followers live on.
    pub posts: usize,
    /// Streams followed at once.
    pub max_streams: usize,
    /// Bytes of pages kept of one stream for followers who are a little behind.
    pub stream_memory: usize,
    /// The same for all streams together.
    pub memory: usize,
    /// Bytes of entries in a page.
    pub page_bytes: usize,
    /// How long a reader blocks, at most.
    pub block: Duration,
    /// How often a quiet stream is looked at for resets; also how long it is followed after the
    /// last follower has gone, and how long pages are kept.
    pub look_every: Duration,
    /// How often groups with a policy are looked after.
    pub sweep_every: Duration,
    /// How often their consumers are looked at, for those who are gone.
    pub expire_every: Duration,
    /// Entries of a group that are looked at each time.
    pub sweep_limit: usize,
    /// How often streams are kept to their retention though nobody appends.
    pub retention_every: Duration,
    /// How long joining may take.
    pub join_timeout: Duration,
}

/// Pages of one stream kept at most, however small.
const MAX_PAGES: usize = 1024;

/// Why a stream cannot be followed now.
#[derive(Debug)]
pub enum JoinError {
    /// As many streams are followed as may be.
    TooManyStreams,
    /// One subscription cannot follow so many.
    TooManyForOne,
    /// Redis is away.
    Store(StoreError),
}

impl From<StoreError> for JoinError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Follows streams for everybody. Cheap to clone. The number is the post of those it follows for.
#[derive(Clone)]
pub struct Hub(pub(super) Arc<Inner>, usize);

pub(super) struct Inner {
    pub(super) store: Store,
    pub(super) settings: LiveSettings,
    pub(super) metrics: Metrics,
    pub(super) background: Background,
    pub(super) stop: CancellationToken,
    pub(super) turns: Turns,
    pub(super) matchers: Matchers,
    /// One for each thread that serves connections.
    pub(super) posts: Vec<Arc<Post>>,
    memory: Arc<Memory>,
    /// Views that somebody has: those that are equal are the same.
    views: Mutex<HashMap<EventView, Weak<EventView>>>,
    pub(super) wakes: Wakes,
    pub(super) policy_cache: PolicyCache,
    pub(super) known: Known,
    pub(super) clock: Clock,
    /// Followed streams. A tail is put in by `join` and taken out by its reader, both under this
    /// lock, so that nobody joins a tail that is being dropped.
    tails: Mutex<HashMap<StreamName, Arc<Tail>>>,
    /// Readers that run. One takes itself out under this lock when it has nothing left to read.
    readers: Mutex<Vec<Arc<Reader>>>,
}

impl Hub {
    /// A hub that follows nothing yet; `stop` ends its readers.
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
            turns: Turns::default(),
            wakes: Wakes::default(),
            policy_cache: PolicyCache::default(),
            known: Known::default(),
            clock: Clock::default(),
            matchers: Matchers::default(),
            posts,
            memory: Arc::new(memory),
            views: Mutex::default(),
            tails: Mutex::default(),
            readers: Mutex::default(),
        };
        let hub = Self(Arc::new(inner), 0);
        hub.0
            .background
            .spawn(crate::live::sweeper::run(hub.0.clone()));
        hub.0
            .background
            .spawn(retained::follow_index(hub.0.clone()));
        hub.0.background.spawn(retained::sweep(hub.0.clone()));
        hub.0.background.spawn(scheduled::run(hub.clone()));
        hub
    }

    /// The same hub, for those who live on the thread of this number.
    #[must_use]
    pub fn on_worker(&self, worker: usize) -> Self {
        Self(self.0.clone(), worker % self.0.posts.len())
    }

    /// Wakes those of this thread who follow something. Belongs on that thread, for as long as any
    /// of them lives.
    pub async fn serve_post(self) {
        let post = &self.0.posts[self.1];
        tokio::select! {
            () = post.serve(self.1) => {}
            () = self.0.stop.cancelled() => {
                // They find for themselves that the gateway stops.
                post.call_all();
                post.serve(self.1).await;
            }
        }
    }

    /// Has all who follow something look whether they still may.
    pub fn call_all(&self) {
        self.0.posts.iter().for_each(|post| post.call_all());
    }

    /// A bell for someone of this thread.
    pub(super) fn bell(&self) -> OwnBell {
        self.0.posts[self.1].bell()
    }

    /// The post of this thread.
    pub(super) fn post(&self) -> usize {
        self.1
    }

    /// The view that all share who see entries like this.
    pub(super) fn share_view(&self, view: EventView) -> Arc<EventView> {
        let mut views = self.0.views.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = views.get(&view).and_then(Weak::upgrade) {
            return known;
        }
        views.retain(|_, known| known.strong_count() > 0);
        let shared = Arc::new(view.clone());
        views.insert(view, Arc::downgrade(&shared));
        shared
    }

    /// Starts to listen to a stream: whatever is appended after this returns is heard.
    ///
    /// # Errors
    /// [`JoinError`], within the join time-out.
    /// # Cancel safety
    /// Safe: the stream is dropped again when nobody listens.
    pub(super) async fn join(&self, stream: &StreamName) -> Result<Awaited, JoinError> {
        let bell = self.bell();
        let following = self.join_as(stream, bell.clone(), 0).await?;
        Ok(Awaited { following, bell })
    }

    /// The same, for someone who has a bell: it is rung with this number.
    ///
    /// # Errors
    /// As [`Hub::join`].
    /// # Cancel safety
    /// As [`Hub::join`].
    pub(super) async fn join_as(
        &self,
        stream: &StreamName,
        bell: Arc<Bell>,
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
        self.tails.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn readers(&self) -> MutexGuard<'_, Vec<Arc<Reader>>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a tail to a reader: one of its own while there are few, the least loaded after that.
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
                // Where its first follower lives nobody must be woken on another thread.
                self.background.spawn_here(reader.clone().run(self.clone()));
                reader
            }
        };
        drop(readers);
        // A tail is assigned once.
        let _ = tail.reader.set(Arc::downgrade(&reader));
        self.begin_to_wake(reader);
    }

    /// Has the reader of a stream look at it at once.
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

    /// Wakes a reader that may be blocked on other streams, until it has taken up all it was asked for.
    async fn wake(self: Arc<Self>, reader: Arc<Reader>) {
        let mut patience = Duration::from_millis(1);
        while !reader.is_awake() {
            if self.stop.is_cancelled() {
                return;
            }
            if let Some(client) = reader.client()
                && let Err(error) = self.store.unblock(client).await
            {
                tracing::debug!(%error, "a reader could not be woken");
            }
            tokio::time::sleep(patience).await;
            patience = (patience * 2).min(Duration::from_millis(50));
        }
    }

    /// Drops those of `tails` that nobody has begun to listen to meanwhile, and names them.
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

    /// Lets a reader end, unless it was given something in the meantime.
    pub(super) fn retire(&self, reader: &Arc<Reader>) -> bool {
        let mut readers = self.readers();
        if !reader.is_empty_handed() {
            return false;
        }
        readers.retain(|other| !Arc::ptr_eq(other, reader));
        true
    }

    /// Waits until something is known that Redis must be asked for.
    pub(super) async fn until(&self, known: &watch::Sender<bool>) -> Result<(), StoreError> {
        if *known.borrow() {
            return Ok(());
        }
        let mut ready = known.subscribe();
        let deadline = Instant::now() + self.settings.join_timeout;
        loop {
            match timeout(LOOK_FOR_REDIS, ready.wait_for(|ready| *ready)).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(_)) => return Err(StoreError::Unreachable("the gateway stops".to_owned())),
                Err(_) => {}
            }
            if let Contact::Never(Some(why)) | Contact::Down(why) = &*self.store.contact().borrow()
            {
                return Err(StoreError::Unreachable(why.clone()));
            }
            if Instant::now() > deadline {
                return Err(StoreError::Timeout);
            }
        }
    }
}

/// How often someone who joins looks whether Redis is there at all.
const LOOK_FOR_REDIS: Duration = Duration::from_millis(20);
