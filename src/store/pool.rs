//! Connections to Redis: a few shared ones that carry every short command, and a bounded number of
//! exclusive ones for commands that block.
//!
//! Both kinds come out of deadpool pools, which bound and replace them. The shared handles are
//! taken from their pool once and kept, since a checkout costs a PING round trip (ADR 1). A
//! handle that broke, or that timed out without any reply in between, is thrown away with its
//! connection; the next caller makes a new one. A connection that the server closed is noticed when
//! the end of the stream comes (`link.rs`): nothing is sent over it any more.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{Cmd, ConnectionInfo, Pipeline, RedisError, Value};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::Blocking;
use super::address::Writes;
use super::contact::Contact;
use super::dial::{Wire, greet};
use super::error::StoreError;
use super::site::{Kind, PoolSettings, Site};
use super::slot::{Held, Slot};
use super::transaction;

/// How long a failed attempt to connect answers for the callers right behind it.
const FAILURE_COUNTS_FOR: Duration = Duration::from_millis(250);
/// How often more a command is tried that was certainly not sent.
const UNSENT_TRIES: u8 = 2;
/// How often an idle shared connection is tried.
const PING_EVERY: Duration = Duration::from_secs(1);

/// May a command be sent a second time when the connection broke under the first?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// It changes nothing.
    Safe,
    /// It may have run already.
    Unsafe,
}

impl Repeat {
    const fn tries(self) -> u8 {
        match self {
            Self::Safe => 2,
            Self::Unsafe => 1,
        }
    }
}

/// All connections of this process to its Redis.
pub struct Connections {
    pub(super) settings: PoolSettings,
    /// Where all of them go, or why they go nowhere. Written by `move_to` and `has_no_site`.
    site: RwLock<Result<Arc<Site>, StoreError>>,
    /// For writes: the first for whoever is no worker, then one for each of them.
    writers: Box<[Slot]>,
    readers: Box<[Slot]>,
    turn: AtomicUsize,
    pub(super) contact: watch::Sender<Contact>,
    pub(super) writes: Writes,
    /// Called when a connection has ended.
    ended: Arc<Notify>,
    /// How many shared connections were ever made; counted by `connect`.
    connected: watch::Sender<u64>,
    doubted: Notify,
    /// Called when something went wrong that another master would explain.
    pub(super) suspected: Notify,
}

impl Connections {
    /// Prepares the pools; connects to nothing yet.
    ///
    /// # Errors
    /// [`StoreError::Unexpected`] when the settings cannot make a pool.
    pub fn new(settings: &PoolSettings) -> Result<Self, StoreError> {
        let ended = Arc::new(Notify::new());
        let site = match settings.sentinels {
            None => Ok(Arc::new(Site::new(
                settings,
                settings.connection.clone(),
                &ended,
            )?)),
            Some(_) => Err(StoreError::Unreachable(
                "no sentinel was asked yet".to_owned(),
            )),
        };
        Ok(Self {
            settings: settings.clone(),
            site: RwLock::new(site),
            writers: (0..=settings.workers).map(|_| Slot::default()).collect(),
            readers: (0..settings.readers).map(|_| Slot::default()).collect(),
            turn: AtomicUsize::new(0),
            contact: watch::Sender::new(Contact::Never(None)),
            writes: Writes::default(),
            ended,
            connected: watch::Sender::new(0),
            doubted: Notify::new(),
            suspected: Notify::new(),
        })
    }

    /// What is known of Redis, for readiness and for waiting.
    #[must_use]
    pub fn contact(&self) -> watch::Receiver<Contact> {
        self.contact.subscribe()
    }

    /// How many shared connections were ever made: changes whenever one is made anew.
    #[must_use]
    pub fn connected(&self) -> watch::Receiver<u64> {
        self.connected.subscribe()
    }

