//! Durable writes, which wait for replicas or the disk. WAIT and WAITAOF cover only the writes of
//! their own connection.

use std::sync::Arc;
use std::time::Duration;

use deadpool_redis::redis::Cmd;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::model::name::StreamName;
use crate::redis::cluster::call::Call as _;
use crate::redis::cluster::redirect::Redirect;
use crate::redis::conn::endpoint::{MAX_DURABILITY_WAIT, PoolKind};
use crate::redis::conn::send_options::{RetryPolicy, SendOptions};
use crate::redis::decode::{bytes, tuple, unsigned};
use crate::redis::stream::append::{Append, Appended};
use crate::redis::{Blocking, Lane, PoolSettings, Store, StoreError};
use crate::shares::{self, Bound, ShareQueue};

/// Pause before a write whose slot is being moved is sent again.
const TRY_AGAIN: Duration = Duration::from_millis(25);
/// Maximum time in seconds since the last acknowledgement of a replica that keeps up.
const MAX_LAG: u32 = 3;

/// The durability that a write requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The memory of this number of replicas.
    Replicas(u32),
    /// The disk of the server.
    Fsync,
}

/// The durability that a write has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Number of replicas with the write in memory; with [`Durability::Fsync`], on disk.
    pub replicas: u64,
    /// Whether the server has the write on disk; only with [`Durability::Fsync`].
    pub fsync: Option<bool>,
    /// Whether the required durability was reached.
    pub enough: bool,
}

/// An exclusive connection for durable writes and the wait for them. The connection is closed if
/// this is dropped before the wait has ended.
pub struct DurableConnection {
    connection: Option<Blocking>,
    wanted: Durability,
    /// Whether ASKING precedes each call, because the slot is being moved to the server.
    asking: bool,
    /// Whether something was written. Further writes must use the same connection.
    wrote: bool,
    _share: Option<OwnedSemaphorePermit>,
}

/// The shares of callers in the connections for durable writes.
pub(in crate::redis) struct DurableShares {
    queue: ShareQueue,
    /// Timeout for waiting, as for a connection of the pool.
    patience: Duration,
    /// Maximum time to wait for a slot that is being moved.
    move_timeout: Duration,
}

impl DurableShares {
    pub(in crate::redis) fn new(settings: &PoolSettings) -> Self {
        let all = u32::try_from(settings.durable).unwrap_or(u32::MAX);
        Self {
            queue: ShareQueue::new(Bound::DurableConnections, all),
            patience: settings.connect_timeout,
            move_timeout: settings.response_timeout,
        }
    }

    pub(in crate::redis) fn take_refused(&self) -> u64 {
        self.queue.take_refused()
    }
}

impl Store {
    /// Returns a connection for writes to a stream that must reach `wanted`.
    ///
    /// # Errors
    /// [`StoreError::NotSupported`] when the server does not support `wanted`.
    /// [`StoreError::Exhausted`] or [`StoreError::FewReplicas`] when all such connections are in
    /// use, [`StoreError::ShareExceeded`] when the caller uses its share of them, or an outage of
    /// Redis. Nothing was written then.
    /// # Cancel safety
    /// Cancel safe: writes nothing.
    pub async fn durable(
        &self,
        stream: &StreamName,
        wanted: Durability,
    ) -> Result<DurableConnection, StoreError> {
        let key = Some(stream.redis_key().as_bytes());
        let DurableShares {
            queue, patience, ..
        } = &*self.durable_shares;
        let share = queue.acquire(shares::current(), 1, *patience).await;
        let share = share.map_err(StoreError::ShareExceeded)?;
        let connection = match self.nodes.exclusive(PoolKind::DurableConnection, key).await {
            Err(StoreError::Exhausted(which)) => {
                let exhausted = StoreError::Exhausted(which);
                return Err(self.why_all_wait(stream, wanted, exhausted).await);
            }
            connection => connection?,
        };
        let durable = DurableConnection {
            connection: Some(connection),
            wanted,
            asking: false,
            wrote: false,
            _share: share,
        };
        self.try_durability(&durable).await?;
        Ok(durable)
    }

    /// Fails if the server cannot do what the connection is for.
    async fn try_durability(&self, durable: &DurableConnection) -> Result<(), StoreError> {
        if durable.wanted == Durability::Fsync {
            // Nothing was written yet, so this does not wait. A server without an append-only file,
            // or without the command, fails here rather than after the entry was appended.
            let mut trial = Cmd::new();
            trial.arg("WAITAOF").arg(1).arg(0).arg(1);
            let refused = |error: StoreError| match error {
                StoreError::Unexpected(text) => StoreError::NotSupported(text),
                error => error,
            };
            self.write_on(&durable.lane(), &trial)
                .await
                .map_err(refused)?;
        }
        Ok(())
    }

