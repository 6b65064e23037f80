//! Connections to Redis: a few shared ones that carry every short command, and a bounded number of
//! exclusive ones for commands that block.
//!
//! Both kinds come out of deadpool pools, which bound and replace them. The shared handles are
//! taken from their pool once and kept, since a checkout costs a PING round trip (ADR 1). A
//! handle that broke, or that timed out without any reply in between, is thrown away with its
//! connection; the next caller makes a new one.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{AsyncConnectionConfig, Cmd, ConnectionInfo, Pipeline, Value};
use deadpool_redis::{Connection, Manager, Pool, PoolError, Runtime};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::Blocking;
use super::durability::MAX_DURABILITY_WAIT;
use super::error::{StoreError, from_pool};

/// How long a failed attempt to connect answers for the callers right behind it.
const FAILURE_COUNTS_FOR: Duration = Duration::from_millis(250);
/// How often an idle shared connection is tried.
const PING_EVERY: Duration = Duration::from_secs(1);
/// What a blocking call may take beyond the time it asked Redis to block.
const BLOCK_MARGIN: Duration = Duration::from_secs(3);

/// How to reach Redis, and how much of it to use.
#[derive(Clone, Debug)]
pub struct PoolSettings {
    /// Where Redis is, and as whom to log in.
    pub connection: ConnectionInfo,
    /// For making a connection.
    pub connect_timeout: Duration,
    /// For the answer to a command that does not block.
    pub response_timeout: Duration,
    /// Threads that serve connections: each has a shared connection for writes, and one more is for
    /// what else writes.
    pub workers: usize,
    /// Shared connections for reads.
    pub readers: usize,
    /// Blocking connections.
    pub blocking: usize,
    /// How long the blocking calls block at most.
    pub block: Duration,
    /// Connections for writes that wait for replicas or the disk.
    pub durable: usize,
    /// Bytes of large reads at once.
    pub large_reads: usize,
}

/// What is known of Redis.
#[derive(Clone, Debug)]
pub enum Contact {
    /// Not reached since the start; why, if it was tried at all.
    Never(Option<String>),
    /// The last attempt went well.
    Up,
    /// It was reached before, and is not now.
    Down(String),
}

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
    shared: Pool,
    blocking: Pool,
    durable: Pool,
    /// For writes: the first for whoever is no worker, then one for each of them.
    writers: Box<[Slot]>,
    readers: Box<[Slot]>,
    turn: AtomicUsize,
    contact: watch::Sender<Contact>,
    /// How many shared connections were ever made; counted by `connect`.
    connected: watch::Sender<u64>,
    doubted: Notify,
    /// For connections beside the pools.
    pub reach: (ConnectionInfo, Duration),
}

/// The place of one shared handle.
#[derive(Default)]
struct Slot {
    /// Written by `connect` and `discard`.
    held: RwLock<Option<Arc<Held>>>,
    /// Held by whoever connects; remembers the last failure for those who queued behind it.
    connecting: tokio::sync::Mutex<Option<(Instant, StoreError)>>,
}

impl Slot {
    fn held(&self) -> Option<Arc<Held>> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Throws a handle away with its connection, unless someone else has done so.
    fn discard(&self, broken: &Arc<Held>) {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        if held.as_ref().is_some_and(|held| Arc::ptr_eq(held, broken)) {
            *held = None;
        }
        let owner = broken.owner.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(owner) = owner {
            drop(Connection::take(owner));
        }
    }
}

struct Held {
    handle: MultiplexedConnection,
    /// Keeps the place in the pool; taken by `discard`.
    owner: Mutex<Option<Connection>>,
    /// Replies that came over it.
    answered: AtomicU64,
}

impl Connections {
    /// Prepares the pools; connects to nothing yet.
    ///
    /// # Errors
    /// [`StoreError::Unexpected`] when the settings cannot make a pool.
    pub fn new(settings: &PoolSettings) -> Result<Self, StoreError> {
        let pool = |size: usize, response: Duration| {
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(settings.connect_timeout))
                .set_response_timeout(Some(response))
                .set_pipeline_buffer_size(1024);
            Manager::new_with_config(settings.connection.clone(), config)
                .map_err(|error| StoreError::Unexpected(error.to_string()))
                .and_then(|manager| {
                    Pool::builder(manager)
                        .max_size(size)
                        .wait_timeout(Some(settings.connect_timeout))
                        .create_timeout(Some(settings.connect_timeout))
                        .recycle_timeout(Some(settings.connect_timeout))
                        .runtime(Runtime::Tokio1)
                        .build()
                        .map_err(|error| StoreError::Unexpected(error.to_string()))
                })
        };
        Ok(Self {
            shared: pool(settings.readers + settings.workers + 1, settings.response_timeout)?,
            blocking: pool(settings.blocking, settings.block + BLOCK_MARGIN)?,
            durable: pool(settings.durable, MAX_DURABILITY_WAIT + BLOCK_MARGIN)?,
            writers: (0..=settings.workers).map(|_| Slot::default()).collect(),
            readers: (0..settings.readers).map(|_| Slot::default()).collect(),
            turn: AtomicUsize::new(0),
            contact: watch::Sender::new(Contact::Never(None)),
            connected: watch::Sender::new(0),
            doubted: Notify::new(),
            reach: (settings.connection.clone(), settings.connect_timeout),
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
        [("shared", &self.shared), ("blocking", &self.blocking), ("durable", &self.durable)]
            .map(|(kind, pool)| (kind, pool.status().size))
    }

    /// An exclusive connection for writes that wait for replicas or the disk.
    ///
    /// # Errors
    /// As the pool.
    pub async fn durable(&self) -> Result<Connection, PoolError> {
        self.durable.get().await
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
        let mut tries = repeat.tries();
        loop {
            let (slot, held) = self.held(repeat, writer).await?;
            let before = held.answered.load(Ordering::Relaxed);
            let result = command.query_async(&mut held.handle.clone()).await;
            tries -= 1;
            match self.settle(slot, &held, before, result) {
                Err(StoreError::Broken(_)) if tries > 0 => {}
                result => return result,
            }
        }
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
        let mut tries = repeat.tries();
        loop {
            let (slot, held) = self.held(repeat, writer).await?;
            let before = held.answered.load(Ordering::Relaxed);
            let result = pipeline.query_async(&mut held.handle.clone()).await;
            tries -= 1;
            match self.settle(slot, &held, before, result) {
                Err(StoreError::Broken(_)) if tries > 0 => {}
                result => return result,
            }
        }
    }

    /// An exclusive connection for commands that block; [`Blocking::discard`] it unless answered.
    ///
    /// # Errors
    /// [`StoreError::Exhausted`] when all are in use, [`StoreError::Unreachable`] otherwise.
    pub async fn blocking(&self) -> Result<Blocking, StoreError> {
        match self.blocking.get().await {
            Ok(connection) => Ok(Blocking(connection)),
            Err(error) => Err(from_pool(error, "blocking")),
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
            }
            self.check().await;
        }
    }