    /// Connections open now, by kind.
    #[must_use]
    pub fn open(&self) -> [(&'static str, usize); 3] {
        let site = self.site();
        Kind::ALL.map(|kind| (kind.name(), site.as_ref().map_or(0, |site| site.open(kind))))
    }

    /// The server that is used.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`] while sentinels have not named any.
    pub(super) fn site(&self) -> Result<Arc<Site>, StoreError> {
        self.site
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// From here on another server is used: whatever still waits for the one before ends.
    ///
    /// # Errors
    /// [`StoreError::Unexpected`] when no pool can be made of this; nothing has changed then.
    pub(super) fn move_to(&self, there: ConnectionInfo) -> Result<(), StoreError> {
        let site = Ok(Arc::new(Site::new(&self.settings, there, &self.ended)?));
        let mut place = self.site.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *place, site);
        drop(place);
        if let Ok(before) = before {
            before.leave();
        }
        for slot in self.writers.iter().chain(&self.readers) {
            if let Some(held) = slot.held() {
                slot.discard(&held);
            }
        }
        self.doubt();
        Ok(())
    }

    /// Why no server is used, unless one is.
    pub(super) fn has_no_site(&self, why: &str) {
        let mut site = self.site.write().unwrap_or_else(PoisonError::into_inner);
        if site.is_err() {
            *site = Err(StoreError::Unreachable(why.to_owned()));
        }
    }

    /// An exclusive connection; [`Blocking::discard`] it unless all it was asked was answered.
    ///
    /// # Errors
    /// [`StoreError::Exhausted`] when all are in use, [`StoreError::Unreachable`] otherwise.
    pub(super) async fn exclusive(&self, kind: Kind) -> Result<Blocking, StoreError> {
        loop {
            let site = self.site()?;
            if let Some(taken) = site.take(kind).await {
                return taken.map(|connection| Blocking::new(connection, site.left.clone()));
            }
        }
    }

    /// One command on a shared connection, on that of the writer if it changes something.
    ///
    /// # Errors
    /// By meaning, see [`StoreError`].
    /// # Cancel safety
    /// A command that is dropped may still run; its answer is thrown away, the connection usable.
    pub async fn command(
        &self,
        command: &Cmd,
        repeat: Repeat,
        writer: usize,
    ) -> Result<Value, StoreError> {
        let send = |mut handle: MultiplexedConnection| async move {
            command.query_async(&mut handle).await
        };
        self.call(repeat, writer, send).await
    }

    /// Several commands in one round trip on a shared connection; in MULTI/EXEC if the pipeline
    /// says so.
    ///
    /// # Errors
    /// By meaning, see [`StoreError`]; the first error of any command is the error of all.
    /// # Cancel safety
    /// As [`Connections::command`].
    pub async fn pipeline(
        &self,
        pipeline: &Pipeline,
        repeat: Repeat,
        writer: usize,
    ) -> Result<Vec<Value>, StoreError> {
        let send = |handle| transaction::send(pipeline, handle);
        self.call(repeat, writer, send).await
    }

    /// Sends something over a shared connection. What was certainly not sent, or not heeded for want
    /// of a login, is sent once more over a new connection, whatever it does.
    async fn call<T, F: Future<Output = Result<T, RedisError>>>(
        &self,
        repeat: Repeat,
        writer: usize,
        send: impl Fn(MultiplexedConnection) -> F,
    ) -> Result<T, StoreError> {
        let mut tries = repeat.tries();
        let mut unsent_tries = UNSENT_TRIES;
        loop {
            let (slot, held) = self.held(repeat, writer).await?;
            let (answered, written) = (
                held.answered.load(Ordering::Relaxed),
                held.wire.link.written(),
            );
            let result = send(held.wire.handle.clone()).await;
            tries -= 1;
            let unsent = held.wire.link.written() == written;
            match self.settle(slot, &held, answered, result) {
                Err(StoreError::Broken(text)) if unsent => {
                    if unsent_tries == 0 {
                        return Err(StoreError::Unreachable(text));
                    }
                    (tries, unsent_tries) = (tries + 1, unsent_tries - 1);
                }
                Err(StoreError::LoggedOut(_)) if unsent_tries > 0 => {
                    (tries, unsent_tries) = (tries + 1, unsent_tries - 1);
                }
                Err(StoreError::Broken(_)) if tries > 0 => {}
                result => return result,
            }
        }
    }

    /// Keeps the shared connections alive and `contact` true.
    pub async fn supervise(&self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(PING_EVERY);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
                () = self.doubted.notified() => {}
                () = self.ended.notified() => {}
            }
            self.check().await;
        }
    }

    /// Throws shared connections away that are dead.
    pub async fn check(&self) {
        // A worker makes its own.
        let made = self.writers[1..]
            .iter()
            .filter(|slot| slot.open().is_some());
        let slots = self.writers[..1].iter().chain(&self.readers).chain(made);
        for error in futures_util::future::join_all(slots.map(|slot| self.ping(slot))).await {
            self.note(error.as_ref());
        }
    }

    /// Has the shared connections tried at once: something suggests that Redis went away.
    pub fn doubt(&self) {
        self.doubted.notify_one();
        self.suspected.notify_one();
    }

    /// Looks for another master if this is how one would be noticed, and notes what the server does
    /// not let the gateway do.
    pub(super) fn heed<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error) = &result {
            self.writes.heed(error);
            if let StoreError::ReadOnly(_) | StoreError::Broken(_) | StoreError::Timeout = error {
                self.suspected.notify_one();
            }
        }
        result
    }

    async fn ping(&self, slot: &Slot) -> Option<StoreError> {
        loop {
            let held = match self.held_in(slot).await {
                Ok(held) => held,
                Err(error) => return Some(error),
            };
            let before = held.answered.load(Ordering::Relaxed);
            let answer = held.left.run_until_cancelled(greet(&held.wire.handle));
            if let Some(result) = answer.await {
                return self.settle(slot, &held, before, result).err();
            }
            slot.discard(&held);
        }
    }

    /// Writes of a thread share a handle, where many at once become few packets; reads go over
    /// others, so that a large answer holds up no write.
    async fn held(&self, repeat: Repeat, writer: usize) -> Result<(&Slot, Arc<Held>), StoreError> {
        let slot = match repeat {
            Repeat::Safe => {
                &self.readers[self.turn.fetch_add(1, Ordering::Relaxed) % self.readers.len()]
            }
            Repeat::Unsafe => &self.writers[writer],
        };
        self.held_in(slot).await.map(|held| (slot, held))
    }

    async fn held_in(&self, slot: &Slot) -> Result<Arc<Held>, StoreError> {
        match slot.open() {
            Some(held) => Ok(held),
            // Rare and large: it is not to be part of every command.
            None => Box::pin(self.connect(slot)).await,
        }
    }

    async fn connect(&self, slot: &Slot) -> Result<Arc<Held>, StoreError> {
        let mut last_failure = slot.connecting.lock().await;
        if let Some(held) = slot.open() {
            return Ok(held);
        }
        loop {
            let site = self.site().inspect_err(|error| self.note(Some(error)))?;
            if let Some((at, left, error)) = &*last_failure
                && at.elapsed() < FAILURE_COUNTS_FOR
                && !left.is_cancelled()
            {
                return Err(error.clone());
            }
            let left = site.left.clone();
            let owner = match site.take(Kind::Shared).await {
                Some(Ok(owner)) => owner,
                Some(Err(error)) => {
                    *last_failure = Some((Instant::now(), left, error.clone()));
                    self.note(Some(&error));
                    self.suspected.notify_one();
                    return Err(error);
                }
                None => continue,
            };
            let held = Arc::new(Held {
                wire: Wire::clone(&owner),
                owner: Mutex::new(Some(owner)),
                answered: AtomicU64::new(0),
                left,
            });
            let mut place = slot.held.write().unwrap_or_else(PoisonError::into_inner);
            // Looked at under the lock that `move_to` takes when it has left the site: what is put
            // here is thrown away by that, or is of the new site.
            if held.left.is_cancelled() {
                continue;
            }
            *place = Some(held.clone());
            drop(place);
            *last_failure = None;
            self.note(None);
            self.connected.send_modify(|made| *made += 1);
            return Ok(held);
        }
    }

    /// Notes how a command ended, before which so many had been answered; throws the handle away if
    /// it is of no further use.
    fn settle<T>(
        &self,
        slot: &Slot,
        held: &Arc<Held>,
        before: u64,
        result: Result<T, impl Into<StoreError>>,
    ) -> Result<T, StoreError> {
        let result = result.map_err(Into::into);
        match &result {
            Err(error) if error.breaks_connection() => {
                slot.discard(held);
            }
            // Others were answered meanwhile: this one is slow, the connection is not dead.
            Err(StoreError::Timeout) if held.answered.load(Ordering::Relaxed) == before => {
                if slot.discard(held) {
                    self.note(Some(&StoreError::Timeout));
                }
            }
            Err(StoreError::Timeout) => {}
            _ => {
                held.answered.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.heed(result)
    }

    fn note(&self, error: Option<&StoreError>) {
        let cause = error
            .filter(|error| error.is_outage())
            .map(StoreError::cause);
        self.contact.send_if_modified(|contact| contact.note(cause));
    }
}