    /// Appends on the connection of a durable write. If the slot of the stream is being moved or
    /// has moved, takes a connection to the other node, unless something was written before: the
    /// wait covers one connection.
    ///
    /// # Errors
    /// Same as [`Store::append`]. [`StoreError::Elsewhere`] if the move takes longer than the
    /// response timeout.
    /// # Cancel safety
    /// If dropped, the entries may be appended.
    pub async fn append_durably(
        &self,
        durable: &mut DurableConnection,
        stream: &StreamName,
        append: &Append,
    ) -> Result<Appended, StoreError> {
        let deadline = Instant::now() + self.durable_shares.move_timeout;
        loop {
            let redirect = match self.append(&durable.lane(), stream, append).await {
                Err(StoreError::Elsewhere(redirect)) if !durable.wrote => redirect,
                sent => {
                    durable.wrote = true;
                    return sent;
                }
            };
            if Instant::now() + TRY_AGAIN > deadline {
                return Err(StoreError::Elsewhere(redirect));
            }
            tokio::time::sleep(TRY_AGAIN).await;
            self.follow_durably(durable, stream, &redirect).await?;
        }
    }

    /// Takes a connection to the node that a redirect names.
    async fn follow_durably(
        &self,
        durable: &mut DurableConnection,
        stream: &StreamName,
        redirect: &Redirect,
    ) -> Result<(), StoreError> {
        let Some(old) = durable.connection.as_ref().map(Blocking::handle) else {
            return Ok(());
        };
        let key = Some(stream.redis_key().as_bytes());
        let (node, asking) = self.nodes.target(redirect, old.node(), key)?;
        if !Arc::ptr_eq(&node, old.node()) {
            // Every command on the old connection was answered, so it can be reused.
            let new = node.exclusive(PoolKind::DurableConnection).await?;
            durable.connection = Some(new);
        }
        durable.asking = asking;
        self.try_durability(durable).await
    }

    /// Returns why all connections are in use: too few replicas, or `exhausted` otherwise.
    async fn why_all_wait(
        &self,
        stream: &StreamName,
        wanted: Durability,
        exhausted: StoreError,
    ) -> StoreError {
        let Durability::Replicas(wanted) = wanted else {
            return exhausted;
        };
        let mut command = Cmd::new();
        command.arg("INFO").arg("replication");
        let Ok(node) = self.nodes.node(Some(stream.redis_key().as_bytes())) else {
            return exhausted;
        };
        let how = SendOptions::maintenance(RetryPolicy::Safe);
        match command.send_to(&node, how).await.and_then(bytes) {
            Ok(info) => match keeping_up(&String::from_utf8_lossy(&info)) {
                there if there < wanted => StoreError::FewReplicas { wanted, there },
                _ => exhausted,
            },
            Err(_) => exhausted,
        }
    }

    /// Waits at most `timeout` until the writes of this connection have reached the required
    /// durability. Pass the window of the idempotency keys in milliseconds as `again` if this call
    /// wrote nothing because of a repeated key; the wait then covers the earlier writes.
    ///
    /// # Errors
    /// An outage of Redis. The entries are written, but their durability is unknown.
    /// # Cancel safety
    /// Changes nothing; the connection is closed when the future is dropped.
    pub async fn reach(
        &self,
        mut durable: DurableConnection,
        stream: &StreamName,
        again: Option<u64>,
        timeout: Duration,
    ) -> Result<Reached, StoreError> {
        let lane = durable.lane();
        if let Some(window_ms) = again {
            // Redis waits for the last write of a connection, so the connection needs one.
            // Extending the lifetime of the idempotency keys is such a write.
            self.touch_keys(&lane, stream, window_ms).await?;
        }
        let ms = u64::try_from(timeout.min(MAX_DURABILITY_WAIT).as_millis())
            .unwrap_or(1)
            .max(1);
        let mut wait = Cmd::new();
        let reached = match durable.wanted {
            Durability::Replicas(wanted) => {
                wait.arg("WAIT").arg(wanted).arg(ms);
                let replicas = unsigned(&self.write_on(&lane, &wait).await?)?;
                Reached {
                    replicas,
                    fsync: None,
                    enough: replicas >= u64::from(wanted),
                }
            }
            Durability::Fsync => {
                wait.arg("WAITAOF").arg(1).arg(0).arg(ms);
                let [local, replicas] = tuple(self.write_on(&lane, &wait).await?)?;
                let synced = unsigned(&local)? > 0;
                Reached {
                    replicas: unsigned(&replicas)?,
                    fsync: Some(synced),
                    enough: synced,
                }
            }
        };
        // Every command was answered, so the connection can be reused.
        drop(durable.connection.take());
        Ok(reached)
    }
}

/// Returns the number of replicas that keep up, from INFO lines of the form
/// `slave0:ip=…,port=…,state=online,offset=…,lag=0`.
fn keeping_up(info: &str) -> u32 {
    let lag = |line: &str| line.rsplit_once("lag=")?.1.trim().parse::<u32>().ok();
    let replicas = info.lines().filter(|line| line.contains("state=online"));
    let up = replicas
        .filter(|line| lag(line).is_some_and(|lag| lag <= MAX_LAG))
        .count();
    u32::try_from(up).unwrap_or(u32::MAX)
}

impl DurableConnection {
    /// Returns the connection for the writes.
    #[must_use]
    pub fn lane(&self) -> Lane {
        match &self.connection {
            Some(connection) if self.asking => Lane::Own(connection.handle().asking()),
            Some(connection) => Lane::Own(connection.handle()),
            // Unreachable in practice: only `reach` takes the connection, and it consumes `self`.
            None => Lane::Shared,
        }
    }
}

impl Drop for DurableConnection {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.discard();
        }
    }
}