    /// Throws shared connections away that are dead.
    pub async fn check(&self) {
        // A worker makes its own.
        let made = self.writers[1..].iter().filter(|slot| slot.held().is_some());
        let slots = self.writers[..1].iter().chain(&self.readers).chain(made);
        for error in futures_util::future::join_all(slots.map(|slot| self.ping(slot))).await {
            self.note(error.as_ref());
        }
    }

    /// Has the shared connections tried at once: something suggests that Redis went away.
    pub fn doubt(&self) {
        self.doubted.notify_one();
    }

    async fn ping(&self, slot: &Slot) -> Option<StoreError> {
        let held = match self.held_in(slot).await {
            Ok(held) => held,
            Err(error) => return Some(error),
        };
        let before = held.answered.load(Ordering::Relaxed);
        let mut ping = Cmd::new();
        ping.arg("PING");
        let result = ping.query_async::<Value>(&mut held.handle.clone()).await;
        self.settle(slot, &held, before, result).err()
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
        match slot.held() {
            Some(held) => Ok(held),
            // Rare and large: it is not to be part of every command.
            None => Box::pin(self.connect(slot)).await,
        }
    }

    async fn connect(&self, slot: &Slot) -> Result<Arc<Held>, StoreError> {
        let mut last_failure = slot.connecting.lock().await;
        if let Some(held) = slot.held() {
            return Ok(held);
        }
        if let Some((at, error)) = &*last_failure
            && at.elapsed() < FAILURE_COUNTS_FOR
        {
            return Err(error.clone());
        }
        match self.shared.get().await {
            Ok(owner) => {
                *last_failure = None;
                let held = Arc::new(Held {
                    handle: MultiplexedConnection::clone(&owner),
                    owner: Mutex::new(Some(owner)),
                    answered: AtomicU64::new(0),
                });
                *slot.held.write().unwrap_or_else(PoisonError::into_inner) = Some(held.clone());
                self.note(None);
                self.connected.send_modify(|made| *made += 1);
                Ok(held)
            }
            Err(error) => {
                let error = from_pool(error, "shared");
                *last_failure = Some((Instant::now(), error.clone()));
                self.note(Some(&error));
                Err(error)
            }
        }
    }

    /// Notes how a command ended, before which so many had been answered; throws the handle away if
    /// it is of no further use.
    fn settle<T>(
        &self,
        slot: &Slot,
        held: &Arc<Held>,
        before: u64,
        result: Result<T, deadpool_redis::redis::RedisError>,
    ) -> Result<T, StoreError> {
        let result = result.map_err(StoreError::from);
        match &result {
            Err(StoreError::Broken(_)) => slot.discard(held),
            // Others were answered meanwhile: this one is slow, the connection is not dead.
            Err(StoreError::Timeout) if held.answered.load(Ordering::Relaxed) == before => {
                slot.discard(held);
                self.note(Some(&StoreError::Timeout));
            }
            Err(StoreError::Timeout) => {}
            _ => {
                held.answered.fetch_add(1, Ordering::Relaxed);
            }
        }
        result
    }

    fn note(&self, error: Option<&StoreError>) {
        let text = error.filter(|error| error.is_outage()).map(ToString::to_string);
        self.contact.send_if_modified(|contact| {
            let next = match (&*contact, text) {
                (Contact::Up, None) => return false,
                (_, None) => {
                    tracing::info!("Redis is there");
                    Contact::Up
                }
                (Contact::Never(_), Some(text)) => Contact::Never(Some(text)),
                (Contact::Up, Some(text)) => {
                    tracing::warn!(error = text, "Redis is away");
                    Contact::Down(text)
                }
                (Contact::Down(_), Some(text)) => Contact::Down(text),
            };
            *contact = next;
            true
        });
    }
}
