//! The hub: which streams are followed, and by which reader.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::leased::Leased;
use super::reader::Reader;
use super::tail::{Following, Tail};
use super::turns::Turns;
use super::wakes::Wakes;
use crate::background::Background;
use crate::metrics::Metrics;
use crate::model::name::StreamName;
use crate::store::{Contact, Store, StoreError};

/// Bounds and rhythms of following.
#[derive(Clone, Debug)]
pub struct LiveSettings {
    /// Readers, each with one blocking Redis connection.
    pub readers: usize,
    /// Streams followed at once.
    pub max_streams: usize,
    /// Pages kept for followers who are a little slow.
    pub pages: usize,
    /// Bytes of entries in a page.
    pub page_bytes: usize,
    /// How long a reader blocks, at most.
    pub block: Duration,
    /// How often a quiet stream is looked at for resets; also how long it is followed after the
    /// last follower has gone.
    pub look_every: Duration,
    /// How often groups with a policy are looked after.
    pub sweep_every: Duration,
    /// Entries of a group that are looked at each time.
    pub sweep_limit: usize,
    /// How long joining may take.
    pub join_timeout: Duration,
}

/// Why a stream cannot be followed now.
#[derive(Debug)]
pub enum JoinError {
    /// As many streams are followed as may be.
    TooManyStreams,
    /// Redis is away.
    Store(StoreError),
}

impl From<StoreError> for JoinError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Follows streams for everybody. Cheap to clone.
#[derive(Clone)]
pub struct Hub(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) store: Store,
    pub(super) settings: LiveSettings,
    pub(super) metrics: Metrics,
    pub(super) background: Background,
    pub(super) stop: CancellationToken,
    pub(super) turns: Turns,
    pub(super) wakes: Wakes,
    pub(super) leased: Leased,
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
        let hub = Self(Arc::new(Inner {
            store,
            settings,
            metrics,
            background,
            stop,
            turns: Turns::default(),
            wakes: Wakes::default(),
            leased: Leased::default(),
            tails: Mutex::default(),
            readers: Mutex::default(),
        }));
        hub.0.background.spawn(super::sweeper::run(hub.0.clone()));
        hub
    }

    /// Starts to listen to a stream: whatever is appended after this returns is heard.
    ///
    /// # Errors
    /// [`JoinError`], within the join time-out.
    /// # Cancel safety
    /// Safe: the stream is dropped again when nobody listens.
    pub async fn join(&self, stream: &StreamName) -> Result<Following, JoinError> {
        let (tail, feed) = {
            let mut tails = self.0.tails();
            if let Some(tail) = tails.get(stream) {
                (tail.clone(), tail.feed.subscribe())
            } else if tails.len() >= self.0.settings.max_streams {
                self.0.metrics.refuse("followed_streams");
                return Err(JoinError::TooManyStreams);
            } else {
                let tail = Arc::new(Tail::new(stream.clone(), self.0.settings.pages));
                let feed = tail.feed.subscribe();
                tails.insert(stream.clone(), tail.clone());
                self.0.metrics.followed_streams.inc();
                self.0.assign(&tail);
                (tail, feed)
            }
        };
        self.0.until_ready(&tail).await?;
        Ok(Following { feed })
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
        if readers.len() >= self.settings.readers
            && let Some(least) = readers.iter().min_by_key(|reader| reader.load())
        {
            least.give(tail.clone());
            return;
        }
        let reader = Arc::new(Reader::new(tail.clone()));
        readers.push(reader.clone());
        self.background.spawn(reader.run(self.clone()));
    }

    /// Drops those of `tails` that nobody has begun to listen to meanwhile, and names them.
    pub(super) fn drop_idle<'a>(
        &self,
        tails: impl Iterator<Item = &'a Arc<Tail>>,
    ) -> HashSet<StreamName> {
        let mut known = self.tails();
        let idle: HashSet<StreamName> = tails
            .filter(|tail| tail.feed.receiver_count() == 0)
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

    /// Waits until a tail is read. Its reader may be blocked on other streams: each round wakes it.
    async fn until_ready(&self, tail: &Tail) -> Result<(), StoreError> {
        let mut ready = tail.ready.subscribe();
        let deadline = Instant::now() + self.settings.join_timeout;
        let mut patience = Duration::from_millis(2);
        loop {
            match timeout(patience, ready.wait_for(|ready| *ready)).await {
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
            let client = self
                .readers()
                .iter()
                .find(|reader| reader.is_given(tail))
                .and_then(|reader| reader.client());
            if let Some(client) = client
                && let Err(error) = self.store.unblock(client).await
            {
                tracing::debug!(%error, "a reader could not be woken");
            }
            patience = (patience * 2).min(Duration::from_millis(50));
        }
    }
}
