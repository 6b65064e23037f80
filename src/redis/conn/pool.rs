//! Connections to Redis: a few shared connections for all short commands, and a bounded number of
//! exclusive connections for commands that block.
//!
//! Both kinds come from deadpool pools, which bound and replace them. The gateway checks a shared
//! handle out once and keeps it, because a checkout costs a PING round trip (ADR 1).
//!
//! A handle is discarded with its connection when it breaks, or when a command times out and no
//! other command was answered in between. The next caller opens a new connection. A connection that
//! the server closes is detected at the end of the stream (`link.rs`); no command is sent on it
//! afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{Cmd, ConnectionAddr, ConnectionInfo, Pipeline, RedisError, Value};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::metrics::CommandTimes;
use crate::redis::conn::command_span::command_span;
use crate::redis::conn::dial::MultiplexedHandle;
use crate::redis::conn::endpoint::{Endpoint, PoolKind};
use crate::redis::conn::health::RedisHealth;
use crate::redis::conn::send_options::{RetryPolicy, SendOptions};
use crate::redis::conn::settings::PoolSettings;
use crate::redis::conn::shared::{ConnectionHandle, SharedConnection};
use crate::redis::conn::transaction;
use crate::redis::conn::write_health::WriteHealth;
use crate::redis::error::StoreError;

/// Time for which callers that follow a failed connection attempt get the same error.
const FAILURE_COUNTS_FOR: Duration = Duration::from_millis(250);
/// Additional tries of a command that was certainly not sent.
const UNSENT_TRIES: u8 = 2;

/// The watches and metrics that a server reports to.
#[derive(Clone)]
pub(in crate::redis) struct ServerWatches {
    /// Health of the connections.
    pub health: watch::Sender<RedisHealth>,
    /// Number of shared connections opened so far.
    pub connected: watch::Sender<u64>,
    /// Times of commands.
    pub times: CommandTimes,
}

/// All connections of this process to one Redis server.
pub struct Connections {
    pub(in crate::redis) settings: PoolSettings,
    /// The endpoint in use, or why there is none. Set by `use_endpoint_at` and `has_no_endpoint`.
    endpoint: RwLock<Result<Arc<Endpoint>, StoreError>>,
    /// Connections for writes: one for callers outside the workers, then one per worker.
    pub(super) writers: Box<[SharedConnection]>,
    pub(super) readers: Box<[SharedConnection]>,
    turn: AtomicUsize,
    pub(in crate::redis) health: watch::Sender<RedisHealth>,
    pub(in crate::redis) writes: WriteHealth,
    /// Notified when a connection ends.
    pub(super) ended: Arc<Notify>,
    /// Number of shared connections opened so far; counted by `connect`.
    connected: watch::Sender<u64>,
    pub(super) doubted: Notify,
    /// Notified after an error that a failover would explain.
    pub(in crate::redis) suspected: Notify,
    /// Cancelled when the server is no longer used.
    pub(super) retired: CancellationToken,
    /// Times of commands.
    pub(in crate::redis) times: CommandTimes,
}

impl Connections {
    /// Creates the pools without connecting yet.
    ///
    /// # Errors
    /// [`StoreError::Unexpected`] when no pool can be built from the settings.
    pub fn new(settings: &PoolSettings, signals: ServerWatches) -> Result<Self, StoreError> {
        let ended = Arc::new(Notify::new());
        let endpoint = match settings.sentinels {
            None => Ok(Arc::new(Endpoint::new(
                settings,
                settings.connection.clone(),
                &ended,
            )?)),
            Some(_) => Err(StoreError::Unreachable(
                "no sentinel has been queried yet".to_owned(),
            )),
        };
        Ok(Self {
            settings: settings.clone(),
            endpoint: RwLock::new(endpoint),
            writers: (0..=settings.workers)
                .map(|_| SharedConnection::default())
                .collect(),
            readers: (0..settings.readers)
                .map(|_| SharedConnection::default())
                .collect(),
            turn: AtomicUsize::new(0),
            health: signals.health,
            writes: WriteHealth::default(),
            ended,
            connected: signals.connected,
            doubted: Notify::new(),
            suspected: Notify::new(),
            retired: CancellationToken::new(),
            times: signals.times,
        })
    }

    /// Returns a watch on the health of the connection to Redis.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<RedisHealth> {
        self.health.subscribe()
    }

    /// Returns whether the last attempt to reach the server succeeded.
    #[must_use]
    pub fn is_up(&self) -> bool {
        *self.health.borrow() == RedisHealth::Up
    }

    /// Returns the address of the server, or `None` while the sentinels name no server.
    #[must_use]
    pub fn address(&self) -> Option<ConnectionAddr> {
        Some(self.endpoint().ok()?.target.info.addr().clone())
    }

    /// Closes all connections and ends the supervision. Calls that wait for the server end.
    pub(in crate::redis) fn retire(&self) {
        self.retired.cancel();
        if let Ok(endpoint) = self.endpoint() {
            endpoint.leave();
        }
        self.discard_all();
    }

    /// Returns whether the server is no longer used.
    pub(in crate::redis) fn is_retired(&self) -> bool {
        self.retired.is_cancelled()
    }

    /// Returns the number of open connections, by kind.
    #[must_use]
    pub fn open(&self) -> [(&'static str, usize); 3] {
        let endpoint = self.endpoint().ok();
        let open = |kind| endpoint.as_ref().map_or(0, |of| of.open(kind));
        PoolKind::ALL.map(|kind| (kind.name(), open(kind)))
    }

    /// Returns the endpoint in use.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`] until the sentinels have named a master.
    pub(in crate::redis) fn endpoint(&self) -> Result<Arc<Endpoint>, StoreError> {
        self.endpoint.read().clone()
    }

    /// Switches to another server and cancels the calls that wait for the previous one.
    ///
    /// # Errors
    /// [`StoreError::Unexpected`] when no pool can be built; nothing changes then.
    pub(in crate::redis) fn use_endpoint_at(
        &self,
        there: ConnectionInfo,
    ) -> Result<(), StoreError> {
        let endpoint = Ok(Arc::new(Endpoint::new(&self.settings, there, &self.ended)?));
        let mut place = self.endpoint.write();
        let before = std::mem::replace(&mut *place, endpoint);
        drop(place);
        if let Ok(before) = before {
            before.leave();
        }
        self.discard_all();
        self.request_check();
        Ok(())
    }

    fn discard_all(&self) {
        for slot in self.writers.iter().chain(&self.readers) {
            if let Some(held) = slot.handle() {
                slot.discard(&held);
            }
        }
    }

    /// Records why no server is available, unless one is in use.
    pub(in crate::redis) fn has_no_endpoint(&self, why: &str) {
        let mut endpoint = self.endpoint.write();
        if endpoint.is_err() {
            *endpoint = Err(StoreError::Unreachable(why.to_owned()));
        }
    }

    /// Runs one command on a shared connection.
    ///
    /// # Errors
    /// The meaning of the failure, see [`StoreError`].
    /// # Cancel safety
    /// If dropped, the command may still run; its reply is ignored and the connection stays usable.
    pub async fn command(&self, command: &Cmd, how: SendOptions) -> Result<Value, StoreError> {
        let _span = command_span(command);
        let (repeat, writer) = (how.retry, how.writer);
        if how.asking {
            let send = |handle| transaction::ask(command, handle);
            return Box::pin(self.call(repeat, writer, send)).await;
        }
        let send = |mut handle: MultiplexedConnection| async move {
            command.query_async(&mut handle).await
        };
        self.call(repeat, writer, send).await
    }

    /// Runs several commands in one round trip on a shared connection. An atomic pipeline runs in
    /// MULTI/EXEC.
    ///
    /// # Errors
    /// The meaning of the first failure of any command, see [`StoreError`].
    /// # Cancel safety
    /// Same as [`Connections::command`].
    pub async fn pipeline(
        &self,
        pipeline: &Pipeline,
        how: SendOptions,
    ) -> Result<Vec<Value>, StoreError> {
        let _span = pipeline.cmd_iter().next().and_then(command_span);
        let (repeat, writer) = (how.retry, how.writer);
        if how.asking {
            let send = |handle| transaction::ask_all(pipeline, handle);
            return Box::pin(self.call(repeat, writer, send)).await;
        }
        let send = |handle| transaction::send(pipeline, handle);
        self.call(repeat, writer, send).await
    }

    /// Sends commands over a shared connection. Commands that were certainly not sent, or that were
    /// rejected because the connection was not logged in, are retried on a new connection, even if
    /// they write.
    async fn call<T, F: Future<Output = Result<T, RedisError>>>(
        &self,
        repeat: RetryPolicy,
        writer: usize,
        send: impl Fn(MultiplexedConnection) -> F,
    ) -> Result<T, StoreError> {
        let mut tries = repeat.tries();
        let mut unsent_tries = UNSENT_TRIES;
        loop {
            let (slot, held) = self.acquire(repeat, writer).await?;
            let (answered, written) = (
                held.answered.load(Ordering::Relaxed),
                held.wire.link.written(),
            );
            let began = Instant::now();
            let result = send(held.wire.handle.clone()).await;
            self.times.observe(repeat == RetryPolicy::Safe, began);
            tries -= 1;
            let unsent = held.wire.link.written() == written;
            match self.finish_call(slot, &held, answered, result) {
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

    /// Triggers a search for a new master if the error hints at a failover. Records rejected writes
    /// and missing permissions. Returns the result unchanged.
    pub(in crate::redis) fn note_failure<T>(
        &self,
        result: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if let Err(error) = &result {
            self.writes.record(error);
            if let StoreError::ReadOnly(_) | StoreError::Broken(_) | StoreError::Timeout = error {
                self.suspected.notify_one();
            }
        }
        result
    }

    /// Returns the handle for a read or a write. Writes of a thread share a handle, so that
    /// concurrent writes are sent in few packets. Reads use other connections, so that a large
    /// reply delays no write.
    async fn acquire(
        &self,
        repeat: RetryPolicy,
        writer: usize,
    ) -> Result<(&SharedConnection, Arc<ConnectionHandle>), StoreError> {
        let slot = match repeat {
            RetryPolicy::Safe => {
                &self.readers[self.turn.fetch_add(1, Ordering::Relaxed) % self.readers.len()]
            }
            RetryPolicy::Unsafe => &self.writers[writer],
        };
        self.held_in(slot).await.map(|held| (slot, held))
    }

    pub(super) async fn held_in(
        &self,
        slot: &SharedConnection,
    ) -> Result<Arc<ConnectionHandle>, StoreError> {
        match slot.open() {
            Some(held) => Ok(held),
            // Boxed because this future is large and rarely needed.
            None => Box::pin(self.connect(slot)).await,
        }
    }

    async fn connect(&self, slot: &SharedConnection) -> Result<Arc<ConnectionHandle>, StoreError> {
        let mut last_failure = slot.connecting.lock().await;
        if let Some(held) = slot.open() {
            return Ok(held);
        }
        loop {
            let endpoint = self
                .endpoint()
                .inspect_err(|error| self.note(Some(error)))?;
            if let Some((at, replaced, error)) = &*last_failure
                && at.elapsed() < FAILURE_COUNTS_FOR
                && !replaced.is_cancelled()
            {
                return Err(error.clone());
            }
            let replaced = endpoint.replaced.clone();
            let owner = match endpoint.take(PoolKind::Shared).await {
                Some(Ok(owner)) => owner,
                Some(Err(error)) => {
                    *last_failure = Some((Instant::now(), replaced, error.clone()));
                    self.note(Some(&error));
                    self.suspected.notify_one();
                    return Err(error);
                }
                None if self.is_retired() => {
                    return Err(StoreError::Unreachable(
                        "the node left the cluster".to_owned(),
                    ));
                }
                None => continue,
            };
            let held = Arc::new(ConnectionHandle {
                wire: MultiplexedHandle::clone(&owner),
                owner: Mutex::new(Some(owner)),
                answered: AtomicU64::new(0),
                replaced,
            });
            let mut place = slot.held.write();
            // Checked under the same lock that `use_endpoint_at` takes after it has cancelled the old
            // endpoint. A handle stored here is either discarded by `use_endpoint_at` or of the new
            // endpoint.
            if held.replaced.is_cancelled() {
                drop(place);
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

    /// Records the outcome of a command and discards the handle if it is unusable. `before` is the
    /// handle's number of replies when the command was sent.
    pub(super) fn finish_call<T>(
        &self,
        slot: &SharedConnection,
        held: &Arc<ConnectionHandle>,
        before: u64,
        result: Result<T, impl Into<StoreError>>,
    ) -> Result<T, StoreError> {
        let result = result.map_err(Into::into);
        match &result {
            Err(error) if error.breaks_connection() => {
                slot.discard(held);
            }
            // If other commands were answered meanwhile, this command is slow but the connection is
            // alive.
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
        self.note_failure(result)
    }
}
